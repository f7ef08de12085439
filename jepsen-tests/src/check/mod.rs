//! Checkers: pure functions from what was recorded to a [`Verdict`]. None of them asks a node, reads a clock or draws a number.
//!
//! [`history`] is what clients did (`history.jsonl`), [`faults`] what was done to the cluster meanwhile, [`changes`] the committed changes as a
//! watch of one node told them: the truth that other records are held against.
//!
//! | checker | promise |
//! |---|---|
//! | [`linear`] | reads, writes and compare-and-set of a key behave as on one copy, revisions too |
//! | [`set`], [`append`] | nothing acknowledged is lost, nothing appears from nowhere, lists only grow |
//! | [`committed`] | writes of every kind are in the log as they were answered, and nothing else is |
//! | [`stale`] | a stale read is old, never wrong |
//! | [`idempotent`] | a write said many times is applied once and answered alike |
//! | [`watch`] | ordered, unique, atomic, reliable, resumable, bookmarkable |
//! | [`v1_stream`] | the streams of Blox 0.3's contract: in order, once, without a gap |
//! | [`ingest`], [`daemon`] | events of ECS arrive, tasks are started once |
//! | [`sessions`] | what a deposed leader still sends changes nothing |
//! | [`queries`] | lists are equal on all nodes at one revision |
//! | [`availability`], [`crash`], [`always`] | what a fault cost, that no node panicked, that the run proved anything at all |
//!
//! [`edn`] writes histories for checkers of others.

pub mod always;
pub mod append;
pub mod availability;
pub mod changes;
pub mod committed;
pub mod crash;
pub mod daemon;
pub mod edn;
pub mod faults;
pub mod history;
pub mod idempotent;
pub mod ingest;
pub mod linear;
pub mod queries;
pub mod sessions;
pub mod set;
pub mod stale;
pub mod v1_stream;
pub mod verdict;
pub mod watch;

#[cfg(test)]
pub(crate) mod testing;

pub use verdict::{Findings, Verdict};
