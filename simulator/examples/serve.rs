//! Serves the demo's world on a free port until Ctrl-C: `cargo run -p blox-simulator --example serve`.

use blox_simulator::{Preset, Simulator, SimulatorConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = SimulatorConfig {
        listen: "127.0.0.1:0".parse()?,
        preset: Preset::Demo,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::start(config).await?;
    println!("AWS_ENDPOINT_URL={}", simulator.url());
    tokio::signal::ctrl_c().await?;
    simulator.shutdown().await;
    Ok(())
}
