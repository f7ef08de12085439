//! Snapshots, the log's limits, damaged files, full disks.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;

mod damage;
mod disk_full;
mod log_limits;
mod model;
mod snapshots;
