//! What a write, a read and an event cost, in what does not vary with the machine: entries, syncs, calls and bytes, counted on all nodes.
//!
//! Requests come one after another, each once the one before is on every disk: so nothing shares an entry, a sync or a call with another.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, eventually, seeded, series};

const PUTS: u64 = 50;
const READS: u64 = 50;
const EVENTS: u64 = 50;
const KEY: &str = "costs/key";
const VALUE_BYTES: u64 = 256;
/// What a put of [`KEY`] adds to its value in the log, bytes: key, clocks, ids, the position that rides along. It takes 140; numbers grow.
const LOG_OVERHEAD_BYTES_MAX: u64 = 150;
/// The same for an append on its way to one follower: vote, positions. It takes 115.
const APPEND_OVERHEAD_BYTES_MAX: u64 = 125;
/// Entries that come by themselves: a session is opened, and its first round of maintenance follows within seconds. Nothing is counted before.
const BEGINNING: u64 = 2;
/// One election at the start, then none: it would count as well. And no second round of maintenance.
const QUIET: &str =
    "[timing]\nheartbeat = \"100ms\"\nelection_min = \"3s\"\nelection_max = \"6s\"\n[history]\ncheck = \"1h\"\n";

/// What one node has counted, since another count if it comes from [`Costs::since`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Costs {
    /// Entries it proposed as leader.
    proposed: u64,
    /// Entries in its log.
    entries: u64,
    syncs: u64,
    log_bytes: u64,
    /// Appends with entries that it sent, as leader.
    appends: u64,
    append_bytes: u64,
    /// Calls to the leader for its callers.
    requests: u64,
    /// Rounds in which it asked a quorum whether it leads.
    rounds: u64,
    /// Bytes of its log that wait for the disk.
    unwritten: u64,
}

impl Costs {
    fn of(page: &str) -> Result<Costs, String> {
        let number = |name: &str| number(page, name);
        Ok(Costs {
            proposed: number("blox_raft_entries_proposed_total")?,
            entries: number("blox_raft_wal_entries_total")?,
            syncs: number("blox_raft_wal_fsync_duration_seconds_count")?,
            log_bytes: number("blox_raft_wal_bytes_total")?,
            appends: number("blox_raft_appends_sent_total")?,
            append_bytes: number("blox_raft_append_sent_bytes_total")?,
            requests: number("blox_raft_requests_sent_total")?,
            rounds: number("blox_raft_read_rounds_total")?,
            unwritten: number("blox_raft_wal_unwritten_bytes")?,
        })
    }

    fn since(&self, earlier: &Costs) -> Costs {
        Costs {
            proposed: self.proposed - earlier.proposed,
            entries: self.entries - earlier.entries,
            syncs: self.syncs - earlier.syncs,
            log_bytes: self.log_bytes - earlier.log_bytes,
            appends: self.appends - earlier.appends,
            append_bytes: self.append_bytes - earlier.append_bytes,
            requests: self.requests - earlier.requests,
            rounds: self.rounds - earlier.rounds,
            unwritten: self.unwritten,
        }
    }
}

/// A counter of a page, by its name and labels.
fn number(page: &str, name: &str) -> Result<u64, String> {
    let found = series(page, name).map(|value| value as u64);
    found.ok_or_else(|| format!("no {name} in\n{page}"))
}

/// A cluster, its leader, and what its nodes had counted when the counting began.
struct Counting<'a> {
    cluster: &'a Cluster,
    leader: usize,
    before: Vec<Costs>,
}

