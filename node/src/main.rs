//! The `blox` binary: one node, or one of the tools around it.
//!
//! A tour:
//! - [`cli`]: what can be said on the command line, one file a subcommand;
//! - [`config`]: file < environment < flags;
//! - [`run`]: one node from start to stop: state, consensus, HTTP, duties, signals;
//! - [`duties`]: what only the leader does, under one session;
//! - [`adapters`]: the crates below know each other only by traits; here they are put together;
//! - [`logging`]: lines that say where the node stands, and never wait for their reader;
//! - [`demo`]: three nodes, a simulator and a story, on this machine;
//! - `failpoints`: in builds for tests only, crash points that can be set from outside;
//! - `zoo`: in builds for tests only, a deliberate bug that the node carries.

mod adapters;
mod cli;
mod config;
mod demo;
mod duties;
#[cfg(feature = "failpoints")]
mod failpoints;
mod logging;
mod run;
#[cfg(feature = "zoo")]
mod zoo;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    logging::panics::abort_on_panic();
    match tried() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("blox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that may fail, told in one place.
fn tried() -> anyhow::Result<ExitCode> {
    #[cfg(feature = "failpoints")]
    failpoints::set_up()?;
    #[cfg(feature = "zoo")]
    zoo::set_up()?;
    cli::Cli::parse().command.run()
}
