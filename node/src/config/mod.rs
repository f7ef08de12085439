//! Configuration: TOML file < `BLOX_*` environment < flags.
//!
//! - [`layer`] is one layer, as written: everything optional, unknown keys refused with a suggestion and their line;
//! - [`settings`] is the one table of single-valued keys: file key, environment name and flag come from it;
//! - [`resolve`] puts the layers together, fills in the defaults and checks what no single key can be checked for.

pub mod layer;
pub mod resolve;
pub mod settings;
pub mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use blox_ecs::SourceConfig;
use blox_raft::{InitialMember, SnapshotPolicy, Timing};
use blox_store::HistoryLimits;

pub use resolve::load;

/// The commented file that `blox config print-default` shows.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// What was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The text is no configuration.
    #[error("{origin}, line {line}: {message}")]
    Parse {
        /// The file, variable or flag.
        origin: String,
        /// Line in it, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// A value from the environment or a flag.
    #[error("{origin}: {message}")]
    Value {
        /// The variable or flag.
        origin: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// The whole does not fit together.
    #[error("{0}")]
    Invalid(String),
}

/// Everything one node must be told, with defaults filled in and checked.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Unique in the cluster.
    pub name: String,
    /// Identity, log, state and snapshots.
    pub data_directory: PathBuf,
    /// Users' interface.
    pub http: Endpoint,
    /// The other nodes' interface.
    pub peer: Endpoint,
    /// The members of the first start.
    pub initial_members: Vec<InitialMember>,
    /// Where ECS is observed.
    pub sources: Vec<SourceConfig>,
    /// Heartbeat and election times.
    pub timing: Timing,
    /// When to snapshot and how much log to keep.
    pub snapshot: SnapshotPolicy,
    /// How much history is kept.
    pub history: HistoryLimits,
    /// How often that is enforced, and what is over by age is removed.
    pub history_check: Duration,
    /// With fewer bytes free on disk, writes are refused.
    pub disk_reserve_bytes: u64,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// An interface of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` told to others.
    pub advertise: String,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// Directives as in `RUST_LOG`.
    pub level: String,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
