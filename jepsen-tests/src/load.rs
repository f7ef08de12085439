//! The load: writes, linearizable reads and queries in turn, over all nodes, at a bounded even rate whatever the answers' times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::client::{Answer, Client, NoAnswer, Node, Request};
use crate::history::{End, Kind, Outcome, Recorder};
use crate::readiness::Refusal;

/// More than this at once are not sent: the machine, not the cluster, is what such a load would measure.
const IN_FLIGHT_MAX: usize = 2_000;
/// How users' lists are asked for.
const QUERIES: [&str; 3] = [
    "/v1/tasks?cluster=alpha&status=running",
    "/v2/instances?cluster=beta&limit=50",
    "/v2/tasks?cluster=beta&limit=50",
];

/// What the load needs.
#[derive(Clone)]
pub struct Settings {
    /// All that may be asked.
    pub nodes: Arc<Vec<Node>>,
    /// Asks them.
    pub client: Client,
    /// Is told everything.
    pub recorder: Arc<Recorder>,
    /// What all keys begin with.
    pub prefix: String,
    /// Of the choices of nodes and keys.
    pub seed: u64,
    /// Requests a second, over all nodes and kinds.
    pub per_second: u32,
}

/// An acknowledged write. Its value is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Written once and never again.
    pub key: String,
    /// As acknowledged.
    pub revision: u64,
    /// When.
    pub at_ns: u64,
}

/// A load that runs until it is ended, or dropped.
pub struct Load {
    shared: Arc<Shared>,
    pacing: JoinHandle<u64>,
}

struct Shared {
    settings: Settings,
    stopping: AtomicBool,
    written: Mutex<Vec<Written>>,
}

/// What a load has done.
pub struct Done {
    /// Every acknowledged write.
    pub written: Vec<Written>,
    /// Requests that were not sent because too many were under way.
    pub held_back: u64,
}

impl Load {
    /// Begins at once.
    pub fn begin(settings: Settings) -> Load {
        let shared = Arc::new(Shared {
            settings,
            stopping: AtomicBool::new(false),
            written: Mutex::default(),
        });
        let pacing = tokio::spawn(pace(Arc::clone(&shared)));
        Load { shared, pacing }
    }

