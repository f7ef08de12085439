//! The log's limits, in entries and bytes, and those of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use crate::harness::{Cluster, DEADLINE, count, eventually, seeded};
use crate::model::{Model, directory_bytes, metric, noise, put, revision};

const MIB: u64 = 1 << 20;
/// Each value, with its key and its command a little less than the limit of one.
const VALUE_BYTES: usize = (1 << 20) - 1024;
/// Commands under way at once.
const WRITERS: usize = 4;
/// An append holds at most 4 MiB of entries; what surrounds them is not counted.
const APPEND_BYTES_MAX: f64 = (4 << 20) as f64 + 64.0 * 1024.0;
/// What gRPC takes.
const MESSAGE_BYTES_MAX: f64 = (16 << 20) as f64;
/// Snapshot after so much log, and so much kept behind it, MiB, where the limits are small.
const SNAPSHOT_MIB: u64 = 16;
const KEEP_MIB: u64 = 8;
/// What RocksDB may add to the log it was asked to keep, MiB: write-ahead logs in use (256 at most, flushed each 16) and kept for reuse (3 of
/// 16), tables whose entries are purged and not compacted away yet.
const LOG_OVERHEAD_MIB: u64 = 160;
/// Of that, what is there when nothing is written: write-ahead logs and one round of tables.
const LOG_AT_REST_MIB: u64 = 112;

/// How a follower that was away comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ComesBack {
    ByLog,
    BySnapshot,
}

/// 1 MiB commands, one after another at a steady pace, while a follower is away: what the log takes on disk stays within its limits and what
/// the database needs, however much is written, and falls back when nothing is; the follower catches up by snapshot; no append and no message
/// is over its limit.
#[tokio::test]
async fn a_small_log_stays_small_and_a_follower_gets_a_snapshot() {
    let more = format!(
        "[snapshot]\nentries = 1000000\nkeep_entries = 1000000\nsize = \"{SNAPSHOT_MIB}MiB\"\nkeep_size = \"{KEEP_MIB}MiB\"\n\
         [history]\nsize = \"32MiB\"\ncheck = \"1s\"\n"
    );
    let pace = Duration::from_millis(count(150, 250));
    let disk = behind_by(count(60, 400), pace, &more, ComesBack::BySnapshot).await;
    let limit = (SNAPSHOT_MIB + KEEP_MIB + LOG_OVERHEAD_MIB) * MIB;
    assert!(
        disk <= limit,
        "the log took {} MiB on disk, {} are its limit",
        disk / MIB,
        limit / MIB
    );
}

/// The same by entries: small commands beyond the limit of entries, and no more of them are kept than it says.
#[tokio::test]
async fn a_log_of_small_entries_is_kept_short() {
    const ENTRIES: u64 = 100;
    const KEEP: u64 = 40;
    let directory = Cluster::directory();
    let more = format!("[snapshot]\nentries = {ENTRIES}\nkeep_entries = {KEEP}\n");
    let cluster = Cluster::start_with(directory, "http://127.0.0.1:1", &[], &more).await;
    let mut model = Model::default();
    for number in 0..count(300, 20_000) {
        model
            .put(&cluster, &format!("k{}", number % 10), format!("{number}").as_bytes())
            .await;
    }
    for node in &cluster.nodes {
        eventually("the log is purged", DEADLINE, || async {
            let last = metric(&cluster.client, node, "blox_raft_last_log_index").await?;
            let purged = metric(&cluster.client, node, "blox_raft_purged_index").await?;
            let held = last - purged;
            // A snapshot is due after ENTRIES; what comes while it is built is held too.
            if held <= (2 * ENTRIES + KEEP) as f64 {
                Ok(())
            } else {
                Err(format!("{held} entries are held"))
            }
        })
        .await;
    }
}

/// A follower that is behind by 100 MiB within a larger log catches up by that.
#[tokio::test]
async fn a_follower_far_behind_catches_up_by_log() {
    behind_by(count(40, 100), Duration::ZERO, "", ComesBack::ByLog).await;
}

