//! What the nodes say of themselves: who leads, in which term, how far each one is.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::{Client, Node, Request};
use crate::clock::Clock;
use crate::readiness::Look;

/// How often it is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How often each node is asked whether it is ready.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Something did not come to be in time.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {} s: {last}", .within.as_secs())]
pub struct NotInTime {
    /// What was waited for.
    pub what: String,
    /// For so long.
    pub within: Duration,
    /// What was seen last.
    pub last: String,
}

/// Asks until the answer is `Ok`, or too late.
pub async fn eventually<T, F, A>(what: &str, within: Duration, mut ask: F) -> Result<T, NotInTime>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, String>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(last) if began.elapsed() > within => {
                return Err(NotInTime {
                    what: what.to_owned(),
                    within,
                    last,
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A node's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its number in the cluster.
    pub id: u64,
    /// `leader`, `follower` and so on.
    pub role: String,
    /// The leader that it knows.
    pub leader: Option<String>,
    /// Raft's.
    pub term: u64,
    /// Its state's fingerprint: applied index, revision, hash.
    pub state: (u64, u64, String),
}

impl Status {
    /// From `/v2/cluster`.
    pub fn parse(shown: &Value) -> Option<Status> {
        Some(Status {
            id: shown["node"]["id"].as_u64()?,
            role: shown["node"]["role"].as_str()?.to_owned(),
            leader: shown["leader"]["name"].as_str().map(str::to_owned),
            term: shown["term"].as_u64()?,
            state: (
                shown["state"]["applied_index"].as_u64()?,
                shown["state"]["revision"].as_u64()?,
                shown["state"]["hash"].as_str()?.to_owned(),
            ),
        })
    }
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Position of the node.
    pub position: usize,
    /// Since this term.
    pub term: u64,
}

/// Asks the nodes.
#[derive(Clone)]
pub struct Observer {
    /// All of them.
    pub nodes: Arc<Vec<Node>>,
    client: Client,
}

impl Observer {
    /// With a client of its own: the load's connections are none of its business.
    pub fn new(nodes: Arc<Vec<Node>>) -> Result<Observer, reqwest::Error> {
        let client = Client::with_deadline(Some(ANSWER))?;
        Ok(Observer { nodes, client })
    }

    /// One node's word.
    pub async fn status(&self, position: usize) -> Result<Status, String> {
        let shown = self.client.get_json(&self.nodes[position], "/v2/cluster").await?;
        Status::parse(&shown).ok_or_else(|| format!("{} says {shown}", self.nodes[position].name))
    }

    /// Everybody's word.
    pub async fn statuses(&self) -> Vec<Result<Status, String>> {
        futures::future::join_all((0..self.nodes.len()).map(|position| self.status(position))).await
    }

    /// Whether a node says ready; where not, what it says.
    pub async fn ready(&self, position: usize) -> Result<(), String> {
        let node = &self.nodes[position];
        match self.client.ask(node, &Request::get("/readyz")).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!(
                "{}: {}",
                node.name,
                String::from_utf8_lossy(&answer.body).trim()
            )),
            Err(error) => Err(format!("{}: {error}", node.name)),
        }
    }

    /// Waits until all nodes are ready and name the same leader in the same term.
    pub async fn settled(&self, within: Duration) -> Result<Leader, NotInTime> {
        eventually("all nodes ready under one leader", within, || async {
            for position in 0..self.nodes.len() {
                self.ready(position).await?;
            }
            let statuses: Vec<Status> = self.statuses().await.into_iter().collect::<Result<_, String>>()?;
            agreed(&statuses, &self.nodes).ok_or_else(|| format!("{statuses:?}"))
        })
        .await
    }

    /// Waits until a node leads in a later term than `before`, by its own word.
    pub async fn another_leader(&self, before: Leader, within: Duration) -> Result<Leader, NotInTime> {
        eventually("another leader", within, || async {
            let statuses = self.statuses().await;
            let leads = statuses.iter().enumerate().filter_map(|(position, status)| {
                let status = status.as_ref().ok()?;
                (status.role == "leader" && status.term > before.term).then_some(Leader {
                    position,
                    term: status.term,
                })
            });
            leads
                .max_by_key(|leader| leader.term)
                .ok_or_else(|| format!("{statuses:?}"))
        })
        .await
    }

    /// Waits until all nodes have applied the same and hold the same: the revision. Holding something else at the same point is an error at once.
    pub async fn same_state(&self, within: Duration) -> Result<u64, NotInTime> {
        eventually("all nodes with one state", within, || async {
            let statuses: Vec<Status> = self.statuses().await.into_iter().collect::<Result<_, String>>()?;
            let states: Vec<_> = statuses.into_iter().map(|status| status.state).collect();
            match states.first() {
                Some(first) if states.iter().all(|state| state == first) => Ok(first.1),
                _ => Err(format!("{states:?}")),
            }
        })
        .await
    }
}

