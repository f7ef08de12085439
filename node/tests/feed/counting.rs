//! Every message counts once: what is new, what is known, what cannot be read.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, count, eventually, seeded};
use crate::support::{
    Counters, ask, check_order, counters, drained, events, give_up_after, highest, metric, only_the_queue_tells,
    replay, steps, versions,
};

const INSTANCES: usize = 20;
/// SQS's limit on a message for most of its life, and what is ours to take.
const LARGE_BYTES: usize = 256 << 10;
const LARGE_EVENTS: i64 = 5;
const UNKNOWN_TYPES: usize = 100;
/// What the quarantine holds.
const QUARANTINE_BODIES_MAX: usize = 1_000;
const QUARANTINE_BYTES_MAX: usize = 64 << 20;
/// How long an event that is to be overtaken waits at most.
const REORDER: Duration = Duration::from_millis(300);

/// Duplicates, reordered events, lost answers to deletions, bodies of 256 KiB, types nobody knows, and a flood of bodies that cannot be read,
/// all at once. Proves: the queue goes on to its end and nothing goes to the dead letters; every delivery is counted once, as what it was;
/// the versions that were jumped over add up to ECS's own count; no version is applied twice; the quarantine stays within its bounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_delivery_counts_once() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    give_up_after(&simulator, 3).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let beta = simulator.cluster(REGION, "beta", 1).await.remove(0);
    // One pass at the start: from then on the queue alone tells of anything.
    let mut source = SimulatorProcess::source("main", REGION);
    source.reconcile_pause = "1h";
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let before_queue = drained(&simulator, DEADLINE, Duration::ZERO).await;
    let leader = cluster.leader().await;
    let known = versions(&cluster, leader).await;
    let before = at_rest(&cluster, leader).await;

    let events_go_wrong =
        json!({"duplicate_probability": 0.2, "reorder_probability": 0.3, "reorder_ms_max": REORDER.as_millis() as u64});
    only_the_queue_tells(&simulator, events_go_wrong, &[]).await;
    let lost = json!({"operation": "DeleteMessageBatch", "action": "lose", "probability": 0.3});
    simulator.post("/answers", lost).await;
    let flood = json!({"cluster": "alpha", "events": count(1_000, 20_000)});
    let poison: Vec<(usize, usize)> = count(
        vec![(1_000, 20), (20, LARGE_BYTES)],
        vec![(3_000, 20), (400, LARGE_BYTES)],
    );
    let (_, (), (), large) = tokio::join!(
        simulator.post("/flood", flood),
        send_poison(&simulator, &poison),
        send_unknown_types(&simulator),
        send_large_events(&simulator, &beta, known[&beta]),
    );
    let queue = drained(&simulator, Duration::from_secs(count(60, 300)), REORDER).await;
    check_order(&steps(&simulator).await);

    let deliveries = queue.received - before_queue.received;
    // What was dropped travels with the next command, within a second.
    let after = eventually("every delivery is counted, once", DEADLINE, || async {
        let after = counters(&cluster, leader).await;
        let counted = after.since(&before);
        if deliveries == counted.deliveries() {
            Ok(after)
        } else {
            Err(format!(
                "{deliveries} deliveries, {} counted: {counted:?}",
                counted.deliveries()
            ))
        }
    })
    .await;
    let counted = after.since(&before);
    println!("{deliveries} deliveries: {counted:?}");
    let poisoned: usize = poison.iter().map(|(copies, _)| copies).sum();
    assert_eq!(
        (counted.quarantined, counted.unknown_types),
        (poisoned as u64, UNKNOWN_TYPES as u64)
    );
    assert_eq!(queue.dead, 0);
    assert!(
        counted.duplicates > 0 && counted.stale > 0 && counted.gaps > 0,
        "the faults did something: {counted:?}"
    );

    let history = replay(&cluster, leader, before.revision, after.revision, &known).await;
    assert_eq!(
        (history.changes, history.gaps),
        (counted.applied, counted.gaps),
        "history and counters agree"
    );
    let mut told = highest(events(&simulator).await.iter());
    told.insert(beta, large);
    assert_eq!(
        versions(&cluster, leader).await,
        told,
        "the state holds what was told last"
    );
    quarantine_is_bounded(&cluster, leader, &poison).await;
    assert!(
        metric(&cluster, leader, "blox_sqs_delete_failures_total").await > 0.0,
        "answers were lost"
    );
}

