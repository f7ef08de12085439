//! `blox simulator`: a stand-in for ECS and SQS.

use std::net::SocketAddr;
use std::process::ExitCode;

use blox_simulator::{Preset, Simulator, SimulatorConfig};
use clap::ValueEnum;

use super::{run_to_end, stdin};
use crate::run::signals::Signals;

/// With what it begins.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where to listen; port 0 lets the operating system choose.
    #[arg(long, default_value = "127.0.0.1:2020")]
    listen: SocketAddr,
    /// Seed of every identifier, delay and fault.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What exists at the start.
    #[arg(long, value_enum, default_value_t = PresetName::Demo)]
    preset: PresetName,
    /// Regions that exist from the start, each with its event queue; others come with their first request.
    #[arg(long = "region", default_values_t = ["us-east-1".to_owned()])]
    regions: Vec<String>,
    /// End when standard input closes: for a parent that may die without a word.
    #[arg(long, hide = true)]
    exit_on_stdin_close: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PresetName {
    /// Nothing that moves by itself.
    Empty,
    /// Two clusters of twenty instances that join, drain, flap and leave.
    Demo,
}

/// Serves until it is told to stop.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = SimulatorConfig {
        listen: arguments.listen,
        seed: arguments.seed,
        preset: match arguments.preset {
            PresetName::Empty => Preset::Empty,
            PresetName::Demo => Preset::Demo,
        },
        regions: arguments.regions,
        ..SimulatorConfig::default()
    };
    run_to_end(async {
        let mut signals = Signals::listen()?;
        let simulator = Simulator::start(config).await?;
        // The one line on standard output: whoever started it learns the port.
        println!("simulator listens on {}", simulator.local_addr());
        tokio::select! {
            _ = signals.stop() => {}
            () = stdin::closed(arguments.exit_on_stdin_close) => {}
        }
        simulator.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}