impl Counting<'_> {
    async fn begin(cluster: &Cluster) -> Counting<'_> {
        Counting {
            cluster,
            leader: cluster.leader().await,
            before: at_rest(cluster).await,
        }
    }

    async fn counted(&self) -> Result<Vec<Costs>, String> {
        let counted = now(self.cluster).await?;
        Ok(counted
            .iter()
            .zip(&self.before)
            .map(|(now, before)| now.since(before))
            .collect())
    }

    /// Waits until every entry that was proposed, so many at least, is on every disk.
    async fn on_every_disk(&self, entries_min: u64) -> Vec<Costs> {
        eventually("every entry on every disk", DEADLINE, || async {
            let counted = self.counted().await?;
            let proposed = counted[self.leader].proposed;
            let written = |node: &Costs| node.entries == proposed && node.syncs >= proposed && node.unwritten == 0;
            if proposed >= entries_min && counted.iter().all(written) {
                Ok(counted)
            } else {
                Err(format!("{counted:?}"))
            }
        })
        .await
    }

    async fn ask(&self, position: usize, method: Method, query: &str, body: Option<Vec<u8>>) {
        let url = format!("{}/v2/kv/{KEY}{query}", self.cluster.nodes[position].url());
        let answer = self
            .cluster
            .client
            .ask(method, &url, &[], body)
            .await
            .expect("it answers");
        assert!(answer.is_success(), "{url}: {} {}", answer.status, answer.text());
    }

    /// So many puts to one node; what they cost.
    async fn puts(&self, position: usize) -> Vec<Costs> {
        for number in 0..PUTS {
            let value = vec![b'0' + (number % 10) as u8; VALUE_BYTES as usize];
            self.ask(position, Method::PUT, "", Some(value)).await;
            self.on_every_disk(number + 1).await;
        }
        self.on_every_disk(PUTS).await
    }

    /// So many reads from one node; what they cost.
    async fn reads(&self, position: usize, query: &str) -> Vec<Costs> {
        for _ in 0..READS {
            self.ask(position, Method::GET, query, None).await;
        }
        self.on_every_disk(0).await
    }
}

/// Waits until what a cluster writes by itself in its beginning is over. To be called before anything else is written.
async fn beginning(cluster: &Cluster) {
    let leader = cluster.leader().await;
    eventually("the beginning", DEADLINE, || async {
        let proposed = now(cluster).await?[leader].proposed;
        if proposed >= BEGINNING {
            Ok(())
        } else {
            Err(format!("{proposed} entries"))
        }
    })
    .await;
}

/// What all nodes have counted once nothing goes on: the same twice, at one applied position, with nothing on its way to a disk.
async fn at_rest(cluster: &Cluster) -> Vec<Costs> {
    let last = RefCell::new(Vec::new());
    eventually("the nodes are at rest", DEADLINE, || async {
        cluster.same_state().await;
        let seen = now(cluster).await?;
        let before = last.replace(seen.clone());
        let rest = before == seen && seen.iter().all(|node| node.unwritten == 0);
        if rest {
            Ok(seen)
        } else {
            Err(format!("{before:?} became {seen:?}"))
        }
    })
    .await
}

async fn now(cluster: &Cluster) -> Result<Vec<Costs>, String> {
    let mut all = Vec::new();
    for node in &cluster.nodes {
        all.push(Costs::of(
            &cluster.client.get(&format!("{}/metrics", node.url())).await?.text(),
        )?);
    }
    Ok(all)
}

/// Every entry is one sync on each node and one append to each follower, whatever asked for it.
fn assert_entries_cost_one_of_each(counted: &[Costs], leader: usize) {
    let proposed = counted[leader].proposed;
    for (position, node) in counted.iter().enumerate() {
        assert_eq!((node.entries, node.syncs), (proposed, proposed), "{counted:?}");
        let appends = if position == leader { 2 * proposed } else { 0 };
        assert_eq!(node.appends, appends, "{counted:?}");
    }
}

/// A put is one entry, one sync on each node and one append to each follower, of its own size and little more; through a follower one call to
/// the leader besides. Proves that no put waits for a second sync or a second round, and that nothing is written or sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_is_one_entry_and_one_sync_a_node() {
    let cluster = Cluster::start_with(Cluster::directory(), "http://127.0.0.1:9", &[], QUIET).await;
    beginning(&cluster).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for position in [leader, follower] {
        let counting = Counting::begin(&cluster).await;
        let counted = counting.puts(position).await;
        assert_entries_cost_one_of_each(&counted, leader);
        let proposed = counted[leader].proposed;
        assert_eq!(proposed, PUTS, "{counted:?}");
        for (other, node) in counted.iter().enumerate() {
            let requests = if other == position && position != leader {
                PUTS
            } else {
                0
            };
            assert_eq!((node.requests, node.rounds), (requests, 0), "{counted:?}");
            let bytes = PUTS * VALUE_BYTES..=PUTS * VALUE_BYTES + proposed * LOG_OVERHEAD_BYTES_MAX;
            assert!(bytes.contains(&node.log_bytes), "{bytes:?}: {counted:?}");
        }
        let bytes = 2 * PUTS * VALUE_BYTES..=2 * (PUTS * VALUE_BYTES + proposed * APPEND_OVERHEAD_BYTES_MAX);
        assert!(bytes.contains(&counted[leader].append_bytes), "{bytes:?}: {counted:?}");
        println!("{PUTS} puts through {}: {counted:?}", cluster.nodes[position].name);
    }
}

