//! One node, as its tasks share it.

mod contact;
mod counters;
mod disks;
mod housekeeping;
mod levels;
mod life;
mod observer;
mod view;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use blox_runtime::watch;
use blox_store::Store;
use tokio_util::sync::CancellationToken;

pub(crate) use contact::{Contact, known_committed};
pub(crate) use counters::Counters;
pub(crate) use life::start;
pub(crate) use view::{KnownLeader, Leading, View};

use crate::bootstrap::{Outsider, Refused};
use crate::clock::Clock;
use crate::compare::Alarm;
use crate::config::RaftConfig;
use crate::disk::Disks;
use crate::engine::Engine;
use crate::identity::Identity;
use crate::log::LogHandle;
use crate::membership::Candidates;
use crate::net::Channels;
use crate::propose::ProposalQueue;
use crate::read::ReadQueue;
use crate::status::{Leadership, Role};
use crate::types::NodeInfo;

/// How long an elected leader's first entry is waited for by those who propose and read: with a quorum it takes milliseconds.
const SETTLING_MAX: Duration = Duration::from_millis(500);

/// One node. Lives as long as its last user; its tasks end with `stop`.
pub(crate) struct Node {
    pub config: RaftConfig,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub identity: ArcSwap<Identity>,
    /// Set once the node is a member.
    pub engine: OnceLock<Arc<Engine>>,
    pub log: LogHandle,
    pub channels: Channels,
    /// Another initial member that was told of other members: set by its question.
    pub disagreement: OnceLock<Refused>,
    /// What a call of a cluster's member has told this node before it was one itself.
    pub called: OnceLock<Outsider>,
    /// Random, new with each start: by it a node knows itself from a copy of it.
    pub process: String,
    /// Nodes that asked to be taken in lately.
    pub candidates: Candidates,
    /// What keeps this node from taking part, and what to do; none known: nothing.
    pub attention: ArcSwapOption<String>,
    /// One change of the members at a time, as far as this node can see to that.
    pub changing: tokio::sync::Mutex<()>,
    pub proposals: ProposalQueue,
    pub reads: ReadQueue,
    pub view: watch::Sender<View>,
    /// The last term as whose leader this node had nothing committed in time, see [`Node::settled`].
    pub unsettled_term: AtomicU64,
    pub leadership: watch::Sender<Leadership>,
    pub contact: Contact,
    pub disks: Arc<Disks>,
    pub counters: Counters,
    /// Whose state differs, as far as this node was told.
    pub alarm: ArcSwap<Alarm>,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Set once consensus has ended: why.
    pub stopped: watch::Sender<Option<String>>,
    /// Set once its threads have ended and its files are closed.
    pub finished: watch::Sender<bool>,
}

impl Node {
    /// What the membership should know of this node.
    pub(crate) fn info(&self) -> NodeInfo {
        NodeInfo {
            name: self.config.name.clone(),
            peer_address: self.config.peer_advertise.clone(),
            http_address: self.config.http_advertise.clone(),
            incarnation: self.identity.load().incarnation().to_owned(),
        }
    }

    /// The leader of the moment.
    pub(crate) fn known_leader(&self) -> KnownLeader {
        KnownLeader::of(&self.view.borrow())
    }

    /// Waits until a leader is known, and it is another one, or in another term, than `before`; the new one.
    pub(crate) async fn next_leader(&self, before: KnownLeader) -> KnownLeader {
        let mut view = self.view.subscribe();
        let next = |view: &View| view.leader.is_some() && KnownLeader::of(view) != before;
        let found = view.wait_for(next).await.map(|view| KnownLeader::of(&view));
        // The node keeps the sender: it never closes while somebody waits here.
        found.unwrap_or(before)
    }

    /// Waits while this node is elected and has yet to apply the first entry of its term: who comes meanwhile would be sent away for a moment that
    /// is shorter than the pause it makes.
    pub(crate) async fn settled(&self) {
        let is_settled = |view: &View| view.role != Role::Leader || view.leading.is_some();
        let term = {
            let view = self.view.borrow();
            // Once a term: without a quorum nothing would come of it.
            if is_settled(&view) || view.term == self.unsettled_term.load(Ordering::Relaxed) {
                return;
            }
            view.term
        };
        let mut view = self.view.subscribe();
        let settled = blox_runtime::time::timeout(SETTLING_MAX, view.wait_for(is_settled));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            settled = settled => if settled.is_err() {
                self.unsettled_term.fetch_max(term, Ordering::Relaxed);
                tracing::debug!(term, "elected, and its first entry is not committed yet");
            }
        }
    }

    /// How long one round of a read index may take: a leader that has not heard of a quorum for so long has lost it.
    pub(crate) fn round_deadline(&self) -> Duration {
        self.config.timing.election_max * 2
    }

    /// Says why consensus ends, once; nobody leads from here on.
    pub(crate) fn end(&self, reason: &str) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(reason.to_owned());
            }
            first
        });
        self.follow();
        self.stop.cancel();
    }

    /// This node does not lead.
    fn follow(&self) {
        self.view.send_if_modified(|view| view.leading.take().is_some());
        self.leadership.send_if_modified(|leadership| {
            let led = *leadership != Leadership::Follower;
            *leadership = Leadership::Follower;
            led
        });
    }
}

/// A node that knows of nobody.
fn nobody() -> View {
    View {
        node_id: 0,
        role: Role::Uninitialised,
        term: 0,
        leader: None,
        voters: 0,
        leading: None,
    }
}
