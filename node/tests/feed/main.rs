//! Events under every fault of a queue; leaders that wake up late.

mod counting;
mod deletes;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;
mod late_call;
mod late_leader;
mod long_run;
mod no_quorum;
mod support;
