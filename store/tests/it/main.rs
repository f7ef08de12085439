//! The store as its users see it, on both engines.

mod apply;
mod checkpoints;
mod compaction;
mod golden;
mod lists;
mod maintenance;
mod model;
mod restarts;
mod support;
mod views;
mod watches;
