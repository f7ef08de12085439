//! A node that was away until the log was purged comes back by snapshot, whatever is killed meanwhile.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, DEADLINE, Node, count, eventually, seeded};
use crate::model::{Model, directory_bytes, metric, noise};

/// Snapshots come so often and so little log is kept behind them that a node is soon away for too long.
const POLICY: &str = "[snapshot]\nentries = 60\nkeep_entries = 10\n";
/// Beyond what the log keeps.
const WRITES_AWAY: usize = 120;
const BULK_VALUES: usize = 10;
const BULK_BYTES: usize = 1 << 20;
const SMALL_KEYS: usize = 20;
/// Each chunk of 1 MiB waits so long: time enough to hit a moment of the transfer.
const PACE: &str = "sleep(60)";
const SENDING: &str = "raft::sending-snapshot";
const LAST_ENTRY: &str = "blox_raft_last_log_index";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Source,
    Target,
}

/// What is killed, and when.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// When so much of the transfer has arrived, per cent.
    During(Victim, u64),
    /// The target, at a crash point in the swap.
    Swap(&'static str),
}

const KILLS: [Kill; 9] = [
    Kill::During(Victim::Target, 10),
    Kill::During(Victim::Source, 50),
    Kill::Swap("store::before-swap"),
    Kill::During(Victim::Target, 90),
    Kill::Swap("store::after-swap"),
    Kill::During(Victim::Source, 10),
    Kill::During(Victim::Target, 50),
    Kill::Swap("store::before-install"),
    Kill::During(Victim::Source, 90),
];

/// Source or target are killed at 10, 50 and 90 % of the transfer, and the target in the swap: the node that was away comes back by snapshot
/// all the same. Every answer it gives on its way, however stale, is the truth at the revision it says: the old state or the new one, whole.
#[tokio::test]
async fn a_killed_transfer_is_never_half_visible() {
    let (_, mut generator) = seeded();
    let mut cluster = Cluster::start_with(Cluster::directory(), "http://127.0.0.1:1", &[], POLICY).await;
    let mut model = Model::default();
    for number in 0..BULK_VALUES {
        model
            .put(&cluster, &format!("bulk-{number}"), &noise(&mut generator, BULK_BYTES))
            .await;
    }
    let mut answers = 0;
    let kills = KILLS.iter().cycle().take(count(4, 2 * KILLS.len()));
    for (round, kill) in kills.enumerate() {
        let target = cluster.follower().await;
        let held = metric(&cluster.client, &cluster.nodes[target], LAST_ENTRY).await;
        cluster.nodes[target].kill().await;
        for number in 0..WRITES_AWAY {
            let value = format!("round {round}, write {number}");
            model
                .put(&cluster, &format!("small-{}", number % SMALL_KEYS), value.as_bytes())
                .await;
        }
        cluster.purged_beyond(held.expect("it answers")).await;
        match *kill {
            Kill::During(victim, per_cent) => answers += during(&mut cluster, &model, target, victim, per_cent).await,
            Kill::Swap(point) => {
                cluster.nodes[target].start_with_failpoints(&format!("{point}=panic"));
                cluster.nodes[target].ended_by_itself().await;
                cluster.nodes[target].start();
            }
        }
        answers += until_back(&cluster, &model, target).await;
        for position in 0..cluster.nodes.len() {
            cluster.ready(position).await;
        }
        model.holds(&cluster.client, &cluster.nodes[target]).await;
        println!("round {round}, {kill:?}: back and whole");
    }
    println!("{answers} answers on the way, each the truth at its revision");
}

/// Paces the transfer, kills at so many per cent, and starts again what was killed. How many answers of the target were compared.
async fn during(cluster: &mut Cluster, model: &Model, target: usize, victim: Victim, per_cent: u64) -> usize {
    let leader = cluster.leader().await;
    for node in cluster.running() {
        node.set_failpoint(SENDING, PACE).await;
    }
    let total = snapshot_bytes(&cluster.nodes[leader]);
    cluster.nodes[target].start();
    let wanted = (total * per_cent / 100) as f64;
    let mut answers = 0;
    eventually("the transfer", DEADLINE, || async {
        let received = metric(
            &cluster.client,
            &cluster.nodes[target],
            "blox_raft_snapshot_received_bytes_total",
        )
        .await?;
        if received >= wanted {
            Ok(())
        } else {
            Err(format!("{received} of {total} bytes"))
        }
    })
    .await;
    for key in ["small-0", "bulk-0"] {
        // Not ready is an answer too.
        answers += usize::from(
            model
                .read_stale(&cluster.client, &cluster.nodes[target], key)
                .await
                .is_ok(),
        );
    }
    let killed = match victim {
        Victim::Source => leader,
        Victim::Target => target,
    };
    cluster.nodes[killed].kill().await;
    for node in cluster.running() {
        node.remove_failpoint(SENDING).await;
    }
    cluster.nodes[killed].start();
    answers
}