fn agreed(statuses: &[Status], nodes: &[Node]) -> Option<Leader> {
    let first = statuses.first()?;
    let one = statuses
        .iter()
        .all(|status| status.leader == first.leader && status.term == first.term);
    let position = nodes
        .iter()
        .position(|node| Some(&node.name) == first.leader.as_ref())?;
    let leads = statuses.get(position)?.role == "leader";
    (one && leads).then_some(Leader {
        position,
        term: first.term,
    })
}

/// Asks every node all the time whether it is ready.
pub struct Lookout {
    looks: Arc<Vec<Mutex<Vec<Look>>>>,
    /// Ends with it.
    _looking: JoinSet<()>,
}

impl Lookout {
    /// Begins at once.
    pub fn begin(observer: &Observer, clock: Clock) -> Lookout {
        let looks: Arc<Vec<Mutex<Vec<Look>>>> = Arc::new(observer.nodes.iter().map(|_| Mutex::default()).collect());
        let mut looking = JoinSet::new();
        for position in 0..observer.nodes.len() {
            let (looks, observer) = (Arc::clone(&looks), observer.clone());
            looking.spawn(async move {
                let mut pace = tokio::time::interval(LOOK_INTERVAL);
                loop {
                    pace.tick().await;
                    let began_ns = clock.now_ns();
                    let ready = observer.ready(position).await.is_ok();
                    looks[position]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Look {
                            began_ns,
                            ended_ns: clock.now_ns(),
                            ready,
                        });
                }
            });
        }
        Lookout {
            looks,
            _looking: looking,
        }
    }

    /// All that was seen of a node.
    pub fn looks(&self, position: usize) -> Vec<Look> {
        self.looks[position]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(role: &str, leader: Option<&str>, term: u64) -> Status {
        Status {
            id: 1,
            role: role.to_owned(),
            leader: leader.map(str::to_owned),
            term,
            state: (1, 1, String::new()),
        }
    }

    /// One leader, one term, and the leader says so itself.
    #[test]
    fn agreement_is_of_all() {
        let node = |name: &str| Node {
            name: name.to_owned(),
            url: String::new(),
        };
        let nodes = [node("a"), node("b")];
        let agree = |a, b| agreed(&[a, b], &nodes);
        let leader = Leader { position: 1, term: 3 };
        assert_eq!(
            agree(status("follower", Some("b"), 3), status("leader", Some("b"), 3)),
            Some(leader)
        );
        assert_eq!(
            agree(status("follower", Some("b"), 2), status("leader", Some("b"), 3)),
            None
        );
        assert_eq!(
            agree(status("follower", Some("a"), 3), status("leader", Some("b"), 3)),
            None
        );
        assert_eq!(
            agree(status("follower", Some("b"), 3), status("follower", Some("b"), 3)),
            None
        );
        assert_eq!(agree(status("follower", None, 3), status("follower", None, 3)), None);
    }

    /// What does not come is an error that says what was seen last.
    #[tokio::test]
    async fn waiting_ends() {
        let waited = eventually("a wonder", Duration::ZERO, || async {
            Err::<(), _>("nothing".to_owned())
        });
        let error = waited.await.expect_err("it never comes");
        assert_eq!(error.to_string(), "a wonder: not within 0 s: nothing");
    }
}
