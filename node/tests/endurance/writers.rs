//! Writers at an even pace whose every write must be applied exactly once, whatever is killed meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::harness::{Client, Cluster};

/// Keys of one writer, written in turn.
const KEYS: u64 = 10;
/// How long a write may take, over all its attempts: a failover and more.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What the writers have done.
#[derive(Default)]
pub struct Written {
    pub acknowledged: AtomicU64,
    pub second_attempts: AtomicU64,
    /// Of a write with all its attempts, milliseconds.
    pub longest_ms: AtomicU64,
    stopping: AtomicBool,
}

/// Writers under way.
pub struct Writers {
    pub written: Arc<Written>,
    /// Each ends with how many writes it has made.
    running: JoinSet<(u64, u64)>,
}

impl Writers {
    /// So many writers that make `per_second` writes together.
    pub fn start(cluster: &Cluster, writers: u32, per_second: u32) -> Writers {
        let written = Arc::new(Written::default());
        let urls: Arc<Vec<String>> = Arc::new(cluster.nodes.iter().map(|node| node.url()).collect());
        let mut running = JoinSet::new();
        for number in 0..writers {
            let writer = Writer {
                number: number.into(),
                client: cluster.client.clone(),
                urls: Arc::clone(&urls),
                written: Arc::clone(&written),
            };
            running.spawn(writer.run(Duration::from_secs(1) * writers / per_second));
        }
        Writers { written, running }
    }

    /// Panics where a writer has given up.
    pub fn assert_run(&mut self) {
        if let Some(ended) = self.running.try_join_next() {
            panic!("a writer has ended: {ended:?}");
        }
    }

    /// Ends the writers, and has each node show every key: its last value, written exactly as often as it was acknowledged.
    pub async fn stop_and_check(mut self, cluster: &Cluster) -> Arc<Written> {
        self.written.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            let (number, count) = ended.expect("no writer gives up");
            for key in 0..KEYS.min(count) {
                // The last write of this key, and how many there were.
                let last = count - (count - 1 - key) % KEYS;
                let expected = (last.to_string(), (last - key).div_ceil(KEYS).to_string());
                for node in cluster.running() {
                    let url = format!("{}{}", node.url(), path(number, key));
                    let answer = cluster.client.get(&url).await.expect("every node runs");
                    let found = (answer.text(), answer.header("x-blox-version"));
                    assert_eq!(
                        found, expected,
                        "{url}: (value, times written), then what was acknowledged"
                    );
                }
            }
        }
        self.written
    }
}

fn path(writer: u64, key: u64) -> String {
    format!("/v2/kv/soak/{writer}/{key}")
}

struct Writer {
    number: u64,
    client: Client,
    urls: Arc<Vec<String>>,
    written: Arc<Written>,
}

impl Writer {
    async fn run(self, period: Duration) -> (u64, u64) {
        let mut pace = tokio::time::interval(period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut count = 0;
        while !self.written.stopping.load(Ordering::Relaxed) {
            pace.tick().await;
            count += 1;
            self.write(count).await;
        }
        (self.number, count)
    }

    /// Write number `count`, from 1: again on another node until it is acknowledged, under one idempotency key.
    async fn write(&self, count: u64) {
        let path = path(self.number, (count - 1) % KEYS);
        let idempotency = format!("soak-{}-{count}", self.number);
        let began = Instant::now();
        for attempt in 0.. {
            let url = format!(
                "{}{path}",
                self.urls[(self.number + count + attempt) as usize % self.urls.len()]
            );
            let headers = [("idempotency-key", idempotency.as_str())];
            let body = Some(count.to_string().into_bytes());
            let why = match self.client.ask(Method::PUT, &url, &headers, body).await {
                Ok(answer) if answer.is_success() => break,
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => error,
            };
            assert!(
                began.elapsed() < PATIENCE,
                "{path}: not acknowledged within {PATIENCE:?}: {why}"
            );
            self.written.second_attempts.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.written.longest_ms.fetch_max(took_ms, Ordering::Relaxed);
        self.written.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}
