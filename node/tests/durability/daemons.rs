//! Daemons, as the simulator counts them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{SimulatorProcess, eventually};

/// A launch whose call was never made is known to be none after a look-up 60 s past its deadline.
const CONVERGENCE: Duration = Duration::from_secs(240);

/// Waits until every instance runs one daemon. `open_will_do`: an instance whose launch is open counts as served, as its look-ups may take over
/// a minute. `changes`: all there were of launches, in order.
pub async fn every_instance_is_served<F: Future<Output = Vec<(u64, Value)>>>(
    simulator: &SimulatorProcess,
    instances: usize,
    open_will_do: bool,
    changes: impl Fn() -> F,
) {
    eventually("every instance has its daemon", CONVERGENCE, || async {
        let counts = simulator.counts("blox:").await;
        let served: BTreeSet<&str> = counts
            .iter()
            .filter(|pair| pair["current"] == 1)
            .filter_map(|pair| pair["instance"].as_str())
            .collect();
        let mut states: BTreeMap<String, String> = BTreeMap::new();
        for (_, change) in changes().await.iter().filter(|(_, change)| change["kind"] == "launch") {
            let text = |key: &str| change["object"][key].as_str().unwrap_or_default().to_owned();
            states.insert(text("instance_arn"), text("state"));
        }
        let open = states
            .iter()
            .filter(|(instance, state)| {
                matches!(state.as_str(), "intended" | "unknown") && !served.contains(instance.as_str())
            })
            .count();
        if served.len() == instances || (open_will_do && served.len() + open == instances) {
            println!(
                "{} instances run their daemon, {open} wait for an open launch",
                served.len()
            );
            Ok(())
        } else {
            Err(format!(
                "{} of {instances} served, {open} open: {states:?}",
                served.len()
            ))
        }
    })
    .await;
}

/// No instance ever had two.
pub async fn never_two(simulator: &SimulatorProcess) {
    let counts = simulator.counts("blox:").await;
    let doubles: Vec<&Value> = counts
        .iter()
        .filter(|pair| pair["maximum"].as_u64() > Some(1))
        .collect();
    assert!(doubles.is_empty(), "two at once: {doubles:?}");
}
