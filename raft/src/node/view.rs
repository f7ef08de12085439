//! What this node knows of its cluster at the moment, for those who propose and read.

use std::time::Duration;

use crate::NodeId;
use crate::clock::Clock;
use crate::status::Role;
use crate::types::NodeInfo;

/// What this node knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// This node's number; 0: not yet in a cluster.
    pub node_id: NodeId,
    pub role: Role,
    pub term: u64,
    pub leader: Option<(NodeId, NodeInfo)>,
    /// Members with a vote.
    pub voters: usize,
    /// Set while this node leads and has applied the first entry of its term.
    pub leading: Option<Leading>,
}

/// A leader as one node knows it, to be told from the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownLeader {
    id: Option<NodeId>,
    term: u64,
}

impl KnownLeader {
    pub(super) fn of(view: &View) -> KnownLeader {
        KnownLeader {
            id: view.leader.as_ref().map(|(id, _)| *id),
            term: view.term,
        }
    }
}

/// This node's time as leader, with the clock its entries are stamped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leading {
    pub term: u64,
    /// The replicated clock when it took over, milliseconds.
    pub elapsed_base_ms: u64,
    /// This process' monotonic clock at that moment.
    pub since: Duration,
}

impl Leading {
    /// The replicated clock now, milliseconds.
    pub(crate) fn elapsed_ms(&self, clock: &dyn Clock) -> u64 {
        let since = clock.monotonic().saturating_sub(self.since);
        self.elapsed_base_ms
            .saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
