//! SIGTERM of the leader under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Client, Cluster, REGION, SimulatorProcess, seeded};

/// Stops of the leader, one after another.
const STOPS: usize = 20;
/// Requests a second over all nodes, writes and reads in turn.
const REQUESTS_PER_SECOND: u32 = 500;
/// On a busy machine the clients themselves may fall behind; below this the test would prove too little.
const RATE_MIN: f64 = 450.0;
/// Instances that a roll-out goes over meanwhile.
const INSTANCES: usize = 4;
/// Clients that share the load.
const CLIENTS: u32 = 10;

/// What became of the load.
#[derive(Default)]
struct Tally {
    sent: AtomicUsize,
    second_attempts: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

/// The leader hands over when it is told to stop: a client that tries another node once sees no request fail, twenty stops in a row, each
/// in the middle of a roll-out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_the_leader_fails_no_request() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let (tally, stopping) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let urls: Arc<Vec<String>> = Arc::new(cluster.nodes.iter().map(|node| node.url()).collect());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(load(
            number,
            cluster.client.clone(),
            Arc::clone(&urls),
            Arc::clone(&tally),
            Arc::clone(&stopping),
        ));
    }
    let started = Instant::now();
    for stop in 0..STOPS {
        simulator.definition(REGION, "agent").await;
        let wanted = json!({"cluster": "alpha", "task_definition": "agent", "max_unavailable": 2});
        cluster.put("/v2/environments/agent", &wanted).await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].stop().await;
        let next = cluster.leader().await;
        assert_ne!(next, leader, "stop {stop}");
        cluster.nodes[leader].start();
        cluster.ready(leader).await;
        let failed = tally.failed.lock().expect("no client panicked with it").clone();
        assert!(
            failed.is_empty(),
            "after stop {stop}: {} failed: {}",
            failed.len(),
            failed.join("\n")
        );
    }
    stopping.store(true, Ordering::Relaxed);
    let (sent, seconds) = (tally.sent.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client panics");
    }
    let (rate, second_attempts) = (sent as f64 / seconds, tally.second_attempts.load(Ordering::Relaxed));
    println!("{sent} requests in {seconds:.1} s ({rate:.0} a second), {second_attempts} asked a second node");
    let failed = tally.failed.lock().expect("no client panicked with it").clone();
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed.join("\n"));
    let counts = simulator.counts("blox:").await;
    let doubles: Vec<_> = counts
        .iter()
        .filter(|pair| pair["maximum"].as_u64() > Some(1))
        .collect();
    assert!(doubles.is_empty(), "two at once: {doubles:?}");
    assert!(
        rate >= RATE_MIN,
        "the load was too light to prove anything: {rate:.0} a second"
    );
}

/// One client: its share of the load at an even pace, whatever the answers' times.
async fn load(number: u32, client: Client, urls: Arc<Vec<String>>, tally: Arc<Tally>, stopping: Arc<AtomicBool>) {
    let mut pace = tokio::time::interval(Duration::from_secs(1) * CLIENTS / REQUESTS_PER_SECOND);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    let mut count = 0;
    while !stopping.load(Ordering::Relaxed) {
        pace.tick().await;
        count += 1;
        let (client, urls, tally) = (client.clone(), Arc::clone(&urls), Arc::clone(&tally));
        requests.spawn(async move { request(number, count, &client, &urls, &tally).await });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

/// One request, to one node, and where that fails to another one, once.
async fn request(client_number: u32, count: u32, client: &Client, urls: &[String], tally: &Tally) {
    tally.sent.fetch_add(1, Ordering::Relaxed);
    let first = (client_number + count) as usize % urls.len();
    let key = format!("/v2/kv/load/{client_number}/{}", count % 50);
    let idempotency = format!("{client_number}-{count}");
    let mut errors = Vec::new();
    for attempt in 0..2 {
        let url = format!("{}{key}", urls[(first + attempt) % urls.len()]);
        let answer = if count.is_multiple_of(2) {
            client.ask(Method::GET, &url, &[], None).await
        } else {
            client
                .ask(
                    Method::PUT,
                    &url,
                    &[("idempotency-key", &idempotency)],
                    Some(count.to_string().into_bytes()),
                )
                .await
        };
        match answer {
            // A key that was not written yet is an answer too.
            Ok(answer) if answer.is_success() || (count.is_multiple_of(2) && answer.status == 404) => return,
            Ok(answer) => errors.push(format!("{url}: {} {}", answer.status, answer.text())),
            Err(error) => errors.push(error),
        }
        if attempt == 0 {
            tally.second_attempts.fetch_add(1, Ordering::Relaxed);
        }
    }
    tally
        .failed
        .lock()
        .expect("no client panicked with it")
        .push(errors.join(" | "));
}
