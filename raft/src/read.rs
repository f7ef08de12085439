//! Read indexes: all reads that wait share one round. A read that comes while a round is under way joins the next: the round's answer may
//! be older than the read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::ReadPolicy;
use tokio::sync::{mpsc, oneshot};

use crate::node::Node;
use crate::types::position;

/// Reads that wait for a round; beyond, callers wait for room.
const WAITING_MAX: usize = 65_536;

/// Up to where to apply before a linearizable read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadIndex {
    /// The leader's term.
    pub term: u64,
    /// Log position.
    pub position: u64,
    /// The leader's revision once a quorum had confirmed it: every acknowledged write is in it.
    pub revision: u64,
    /// Whether this node was the leader.
    pub local: bool,
}

/// No leader confirmed the round.
#[derive(Clone, Debug)]
pub(crate) struct NotConfirmed {
    pub why: String,
    /// The leader that was asked, or its quorum, said nothing for a whole round.
    pub silent: bool,
}

impl NotConfirmed {
    pub(crate) fn because(why: impl Into<String>) -> NotConfirmed {
        NotConfirmed {
            why: why.into(),
            silent: false,
        }
    }

    pub(crate) fn silence(why: impl Into<String>) -> NotConfirmed {
        NotConfirmed {
            silent: true,
            ..NotConfirmed::because(why)
        }
    }
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A caller of this node.
    Caller,
    /// A follower, or a leader's duty: only this node as leader may answer.
    Peer,
}

struct Waiting {
    asker: Asker,
    answer: oneshot::Sender<Result<ReadIndex, NotConfirmed>>,
}

/// Where reads wait for the next round.
pub(crate) struct ReadQueue {
    sender: mpsc::Sender<Waiting>,
}

/// The far end of a [`ReadQueue`].
pub(crate) struct ReadRounds {
    receiver: mpsc::Receiver<Waiting>,
}

/// A queue for reads and its far end.
pub(crate) fn queue() -> (ReadQueue, ReadRounds) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (ReadQueue { sender }, ReadRounds { receiver })
}

impl ReadQueue {
    /// Joins the next round. Each round has its own deadline, so this ends.
    pub(crate) async fn ask(&self, asker: Asker) -> Result<ReadIndex, NotConfirmed> {
        let ended = || NotConfirmed::because("consensus has ended");
        let (answer, receiver) = oneshot::channel();
        self.sender.send(Waiting { asker, answer }).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?
    }
}

impl ReadRounds {
    /// Runs rounds, one after another, while somebody waits.
    pub(crate) async fn run(mut self, node: Arc<Node>) {
        while let Some(first) = self.receiver.recv().await {
            node.settled().await;
            let mut waiting = vec![first];
            while let Ok(next) = self.receiver.try_recv() {
                waiting.push(next);
            }
            let leads = node.view.borrow().leading.is_some();
            let callers_only = !leads;
            let mut joined = Vec::with_capacity(waiting.len());
            for waiting in waiting {
                if callers_only && waiting.asker == Asker::Peer {
                    // Whoever asked may have gone.
                    drop(waiting.answer.send(Err(NotConfirmed::because("not the leader"))));
                } else {
                    joined.push(waiting);
                }
            }
            if joined.is_empty() {
                continue;
            }
            let leader = node.known_leader();
            let round = async {
                if leads {
                    confirm(&node).await
                } else {
                    ask_leader(&node).await
                }
            };
            let result = tokio::select! {
                biased;
                result = round => result,
                // The one that was asked may never answer: who waits asks the next.
                _ = node.next_leader(leader) => Err(NotConfirmed::because("the leader changed")),
            };
            for waiting in joined {
                drop(waiting.answer.send(result.clone()));
            }
        }
    }
}

/// Has a quorum confirm that this node leads.
async fn confirm(node: &Node) -> Result<ReadIndex, NotConfirmed> {
    let engine = node
        .engine
        .get()
        .ok_or_else(|| NotConfirmed::because("this node is not a member yet"))?;
    node.counters.read_rounds.fetch_add(1, Ordering::Relaxed);
    let round = engine.raft.get_read_linearizer(ReadPolicy::ReadIndex);
    let linearizer = blox_runtime::time::timeout(node.round_deadline(), round)
        .await
        .map_err(|_| NotConfirmed::silence("no quorum answered in time"))?
        .map_err(|error| NotConfirmed::because(error.to_string()))?;
    let read = linearizer.read_log_id().log_id();
    let revision = node.store.progress().borrow().revision;
    Ok(ReadIndex {
        term: read.leader_id.term,
        position: position(Some(read)),
        revision,
        local: true,
    })
}

async fn ask_leader(node: &Node) -> Result<ReadIndex, NotConfirmed> {
    let leader = {
        let view = node.view.borrow();
        view.leader.clone().filter(|(id, _)| *id != view.node_id)
    };
    let (Some((id, info)), Some(engine)) = (leader, node.engine.get()) else {
        return Err(NotConfirmed::because("no leader is known"));
    };
    let point = engine.requests.read_index((id, &info), node.round_deadline()).await?;
    Ok(ReadIndex {
        term: point.term,
        position: point.position,
        revision: point.revision,
        local: false,
    })
}
