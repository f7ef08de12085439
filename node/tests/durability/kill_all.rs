//! kill -9 of all nodes at once, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};

use crate::daemons::{every_instance_is_served, never_two};
use crate::harness::{Cluster, REGION, SimulatorProcess, count, seeded};
use crate::load::Load;
use crate::watchers::{Watchers, history};

const INSTANCES: usize = 8;
const WRITERS: usize = 6;
const WATCHERS: usize = 6;
/// Acknowledged before each kill, at least.
const WRITES_BEFORE_A_KILL: usize = 60;

/// All nodes die at the same moment, again and again, while users write (some under idempotency keys, some conditionally), watchers follow and
/// daemons are rolled out. Every acknowledged write is there with its revision; every idempotency key gives its answer again; each watcher
/// goes on at its position, without a gap, without a repeat; no revision goes back; every task that was started has the intent that came
/// before it and is the only one on its instance; and the nodes hold the same state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_all_nodes_at_once_loses_nothing_acknowledged() {
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let begin = revision(&cluster).await + 1;
    let load = Load::begin(&cluster, WRITERS, Duration::from_millis(5));
    let watchers = Watchers::begin(&cluster, WATCHERS, begin);

    let (mut checked, mut inside) = (0, 0);
    for kill in 0..count(3, 20) {
        // Every other time within a StartTask whose answer is lost with the node that waits for it.
        let hold = kill % 2 == 0;
        if hold {
            let answer =
                json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": 60_000, "then": "drop"});
            simulator.post("/answers", answer).await;
        }
        roll_out(&cluster, &simulator).await;
        load.more(WRITES_BEFORE_A_KILL).await;
        if hold {
            let held = simulator.get("/held?operation=StartTask&at_least=1&wait_ms=5000").await;
            inside += usize::from(held["held"].as_u64() >= Some(1));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        let acknowledged = load.revision();
        cluster.kill_all().await;
        simulator.delete("/answers").await;
        cluster.start_all().await;
        let now = revision(&cluster).await;
        assert!(
            now >= acknowledged,
            "revision {acknowledged} was acknowledged, {now} is the newest"
        );
        checked = load.check_fresh(&cluster, checked).await;
        println!("kill {kill}: revision {acknowledged} acknowledged before, {now} after, {checked} keys are there");
    }
    load.end(&cluster).await;
    assert!(inside > 0, "no kill fell into a StartTask");

    every_instance_is_served(&simulator, INSTANCES, count(true, false), || async {
        history(&cluster, "launch", begin, revision(&cluster).await).await
    })
    .await;
    // A roll-out may still go on: what ECS has now is looked at first, so that the history has at least the intents that came before it.
    let fleet = simulator.get("/state").await;
    let end = revision(&cluster).await;
    let history = watchers.end(&cluster, end).await;
    never_two(&simulator).await;
    launches_are_as_the_simulator_saw_them(&fleet, &history);
    let (index, hash) = cluster.same_state().await;
    println!("all nodes hold {hash} at index {index}; {inside} kills inside a StartTask");
}

async fn revision(cluster: &Cluster) -> u64 {
    // A linearizable read: `/v2/cluster` answers from what this node has.
    let answer = cluster.get(0, "/v2/environments").await;
    answer.header("x-blox-revision").parse().expect("a revision")
}

async fn roll_out(cluster: &Cluster, simulator: &SimulatorProcess) {
    simulator.definition(REGION, "agent").await;
    let wanted = json!({"cluster": "alpha", "task_definition": "agent", "max_unavailable": 4});
    cluster.put("/v2/environments/agent", &wanted).await;
}

/// Of each task that ECS was told to start, the history has the intent of its deployment on its instance.
fn launches_are_as_the_simulator_saw_them(fleet: &Value, history: &[(u64, Value)]) {
    let mut intents: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut launches = BTreeSet::new();
    for (_, change) in history.iter().filter(|(_, change)| change["kind"] == "launch") {
        let launch = &change["object"];
        let text = |key: &str| launch[key].as_str().unwrap_or_default().to_owned();
        if launches.insert(text("id")) {
            *intents
                .entry((text("instance_arn"), text("deployment_id")))
                .or_default() += 1;
        }
    }
    let mut started: BTreeMap<(String, String), usize> = BTreeMap::new();
    let clusters = fleet["regions"][REGION]["clusters"].as_array().into_iter().flatten();
    for task in clusters.flat_map(|cluster| cluster["tasks"].as_array().into_iter().flatten()) {
        let text = |key: &str| task[key].as_str().unwrap_or_default().to_owned();
        if text("group").starts_with("blox:") {
            *started
                .entry((text("containerInstanceArn"), text("startedBy")))
                .or_default() += 1;
        }
    }
    for (place, tasks) in &started {
        let intended = intents.get(place).copied().unwrap_or(0);
        assert!(*tasks <= intended, "{tasks} tasks of {place:?} and {intended} intents");
    }
    let tasks: usize = started.values().sum();
    assert!(tasks >= INSTANCES, "too little was launched: {tasks}");
    println!(
        "{tasks} tasks were started by {} launches, never two at once",
        launches.len()
    );
}
