//! Clusters of real processes: started, killed, stopped and restarted by their pids, asked by HTTP. Nothing outlives its test.

pub mod chart;
mod client;
mod fleet;
pub mod member;
pub mod moto;
mod network;
mod node;
mod ports;
mod process;
mod report;
mod scale;
mod simulator;
mod stream;
mod wait;

pub use client::{Answer, Client, series};
pub use fleet::{Cluster, SourceText};
pub use moto::Moto;
pub use network::Network;
pub use node::{Node, NodeOptions};
pub use ports::Port;
pub use process::Process;
pub use report::{report, soak_directory};
pub use scale::count;
pub use simulator::{REGION, SimulatorProcess};
pub use stream::Lines;
pub use wait::{DEADLINE, eventually};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A seeded generator; the seed is printed, and can be given again by BLOX_TEST_SEED.
pub fn seeded() -> (u64, ChaCha8Rng) {
    let given = std::env::var("BLOX_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed} (repeat with BLOX_TEST_SEED={seed})");
    (seed, ChaCha8Rng::seed_from_u64(seed))
}
