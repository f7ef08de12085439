//! Weighs from time to time whether disks have room for writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use super::Node;
use crate::NodeId;
use crate::disk::{Electorate, FullDisk, FullDisks};

/// Followers tell of their disks with each heartbeat; it is enough to look about as often.
const WEIGH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until the node stops.
pub(super) async fn run(node: Arc<Node>) {
    let mut term = 0;
    loop {
        tokio::select! {
            biased;
            () = blox_runtime::time::sleep(WEIGH_INTERVAL) => {}
            () = node.stop.cancelled() => return,
        }
        let now = node.view.borrow().term;
        if std::mem::replace(&mut term, now) != now {
            node.disks.forget_peers();
        }
        node.weigh_disks();
    }
}

impl Node {
    /// A leader that finds too little room refuses writes from here on, until it finds enough.
    pub(crate) fn weigh_disks(&self) {
        let full = self.full_disks();
        let refuses = self.disks.refusal().is_some();
        if full.is_some() != refuses {
            match &full {
                Some(full) => tracing::warn!("writes are refused: {full}"),
                None => tracing::info!("writes are no longer refused for want of room on disk"),
            }
        }
        self.disks.set_refusal(full);
    }

    fn full_disks(&self) -> Option<FullDisks> {
        let engine = self.engine.get()?;
        self.view.borrow().leading.as_ref()?;
        let membership = engine.raft.server_metrics().borrow_watched().membership_config.clone();
        let voter_sets: Vec<BTreeSet<NodeId>> = membership.membership().get_joint_config().clone();
        let full = self.disks.full(&Electorate {
            me: engine.identity.node_id,
            voter_sets: &voter_sets,
            silence_max: self.config.timing.election_max * 2,
        });
        let named = |id: NodeId| {
            membership
                .get_node(&id)
                .map_or_else(|| id.to_string(), |info| info.name.clone())
        };
        let disks: Vec<FullDisk> = full
            .into_iter()
            .map(|(id, room)| FullDisk {
                node: named(id),
                free_bytes: room.free_bytes,
                needed_bytes: room.needed_bytes,
            })
            .collect();
        (!disks.is_empty()).then_some(FullDisks(disks))
    }
}