/// Sends bodies that cannot be read: so many copies of so many bytes each.
async fn send_poison(simulator: &SimulatorProcess, poison: &[(usize, usize)]) {
    for (copies, bytes) in poison {
        let body = "{ no event ".repeat(bytes.div_ceil(11));
        simulator
            .post("/messages", json!({"body": &body[..*bytes], "count": copies}))
            .await;
    }
}

async fn send_unknown_types(simulator: &SimulatorProcess) {
    let event = json!({"version": "0", "id": "1", "detail-type": "ECS Service Action", "source": "aws.ecs", "account": "123456789012",
        "time": "2026-11-22T15:00:00Z", "region": REGION, "resources": [], "detail": {}});
    simulator
        .post("/messages", json!({"body": event.to_string(), "count": UNKNOWN_TYPES}))
        .await;
}

/// Sends events of one instance, each as large as a message may be; the last version.
async fn send_large_events(simulator: &SimulatorProcess, instance: &str, known: i64) -> i64 {
    for version in known + 1..=known + LARGE_EVENTS {
        let event = |filler: &str| {
            json!({"version": "0", "id": "1", "detail-type": "ECS Container Instance State Change", "source": "aws.ecs",
                "account": "123456789012", "time": "2026-11-22T15:00:00Z", "region": REGION, "resources": [instance], "detail":
                {"containerInstanceArn": instance, "clusterArn": format!("arn:aws:ecs:{REGION}:123456789012:cluster/beta"),
                 "status": "ACTIVE", "agentConnected": true, "version": version, "filler": filler}})
            .to_string()
        };
        let filler = "x".repeat(LARGE_BYTES - event("").len());
        simulator.post("/messages", json!({"body": event(&filler)})).await;
    }
    known + LARGE_EVENTS
}

/// The counters once they do not move any more: what was dropped travels with the next command, within a second.
async fn at_rest(cluster: &Cluster, leader: usize) -> Counters {
    let mut last = counters(cluster, leader).await;
    loop {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let now = counters(cluster, leader).await;
        if now == last {
            return now;
        }
        last = now;
    }
}

/// Within its limits in bodies and bytes, and no smaller than these allow.
async fn quarantine_is_bounded(cluster: &Cluster, leader: usize, poison: &[(usize, usize)]) {
    let (mut bodies, mut bytes) = (0, 0);
    let mut query = "/v2/feed/quarantine?limit=50".to_owned();
    loop {
        let page = eventually("the quarantine", DEADLINE, || ask(cluster, leader, &query))
            .await
            .json();
        for item in page["items"].as_array().expect("a list") {
            let body = item["body_base64"].as_str().expect("a body");
            bytes += STANDARD.decode(body).expect("base64").len();
            bodies += 1;
        }
        match page["next_token"].as_str() {
            Some(token) => query = format!("/v2/feed/quarantine?limit=50&next_token={token}"),
            None => break,
        }
    }
    println!("the quarantine holds {bodies} bodies of {bytes} bytes");
    assert!(bodies <= QUARANTINE_BODIES_MAX && bytes <= QUARANTINE_BYTES_MAX);
    let sent: usize = poison.iter().map(|(copies, bytes)| copies * bytes).sum();
    let is_full = bodies == QUARANTINE_BODIES_MAX || bytes + 2 * LARGE_BYTES > QUARANTINE_BYTES_MAX;
    assert!(is_full, "{sent} bytes were sent: it should be full");
}
