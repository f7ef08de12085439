//! The promise's one exception with a call that reaches ECS too late.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, count, eventually, seeded};
use crate::support::{ask, leader_among, metric, others, start_with_points};

const INSTANCES: usize = 2;
/// The minute after the deadline, shortened.
const WAITS: &str = "launch::call-deadline-ms=return(2000);launch::close-after-deadline-ms=return(1000);launch::look-up-gap-ms=return(300)";
/// Pause between two reconcile passes, and what a pass and the stop itself may take on a busy machine.
const RECONCILE_PAUSE: Duration = Duration::from_secs(5);
const ONE_PASS: Duration = Duration::from_secs(5);

/// A StartTask leaves a leader that then stands still, and reaches ECS only after its launch was given up and made again by the next leader.
/// Proves the exception to "never two": the double is seen (by its event; or, where events are lost, by the next reconcile pass), the younger
/// is stopped, counted and shown; the older stays; nothing else is touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_arrives_too_late_is_undone() {
    let (seed, _) = seeded();
    for round in 0..count(1, 5) {
        let events_are_lost = round % 2 == 1;
        one_round(seed + round, events_are_lost).await;
    }
}

async fn one_round(seed: u64, events_are_lost: bool) {
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    let instances = simulator.cluster(REGION, "alpha", INSTANCES).await;
    simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = start_with_points(directory, &simulator, source, WAITS).await;
    cluster.reconciled().await;

    let delay = json!({"operation": "StartTask", "action": "delay", "calls": 1});
    simulator.post("/answers", delay).await;
    let wanted = json!({"cluster": "alpha", "task_definition": "agent", "max_unavailable": INSTANCES});
    cluster.put("/v2/environments/agent", &wanted).await;
    let held = simulator
        .get("/held?operation=StartTask&at_least=1&wait_ms=30000")
        .await;
    assert_eq!(held["held"], 1);
    let old = cluster.leader().await;
    cluster.nodes[old].pause();
    let new = leader_among(&cluster, &others(&cluster, old)).await;
    runs_once(&cluster, new).await;
    simulator.wait_until_still().await;
    let older = tasks(&simulator).await;
    assert_eq!(older.len(), INSTANCES);

    if events_are_lost {
        simulator
            .put("/faults", json!({"events": {"loss_probability": 1.0}}))
            .await;
    }
    let released = simulator.post("/release", json!({"operation": "StartTask"})).await;
    assert_eq!(released["released"], 1);
    let arrived = Instant::now();
    let was_doubled = |pair: &Value| pair["maximum"] == 2;
    eventually("the late call takes effect", DEADLINE, || async {
        let counts = simulator.counts("blox:").await;
        if counts.iter().all(was_doubled) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await;
    eventually("the doubles are stopped", RECONCILE_PAUSE + ONE_PASS, || async {
        let live = tasks(&simulator).await;
        if live == older {
            Ok(())
        } else {
            Err(format!("{live:?} run, not {older:?}"))
        }
    })
    .await;
    let counts = simulator.counts("blox:").await;
    println!(
        "events lost: {events_are_lost}; the younger of two were gone {:?} after the late call; two at once for {} ms at most",
        arrived.elapsed(),
        counts
            .iter()
            .filter_map(|pair| pair["above_one_longest_ms"].as_u64())
            .max()
            .unwrap_or(0)
    );
    assert_eq!(counts.len(), instances.len());
    assert!(counts.iter().all(|pair| pair["current"] == 1), "{counts:?}");
    assert_eq!(
        metric(&cluster, new, "blox_scheduler_doubles_stopped_total").await,
        INSTANCES as f64
    );
    assert!(cluster.nodes[new].log().contains("a double is stopped"));
    simulator.delete("/faults").await;
    cluster.nodes[old].resume();
    shown(&cluster, new).await;
    runs_once(&cluster, new).await;
    assert_eq!(tasks(&simulator).await, older, "the older tasks stay");
}

async fn runs_once(cluster: &Cluster, node: usize) {
    eventually("one daemon on each instance", DEADLINE, || async {
        let environment = ask(cluster, node, "/v2/environments/agent").await?.json();
        let summary = &environment["summary"];
        let well = ["desired", "ready", "updated"]
            .iter()
            .all(|key| summary[key] == INSTANCES);
        if well { Ok(()) } else { Err(environment.to_string()) }
    })
    .await;
}

/// Users see which task was the double and why it was stopped.
async fn shown(cluster: &Cluster, node: usize) {
    eventually("the state shows why they were stopped", DEADLINE, || async {
        let page = ask(cluster, node, "/v2/tasks?status=stopped&limit=100").await?.json();
        let tasks = page["items"].as_array().cloned().unwrap_or_default();
        let reasons = tasks
            .iter()
            .filter_map(|task| task["document"]["stoppedReason"].as_str());
        let doubles = reasons
            .filter(|reason| reason.contains("an older task of the environment"))
            .count();
        if doubles == INSTANCES {
            Ok(())
        } else {
            Err(page.to_string())
        }
    })
    .await;
}

/// Tasks of the environment that are not STOPPED, by the simulator's own word.
async fn tasks(simulator: &SimulatorProcess) -> Vec<String> {
    let counts = simulator.counts("blox:").await;
    let mut tasks: Vec<String> = counts
        .iter()
        .flat_map(|pair| crate::support::strings(&pair["tasks"]))
        .collect();
    tasks.sort();
    tasks
}
