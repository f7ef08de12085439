//! What can be said on the command line. Exit codes: 0 well, 1 an error or an unhealthy answer, 2 wrong usage.

mod config;
mod demo;
mod health;
mod member;
mod member_table;
mod node;
mod simulator;
mod snapshot;
pub mod stdin;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Blox: query, watch and schedule on Amazon ECS clusters.
#[derive(Parser)]
#[command(name = "blox", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Command {
    /// Run one node.
    Node(node::Arguments),
    /// Run three nodes against a simulated ECS on this machine, and tell what happens.
    Demo(demo::Arguments),
    /// Run the simulated ECS and SQS.
    Simulator(simulator::Arguments),
    /// Check a configuration file, or show a commented one.
    Config(config::Arguments),
    /// Save the whole state to a file, look into such a file, or prepare a new cluster from it.
    Snapshot(snapshot::Arguments),
    /// Ask a node whether it is ready: exit code 0 or 1, for container health checks.
    Health(health::Arguments),
    /// Show, replace, remove or promote members of a cluster.
    Member(member::Arguments),
}

impl Command {
    /// Does it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Node(arguments) => node::run(arguments),
            Command::Demo(arguments) => demo::run(arguments),
            Command::Simulator(arguments) => simulator::run(arguments),
            Command::Config(arguments) => config::run(arguments),
            Command::Snapshot(arguments) => snapshot::run(arguments),
            Command::Health(arguments) => health::run(arguments),
            Command::Member(arguments) => member::run(arguments),
        }
    }
}

/// How long threads may take to end once the work is done: a read that hangs on the disk must not keep the process.
const THREADS_END_MS_MAX: u64 = 1_000;

/// Runs a future on a runtime of its own, to its end.
fn run_to_end<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_millis(THREADS_END_MS_MAX));
    outcome
}
