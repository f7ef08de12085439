//! Consensus: a small facade over openraft. No openraft type leaves this crate.
//!
//! A tour, from outside inwards:
//! - [`Consensus`]: one node's membership in its cluster: propose, read barrier, leadership, status, hand-over;
//! - [`RaftConfig`]: who this node is, where it keeps its log, whom it talks to;
//! - errors: [`StartError`], [`ProposeError`], [`ReadError`]; an unknown outcome is a variant of its own;
//! - `node`: one node's life on a thread of its own; `identity` and `bootstrap`: who it is, and how a cluster begins;
//! - `propose` and `read`: what waits together travels together;
//! - `engine`: openraft put together from `log` (entries and votes on disk), `machine` (the store, an apply thread, snapshots) and `net`
//!   (peers over gRPC);
//! - `codec` and `proto`: our own bytes on disk and on the wire.
//!
//! openraft counts log entries from zero; every index that leaves this crate counts from one, and zero means "none".

mod bootstrap;
pub mod clock;
mod codec;
pub mod config;
pub mod consensus;
mod engine;
pub mod error;
mod identity;
mod log;
mod machine;
mod metrics;
mod net;
mod node;
mod pause;
mod propose;
mod proto;
mod read;
pub mod status;
#[cfg(test)]
mod storage_suite;
mod types;

pub use clock::{Clock, SystemClock};
pub use config::{InitialMember, RaftConfig, SnapshotPolicy, Timing};
pub use consensus::Consensus;
pub use error::{ProposeError, ReadError, StartError, TransferError};
pub use propose::COMMAND_BYTES_MAX;
pub use status::{Consistency, Leadership, Member, ReadPoint, Role, Status};

/// A node's number: given once, never reused.
pub type NodeId = u64;
