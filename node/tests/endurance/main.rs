//! Long runs: no election under load or stalls, states that stay equal, nothing that grows.

mod elections;
mod flatness;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;
mod load;
mod sampler;
mod soak;
mod stalls;
mod states;
mod writers;
