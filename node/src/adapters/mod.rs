//! The crates below `node` know each other only by traits; here they are put together.

pub mod backups;
pub mod catalog;
pub mod daemons;
pub mod launcher;
pub mod metrics;
pub mod process;
pub mod sources;