    /// Sends nothing more and waits for what is under way.
    pub async fn end(mut self) -> Done {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // It neither panics nor is it cancelled before this.
        let held_back = (&mut self.pacing).await.unwrap_or(u64::MAX);
        Done {
            written: self.shared.written().clone(),
            held_back,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.pacing.abort();
    }
}

impl Shared {
    fn written(&self) -> std::sync::MutexGuard<'_, Vec<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pace(shared: Arc<Shared>) -> u64 {
    let settings = &shared.settings;
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / settings.per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    let mut held_back = 0;
    let mut number: u64 = 0;
    while !shared.stopping.load(Ordering::Relaxed) {
        pace.tick().await;
        while requests.try_join_next().is_some() {}
        if requests.len() >= IN_FLIGHT_MAX {
            held_back += 1;
            continue;
        }
        number += 1;
        let asked = Asked::draw(number, &mut random, &shared);
        requests.spawn(carry_out(asked, Arc::clone(&shared)));
    }
    while requests.join_next().await.is_some() {}
    held_back
}

/// One operation to be.
struct Asked {
    kind: Kind,
    /// The node that is asked, and the one that is asked where that one fails.
    nodes: [usize; 2],
    key: String,
    request: Request,
    /// Of a read: what was acknowledged before.
    expected: Option<Written>,
}

impl Asked {
    fn draw(number: u64, random: &mut ChaCha8Rng, shared: &Shared) -> Asked {
        let settings = &shared.settings;
        let first = random.random_range(0..settings.nodes.len());
        let second = (first + random.random_range(1..settings.nodes.len())) % settings.nodes.len();
        let nodes = [first, second];
        let expected = {
            let written = shared.written();
            let chosen = random.random_range(0..written.len().max(1));
            written.get(chosen).filter(|_| number % 3 == 1).cloned()
        };
        if let Some(expected) = expected {
            return Asked {
                kind: Kind::Read,
                nodes,
                key: expected.key.clone(),
                request: Request::get(format!("/v2/kv/{}", expected.key)),
                expected: Some(expected),
            };
        }
        if number % 3 == 2 {
            let path = QUERIES[random.random_range(0..QUERIES.len())];
            return Asked {
                kind: Kind::Query,
                nodes,
                key: path.to_owned(),
                request: Request::get(path),
                expected: None,
            };
        }
        let key = format!("{}{number}", settings.prefix);
        Asked {
            kind: Kind::Write,
            nodes,
            request: Request::put(format!("/v2/kv/{key}"), key.clone(), key.clone()),
            key,
            expected: None,
        }
    }
}

async fn carry_out(asked: Asked, shared: Arc<Shared>) {
    let Settings {
        nodes,
        client,
        recorder,
        ..
    } = &shared.settings;
    let value = (asked.kind == Kind::Write).then_some(asked.key.as_str());
    let ticket = recorder.begin(asked.kind, asked.nodes[0], &asked.key, value);
    let mut surely_without_effect = true;
    let mut errors = Vec::new();
    for (attempt, node) in asked.nodes.into_iter().enumerate() {
        if attempt > 0 {
            Client::pause().await;
        }
        let began_ns = recorder.clock().now_ns();
        let answered = client.ask(&nodes[node], &asked.request).await;
        let attempts = attempt as u8 + 1;
        match answered {
            Ok(answer) if answer.is_success() => {
                acknowledged(asked, &shared, answer, |value, revision| {
                    let end = End {
                        outcome: Outcome::Ok,
                        attempts,
                        node,
                        revision,
                        value,
                        errors,
                    };
                    recorder.end(ticket, &end)
                });
                return;
            }
            // A key that was acknowledged is gone: an answer, and a wrong one.
            Ok(answer) if asked.kind == Kind::Read && answer.status == 404 => {
                recorder.stale(format!(
                    "{} on {}: no such key at revision {}",
                    asked.key, nodes[node].name, answer.revision
                ));
                let end = End {
                    outcome: Outcome::Ok,
                    attempts,
                    node,
                    revision: 0,
                    value: None,
                    errors,
                };
                recorder.end(ticket, &end);
                return;
            }
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body).into_owned();
                errors.push(format!("{}: {} {}", nodes[node].name, answer.status, said.trim()));
                surely_without_effect &= (400..500).contains(&answer.status);
                if answer.status >= 500 {
                    let ended_ns = recorder.clock().now_ns();
                    recorder.refused(Refusal {
                        node,
                        began_ns,
                        ended_ns,
                        status: answer.status,
                    });
                }
            }
            Err(error) => {
                errors.push(format!("{}: {error}", nodes[node].name));
                surely_without_effect &= matches!(error, NoAnswer::NotSent(_));
            }
        }
    }
    let end = End {
        outcome: if asked.kind != Kind::Write || surely_without_effect {
            Outcome::Failed
        } else {
            Outcome::Unknown
        },
        attempts: 2,
        node: asked.nodes[1],
        revision: 0,
        value: value_of(&asked),
        errors,
    };
    recorder.end(ticket, &end);
}

fn value_of(asked: &Asked) -> Option<String> {
    (asked.kind == Kind::Write).then(|| asked.key.clone())
}

/// A good answer: recorded, then, of a write, offered to later reads; of a read, compared with what was acknowledged before it began.
fn acknowledged(asked: Asked, shared: &Shared, answer: Answer, end: impl FnOnce(Option<String>, u64) -> u64) {
    let recorder = &shared.settings.recorder;
    match (asked.kind, &asked.expected) {
        (Kind::Read, Some(expected)) => {
            let value = String::from_utf8_lossy(&answer.body).into_owned();
            if value != expected.key || answer.mod_revision != expected.revision {
                recorder.stale(format!(
                    "{} was acknowledged at revision {} and reads {value:?} at revision {}",
                    expected.key, expected.revision, answer.mod_revision
                ));
            }
            end(Some(value), answer.mod_revision);
        }
        (Kind::Write, _) => {
            let at_ns = end(value_of(&asked), answer.mod_revision);
            shared.written().push(Written {
                key: asked.key,
                revision: answer.mod_revision,
                at_ns,
            });
        }
        _ => {
            end(None, answer.revision);
        }
    }
}
