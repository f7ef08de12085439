//! The watch under load, while nodes die, stand still and come back by snapshot, and history is compacted five times a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use crate::deliveries;
use crate::forms::Form;
use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, count, eventually, seeded};
use crate::load::Load;
use crate::truth::Truth;
use crate::watchers::{self, Life, Manner, Shared};

/// Log entries between two snapshots, and kept behind one.
const SNAPSHOT_ENTRIES: u64 = 50;
const KEEP_ENTRIES: u64 = 100;
/// The node that is never killed nor stopped for long, and that keeps its whole log: the replayed truth.
const WITNESS: usize = 2;
/// How long a round of faults and everything between may take.
const PATIENCE: Duration = Duration::from_secs(600);

const WATCHERS: [(Form, Manner); 16] = [
    (Form::All, Manner::Wanders),
    (Form::All, Manner::Stays(0)),
    (Form::All, Manner::Stays(1)),
    (Form::Tasks, Manner::Wanders),
    (Form::Tasks, Manner::Wanders),
    (Form::Tasks, Manner::Wanders),
    (Form::Tasks, Manner::Stays(0)),
    (Form::Tasks, Manner::Stays(1)),
    (Form::Tasks, Manner::Sleeps),
    (Form::Tasks, Manner::Sleeps),
    (Form::Instances, Manner::Wanders),
    (Form::Keys, Manner::Wanders),
    (Form::Keys, Manner::Sleeps),
    (Form::V1Tasks, Manner::Wanders),
    (Form::V1Tasks, Manner::Stays(1)),
    (Form::V1Instances, Manner::Wanders),
];

/// Sixteen watchers of every form change nodes and resume, fall asleep and are dropped, go back and are told that it is too long ago, while
/// the leader is killed, and others are killed or stand still until the log they miss is purged and a snapshot replaces their state under
/// running streams. Each life is compared with the replayed log: ordered, unique, gapless, atomic, resumable, bookmarks true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_miss_nothing() {
    let (seed, _random) = seeded();
    let began = Instant::now();
    let wanted = count(200_000, 2_000_000);
    let directory = Cluster::directory();
    let (witness_data, scratch) = (directory.path().join("c"), directory.path().join("replayed"));
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    let mut cluster = start(directory, &simulator).await;

    let (set_goals, goals) = watch::channel(None);
    let shared = Arc::new(Shared {
        client: cluster.client.clone(),
        urls: cluster.nodes.iter().map(|node| node.url()).collect(),
        delivered: AtomicU64::new(0),
        opened: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        forgotten: AtomicU64::new(0),
        goals,
    });
    let from = status(&cluster, WITNESS).await.expect("it runs")["revision"]
        .as_u64()
        .expect("a revision")
        + 1;
    let mut running = watchers::start(&shared, &WATCHERS, from, seed);
    let load = Load::start(&cluster, &simulator, Arc::clone(&shared), WITNESS);

    let mut faults = Faults::default();
    loop {
        faults.stands_still(&mut cluster, &load).await;
        faults.leader_dies(&mut cluster, &load).await;
        faults.dies_for_long(&mut cluster, &load).await;
        // Leadership may have moved to the witness in the middle, which purges nothing: then nobody needed a snapshot. In a soak faults go on
        // to the end.
        let told_all = shared.delivered.load(Ordering::Relaxed) >= wanted;
        if faults.snapshots > 0 && (told_all || count(true, false)) {
            enough(&shared, wanted).await;
            break;
        }
        assert!(
            began.elapsed() < PATIENCE + Duration::from_millis(wanted),
            "too slow: {}",
            told(&shared)
        );
    }
    let acknowledged = load.end().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;
    let goals = ends(&cluster).await;
    set_goals.send_replace(Some(goals.clone()));
    let mut lives = Vec::new();
    while let Some(life) = running.join_next().await {
        lives.push(life.expect("a watcher was told what it should not be"));
    }
    println!(
        "{} in {:.1} s; {faults:?}",
        told(&shared),
        began.elapsed().as_secs_f64()
    );

    let through = applied_everywhere(&cluster).await;
    cluster.nodes[WITNESS].stop().await;
    let truth = Truth::replay(&witness_data, through, &scratch).await;
    compare(&lives, &truth, &goals);
    for (revision, key, value) in &acknowledged {
        let (known_key, known_value) = truth
            .written
            .get(revision)
            .expect("what was acknowledged is in the log");
        assert_eq!(
            (known_key.as_slice(), *known_value),
            (key.as_bytes(), *value),
            "revision {revision}"
        );
    }
    println!(
        "{} revisions, {} acknowledged writes of users, all compared after {:.1} s",
        truth.end,
        acknowledged.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(faults.snapshots > 0 && faults.leaders > 0, "{faults:?}");
    assert!(shared.dropped.load(Ordering::Relaxed) > 0, "no slow reader was dropped");
    assert!(
        shared.refused.load(Ordering::Relaxed) > 0,
        "nobody asked for what is too old"
    );
}