/// A read writes nothing: a linearizable one is one round of the leader's, on a follower one call to the leader besides; a stale one asks nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_one_round_and_writes_nothing() {
    let cluster = Cluster::start_with(Cluster::directory(), "http://127.0.0.1:9", &[], QUIET).await;
    beginning(&cluster).await;
    cluster.put(&format!("/v2/kv/{KEY}"), &json!("there")).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for (position, query, rounds, requests) in [
        (leader, "", READS, 0),
        (follower, "", READS, READS),
        (leader, "?consistency=stale", 0, 0),
        (follower, "?consistency=stale", 0, 0),
    ] {
        let counting = Counting::begin(&cluster).await;
        let counted = counting.reads(position, query).await;
        assert_entries_cost_one_of_each(&counted, leader);
        assert_eq!(counted[leader].proposed, 0, "{query}: {counted:?}");
        for (other, node) in counted.iter().enumerate() {
            let rounds = if other == leader { rounds } else { 0 };
            let requests = if other == position { requests } else { 0 };
            assert_eq!((node.rounds, node.requests), (rounds, requests), "{query}: {counted:?}");
        }
        println!("{READS} reads of {}{query}: {counted:?}", cluster.nodes[position].name);
    }
}

/// An event is received, applied and deleted once, and is one entry at most; beside events the feed only says how far it has come, once a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_one_entry_at_most() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", 1).await;
    let mut source = SimulatorProcess::source("main", REGION);
    source.reconcile_pause = "1h";
    let cluster = Cluster::start_with(directory, &simulator.url(), &[source], QUIET).await;
    cluster.reconciled().await;
    let leader = cluster.leader().await;
    let url = cluster.nodes[leader].url();
    // Applied, received and deleted, of one moment.
    let fed = async || -> Result<[u64; 3], String> {
        let page = cluster.client.get(&format!("{url}/metrics")).await?.text();
        let number = |name: &str| number(&page, name);
        Ok([
            number("blox_events_total{source=\"main\",outcome=\"applied\"}")?,
            number("blox_sqs_received_total{source=\"main\"}")?,
            number("blox_sqs_deleted_total{source=\"main\"}")?,
        ])
    };
    // What the fleet's beginning told of is behind.
    let last = Cell::new([0; 3]);
    let before_events = eventually("the queue is empty", DEADLINE, || async {
        let fed = fed().await?;
        let still = last.replace(fed) == fed && fed[1] == fed[2] && fed[1] > 0;
        if still { Ok(fed) } else { Err(format!("{fed:?}")) }
    })
    .await;
    let counting = Counting::begin(&cluster).await;
    let began = Instant::now();
    for number in 1..=EVENTS {
        simulator.post("/flood", json!({"cluster": "alpha", "events": 1})).await;
        eventually("the event is applied", DEADLINE, || async {
            let fed = fed().await?;
            if fed[0] >= before_events[0] + number {
                Ok(())
            } else {
                Err(format!("{fed:?}"))
            }
        })
        .await;
    }
    let after_events = eventually("every message is deleted", DEADLINE, || async {
        let fed = fed().await?;
        if fed[2] >= before_events[2] + EVENTS {
            Ok(fed)
        } else {
            Err(format!("{fed:?}"))
        }
    })
    .await;
    let after = at_rest(&cluster).await[leader];
    // And perhaps the session's first round of maintenance.
    let others_max = began.elapsed().as_secs() + 3;
    let counted = after.since(&counting.before[leader]);
    let each: Vec<u64> = after_events
        .iter()
        .zip(before_events)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(each, [EVENTS; 3], "applied, received, deleted");
    assert!(
        (EVENTS..=EVENTS + others_max).contains(&counted.proposed),
        "{others_max} others at most: {counted:?}"
    );
    assert!(
        counted.syncs <= counted.entries && counted.appends <= 2 * counted.entries,
        "{counted:?}"
    );
    println!("{EVENTS} events in {:.1} s: {counted:?}", began.elapsed().as_secs_f64());
}
