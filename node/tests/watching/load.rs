//! What happens while others watch: users' keys are written and deleted through every node, and ECS tells of many tasks at once, so that
//! one command brings many revisions. Now and then values so large come that no node's memory holds what was before them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;

use crate::harness::{Client, Cluster, DEADLINE, REGION, SimulatorProcess, eventually};
use crate::truth::hash;
use crate::watchers::Shared;

const WRITERS: usize = 10;
/// No node is away.
const NOBODY: usize = usize::MAX;
const KEYS_PER_WRITER: u32 = 8;
/// How long one write may take before it is given up.
const WRITE: Duration = Duration::from_secs(6);
/// After a node that does not answer.
const PAUSE: Duration = Duration::from_millis(20);
/// Events of one flood, and their pace.
const EVENTS: u64 = 200;
const EVENTS_PER_SECOND: u64 = 500;
/// So much written to one key turns over the newest changes that a node keeps in memory (16 MiB).
const HEAVY_VALUES: usize = 20;
const HEAVY_BYTES: usize = 900 << 10;
/// Between two such turns, in floods.
const FLOODS_PER_TURN: [u32; 2] = [10, 60];

/// An acknowledged write: revision, key, hash of the value.
pub type Acknowledged = (u64, String, u64);

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
    /// Written to while it can be read-locked.
    gate: Arc<RwLock<()>>,
    /// The node that nobody should write through, as it would not answer.
    away: Arc<AtomicUsize>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    running: JoinSet<()>,
}

impl Load {
    /// Starts it; `witness` is the node that must never fall far behind.
    pub fn start(cluster: &Cluster, simulator: &SimulatorProcess, shared: Arc<Shared>, witness: usize) -> Load {
        let mut load = Load {
            stopping: Arc::default(),
            gate: Arc::default(),
            away: Arc::new(AtomicUsize::new(NOBODY)),
            acknowledged: Arc::default(),
            running: JoinSet::new(),
            shared,
        };
        for number in 0..WRITERS {
            let writer = load.writer(cluster, number, witness);
            load.running.spawn(writer.run());
        }
        load.running
            .spawn(floods(simulator.url(), load.writer(cluster, WRITERS, witness)));
        load
    }

    fn writer(&self, cluster: &Cluster, number: usize, witness: usize) -> Writer {
        Writer {
            number,
            witness,
            client: cluster.client.clone(),
            shared: Arc::clone(&self.shared),
            stopping: Arc::clone(&self.stopping),
            gate: Arc::clone(&self.gate),
            away: Arc::clone(&self.away),
            acknowledged: Arc::clone(&self.acknowledged),
            random: ChaCha8Rng::seed_from_u64(number as u64),
            count: 0,
        }
    }

    /// Nothing is written while this is held.
    pub async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// A node is away for long, or `None`: all are back. Others are written through.
    pub fn set_away(&self, node: Option<usize>) {
        self.away.store(node.unwrap_or(NOBODY), Ordering::Relaxed);
    }