/// Small limits everywhere but on the witness, which keeps its whole log.
async fn start(directory: tempfile::TempDir, simulator: &SimulatorProcess) -> Cluster {
    let instances = simulator.cluster(REGION, "alpha", 10).await;
    simulator.definition(REGION, "web").await;
    let order =
        serde_json::json!({"region": REGION, "cluster": "alpha", "task_definition": "web", "instances": instances});
    for _ in 0..6 {
        simulator.post("/tasks/start", order.clone()).await;
    }
    simulator.wait_until_still().await;
    let limits = format!(
        "[snapshot]\nentries = {SNAPSHOT_ENTRIES}\nkeep_entries = {KEEP_ENTRIES}\n[history]\nrevisions = 2000\ncheck = \"200ms\"\n"
    );
    let source = SimulatorProcess::source("main", REGION);
    let mut cluster = Cluster::prepare(directory, None, &simulator.url(), &[source], &limits);
    cluster.nodes[WITNESS].set_environment("BLOX_SNAPSHOT_KEEP_ENTRIES", "1000000000");
    cluster.nodes[WITNESS].set_environment("BLOX_SNAPSHOT_KEEP_SIZE", "1000GiB");
    cluster.begin().await;
    cluster.reconciled().await;
    cluster
}

/// What was done to the nodes.
#[derive(Debug, Default)]
struct Faults {
    /// Leaders killed.
    leaders: usize,
    /// Nodes that came back by snapshot.
    snapshots: usize,
    /// Nodes killed, leaders not counted.
    killed: usize,
    /// Nodes stopped while their streams ran.
    stopped: usize,
}

impl Faults {
    /// A follower stands still, its streams open, until the log it misses is purged; its state is replaced under them.
    async fn stands_still(&mut self, cluster: &mut Cluster, load: &Load) {
        let victim = follower(cluster, load).await;
        let (last, before) = (
            number(cluster, victim, "last_log_index").await,
            installed(cluster, victim).await,
        );
        load.set_away(Some(victim));
        cluster.nodes[victim].pause();
        purged(cluster, victim, last).await;
        cluster.nodes[victim].resume();
        load.set_away(None);
        caught_up(cluster, victim).await;
        self.stopped += 1;
        self.snapshots += usize::from(installed(cluster, victim).await > before);
    }

    /// A follower is killed, and stays away until the log it misses is purged.
    async fn dies_for_long(&mut self, cluster: &mut Cluster, load: &Load) {
        let victim = follower(cluster, load).await;
        let last = number(cluster, victim, "last_log_index").await;
        load.set_away(Some(victim));
        cluster.nodes[victim].kill().await;
        purged(cluster, victim, last).await;
        cluster.nodes[victim].start();
        cluster.ready(victim).await;
        load.set_away(None);
        caught_up(cluster, victim).await;
        self.killed += 1;
        self.snapshots += usize::from(installed(cluster, victim).await > 0.0);
    }

    async fn leader_dies(&mut self, cluster: &mut Cluster, load: &Load) {
        let leader = other_than_the_witness(cluster, load).await;
        cluster.nodes[leader].kill().await;
        cluster.leader().await;
        cluster.nodes[leader].start();
        cluster.ready(leader).await;
        caught_up(cluster, leader).await;
        self.leaders += 1;
    }
}

/// The leader, once it is not the witness, which hands over and comes back while nothing is written: it must miss nothing that others purge.
async fn other_than_the_witness(cluster: &mut Cluster, load: &Load) -> usize {
    loop {
        let leader = cluster.leader().await;
        if leader != WITNESS {
            return leader;
        }
        let held = load.hold().await;
        cluster.nodes[WITNESS].stop().await;
        cluster.nodes[WITNESS].start();
        cluster.ready(WITNESS).await;
        caught_up(cluster, WITNESS).await;
        drop(held);
    }
}

/// A follower that is not the witness.
async fn follower(cluster: &mut Cluster, load: &Load) -> usize {
    let leader = other_than_the_witness(cluster, load).await;
    (0..cluster.nodes.len())
        .find(|node| *node != leader && *node != WITNESS)
        .expect("three nodes")
}

