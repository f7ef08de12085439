//! Watches, reads and idempotency keys across nodes that fail.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;

mod deliveries;
mod forms;
mod idempotency;
mod load;
mod partitions;
mod reads;
mod registers;
mod traffic;
mod truth;
mod watch;
mod watchers;
