//! Whether all is as it should be: by what every node says, and by the simulator's own count.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::CLUSTERS;
use super::cluster::Cluster;
use super::nodes::Nodes;

/// How often it is asked again: the fleet is alive, and an instance may have joined this moment.
const AGAIN_MS: u64 = 500;

/// What was found.
pub struct Verdict {
    /// What is wrong, one sentence each; nothing: all is well.
    pub wrong: Vec<String>,
    /// Eligible instances that run their daemon, over all clusters.
    pub daemons: usize,
    /// Events that the simulated ECS has sent.
    pub events: u64,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Asks until all is well, at most for `patience`.
pub async fn reach(cluster: &Cluster, nodes: &Nodes, patience: Duration) -> Verdict {
    let started = Instant::now();
    loop {
        let verdict = ask(cluster, nodes).await;
        if verdict.is_good() || started.elapsed() > patience {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
    }
}

async fn ask(cluster: &Cluster, nodes: &Nodes) -> Verdict {
    let mut wrong = Vec::new();
    for node in cluster.nodes() {
        if let Err(error) = check_node(nodes, &node.url).await {
            wrong.push(format!("{}: {error:#}", node.name));
        }
    }
    let (daemons, events) = match check_simulator(cluster.simulator_url(), nodes, &mut wrong).await {
        Ok(found) => found,
        Err(error) => {
            wrong.push(format!("the simulator does not answer: {error:#}"));
            (0, 0)
        }
    };
    Verdict { wrong, daemons, events }
}

/// A node serves, and by its own state every environment has every daemon.
async fn check_node(nodes: &Nodes, url: &str) -> anyhow::Result<()> {
    nodes
        .get_from(url, "/v1/tasks?status=running")
        .await
        .context("it does not serve")?;
    for name in CLUSTERS {
        let environment = nodes.get_from(url, &format!("/v2/environments/agent-{name}")).await?;
        let summary = &environment["summary"];
        let count = |key: &str| summary[key].as_u64().unwrap_or(0);
        let (desired, ready, updated, misscheduled) = (
            count("desired"),
            count("ready"),
            count("updated"),
            count("misscheduled"),
        );
        anyhow::ensure!(
            desired > 0 && ready == desired && updated == desired,
            "agent-{name} is wanted on {desired} instances, RUNNING on {ready}, up to date on {updated} (and on {misscheduled} where it should not be)"
        );
    }
    Ok(())
}

/// By the simulator: no instance ever had two tasks of one environment, and each eligible one has exactly one now.
async fn check_simulator(url: &str, nodes: &Nodes, wrong: &mut Vec<String>) -> anyhow::Result<(usize, u64)> {
    let counts = nodes.get_from(url, "/control/counts?group_prefix=blox:").await?;
    let state = nodes.get_from(url, "/control/state").await?;
    let daemons = check_counts(url, &counts, &state, wrong)?;
    let health = nodes.get_from(url, "/control/health").await?;
    let events = health["events_sent"]
        .as_u64()
        .context("/control/health does not say events_sent")?;
    Ok((daemons, events))
}

/// How many eligible instances run exactly one daemon. What the simulator does not say is an error: silence proves nothing.
fn check_counts(url: &str, counts: &Value, state: &Value, wrong: &mut Vec<String>) -> anyhow::Result<usize> {
    let maximum = counts["maximum_by_group"]
        .as_u64()
        .context("/control/counts does not say maximum_by_group")?;
    let pairs = counts["pairs"]
        .as_array()
        .context("/control/counts does not say its pairs")?;
    anyhow::ensure!(
        state["regions"].as_object().is_some_and(|regions| !regions.is_empty()),
        "/control/state shows no region"
    );
    if maximum > 1 {
        wrong.push(format!(
            "an instance had {maximum} tasks of one environment at once: see {url}/control/counts?above=1"
        ));
    }
    let mut running: BTreeMap<String, u64> = BTreeMap::new();
    for pair in pairs {
        *running.entry(id_of(&pair["instance"])).or_default() += pair["current"].as_u64().unwrap_or(0);
    }
    let mut daemons = 0;
    for instance in eligible(state) {
        match running.get(&instance) {
            Some(1) => daemons += 1,
            found => wrong.push(format!(
                "the simulator counts {} daemons on instance {instance}",
                found.unwrap_or(&0)
            )),
        }
    }
    if daemons == 0 {
        wrong.push("the simulator counts no daemon at all".to_owned());
    }
    Ok(daemons)
}

fn eligible(state: &Value) -> impl Iterator<Item = String> {
    let clusters = state["regions"]
        .as_object()
        .into_iter()
        .flat_map(|regions| regions.values());
    let instances = clusters
        .flat_map(|region| region["clusters"].as_array().into_iter().flatten())
        .flat_map(|cluster| cluster["instances"].as_array().into_iter().flatten());
    instances
        .filter(|one| one["status"] == "ACTIVE" && one["agentConnected"] == true && one["dead"] != true)
        .map(|one| id_of(&one["containerInstanceArn"]))
}

/// The simulator names an instance by ARN or by id.
fn id_of(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the check says of these answers: daemons and sentences, or an error.
    fn check(counts: Value, state: Value) -> anyhow::Result<(usize, Vec<String>)> {
        let mut wrong = Vec::new();
        let daemons = check_counts("http://simulator", &counts, &state, &mut wrong)?;
        Ok((daemons, wrong))
    }

    fn one_instance() -> Value {
        let instance = json!({"containerInstanceArn": "i1", "status": "ACTIVE", "agentConnected": true});
        json!({"regions": {"r": {"clusters": [{"instances": [instance]}]}}})
    }

    /// One daemon on the one instance is well; none, two at once, or no instance at all are not.
    #[test]
    fn every_instance_has_one_daemon() {
        let counts = |current: u64, maximum: u64| json!({"maximum_by_group": maximum, "pairs": [{"instance": "i1", "current": current}]});
        let (daemons, wrong) = check(counts(1, 1), one_instance()).expect("readable");
        assert_eq!((daemons, wrong.len()), (1, 0));
        assert!(!check(counts(1, 2), one_instance()).expect("readable").1.is_empty());
        assert!(!check(counts(0, 1), one_instance()).expect("readable").1.is_empty());
        let nothing = json!({"regions": {"r": {"clusters": []}}});
        assert!(!check(counts(1, 1), nothing).expect("readable").1.is_empty());
    }

    /// An answer that does not say what it is asked for is no proof that all is well.
    #[test]
    fn silence_proves_nothing() {
        assert!(check(json!({"pairs": []}), one_instance()).is_err());
        assert!(check(json!({"maximum_by_group": 1}), one_instance()).is_err());
        assert!(check(json!({"maximum_by_group": 1, "pairs": []}), json!({})).is_err());
    }
}
