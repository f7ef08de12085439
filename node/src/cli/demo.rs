//! `blox demo`: three nodes and a simulated ECS on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use super::run_to_end;
use crate::config::units::HumanDuration;
use crate::demo::{self, Options};

/// How it is to be.
#[derive(clap::Args)]
pub struct Arguments {
    /// End by itself after this time, with a verdict: exit code 0 only if every node served and every instance ran its daemon.
    #[arg(long = "for", value_name = "DURATION")]
    run_for: Option<HumanDuration>,
    /// First of the three ports for users; where one is taken, a free one is used.
    #[arg(long, default_value_t = 2001, value_parser = clap::value_parser!(u16).range(1..=65_533))]
    base_port: u16,
    /// Keep data and logs in this directory; not given: a temporary one.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Seed of the simulated fleet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a line instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    run_to_end(demo::run(Options {
        run_for: arguments.run_for.map(|HumanDuration(time)| time),
        base_port: arguments.base_port,
        data: arguments.data,
        seed: arguments.seed,
        json: arguments.json,
    }))
}
