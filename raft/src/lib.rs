//! Consensus: a small facade over openraft. No openraft type leaves this crate.
//!
//! A tour, from outside inwards:
//! - [`Consensus`]: one node's membership in its cluster: propose, read barrier, leadership, status, hand-over;
//! - [`RaftConfig`]: who this node is, where it keeps its log, whom it talks to;
//! - errors: [`StartError`], [`ProposeError`], [`ReadError`]; an unknown outcome is a variant of its own;
//! - `node`: one node's life on a thread of its own; `identity` and `bootstrap`: who it is, and how a cluster begins;
//! - [`membership`]: members listed, replaced, removed, promoted; what a node does that is none;
//! - `propose` and `read`: what waits together travels together;
//! - `compare`: nodes compare the hashes of their states;
//! - `engine`: openraft put together from `log` (entries and votes on disk), `machine` (the store, an apply thread, snapshots) and `net`
//!   (peers over gRPC);
//! - [`restore()`]: a data directory made from a backup, for a new cluster to begin with;
//! - `codec` and `proto`: our own bytes on disk and on the wire;
//! - `replay`: the log of a stopped node, entry by entry.
//!
//! openraft counts log entries from zero; every index that leaves this crate counts from one, and zero means "none".

mod bootstrap;
pub mod clock;
mod codec;
mod compare;
pub mod config;
pub mod consensus;
pub mod disk;
mod engine;
pub mod error;
mod files;
mod identity;
mod log;
mod machine;
pub mod membership;
mod metrics;
mod net;
mod node;
mod propose;
mod proto;
mod read;
mod rebuild;
mod replay;
mod restore;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod status;
#[cfg(test)]
mod storage_suite;
mod types;
#[cfg(test)]
mod wire_tests;
#[cfg(feature = "zoo")]
mod zoo;

pub use clock::{Clock, SystemClock};
pub use compare::StateDifference;
pub use config::{InitialMember, RaftConfig, SnapshotPolicy, Timing};
pub use consensus::Consensus;
pub use disk::{DiskRoom, DiskStatus, FullDisk, FullDisks};
pub use error::{ProposeError, ReadError, StartError, TransferError};
pub use identity::has_log;
pub use membership::{
    CandidateEntry, MemberChange, MemberEntry, MemberError, MemberList, MemberProgress, MemberRefusal, MemberStage,
};
pub use propose::COMMAND_BYTES_MAX;
pub use replay::{LogUnreadable, for_each_log_entry};
pub use restore::{RestoreError, Restored, restore};
pub use status::{Consistency, Glance, Leadership, Member, ReadPoint, Role, Status};

/// What a node logs of openraft itself, as directives of a filter: at info it says what only its authors can use, and of a silent peer it warns
/// twenty times a second, which this crate says once.
pub const LOG_DIRECTIVES: &str = "openraft=warn,openraft::core::heartbeat=error,openraft::replication=error";

/// A node's number: given once, never reused.
pub type NodeId = u64;
