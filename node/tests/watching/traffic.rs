//! Clients that write and read registers through every node all the time, and write down what they asked and what they were told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use tokio::task::JoinSet;

use crate::harness::{Answer, Client, Cluster, DEADLINE, eventually};
use crate::registers::{Did, Operation};

const REGISTERS: u32 = 4;
const WRITERS: u64 = 3;
const READERS_PER_NODE: u64 = 4;
/// How long a client waits for one answer: longer than a node may take.
const ATTEMPT: Duration = Duration::from_secs(8);
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(5);

/// Clients at work.
pub struct Traffic {
    shared: Arc<Shared>,
    running: JoinSet<()>,
}

struct Shared {
    client: Client,
    urls: Vec<String>,
    started: Instant,
    history: Mutex<Vec<Told>>,
    acknowledged: AtomicU64,
    /// Reads of one's own write on another node, by `min_revision`.
    followed: AtomicU64,
    stopping: AtomicBool,
}

/// An operation, and the term that the answering node was in.
struct Told {
    operation: Operation,
    term: u64,
}

/// What the clients were told.
pub struct History {
    told: Vec<Told>,
    pub followed: u64,
}

impl Traffic {
    pub fn start(cluster: &Cluster, seed: u64) -> Traffic {
        let shared = Arc::new(Shared {
            client: cluster.client.clone(),
            urls: cluster.nodes.iter().map(|node| node.url()).collect(),
            started: Instant::now(),
            history: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            followed: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let mut running = JoinSet::new();
        for number in 0..WRITERS {
            running.spawn(write(
                Arc::clone(&shared),
                number,
                ChaCha8Rng::seed_from_u64(seed + number),
            ));
        }
        for node in 0..shared.urls.len() {
            for number in 0..READERS_PER_NODE {
                let random = ChaCha8Rng::seed_from_u64(seed + 1_000 * node as u64 + number);
                running.spawn(read(Arc::clone(&shared), node, random));
            }
        }
        Traffic { shared, running }
    }

    /// Waits until so many more writes are acknowledged.
    pub async fn goes_on(&self, writes: u64) {
        let wanted = self.shared.acknowledged.load(Ordering::Relaxed) + writes;
        eventually("writes are acknowledged", DEADLINE, || async {
            let acknowledged = self.shared.acknowledged.load(Ordering::Relaxed);
            if acknowledged >= wanted {
                Ok(())
            } else {
                Err(format!("{acknowledged} of {wanted}"))
            }
        })
        .await;
    }

    /// Ends the clients; what they were told.
    pub async fn end(mut self) -> History {
        self.shared.stopping.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.expect("a client was told what it should not be");
        }
        History {
            told: std::mem::take(&mut *self.shared.history.lock().expect("no client panicked with it")),
            followed: self.shared.followed.load(Ordering::Relaxed),
        }
    }
}

impl History {
    pub fn operations(&self) -> Vec<Operation> {
        self.told.iter().map(|told| told.operation.clone()).collect()
    }

    /// Of each term after the first: the reads that were answered within so long of its first answer.
    pub fn reads_within(&self, moment: Duration) -> Vec<usize> {
        let mut terms: Vec<u64> = self
            .told
            .iter()
            .map(|told| told.term)
            .filter(|term| *term > 0)
            .collect();
        terms.sort_unstable();
        terms.dedup();
        let of_term = |term: u64| {
            self.told
                .iter()
                .filter(move |told| told.term == term)
                .map(|told| &told.operation)
        };
        let later_terms = terms.into_iter().skip(1);
        later_terms
            .map(|term| {
                let first = of_term(term).map(|operation| operation.end).min().unwrap_or(0);
                let until = first + u64::try_from(moment.as_nanos()).expect("short");
                of_term(term)
                    .filter(|operation| matches!(operation.did, Did::Read { .. }) && operation.end <= until)
                    .count()
            })
            .collect()
    }

    pub fn count(&self, which: impl Fn(&Did) -> bool) -> usize {
        self.told.iter().filter(|told| which(&told.operation.did)).count()
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("a test is short")
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    async fn ask(&self, method: Method, url: &str, body: Option<Vec<u8>>) -> Result<Answer, String> {
        tokio::time::timeout(ATTEMPT, self.client.ask(method, url, &[], body))
            .await
            .unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    fn note(&self, begin: u64, key: &str, node: usize, did: Did, answer: Option<&Answer>) {
        let operation = Operation {
            key: key.to_owned(),
            begin,
            end: self.now(),
            did,
            by: format!("through node {node}"),
        };
        let term = answer
            .and_then(|answer| answer.header("x-blox-term").parse().ok())
            .unwrap_or(0);
        let mut history = self.history.lock().expect("no client panicked with it");
        history.push(Told { operation, term });
    }
}

/// What a linearizable read was told; `None`: it was refused.
pub fn found(answer: &Answer) -> Option<Did> {
    match answer.status {
        200 => Some(Did::Read {
            value: Some(answer.text()),
            revision: answer
                .header("x-blox-mod-revision")
                .parse()
                .expect("a value has a revision"),
        }),
        404 => Some(Did::Read {
            value: None,
            revision: 0,
        }),
        _ => None,
    }
}

async fn write(shared: Arc<Shared>, number: u64, mut random: ChaCha8Rng) {
    let mut count = 0;
    while !shared.stopping() {
        count += 1;
        let (key, value) = (
            format!("register/{}", random.random_range(0..REGISTERS)),
            format!("{number}-{count}"),
        );
        let node = random.random_range(0..shared.urls.len());
        let url = format!("{}/v2/kv/{key}", shared.urls[node]);
        let begin = shared.now();
        let answer = shared.ask(Method::PUT, &url, Some(value.clone().into_bytes())).await;
        let answer = answer.ok();
        let did = match &answer {
            Some(answer) if answer.status == 200 => Did::Wrote {
                value,
                revision: answer.json()["mod_revision"].as_u64().expect("a revision"),
            },
            Some(answer) if answer.status == 503 && answer.json()["code"] == "no_leader" => Did::NeverWrote { value },
            _ => Did::MayHaveWritten { value },
        };
        shared.note(begin, &key, node, did.clone(), answer.as_ref());
        match did {
            Did::Wrote { revision, .. } => {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                let other = (node + 1) % shared.urls.len();
                follow(&shared, other, &key, revision).await;
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Reads one's own write on another node, without asking any leader.
async fn follow(shared: &Shared, node: usize, key: &str, written: u64) {
    let url = format!(
        "{}/v2/kv/{key}?consistency=stale&min_revision={written}",
        shared.urls[node]
    );
    let Ok(answer) = shared.ask(Method::GET, &url, None).await else {
        return;
    };
    if answer.status == 503 {
        return;
    }
    let number = |name: &str| answer.header(name).parse::<u64>().unwrap_or(0);
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    assert!(
        number("x-blox-mod-revision") >= written && number("x-blox-revision") >= written,
        "{url} answers from revision {}, the key's is {}",
        number("x-blox-revision"),
        number("x-blox-mod-revision")
    );
    shared.followed.fetch_add(1, Ordering::Relaxed);
}

async fn read(shared: Arc<Shared>, node: usize, mut random: ChaCha8Rng) {
    while !shared.stopping() {
        let key = format!("register/{}", random.random_range(0..REGISTERS));
        let url = format!("{}/v2/kv/{key}", shared.urls[node]);
        let begin = shared.now();
        let answer = shared.ask(Method::GET, &url, None).await.ok();
        match answer.as_ref().and_then(found) {
            Some(did) => shared.note(begin, &key, node, did, answer.as_ref()),
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}
