//! What was acknowledged survives: system calls in order, kills of all nodes at once, a crash at every step, an fsync that fails.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;

mod acknowledged;
mod crash_points;
mod daemons;
mod failing_sync;
mod kill_all;
mod load;
mod order;
mod strace;
mod watchers;
