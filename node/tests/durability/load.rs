//! Writers over all nodes, and the ledger of what was acknowledged to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use reqwest::Method;
use tokio::task::JoinHandle;

use crate::harness::{Answer, Client, Cluster, DEADLINE, eventually};

/// Between two tries of one write while nobody answers it.
const TRY_AGAIN: Duration = Duration::from_millis(20);
/// Questions asked at once while the ledger is checked.
const CHECKS_AT_ONCE: usize = 48;
/// Longest time for one write to be acknowledged: kills and restarts lie within it.
const WRITE_DEADLINE: Duration = Duration::from_secs(120);

/// One write that a node has acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub key: String,
    pub value: String,
    pub revision: u64,
    /// Its key, what it was conditional on, and what was answered.
    pub idempotency: Option<String>,
    if_match: Option<u64>,
    body: String,
}

/// Everything acknowledged, in no order.
#[derive(Default)]
struct Ledger {
    /// Of keys that are written once.
    fresh: Vec<Acknowledged>,
    /// Of each writer's counter: every step, each conditional on the one before.
    steps: Vec<Acknowledged>,
    unknown: usize,
}

/// Running writers.
pub struct Load {
    stopping: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    writers: Vec<JoinHandle<()>>,
    client: Client,
}

impl Load {
    /// So many writers, each on nodes of its own choice; `pause` between two writes of one.
    pub fn begin(cluster: &Cluster, writers: usize, pause: Duration) -> Load {
        let (stopping, ledger) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Ledger::default())),
        );
        let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
        let writers = (0..writers)
            .map(|number| {
                let writer = Writer {
                    number,
                    urls: urls.clone(),
                    client: cluster.client.clone(),
                    stopping: Arc::clone(&stopping),
                    ledger: Arc::clone(&ledger),
                };
                tokio::spawn(writer.write_until_stopped(pause))
            })
            .collect();
        Load {
            stopping,
            ledger,
            writers,
            client: cluster.client.clone(),
        }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let ledger = self.ledger.lock().expect("no writer panics with the ledger");
        ledger.fresh.len() + ledger.steps.len()
    }

    /// Highest revision acknowledged so far.
    pub fn revision(&self) -> u64 {
        let ledger = self.ledger.lock().expect("no writer panics with the ledger");
        let all = ledger.fresh.iter().chain(&ledger.steps);
        all.map(|write| write.revision).max().unwrap_or(0)
    }

    /// Waits until so many more writes are acknowledged.
    pub async fn more(&self, count: usize) {
        let wanted = self.acknowledged() + count;
        eventually("writes are acknowledged", DEADLINE, || async {
            assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer has ended");
            let now = self.acknowledged();
            if now >= wanted {
                Ok(())
            } else {
                Err(format!("{now} of {wanted}"))
            }
        })
        .await;
    }

    /// Every key written once has its value at its revision, on one node or another; from the `first` of them on. How many there are now.
    pub async fn check_fresh(&self, cluster: &Cluster, first: usize) -> usize {
        let fresh: Vec<Acknowledged> = self
            .ledger
            .lock()
            .expect("no writer panics with the ledger")
            .fresh
            .clone();
        let checks = stream::iter(fresh.iter().enumerate().skip(first))
            .map(|(position, write)| check(cluster, position % cluster.nodes.len(), write));
        checks.buffer_unordered(CHECKS_AT_ONCE).for_each(|()| async {}).await;
        fresh.len()
    }

    /// Ends the writers, each when its last write is acknowledged, and checks the whole ledger: values, revisions, and that every
    /// idempotency key gives its answer again, on another node, and changes nothing.
    pub async fn end(self, cluster: &Cluster) {
        self.stopping.store(true, Ordering::SeqCst);
        for writer in self.writers {
            writer.await.expect("a writer ends well");
        }
        let ledger = std::mem::take(&mut *self.ledger.lock().expect("all writers have ended"));
        let fresh = stream::iter(ledger.fresh.iter().enumerate());
        fresh
            .map(|(position, write)| check(cluster, position % cluster.nodes.len(), write))
            .buffer_unordered(CHECKS_AT_ONCE)
            .for_each(|()| async {})
            .await;
        let last_steps = ledger.steps.iter().filter(|step| {
            ledger
                .steps
                .iter()
                .all(|other| other.key != step.key || other.revision <= step.revision)
        });
        for step in last_steps {
            check(cluster, 0, step).await;
        }
        let keyed = ledger.fresh.iter().chain(&ledger.steps);
        let keyed: Vec<&Acknowledged> = keyed.filter(|write| write.idempotency.is_some()).collect();
        stream::iter(keyed.iter().enumerate())
            .map(|(position, write)| replay(&self.client, cluster, position % cluster.nodes.len(), write))
            .buffer_unordered(CHECKS_AT_ONCE)
            .for_each(|()| async {})
            .await;
        println!(
            "{} writes to keys of their own and {} conditional ones were acknowledged and are there; {} idempotency keys gave their answer again; {} had no answer",
            ledger.fresh.len(),
            ledger.steps.len(),
            keyed.len(),
            ledger.unknown
        );
    }
}

