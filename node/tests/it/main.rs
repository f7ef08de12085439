//! End to end, with real processes: three nodes, a simulated or a third party's ECS, and whoever asks them.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared by several test binaries; each uses its part"
)]
#[path = "../harness/mod.rs"]
mod harness;

mod bad_bodies;
mod command_line;
mod costs;
mod demo;
mod hand_over;
mod invariants;
mod leader_killed;
mod manual;
mod metrics;
mod monitoring;
mod own_scheduler;
mod roll_out;
mod same_answers;
mod silent_peer;
mod single_node;
mod streams;
mod third_party;
mod two_regions;
