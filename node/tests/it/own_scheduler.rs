//! The scheduler of a user's own in examples/, against three nodes and the simulator.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Process, REGION, SimulatorProcess, eventually, moto, seeded};

const INSTANCES: usize = 6;
const COPIES: usize = 4;
/// A lease that runs out, and what follows.
const CONVERGENCE: Duration = Duration::from_secs(120);
const RECORD: &str = "/v2/kv/schedulers/spread";
const GROUP: &str = "spread:spread";

/// Two of them run. Twice a copy dies, and the one that leads is killed inside the StartTask that replaces it, together with the leader of
/// the cluster: the other one takes over, and in the end all copies run, spread, and no launch has started two tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_stay_through_kills_and_none_starts_twice() {
    let (seed, _random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    simulator.definition(REGION, "web").await;
    let python = tokio::task::spawn_blocking(moto::python)
        .await
        .expect("installing does not panic");
    let home = tempfile::tempdir().expect("a directory");
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let start = |cluster: &Cluster, number: usize| {
        own_scheduler(
            cluster,
            &simulator,
            &python,
            &format!("scheduler-{number}"),
            home.path(),
        )
    };
    let mut schedulers = vec![start(&cluster, 0), start(&cluster, 1)];
    all_run(&cluster, &simulator, &schedulers).await;

    for round in 0..2 {
        let held = json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": 60_000, "then": "drop"});
        simulator.post("/answers", held).await;
        let victim = copies(&simulator).await[0].0.clone();
        let crash = json!({"region": REGION, "cluster": "alpha", "tasks": [victim]});
        simulator.post("/tasks/crash", crash).await;
        let inside = simulator
            .get("/held?operation=StartTask&at_least=1&wait_ms=30000")
            .await;
        assert!(inside["held"].as_u64() >= Some(1), "no start follows: {inside}");
        let record = cluster.get(0, RECORD).await.json();
        let leads = leading(&record, &schedulers).expect("one of these leads");
        let node = cluster.leader().await;
        schedulers.remove(leads).kill().await;
        cluster.nodes[node].kill().await;
        simulator.delete("/answers").await;
        schedulers.push(start(&cluster, 2 + round));
        cluster.start_all().await;
        all_run(&cluster, &simulator, &schedulers).await;
    }

    for scheduler in &schedulers {
        println!("{}\n", scheduler.log());
    }
    let mut launches: BTreeMap<String, usize> = BTreeMap::new();
    for task in tasks(&simulator).await {
        *launches
            .entry(task["startedBy"].as_str().unwrap_or_default().to_owned())
            .or_default() += 1;
    }
    assert!(launches.values().all(|started| *started == 1), "{launches:?}");
    assert_eq!(
        launches.len(),
        COPIES + 2,
        "one launch for each copy, and one for each that died"
    );
    let instances: Vec<String> = copies(&simulator)
        .await
        .into_iter()
        .map(|(_, instance)| instance)
        .collect();
    let mut spread = instances.clone();
    spread.sort();
    spread.dedup();
    assert_eq!(spread.len(), COPIES, "each on an instance of its own: {instances:?}");
}

fn own_scheduler(cluster: &Cluster, simulator: &SimulatorProcess, python: &Path, name: &str, home: &Path) -> Process {
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/spread/spread.py");
    let copies = COPIES.to_string();
    let words = [
        script,
        "--blox",
        &urls.join(","),
        "--cluster",
        "alpha",
        "--task-definition",
        "web",
        "--count",
        &copies,
    ];
    let environment = [
        ("HOME", home.display().to_string()),
        ("AWS_ENDPOINT_URL", simulator.url()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "AKID".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "none".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    Process::start(name, python, &words.map(str::to_owned), &environment, home)
}

/// Which of them the record names, if that one lives: its own name ends in its pid and a random part.
fn leading(record: &Value, schedulers: &[Process]) -> Option<usize> {
    let holder = record["holder"].as_str()?;
    let named = |scheduler: &Process| holder.contains(&format!("-{}-", scheduler.pid()));
    schedulers.iter().position(named)
}

/// All tasks that the scheduler ever started, those that ended too.
async fn tasks(simulator: &SimulatorProcess) -> Vec<Value> {
    let state = simulator.get("/state").await;
    let clusters = state["regions"][REGION]["clusters"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let tasks = clusters
        .iter()
        .flat_map(|cluster| cluster["tasks"].as_array().cloned().unwrap_or_default());
    tasks.filter(|task| task["group"] == GROUP).collect()
}

/// Those that run: ARN and instance.
async fn copies(simulator: &SimulatorProcess) -> Vec<(String, String)> {
    let text = |task: &Value, key: &str| task[key].as_str().unwrap_or_default().to_owned();
    let running = tasks(simulator)
        .await
        .into_iter()
        .filter(|task| task["lastStatus"] == "RUNNING");
    running
        .map(|task| (text(&task, "taskArn"), text(&task, "containerInstanceArn")))
        .collect()
}

/// Waits until one of these leads, and its record names as many copies as are to run, and those that do.
async fn all_run(cluster: &Cluster, simulator: &SimulatorProcess, schedulers: &[Process]) {
    eventually("all copies run", CONVERGENCE, || async {
        let mut running: Vec<String> = copies(simulator).await.into_iter().map(|(task, _)| task).collect();
        running.sort();
        let record = cluster.get(0, RECORD).await;
        let record = if record.is_success() {
            record.json()
        } else {
            Value::Null
        };
        let slots = record["slots"].as_object().into_iter().flatten();
        let mut noted: Vec<String> = slots
            .filter_map(|(_, slot)| slot["task"].as_str().map(str::to_owned))
            .collect();
        noted.sort();
        if running.len() == COPIES && noted == running && leading(&record, schedulers).is_some() {
            return Ok(());
        }
        let words: Vec<String> = schedulers.iter().map(Process::last_words).collect();
        Err(format!(
            "{} of {COPIES} run: {record}\n{}",
            running.len(),
            words.join("\n--\n")
        ))
    })
    .await;
}
