//! The store as its users see it, on both engines.

// The tests themselves may read the environment and spawn.
#![allow(clippy::disallowed_methods)]

mod apply;
mod at_once;
mod backups;
mod checkpoints;
mod compaction;
mod golden;
mod lists;
mod maintenance;
mod model;
mod restarts;
mod samples;
mod support;
mod views;
mod watches;
mod wire;
