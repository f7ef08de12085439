//! All faults of a queue at once, with leaders that die.

use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::harness::{Cluster, REGION, SimulatorProcess, count, seeded};
use crate::support::{
    assert_holds, check_order, counters, drained, events, give_up_after, highest, leader_among, only_the_queue_tells,
    others, queue_state, replay, steps, versions,
};

const INSTANCES: usize = 40;
const EVENTS_PER_SECOND: u64 = 2_000;
const REORDER: Duration = Duration::from_millis(500);
/// What is left of the queue after the last event, at this machine's pace.
const DRAIN: Duration = Duration::from_secs(180);

/// 10,000 events (100,000 in `make soak`) through duplicates, reordering, lost answers to receives and deletions, deletions that fail, and
/// leaders killed while messages are in flight. Proves, by the simulator's journal against the cluster's history: none is lost, none is
/// applied twice or after a newer one, every message is deleted in the end and none before it was received, none goes to the dead letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_through_every_fault() {
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    give_up_after(&simulator, 20).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let mut source = SimulatorProcess::source("main", REGION);
    source.reconcile_pause = "1h";
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    drained(&simulator, Duration::from_secs(60), Duration::ZERO).await;
    let events_go_wrong =
        json!({"duplicate_probability": 0.1, "reorder_probability": 0.2, "reorder_ms_max": REORDER.as_millis() as u64});
    only_the_queue_tells(&simulator, events_go_wrong, &[("DeleteMessageBatch", 0.02)]).await;
    for (operation, probability) in [("DeleteMessageBatch", 0.1), ("ReceiveMessage", 0.01)] {
        let lost = json!({"operation": operation, "action": "lose", "probability": probability});
        simulator.post("/answers", lost).await;
    }
    let leader = cluster.leader().await;
    let known = versions(&cluster, leader).await;
    let before = counters(&cluster, leader).await;
    let received_before = queue_state(&simulator).await.received;

    let total = count(10_000, 100_000);
    let began = Instant::now();
    let flood = json!({"cluster": "alpha", "events": total, "per_second": EVENTS_PER_SECOND});
    let (flooded, ()) = tokio::join!(simulator.post("/flood", flood), kill_leaders(&mut cluster, &mut random));
    assert_eq!(flooded["events"], total);
    let queue = drained(&simulator, count(DRAIN, 8 * DRAIN), REORDER).await;
    let took = began.elapsed();

    let journal = steps(&simulator).await;
    let receives = check_order(&journal);
    let sent = events(&simulator).await;
    assert!(
        sent.iter()
            .all(|event| event.queued > 0 && event.queued == event.deleted)
    );
    let leader = leader_among(&cluster, &[0, 1, 2]).await;
    let told = highest(sent.iter());
    assert_eq!(
        versions(&cluster, leader).await,
        told,
        "the state is what was told last, no more and no less"
    );
    for follower in others(&cluster, leader) {
        assert_holds(&versions(&cluster, follower).await, &told, "all events were sent");
    }
    let after = counters(&cluster, leader).await;
    let counted = after.since(&before);
    let history = replay(&cluster, leader, before.revision, after.revision, &known).await;
    assert_eq!(
        (history.changes, history.gaps),
        (counted.applied, counted.gaps),
        "history and counters agree"
    );
    let raised: i64 = history.last.iter().map(|(arn, version)| version - known[arn]).sum();
    assert_eq!(raised as u64, total, "each event raised one version by one");
    assert_eq!(counted.applied + counted.gaps, total, "{counted:?}");
    println!(
        "{total} events, {} deliveries in {took:?}; {counted:?}; a message was received {receives} times at most",
        queue.received - received_before
    );
}

/// The leader is killed in the middle of the flood, so many times; it comes back each time.
async fn kill_leaders(cluster: &mut Cluster, random: &mut ChaCha8Rng) {
    for kill in 0..count(1, 5) {
        tokio::time::sleep(Duration::from_millis(random.random_range(1_000..3_000))).await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill().await;
        let killed = Instant::now();
        let next = cluster.leader().await;
        println!(
            "kill {kill}: {} leads after {:?}",
            cluster.nodes[next].name,
            killed.elapsed()
        );
        cluster.nodes[leader].start();
        cluster.ready(leader).await;
    }
}
