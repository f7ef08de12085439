//! The replicated state: revisions, resources, indexes, history, watch.
//!
//! A tour:
//! - [`proto`]: commands, outcomes and stored values, as they stand in the log and on disk;
//! - [`Store`]: opened once a node; `raft/` applies log entries to it, everyone else reads;
//! - [`View`]: one consistent cut of the state, at the head or at an older revision;
//! - [`Watcher`]: changes in order, from any revision still kept.
//!
//! Beneath them:
//! - `engine`: six ordered families with atomic batches, snapshots and checkpoints; RocksDB in a node, memory in simulations;
//! - `encoding`: how keys are written in each family, `key` those of `latest`;
//! - `apply`: the loop over entries and commands, sessions, idempotency keys, compaction, expiry; what a command does to resources and
//!   environments stands in `commands`, what an observation does to a record in [`records`];
//! - `read`: cuts at the head or at an older revision, lists in the order of ARNs, the history;
//! - `ring`: the newest changes in memory, for watchers that keep up;
//! - `hashes`: the chained state hash at fixed log indexes, which nodes compare;
//! - `checkpoint`, `directory`: what is sent to a node that fell behind, and how it takes the state's place;
//! - [`backup`]: the same in one file, to found a new cluster with; `feature_level`: what may be written beside nodes of other versions.
//!
//! A write: a command in a log entry -> `apply` (overlay over the engine) -> one batch with data, left-behind values, history, indexes and
//! position -> the batch is written -> new views see it -> the ring has it -> watchers and waiters are woken.
//!
//! The crate does no network I/O, and `apply` reads no clock, no random number and no environment: the same log gives the same bytes.

mod apply;
pub mod backup;
mod checkpoint;
mod commands;
mod directory;
mod encoding;
mod engine;
mod feature_level;
mod hashes;
pub mod key;
pub mod proto;
mod read;
pub mod records;
mod ring;
pub mod store;
pub mod view;
pub mod watch;
pub mod write_ahead_log;
#[cfg(feature = "zoo")]
mod zoo;

#[cfg(feature = "zoo")]
pub use blox_runtime::zoo::{Bug, carried, let_loose};
pub use engine::FileSizes;
pub use feature_level::FeatureLevel;
pub use hashes::{HASH_INTERVAL_ENTRIES, HashPoint};
pub use key::{Key, Kind};
pub use store::{AppliedEntry, CheckpointMeta, Fingerprint, HistoryLimits, LogEntry, Progress, Store, StoreError};
pub use view::{ClusterSelector, Record, ResourceFilter, ResourceIter, View, ViewError};
pub use watch::{Change, WatchBatch, WatchEnd, WatchFrom, WatchRequest, Watcher};

/// One counter for the whole state: each changed key gets its own. 0 is the empty state.
pub type Revision = u64;
