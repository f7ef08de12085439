//! A leader that no quorum answers takes nothing from the queue.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::harness::{Cluster, REGION, SimulatorProcess, count, seeded};
use crate::support::{
    StepKind, assert_holds, check_order, drained, events, give_up_after, highest, leader_among, others, queue_state,
    steps, versions,
};

const INSTANCES: usize = 20;
/// Events while a quorum is there, and while none is.
const EVENTS: u64 = 300;
/// What is asked of the queue at most after the last quorum: acknowledged within 1 s, then one long poll of 2 s; the rest is a busy machine.
const LAST_POLL_MS: u64 = 4_000;
/// A message that is received more often is given up.
const RECEIVES_MAX: u32 = 3;

/// Both followers stand still while events flow. Proves: once the last poll is over nothing is received, however long that lasts and however
/// much is sent; when they go on, everything is applied, and nothing has been received so often that it went to the dead letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_received_without_a_quorum() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    give_up_after(&simulator, RECEIVES_MAX).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let flood = json!({"cluster": "alpha", "events": EVENTS, "per_second": 1_000});
    simulator.post("/flood", flood.clone()).await;

    let leader = cluster.leader().await;
    let followers = others(&cluster, leader);
    for follower in &followers {
        cluster.nodes[*follower].pause();
    }
    let stopped_at_ms = wall_ms();
    simulator.post("/flood", flood.clone()).await;
    tokio::time::sleep(Duration::from_millis(LAST_POLL_MS)).await;
    let calls = queue_state(&simulator).await.receive_calls;
    simulator.post("/flood", flood).await;
    let quiet = Duration::from_secs(count(5, 60));
    tokio::time::sleep(quiet).await;
    let after = queue_state(&simulator).await;
    assert_eq!(after.receive_calls, calls, "it asked for messages without a quorum");
    let received = |step: &&crate::support::Step| step.kind == StepKind::Received;
    let last_received_ms = steps(&simulator)
        .await
        .iter()
        .filter(received)
        .map(|step| step.at_ms)
        .max();
    let lag_ms = last_received_ms.unwrap_or(0).saturating_sub(stopped_at_ms);
    assert!(
        lag_ms <= LAST_POLL_MS,
        "the last message came {lag_ms} ms after the followers stood still"
    );
    assert!(after.visible >= EVENTS, "{after:?}");

    for follower in &followers {
        cluster.nodes[*follower].resume();
    }
    let resumed = Instant::now();
    drained(&simulator, Duration::from_secs(60), Duration::ZERO).await;
    println!(
        "last received {lag_ms} ms after the quorum was lost; then nothing for {quiet:?}; all {} applied {:?} after it was back",
        after.visible + after.in_flight,
        resumed.elapsed()
    );
    let receives = check_order(&steps(&simulator).await);
    assert!(receives < RECEIVES_MAX, "a message was received {receives} times");
    let leader = leader_among(&cluster, &[0, 1, 2]).await;
    let told = highest(events(&simulator).await.iter());
    assert_holds(&versions(&cluster, leader).await, &told, "all events were sent");
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("not that late")
}
