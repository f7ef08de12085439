//! With what a simulator begins.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Port of the simulator unless another is given.
pub const DEFAULT_PORT: u16 = 2020;

/// With what a simulator begins. Everything else is switched by its control routes while it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorConfig {
    /// Where to listen; port 0 lets the operating system choose.
    pub listen: SocketAddr,
    /// Seed of the one random generator: identifiers, delays and faults are drawn from it.
    pub seed: u64,
    /// What exists at the start.
    pub preset: Preset,
    /// The twelve-digit AWS account of every resource.
    pub account: String,
    /// Regions that exist, with their event queue, before the first request names them; others come with their first request.
    pub regions: Vec<String>,
    /// Name of the queue in each region that receives the region's ECS events.
    pub event_queue: String,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            seed: 1,
            preset: Preset::Empty,
            account: "123456789012".into(),
            regions: vec!["us-east-1".into()],
            event_queue: "blox-events".into(),
        }
    }
}

/// What exists when a simulator starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Regions with an event queue, and nothing that moves by itself.
    #[default]
    Empty,
    /// Clusters `alpha` and `beta` of twenty instances each in us-east-1, application tasks, a gently living fleet.
    Demo,
}

/// Why a simulator could not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The address could not be bound.
    #[error(
        "cannot listen on {address}: {source}; choose a free port (0 picks one) with the simulator's listen setting"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// The account is not twelve digits.
    #[error("account {0:?} is not an AWS account: give twelve digits")]
    Account(String),
}
