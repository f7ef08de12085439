//! Watchers that go on wherever they can from the position they had, and what each has seen.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{Client, Cluster, DEADLINE, Lines};

/// Longest wait for a line before the watcher looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(250);
const ALL_KINDS: &str = "";
/// Before another node is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// Changes as they were told, in order, each with its revision.
pub type Changes = Vec<(u64, Value)>;

/// Watchers that run.
pub struct Watchers {
    tasks: Vec<JoinHandle<usize>>,
    seen: Vec<Arc<Mutex<Changes>>>,
    end: watch::Sender<u64>,
    begin: u64,
}

impl Watchers {
    /// So many, from `begin` on, spread over the nodes.
    pub fn begin(cluster: &Cluster, count: usize, begin: u64) -> Watchers {
        let (end, ended) = watch::channel(u64::MAX);
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        let seen: Vec<Arc<Mutex<Changes>>> = (0..count).map(|_| Arc::default()).collect();
        let tasks = seen
            .iter()
            .enumerate()
            .map(|(number, seen)| {
                let watcher = Watcher {
                    client: cluster.client.clone(),
                    urls: urls.clone(),
                    kinds: ALL_KINDS,
                    next: begin,
                    end: ended.clone(),
                    seen: Arc::clone(seen),
                };
                tokio::spawn(watcher.follow(number))
            })
            .collect();
        Watchers {
            tasks,
            seen,
            end,
            begin,
        }
    }

    /// What the first of them has seen so far.
    pub fn seen(&self) -> Changes {
        self.seen[0].lock().expect("no watcher panics with it").clone()
    }

    /// Ends them at a revision that the cluster has, and compares each with what a node tells from its history now: the same changes, in the
    /// same order, none missing, none twice. That history.
    pub async fn end(self, cluster: &Cluster, end: u64) -> Changes {
        self.end.send_replace(end);
        let history = history(cluster, ALL_KINDS, self.begin, end).await;
        let (mut streams, count) = (0, self.tasks.len());
        for (number, (task, seen)) in self.tasks.into_iter().zip(self.seen).enumerate() {
            streams += tokio::time::timeout(DEADLINE, task)
                .await
                .expect("a watcher goes on to the end")
                .expect("what a watcher sees is in order");
            let seen = up_to(end, &seen);
            let differs = seen.iter().zip(&history).find(|(seen, told)| seen != told);
            assert!(
                differs.is_none(),
                "watcher {number} saw first, the history says second: {differs:?}"
            );
            assert_eq!(seen.len(), history.len(), "watcher {number}");
        }
        println!(
            "{count} watchers saw the same {} changes over {streams} streams",
            history.len()
        );
        history
    }
}

/// What a node tells of these kinds (`task,kv`; nothing: all) from one revision to another that it has.
pub async fn history(cluster: &Cluster, kinds: &'static str, begin: u64, end: u64) -> Changes {
    let (_keep, ended) = watch::channel(end);
    let seen = Arc::default();
    let watcher = Watcher {
        client: cluster.client.clone(),
        urls: vec![cluster.nodes[0].url()],
        kinds,
        next: begin,
        end: ended,
        seen: Arc::clone(&seen),
    };
    tokio::time::timeout(DEADLINE, watcher.follow(0))
        .await
        .expect("a node tells its history");
    up_to(end, &seen)
}

fn up_to(end: u64, seen: &Mutex<Changes>) -> Changes {
    let mut seen = seen.lock().expect("no watcher panics with it").clone();
    seen.retain(|(revision, _)| *revision <= end);
    seen
}

/// One watcher, and its position.
struct Watcher {
    client: Client,
    urls: Vec<String>,
    kinds: &'static str,
    /// The next revision to ask for.
    next: u64,
    end: watch::Receiver<u64>,
    seen: Arc<Mutex<Changes>>,
}

impl Watcher {
    /// Follows until everything up to the end was seen. How many streams that took.
    async fn follow(mut self, first: usize) -> usize {
        let mut streams = 0;
        for turn in first.. {
            if self.next > *self.end.borrow() {
                return streams;
            }
            let node = &self.urls[turn % self.urls.len()];
            let mut url = format!("{node}/v2/watch?from_revision={}", self.next);
            if self.kinds != ALL_KINDS {
                url = format!("{url}&kinds={}", self.kinds);
            }
            match Lines::open(&self.client, &url).await {
                Ok(lines) => {
                    streams += 1;
                    self.read(lines).await;
                }
                Err(error) => assert!(!error.contains(": 410 "), "its position is compacted: {error}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("turns do not end")
    }

    /// Until the stream breaks off, or the end.
    async fn read(&mut self, mut lines: Lines) {
        while self.next <= *self.end.borrow() {
            match lines.next(PATIENCE).await {
                Ok(Some(line)) if line["type"] == "ERROR" => return,
                Ok(Some(line)) => self.take(line),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, line: Value) {
        let revision = line["revision"].as_u64().expect("every line has a revision");
        if line["type"] == "BOOKMARK" {
            // Everything up to it was delivered: a resumption begins after it.
            self.next = self.next.max(revision + 1);
            return;
        }
        assert!(
            revision >= self.next,
            "revision {revision} comes again, or late: the position was {}",
            self.next - 1
        );
        self.next = revision + 1;
        self.seen
            .lock()
            .expect("no watcher panics with it")
            .push((revision, line));
    }
}
