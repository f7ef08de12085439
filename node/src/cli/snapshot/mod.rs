//! `blox snapshot save`, `inspect` and `restore`: the whole state as one file. See docs/operations/backup.md.

mod inspect;
mod progress;
mod restore;
mod save;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

/// What to do with a snapshot's file.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Have a node write its whole state to a file.
    Save {
        /// The file; it must not exist yet.
        file: PathBuf,
        /// Nodes to ask, one after another until one answers.
        #[arg(long = "endpoint", value_name = "URL", default_values_t = ["http://127.0.0.1:2000".to_owned()])]
        endpoints: Vec<String>,
        /// `stale` takes what the node has, without asking its leader: for a cluster that has lost its quorum.
        #[arg(long, value_enum, default_value_t = ConsistencyName::Linearizable)]
        consistency: ConsistencyName,
    },
    /// Check all of a file, and say what it holds.
    Inspect {
        /// The file.
        file: PathBuf,
        /// How to say it.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// Where to unpack it for the time of the check; not given: the system's temporary directory.
        #[arg(long, value_name = "DIRECTORY")]
        scratch: Option<PathBuf>,
    },
    /// Prepare an empty data directory of one initial member of a new cluster; to be done on each of them, with the same file.
    Restore(restore::Arguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum ConsistencyName {
    Linearizable,
    Stale,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Does it.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Action::Save {
            file,
            endpoints,
            consistency,
        } => save::run(&file, &endpoints, consistency)?,
        Action::Inspect { file, output, scratch } => inspect::run(&file, output, scratch)?,
        Action::Restore(arguments) => restore::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
