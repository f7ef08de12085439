//! JSON written straight into a buffer: documents are copied as stored, never parsed.

use blox_store::proto::{ResourceKind, ResourceRecord};
use blox_store::{Kind, Revision};
use serde::Serialize;

/// Appends a value.
pub(super) fn push<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("writing models to memory cannot fail");
}

/// Appends `,"name":value`.
pub(super) fn push_member<T: Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) {
    out.push(b',');
    push(out, name);
    out.push(b':');
    push(out, value);
}

/// Appends a resource: `{"kind","source","cluster_arn"?,"arn","revision","create_revision","document"}`.
pub(super) fn push_resource(
    out: &mut Vec<u8>,
    resource: &ResourceRecord,
    mod_revision: Revision,
    create_revision: Revision,
) {
    out.extend_from_slice(b"{\"kind\":");
    push(out, kind_of(resource).name());
    push_member(out, "source", &resource.source);
    if kind_of(resource) != Kind::Cluster {
        push_member(out, "cluster_arn", &resource.cluster_arn);
    }
    push_member(out, "arn", &resource.arn);
    push_member(out, "revision", &mod_revision);
    push_member(out, "create_revision", &create_revision);
    out.extend_from_slice(b",\"document\":");
    out.extend_from_slice(if resource.shown.is_empty() {
        b"null"
    } else {
        &resource.shown
    });
    out.push(b'}');
}

fn kind_of(resource: &ResourceRecord) -> Kind {
    match resource.kind() {
        ResourceKind::Instance => Kind::Instance,
        ResourceKind::Task => Kind::Task,
        ResourceKind::Cluster | ResourceKind::Unspecified => Kind::Cluster,
    }
}