/// The key has this value since this revision.
async fn check(cluster: &Cluster, node: usize, write: &Acknowledged) {
    let answer = cluster.get(node, &format!("/v2/kv/{}", write.key)).await;
    let revision = answer.header("x-blox-mod-revision");
    assert_eq!(
        (answer.text(), revision),
        (write.value.clone(), write.revision.to_string()),
        "{} was acknowledged otherwise",
        write.key
    );
}

/// The same request under the same key: the same answer, marked as given before.
async fn replay(client: &Client, cluster: &Cluster, node: usize, write: &Acknowledged) {
    let answer = eventually("a replay is answered", DEADLINE, || async {
        let answer = put(client, &cluster.nodes[node].url(), write).await?;
        if answer.status < 500 && answer.status != 429 {
            Ok(answer)
        } else {
            Err(answer.text())
        }
    })
    .await;
    let seen = (answer.status, answer.text(), answer.header("x-blox-replayed"));
    assert_eq!(
        seen,
        (200, write.body.clone(), "true".to_owned()),
        "the replay of {:?} for {}",
        write.idempotency,
        write.key
    );
}

async fn put(client: &Client, url: &str, write: &Acknowledged) -> Result<Answer, String> {
    let condition = write.if_match.map(|revision| format!("\"{revision}\""));
    let mut headers = Vec::new();
    if let Some(key) = &write.idempotency {
        headers.push(("idempotency-key", key.as_str()));
    }
    if let Some(condition) = &condition {
        headers.push(("if-match", condition.as_str()));
    }
    let body = write.value.clone().into_bytes();
    client
        .ask(Method::PUT, &format!("{url}/v2/kv/{}", write.key), &headers, Some(body))
        .await
}

struct Writer {
    number: usize,
    urls: Vec<String>,
    client: Client,
    stopping: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Writer {
    /// In turn: a key of its own under an idempotency key; a step of the counter, conditional on the last one; a key of its own, tried once.
    async fn write_until_stopped(self, pause: Duration) {
        let mut step_revision = 0;
        for count in 0.. {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let name = format!("load/{}/{count}", self.number);
            let key = Some(format!("key-{}-{count}", self.number));
            match count % 3 {
                0 => {
                    let written = self.until_acknowledged(Self::write(name, count, key, None)).await;
                    self.note(|ledger| ledger.fresh.push(written));
                }
                1 => {
                    let step = Self::write(format!("step/{}", self.number), count, key, Some(step_revision));
                    let step = self.until_acknowledged(step).await;
                    step_revision = step.revision;
                    self.note(|ledger| ledger.steps.push(step));
                }
                _ => {
                    let once = Self::write(name, count, None, None);
                    match self.attempt(count, &once).await {
                        Ok(Some(written)) => self.note(|ledger| ledger.fresh.push(written)),
                        Ok(None) | Err(_) => self.note(|ledger| ledger.unknown += 1),
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger.lock().expect("no writer panics with the ledger"));
    }

    fn write(key: String, count: usize, idempotency: Option<String>, if_match: Option<u64>) -> Acknowledged {
        Acknowledged {
            value: format!("{key}={count}"),
            key,
            revision: 0,
            idempotency,
            if_match,
            body: String::new(),
        }
    }

    async fn until_acknowledged(&self, write: Acknowledged) -> Acknowledged {
        let attempts = async {
            for attempt in 0.. {
                if let Ok(Some(written)) = self.attempt(self.number + attempt, &write).await {
                    return written;
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
            unreachable!("attempts do not end")
        };
        tokio::time::timeout(WRITE_DEADLINE, attempts)
            .await
            .unwrap_or_else(|_| panic!("{write:?} was not acknowledged within {WRITE_DEADLINE:?}"))
    }

    /// `None`: the node could not say.
    async fn attempt(&self, node: usize, write: &Acknowledged) -> Result<Option<Acknowledged>, String> {
        let answer = put(&self.client, &self.urls[node % self.urls.len()], write).await?;
        match answer.status {
            200 => Ok(Some(Acknowledged {
                revision: answer.json()["mod_revision"].as_u64().expect("a revision"),
                body: answer.text(),
                ..write.clone()
            })),
            429 | 500.. => Ok(None),
            // A condition that was acknowledged does not hold: something was lost, or applied twice.
            other => panic!("{write:?}: {other} {}", answer.text()),
        }
    }
}
