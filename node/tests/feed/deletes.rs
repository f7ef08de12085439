//! Deleted only once applied; back soon when the leader dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, count, eventually, seeded};
use crate::support::{
    Step, StepKind, assert_holds, check_order, drained, events, highest, leader_among, only_the_queue_tells, others,
    queue_state, steps, versions,
};

const INSTANCES: usize = 20;
/// A flow that this machine keeps up with, so that what comes back does not wait behind a backlog.
const EVENTS: u64 = 600;
const EVENTS_PER_SECOND: u64 = 300;
/// Messages in flight, of which no follower knows, when the leader is killed.
const IN_FLIGHT_MIN: u64 = 20;
/// From the leader's death until the last message it held is in the state.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// The sharpest moment: both followers are killed, so that nothing the leader receives can be committed, then the leader too, and the
/// followers, which know nothing of it, come back alone. Proves: every message that was deleted by then is in their state, so no message is
/// deleted before a quorum has what it says; and what the dead leader held is received again and applied within 15 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_outlives_its_leader() {
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let mut source = SimulatorProcess::source("main", REGION);
    source.reconcile_pause = "1h";
    let mut cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    only_the_queue_tells(&simulator, json!({}), &[]).await;
    for round in 0..count(1, 10) {
        let flood = json!({"cluster": "alpha", "events": EVENTS, "per_second": EVENTS_PER_SECOND});
        let (flooded, ()) = tokio::join!(simulator.post("/flood", flood), async {
            one_round(round, &mut cluster, &simulator, &mut random).await;
        });
        assert_eq!(flooded["events"], EVENTS);
    }
    drained(&simulator, DEADLINE, Duration::ZERO).await;
    let receives = check_order(&steps(&simulator).await);
    let leader = cluster.leader().await;
    let told = highest(events(&simulator).await.iter());
    assert_holds(&versions(&cluster, leader).await, &told, "all events were sent");
    println!("a message was received {receives} times at most");
}

async fn one_round(round: usize, cluster: &mut Cluster, simulator: &SimulatorProcess, random: &mut ChaCha8Rng) {
    let leader = cluster.leader().await;
    let followers = others(cluster, leader);
    tokio::time::sleep(Duration::from_millis(random.random_range(300..900))).await;
    for follower in &followers {
        cluster.nodes[*follower].kill().await;
    }
    eventually("the leader holds messages", DEADLINE, || async {
        let state = queue_state(simulator).await;
        if state.in_flight >= IN_FLIGHT_MIN {
            Ok(())
        } else {
            Err(format!("{state:?}"))
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(random.random_range(0..600))).await;
    cluster.nodes[leader].kill().await;
    let killed = Instant::now();
    // The followers' state stays what it is until it has been read: they receive nothing.
    only_the_queue_tells(simulator, json!({}), &[("ReceiveMessage", 1.0)]).await;
    let told = events(simulator).await;
    let deleted = highest(told.iter().filter(|event| event.deleted > 0));
    let held = held(&steps(simulator).await);
    for follower in &followers {
        cluster.nodes[*follower].start();
    }
    let next = leader_among(cluster, &followers).await;
    assert_holds(&versions(cluster, next).await, &deleted, "they were deleted");
    only_the_queue_tells(simulator, json!({}), &[]).await;
    let checked = killed.elapsed();

    let within = BACK_WITHIN.saturating_sub(killed.elapsed());
    eventually("what the dead leader held is deleted", within, || async {
        let deleted = deleted_at(&steps(simulator).await);
        let left = held.iter().filter(|message| !deleted.contains_key(*message)).count();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} of {} are not", held.len()))
        }
    })
    .await;
    println!(
        "round {round}: {} resources in deleted messages, all in the state ({checked:?} after the kill); {} messages in flight, applied and deleted {:?} after the kill",
        deleted.len(),
        held.len(),
        killed.elapsed()
    );
    cluster.nodes[leader].start();
    cluster.ready(leader).await;
}

/// Messages that were received and not deleted.
fn held(steps: &[Step]) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for step in steps {
        match step.kind {
            StepKind::Received => held.insert(step.message.clone()),
            StepKind::Deleted => held.remove(&step.message),
            StepKind::Sent | StepKind::Dead => false,
        };
    }
    held
}

fn deleted_at(steps: &[Step]) -> BTreeMap<String, u64> {
    let deleted = steps.iter().filter(|step| step.kind == StepKind::Deleted);
    deleted.map(|step| (step.message.clone(), step.at_ms)).collect()
}