/// Reads the target again and again until it holds all that was acknowledged.
async fn until_back(cluster: &Cluster, model: &Model, target: usize) -> usize {
    let node = &cluster.nodes[target];
    let began = Instant::now();
    let mut answers = 0;
    loop {
        for number in 0..SMALL_KEYS {
            match model
                .read_stale(&cluster.client, node, &format!("small-{number}"))
                .await
            {
                Ok(revision) if revision >= model.revision => return answers,
                Ok(_) => answers += 1,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        assert!(began.elapsed() < DEADLINE, "{} is not back:\n{}", node.name, node.log());
    }
}

/// Bytes of the newest snapshot of a node.
fn snapshot_bytes(node: &Node) -> u64 {
    let snapshots = std::fs::read_dir(node.data().join("snapshots")).expect("it has built one");
    let sizes = snapshots.flatten().map(|snapshot| directory_bytes(&snapshot.path()));
    sizes.max().expect("it has built one")
}

/// Writes a second while snapshots are built.
const RATE: u64 = 500;
const STALL_MAX: Duration = Duration::from_secs(1);
/// What a source may take beyond what it had while it builds or sends, MiB: less than the smallest state of these tests.
const SOURCE_GROWTH_MIB: f64 = 48.0;
/// What a target takes at most, whatever the state's size, MiB: its binary, caches (64), chunks on their way.
const TARGET_MIB: f64 = 144.0;
const MIB: f64 = (1 << 20) as f64;

/// A large state: building its snapshots while 500 writes/s go on holds none of them up for a second and costs no election; building, sending
/// and installing one takes memory that does not depend on the state's size.
#[tokio::test]
async fn a_large_state_neither_stalls_writes_nor_fills_memory() {
    let (_, mut generator) = seeded();
    let policy = "[snapshot]\nentries = 100\nkeep_entries = 50\nkeep_size = \"8MiB\"\n";
    let mut cluster = Cluster::start_with(Cluster::directory(), "http://127.0.0.1:1", &[], policy).await;
    let mut model = Model::default();
    let values = count(64, 256);
    for number in 0..values {
        model
            .put(&cluster, &format!("bulk-{number}"), &noise(&mut generator, BULK_BYTES))
            .await;
    }
    let leader = cluster.leader().await;
    let target = cluster.follower().await;
    let before = resident(&cluster, leader).await;

    let changes = leader_changes(&cluster, leader).await;
    let load = under_load(&cluster, &mut model, leader, Duration::from_secs(count(8, 30))).await;
    let largest = load.iter().map(|sample| sample.resident).fold(0.0, f64::max);
    let quiet = gap(&load, false);
    let building = gap(&load, true);
    println!(
        "{} writes, {} snapshots built meanwhile; longest gap {quiet:?} without, {building:?} in seconds with one built",
        model.keys().len(),
        load.last().map_or(0.0, |sample| sample.built)
    );
    println!(
        "source: {:.0} MiB before, at most {:.0} MiB while building, of a state of {values} MiB",
        before / MIB,
        largest / MIB
    );
    assert_eq!(leader_changes(&cluster, leader).await, changes, "no election");
    assert!(
        load.iter().any(|sample| sample.builds),
        "a snapshot was built under load"
    );
    assert!(
        building < STALL_MAX.max(quiet * 4),
        "writes stalled for {building:?}, {quiet:?} without a build"
    );
    assert!(
        (largest - before) / MIB < SOURCE_GROWTH_MIB,
        "the source grew with the state"
    );

    // Transfer and install.
    cluster.nodes[target].kill().await;
    for number in 0..400 {
        model
            .put(&cluster, &format!("small-{}", number % SMALL_KEYS), b"away")
            .await;
    }
    let leader = cluster.leader().await;
    let source_before = resident(&cluster, leader).await;
    cluster.nodes[target].start();
    let (mut source, mut peak) = (source_before, 0.0_f64);
    let began = Instant::now();
    loop {
        source = source.max(resident(&cluster, leader).await);
        let node = &cluster.nodes[target];
        peak = peak.max(
            metric(&cluster.client, node, "process_resident_memory_bytes")
                .await
                .unwrap_or_default(),
        );
        let installed = metric(&cluster.client, node, "blox_raft_snapshot_installed_total").await;
        let reached = model.read_stale(&cluster.client, node, "small-0").await;
        if installed.is_ok_and(|count| count >= 1.0) && reached.is_ok_and(|revision| revision >= model.revision) {
            break;
        }
        assert!(began.elapsed() < 2 * DEADLINE, "it is not back:\n{}", node.log());
    }
    println!(
        "back in {:?}; source: {:.0} MiB before, at most {:.0} MiB while sending; target: at most {:.0} MiB",
        began.elapsed(),
        source_before / MIB,
        source / MIB,
        peak / MIB
    );
    assert!(
        (source - source_before) / MIB < SOURCE_GROWTH_MIB,
        "the source grew with the state"
    );
    assert!(peak / MIB < TARGET_MIB, "the target grew with the state");
    model.holds(&cluster.client, &cluster.nodes[target]).await;
}

/// One second of load.
struct Second {
    /// The longest time between two acknowledged writes.
    gap: Duration,
    /// A snapshot was built in it.
    builds: bool,
    built: f64,
    resident: f64,
}

fn gap(load: &[Second], builds: bool) -> Duration {
    let gaps = load
        .iter()
        .filter(|second| second.builds == builds)
        .map(|second| second.gap);
    gaps.max().unwrap_or_default()
}

/// Writes at the rate, each in its turn, and every one is acknowledged.
async fn under_load(cluster: &Cluster, model: &mut Model, leader: usize, time: Duration) -> Vec<Second> {
    let (client, node) = (&cluster.client, &cluster.nodes[leader]);
    let mut seconds: Vec<Second> = Vec::new();
    let mut number: u64 = 0;
    let mut built = 0.0;
    let began = Instant::now();
    while began.elapsed() < time {
        let second = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
        let mut under_way = tokio::task::JoinSet::new();
        let mut acknowledged = vec![second];
        while second.elapsed() < Duration::from_secs(1) {
            pace.tick().await;
            let key = format!("small-{}", number % SMALL_KEYS as u64);
            let url = format!("{}/v2/kv/{key}", node.url());
            let (client, value) = (client.clone(), number.to_string().into_bytes());
            under_way.spawn(async move {
                let answer = client.ask(reqwest::Method::PUT, &url, &[], Some(value.clone())).await;
                (Instant::now(), key, value, answer.expect("an answer"))
            });
            number += 1;
        }
        while let Some(written) = under_way.join_next().await {
            let (at, key, value, answer) = written.expect("no panic");
            assert_eq!(answer.status, 200, "{}", answer.text());
            model.acknowledged(&key, crate::model::revision(&answer), &value);
            acknowledged.push(at);
        }
        acknowledged.sort();
        let gaps = acknowledged.windows(2).map(|pair| pair[1] - pair[0]);
        let now = metric(client, node, "blox_raft_snapshot_built_total")
            .await
            .expect("it answers");
        seconds.push(Second {
            gap: gaps.max().unwrap_or_default(),
            builds: now > built,
            built: now,
            resident: resident(cluster, leader).await,
        });
        built = now;
    }
    println!("{number} writes in {:?}", began.elapsed());
    seconds
}

async fn resident(cluster: &Cluster, position: usize) -> f64 {
    let found = metric(
        &cluster.client,
        &cluster.nodes[position],
        "process_resident_memory_bytes",
    )
    .await;
    found.expect("it answers")
}

async fn leader_changes(cluster: &Cluster, position: usize) -> f64 {
    let found = metric(
        &cluster.client,
        &cluster.nodes[position],
        "blox_raft_leader_changes_total",
    )
    .await;
    found.expect("it answers")
}