async fn status(cluster: &Cluster, node: usize) -> Result<Value, String> {
    let url = format!("{}/v2/cluster", cluster.nodes[node].url());
    cluster.client.get_json(&url).await
}

async fn number(cluster: &Cluster, node: usize, field: &str) -> u64 {
    let status = status(cluster, node).await.expect("it runs");
    status[field].as_u64().unwrap_or_else(|| panic!("{field}: {status}"))
}

async fn installed(cluster: &Cluster, node: usize) -> f64 {
    let url = cluster.nodes[node].url();
    let installed = cluster.client.metric(&url, "blox_raft_snapshot_installed_total").await;
    installed.expect("it runs")
}

/// Waits until no other node but the witness keeps what follows `last`, nor what may have been on its way to the victim meanwhile.
async fn purged(cluster: &Cluster, victim: usize, last: u64) {
    let other = (0..cluster.nodes.len())
        .find(|node| *node != victim && *node != WITNESS)
        .expect("three nodes");
    let url = cluster.nodes[other].url();
    let held = (last + SNAPSHOT_ENTRIES) as f64;
    eventually("the log is purged", DEADLINE * 4, || async {
        let purged = cluster.client.metric(&url, "blox_raft_purged_index").await?;
        if purged > held {
            Ok(())
        } else {
            Err(format!("up to {purged}, {held} may be held"))
        }
    })
    .await;
}

/// Waits until a node has applied what is committed now.
async fn caught_up(cluster: &Cluster, node: usize) {
    let newest = cluster.get(WITNESS, "/v2/cluster").await.json()["revision"]
        .as_u64()
        .expect("a revision");
    eventually("it catches up", DEADLINE, || async {
        let revision = status(cluster, node).await?["revision"].as_u64().unwrap_or(0);
        if revision >= newest {
            Ok(())
        } else {
            Err(format!("at {revision} of {newest}"))
        }
    })
    .await;
}

/// Waits until so much was told, a slow reader was dropped, and somebody has asked for what is too old.
async fn enough(shared: &Shared, wanted: u64) {
    eventually("deliveries", PATIENCE, || async {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        if read(&shared.delivered) >= wanted && read(&shared.dropped) > 0 && read(&shared.refused) > 0 {
            Ok(())
        } else {
            Err(told(shared))
        }
    })
    .await;
}

/// The newest revision of what each form tells of, now that the load has ended. (Reconcile may still bring some.)
async fn ends(cluster: &Cluster) -> BTreeMap<Form, u64> {
    let newest = async |path: &str| -> u64 {
        let page = cluster.get(WITNESS, path).await.json();
        let items = page["items"].as_array().expect("a list");
        let revision = |item: &Value| {
            item["revision"]
                .as_u64()
                .or(item["mod_revision"].as_u64())
                .expect("a revision")
        };
        items.iter().map(revision).max().expect("something was written")
    };
    let tasks = newest("/v2/tasks?limit=1000").await;
    let instances = newest("/v2/instances?limit=1000").await;
    let keys = newest("/v2/kv?limit=1000").await;
    BTreeMap::from([
        (Form::All, tasks.max(instances).max(keys)),
        (Form::Tasks, tasks),
        (Form::V1Tasks, tasks),
        (Form::Instances, instances),
        (Form::V1Instances, instances),
        (Form::Keys, keys),
    ])
}

/// The position that all nodes have applied, once nothing is under way.
async fn applied_everywhere(cluster: &Cluster) -> u64 {
    eventually("all have applied all", DEADLINE, || async {
        let mut revisions = Vec::new();
        let mut applied = u64::MAX;
        for node in 0..cluster.nodes.len() {
            let status = status(cluster, node).await?;
            revisions.push(status["revision"].as_u64());
            applied = applied.min(status["applied_index"].as_u64().unwrap_or(0));
        }
        revisions.dedup();
        if revisions.len() == 1 {
            Ok(applied)
        } else {
            Err(format!("{revisions:?}"))
        }
    })
    .await
}

fn compare(lives: &[Life], truth: &Truth, goals: &BTreeMap<Form, u64>) {
    for life in lives {
        if let Err(broken) = deliveries::check(&life.sessions, truth.wanted(life.form), goals[&life.form]) {
            panic!("watcher {} ({:?}): {broken}", life.number, life.form);
        }
    }
}

fn told(shared: &Shared) -> String {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{} changes told in {} streams, {} dropped as too slow, {} refused as too old",
        read(&shared.delivered),
        read(&shared.opened),
        read(&shared.dropped),
        read(&shared.refused)
    )
}
