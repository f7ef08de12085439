//! What a node counts for its metrics page.

use std::sync::atomic::AtomicU64;

use crate::propose::Stages;

/// Counters of one node; each only grows.
#[derive(Default)]
pub(crate) struct Counters {
    /// Commands callers have proposed here.
    pub proposals: AtomicU64,
    /// Commands that ended in an error.
    pub proposals_failed: AtomicU64,
    /// Entries this node has proposed as leader.
    pub entries_proposed: AtomicU64,
    /// Where their time went.
    pub stages: Stages,
    /// Read barriers asked for.
    pub reads: AtomicU64,
    /// Rounds in which this node, as leader, asked a quorum whether it leads, each for all reads that waited.
    pub read_rounds: AtomicU64,
    /// Leaders seen one after another.
    pub leader_changes: AtomicU64,
    /// Peers whose state this node, as leader, has compared with its own.
    pub states_compared: AtomicU64,
    /// Alarms this node has raised, as leader, over states that differ.
    pub states_differing: AtomicU64,
}