    /// Ends it with a last write of a user; everything that was acknowledged.
    pub async fn end(mut self) -> Vec<Acknowledged> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.expect("the load ran to its end");
        }
        let url = format!("{}/v2/kv/end", self.shared.urls[0]);
        let client = self.shared.client.clone();
        eventually("the last write", DEADLINE, || async {
            match client.ask(Method::PUT, &url, &[], Some(b"end".to_vec())).await?.status {
                200 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
        std::mem::take(&mut *self.acknowledged.lock().expect("no writer panicked with it"))
    }
}

struct Writer {
    number: usize,
    /// The node that must have each write before the next one: others keep so little log that it would soon need a snapshot.
    witness: usize,
    client: Client,
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
    gate: Arc<RwLock<()>>,
    away: Arc<AtomicUsize>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    random: ChaCha8Rng,
    count: u64,
}

impl Writer {
    async fn run(mut self) {
        while !self.stopping.load(Ordering::Relaxed) {
            let _open = Arc::clone(&self.gate).read_owned().await;
            let key = format!("load/{}/{}", self.number, self.random.random_range(0..KEYS_PER_WRITER));
            self.count += 1;
            let value = format!("{}-{}", self.number, self.count);
            let mut node = self.random.random_range(0..self.shared.urls.len());
            if node == self.away.load(Ordering::Relaxed) {
                node = (node + 1) % self.shared.urls.len();
            }
            if self.random.random_bool(0.1) {
                self.ask(Method::DELETE, node, &key, None).await;
            } else {
                self.put(node, &key, value.into_bytes()).await;
            }
        }
    }

    async fn put(&self, node: usize, key: &str, value: Vec<u8>) -> bool {
        let content = hash(&value);
        let Some(answer) = self.ask(Method::PUT, node, key, Some(value)).await else {
            return false;
        };
        let revision = answer["mod_revision"].as_u64().expect("a write says its revision");
        let mut acknowledged = self.acknowledged.lock().expect("no writer panicked with it");
        acknowledged.push((revision, key.to_owned(), content));
        true
    }

    async fn ask(&self, method: Method, node: usize, key: &str, body: Option<Vec<u8>>) -> Option<Value> {
        let url = format!("{}/v2/kv/{key}", self.shared.urls[node]);
        let asked = self.client.ask(method, &url, &[], body);
        match tokio::time::timeout(WRITE, asked).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                let written = answer.header("x-blox-revision");
                self.witness_has(&format!("consistency=stale&min_revision={written}"))
                    .await;
                Some(answer.json())
            }
            // There was nothing to delete.
            Ok(Ok(answer)) if answer.status == 404 => None,
            _ => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    /// Waits until the witness answers such a read.
    async fn witness_has(&self, reading: &str) {
        let url = format!("{}/v2/kv/end?{reading}", self.shared.urls[self.witness]);
        eventually("the witness has what was written", DEADLINE, || async {
            match self.client.ask(Method::GET, &url, &[], None).await?.status {
                200 | 404 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
}

/// Floods of events, and turns of large values between them.
async fn floods(simulator: String, writer: Writer) {
    let mut count = 0;
    while !writer.stopping.load(Ordering::Relaxed) {
        let open = Arc::clone(&writer.gate).read_owned().await;
        let kind = if count % 5 == 4 { "instances" } else { "tasks" };
        let flood = json!({"region": REGION, "cluster": "alpha", "events": EVENTS, "kind": kind, "per_second": EVENTS_PER_SECOND});
        let url = format!("{simulator}/control/flood");
        let sent = writer.client.ask(
            Method::POST,
            &url,
            &[("content-type", "application/json")],
            Some(flood.to_string().into_bytes()),
        );
        let answer = sent.await.expect("the simulator answers");
        assert!(answer.is_success(), "{}", answer.text());
        writer.witness_has("consistency=linearizable").await;
        drop(open);
        count += 1;
        if count % crate::harness::count(FLOODS_PER_TURN[0], FLOODS_PER_TURN[1]) == 0 {
            turn_over(&writer).await;
        }
    }
}

/// Everything before the revision of now leaves the memory of every node; once it is compacted too, sleepers wake.
async fn turn_over(writer: &Writer) {
    let look = async |field: &str| -> u64 {
        let url = format!("{}/v2/cluster", writer.shared.urls[writer.witness]);
        let status = writer.client.get_json(&url).await.ok();
        status.and_then(|status| status[field].as_u64()).unwrap_or(0)
    };
    let now = look("revision").await;
    let mut written = 0;
    while written < HEAVY_VALUES && !writer.stopping.load(Ordering::Relaxed) {
        let _open = Arc::clone(&writer.gate).read_owned().await;
        let value = vec![b'a' + (written % 26) as u8; HEAVY_BYTES];
        written += usize::from(writer.put(writer.witness, "heavy", value).await);
    }
    // The floods that follow move the history on.
    let shared = Arc::clone(&writer.shared);
    let oldest = look("oldest_revision").await;
    shared.forgotten.fetch_max(now.min(oldest), Ordering::Relaxed);
}
