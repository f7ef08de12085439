//! The two kinds that the old contract tracks, and what differs between them.

use std::sync::atomic::{AtomicU64, Ordering};

use blox_store::proto::ResourceRecord;
use blox_store::{Kind, Revision};

use crate::state::ApiState;

/// Tasks or container instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracked {
    Tasks,
    Instances,
}

impl Tracked {
    pub(super) fn kind(self) -> Kind {
        match self {
            Tracked::Tasks => Kind::Task,
            Tracked::Instances => Kind::Instance,
        }
    }

    /// The query keys of its list.
    pub(super) fn filters(self) -> &'static [&'static str] {
        match self {
            Tracked::Tasks => &["status", "cluster", "startedBy"],
            Tracked::Instances => &["status", "cluster"],
        }
    }

    /// The values of `status`, lower case.
    pub(super) fn statuses(self) -> &'static [&'static str] {
        match self {
            Tracked::Tasks => &[
                "provisioning",
                "pending",
                "activating",
                "running",
                "deactivating",
                "stopping",
                "deprovisioning",
                "stopped",
                "deleted",
            ],
            Tracked::Instances => &["active", "inactive", "draining"],
        }
    }

    pub(super) fn not_found(self) -> &'static str {
        match self {
            Tracked::Tasks => "Task not found",
            Tracked::Instances => "Instance not found",
        }
    }

    /// Counts a record that v1 cannot show.
    pub(super) fn count_left_out(self, state: &ApiState) {
        let counter: &AtomicU64 = match self {
            Tracked::Tasks => state.http_metrics().tasks_left_out(),
            Tracked::Instances => state.http_metrics().instances_left_out(),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Appends a record as the contract shows it; `false`: it lacks a field that v1 requires, and nothing is appended.
pub(super) fn write_entity(out: &mut Vec<u8>, resource: &ResourceRecord, mod_revision: Revision) -> bool {
    if resource.v1_entity.is_empty() {
        return false;
    }
    out.extend_from_slice(b"{\"entity\":");
    out.extend_from_slice(&resource.v1_entity);
    out.extend_from_slice(b",\"metadata\":{\"entityVersion\":\"");
    out.extend_from_slice(mod_revision.to_string().as_bytes());
    out.extend_from_slice(b"\"}}");
    true
}
