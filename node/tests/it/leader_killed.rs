//! kill -9 of the leader while events flow and a deployment runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, eventually, seeded};

const KILLS: usize = 10;
/// So many of them inside a StartTask whose answer the simulator holds.
const KILLS_INSIDE_A_CALL: usize = 6;
const INSTANCES: usize = 12;
/// A launch whose call was never made is known to be none after a look-up 60 s past its deadline.
const CONVERGENCE: Duration = Duration::from_secs(180);

/// Another node leads each time, queries on the survivors go on, the killed node comes back; in the end no event is missing from the
/// state, every instance runs its daemon, and none ever ran two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leader_loses_and_doubles_nothing() {
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    simulator.definition(REGION, "web").await;
    simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    // From here on each pass of reconcile fails in its first step: what the state holds in the end, the queue and the launches' answers and
    // look-ups have told it.
    let errors = json!({"ListClusters": 1.0, "ListContainerInstances": 1.0});
    simulator.put("/faults", json!({"errors": errors})).await;
    let lively = json!({"task_starts_per_minute": 200.0, "task_stops_per_minute": 180.0, "flaps_per_instance_hour": 20.0, "instances_min": INSTANCES});
    simulator.put("/liveliness", lively).await;

    let queries = Queries::begin(&cluster);
    let mut inside = 0;
    for kill in 0..KILLS {
        simulator.definition(REGION, "agent").await;
        let hold = kill < KILLS_INSIDE_A_CALL;
        if hold {
            simulator
                .post(
                    "/answers",
                    json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": 60_000, "then": "drop"}),
                )
                .await;
        }
        cluster
            .put(
                "/v2/environments/agent",
                &json!({"cluster": "alpha", "task_definition": "agent", "max_unavailable": 4}),
            )
            .await;
        inside += usize::from(wait_for_the_moment(&simulator, hold, &mut random).await);
        let leader = cluster.leader().await;
        queries.leave_out(leader);
        let began = Instant::now();
        cluster.nodes[leader].kill().await;
        simulator.delete("/answers").await;
        let next = cluster.leader().await;
        println!("kill {kill}: {} after {:?}", cluster.nodes[next].name, began.elapsed());
        assert_ne!(next, leader);
        cluster.nodes[leader].start();
        cluster.ready(leader).await;
        caught_up(&cluster, leader).await;
        queries.take_in();
    }
    assert!(inside >= 5, "only {inside} kills inside a held StartTask");
    queries.end().await;

    let still = json!({});
    simulator.put("/liveliness", still).await;
    converged(&cluster).await;
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;
    no_event_is_missing(&cluster, &simulator).await;
    judge(&simulator).await;
}

/// Inside a call: as soon as the simulator holds one. Else: some moment of the roll-out.
async fn wait_for_the_moment(simulator: &SimulatorProcess, hold: bool, random: &mut ChaCha8Rng) -> bool {
    if hold {
        let held = simulator
            .get("/held?operation=StartTask&at_least=1&wait_ms=30000")
            .await;
        return held["held"].as_u64() >= Some(1);
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
    false
}

/// The node that came back answers with what the cluster has.
async fn caught_up(cluster: &Cluster, position: usize) {
    let newest = cluster.get((position + 1) % 3, "/v2/cluster").await.json()["revision"]
        .as_u64()
        .expect("a revision");
    let url = format!("{}/v1/tasks", cluster.nodes[position].url());
    eventually("the killed node catches up", DEADLINE, || async {
        let answer = cluster
            .client
            .ask(reqwest::Method::GET, &url, &[("x-blox-consistency", "stale")], None)
            .await?;
        let revision: u64 = answer.header("x-blox-revision").parse().unwrap_or(0);
        if answer.status == 200 && revision >= newest {
            Ok(())
        } else {
            Err(format!("{} at {revision} of {newest}", answer.status))
        }
    })
    .await;
}

async fn converged(cluster: &Cluster) {
    eventually("every instance runs its daemon", CONVERGENCE, || async {
        let environment = cluster.get(0, "/v2/environments/agent").await.json();
        let summary = &environment["summary"];
        let well = ["desired", "ready", "updated"]
            .iter()
            .all(|key| summary[key] == INSTANCES);
        if well { Ok(()) } else { Err(environment.to_string()) }
    })
    .await;
}

/// Of every resource that an event told of, the state holds at least the highest version that reached the queue.
async fn no_event_is_missing(cluster: &Cluster, simulator: &SimulatorProcess) {
    let told = simulator.get(&format!("/journal/resources?region={REGION}")).await;
    let told = told["resources"].as_object().expect("events were sent");
    assert!(told.len() > INSTANCES * 5, "too little happened: {}", told.len());
    for (arn, resource) in told {
        let kind = if arn.contains(":task/") { "tasks" } else { "instances" };
        let shown = cluster.get(1, &format!("/v2/{kind}/{arn}")).await.json();
        let (held, sent) = (
            shown["document"]["version"].as_u64(),
            resource["highest_version_queued"].as_u64(),
        );
        assert!(
            held >= sent,
            "{arn}: the state has version {held:?}, the queue carried {sent:?}"
        );
    }
}

/// By the simulator's count: exactly one on each instance now, and never two. Answers were lost here, but the listing never lagged, so the
/// promise has no exception.
async fn judge(simulator: &SimulatorProcess) {
    let counts = simulator.counts("blox:").await;
    let current: u64 = counts.iter().filter_map(|pair| pair["current"].as_u64()).sum();
    assert_eq!(current, INSTANCES as u64, "{counts:?}");
    let doubles: Vec<&Value> = counts
        .iter()
        .filter(|pair| pair["maximum"].as_u64() > Some(1))
        .collect();
    assert!(doubles.is_empty(), "two at once: {doubles:?}");
}

/// Queries of the survivors that go on all the time: reads that ask for no leader must always be answered.
struct Queries {
    left_out: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    asking: tokio::task::JoinHandle<usize>,
}

const NOBODY: usize = usize::MAX;

impl Queries {
    fn begin(cluster: &Cluster) -> Queries {
        let (left_out, stopping) = (Arc::new(AtomicUsize::new(NOBODY)), Arc::new(AtomicBool::new(false)));
        let urls: Vec<String> = cluster
            .nodes
            .iter()
            .map(|node| format!("{}/v1/tasks?cluster=alpha", node.url()))
            .collect();
        let client = cluster.client.clone();
        let (skip, stop) = (Arc::clone(&left_out), Arc::clone(&stopping));
        let asking = tokio::spawn(async move {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                for (position, url) in urls.iter().enumerate() {
                    if skip.load(Ordering::SeqCst) == position {
                        continue;
                    }
                    let answer = client
                        .ask(reqwest::Method::GET, url, &[("x-blox-consistency", "stale")], None)
                        .await;
                    // The node may have been chosen to die while it was asked.
                    if skip.load(Ordering::SeqCst) == position {
                        continue;
                    }
                    let answer = answer.expect("a survivor answers");
                    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
                    asked += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            asked
        });
        Queries {
            left_out,
            stopping,
            asking,
        }
    }

    fn leave_out(&self, position: usize) {
        self.left_out.store(position, Ordering::SeqCst);
    }

    fn take_in(&self) {
        self.left_out.store(NOBODY, Ordering::SeqCst);
    }

    async fn end(self) {
        self.stopping.store(true, Ordering::Relaxed);
        let asked = self.asking.await.expect("every query on a survivor was answered");
        println!("{asked} queries were answered meanwhile");
        assert!(asked > KILLS, "queries went on");
    }
}