/// Writes so many MiB while a follower is away, and waits until it is back. The most that any node's log took on disk.
async fn behind_by(commands: usize, pace: Duration, more: &str, expected: ComesBack) -> u64 {
    let (_, mut generator) = seeded();
    let directory = Cluster::directory();
    let mut cluster = Cluster::start_with(directory, "http://127.0.0.1:1", &[], more).await;
    let mut model = Model::default();
    model.put(&cluster, "before", b"1").await;
    let away = cluster.follower().await;
    cluster.nodes[away].kill().await;

    let began = Instant::now();
    let largest = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let sampling = sample(&cluster, largest.clone(), stop.clone());
    let value = noise(&mut generator, VALUE_BYTES);
    let nodes: Vec<usize> = (0..3).filter(|position| *position != away).collect();
    let writes = (0..commands).map(|number| {
        // Through leader and follower alike.
        let node = &cluster.nodes[nodes[number % nodes.len()]];
        let (client, value) = (cluster.client.clone(), &value);
        async move {
            tokio::time::sleep_until((began + pace * number as u32).into()).await;
            // The same few keys: the log is large, the state is not.
            let key = format!("large-{}", number % 10);
            let token = format!("{key} {number}");
            let answer = put(&client, node, &key, value, Some(&token)).await.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            (key, revision(&answer))
        }
    });
    let acknowledged: Vec<(String, u64)> = stream::iter(writes).buffer_unordered(WRITERS).collect().await;
    for (key, revision) in &acknowledged {
        model.acknowledged(key, *revision, &value);
    }
    let written = began.elapsed();
    cluster.nodes[away].start();
    let back = Instant::now();
    cluster.ready(away).await;
    model.holds(&cluster.client, &cluster.nodes[away]).await;
    let back = back.elapsed();
    stop.store(true, Ordering::Relaxed);
    sampling.await.expect("the sampler runs");

    let installed = metric(
        &cluster.client,
        &cluster.nodes[away],
        "blox_raft_snapshot_installed_total",
    )
    .await;
    let came = if installed.expect("it answers") > 0.0 {
        ComesBack::BySnapshot
    } else {
        ComesBack::ByLog
    };
    let mut appends: f64 = 0.0;
    let mut messages: f64 = 0.0;
    for node in cluster.running() {
        let of = |name: &'static str| metric(&cluster.client, node, name);
        appends = appends.max(of("blox_raft_append_largest_bytes").await.expect("it answers"));
        messages = messages.max(of("blox_raft_message_largest_bytes").await.expect("it answers"));
    }
    if expected == ComesBack::BySnapshot {
        for node in &cluster.nodes {
            eventually("the log gives its room back", DEADLINE, || async {
                match directory_bytes(&node.data().join("raft")) / MIB {
                    held if held <= SNAPSHOT_MIB + KEEP_MIB + LOG_AT_REST_MIB => Ok(()),
                    held => Err(format!("{} takes {held} MiB at rest", node.name)),
                }
            })
            .await;
        }
    }
    let disk = largest.load(Ordering::Relaxed);
    println!(
        "{commands} commands of 1 MiB in {written:?}; log at most {} MiB on disk; back {came:?} in {back:?}; largest append {appends} bytes, \
         message {messages}",
        disk / MIB
    );
    assert_eq!(came, expected);
    assert!(
        appends > VALUE_BYTES as f64 / 2.0 && appends <= APPEND_BYTES_MAX,
        "an append of {appends} bytes"
    );
    assert!(messages <= MESSAGE_BYTES_MAX, "a message of {messages} bytes");
    disk
}

/// Looks at what the logs take on disk until it is told to stop.
fn sample(cluster: &Cluster, largest: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let logs: Vec<_> = cluster.nodes.iter().map(|node| node.data().join("raft")).collect();
    tokio::task::spawn_blocking(move || {
        while !stop.load(Ordering::Relaxed) {
            for log in &logs {
                largest.fetch_max(directory_bytes(log), Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}
