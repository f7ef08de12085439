//! One node's membership in its cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blox_runtime::time::Instant;
use blox_runtime::{random, watch};
use blox_store::proto::{Command, Outcome};
use blox_store::{Progress, Store};
use bytes::Bytes;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use prost::Message;

use crate::clock::Clock;
use crate::config::RaftConfig;
use crate::disk::{DiskRoom, DiskStatus};
use crate::error::{ProposeError, ReadError, StartError, TransferError};
use crate::log::PREPARED_BYTES;
use crate::metrics;
use crate::node::{self, KnownLeader, Node};
use crate::propose::{Answer, COMMAND_BYTES_MAX, Origin, Refusal, Submitted};
use crate::read::{Asker, ReadIndex};
use crate::status::{Consistency, Glance, Leadership, ReadPoint, Status};

/// Between two tries while nobody leads, milliseconds.
const TRY_AGAIN_MS: std::ops::RangeInclusive<u64> = 10..=50;

/// A leader that is known and has not answered so many rounds of a read in a row cannot be reached from here: who asks is better served by
/// another node than by waiting for the deadline.
const SILENT_ROUNDS_MAX: u32 = 2;
/// A disk that stands still for a moment is waited for: a state that is no older than this is about to be as new as any.
const STALL_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether a state has become older than that.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One node's membership in its cluster. Cheap to clone; the node stops when the last clone is dropped, or by [`Consensus::shutdown`].
#[derive(Clone)]
pub struct Consensus {
    handle: Arc<Handle>,
}

struct Handle {
    node: Arc<Node>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.node.stop.cancel();
    }
}

impl Consensus {
    /// Opens the log, listens for peers and takes part; returns when it listens, before there is a leader. Consensus runs on threads of
    /// its own.
    pub async fn start(config: RaftConfig, store: Store, clock: Arc<dyn Clock>) -> Result<Consensus, StartError> {
        let node = node::start(config, store, clock).await?;
        Ok(Consensus {
            handle: Arc::new(Handle { node }),
        })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.handle.node
    }

    /// Has one command committed and applied; a follower forwards it to the leader once, or to the next one as well where an idempotency key
    /// makes it apply once however often it is written. Proposals that wait together travel as one entry. An error other than `Unknown` means that nothing was written.
    pub async fn propose(&self, command: Command, deadline: Duration) -> Result<Outcome, ProposeError> {
        self.submit(command, Origin::Caller, deadline).await
    }

    /// As [`Consensus::propose`], but only while this node leads in `term`: what leader duties use; never forwarded.
    pub async fn propose_as_leader(
        &self,
        term: u64,
        command: Command,
        deadline: Duration,
    ) -> Result<Outcome, ProposeError> {
        #[cfg(feature = "zoo")]
        if crate::zoo::is_without_fence() {
            return self.submit(command, Origin::Caller, deadline).await;
        }
        self.submit(command, Origin::Duty { term }, deadline).await
    }

    /// As [`Consensus::propose_as_leader`], for commands that are small and make room or open a session: they go on also where writes are
    /// refused for want of room on disk.
    pub async fn propose_upkeep(
        &self,
        term: u64,
        command: Command,
        deadline: Duration,
    ) -> Result<Outcome, ProposeError> {
        self.submit(command, Origin::Upkeep { term }, deadline).await
    }

    async fn submit(&self, command: Command, origin: Origin, deadline: Duration) -> Result<Outcome, ProposeError> {
        let counters = &self.node().counters;
        counters.proposals.fetch_add(1, Ordering::Relaxed);
        // Under an idempotency key it is applied once however often it is written.
        let repeatable = origin == Origin::Caller && command.idempotency.is_some();
        let result = self
            .submit_until(command.encode_to_vec().into(), origin, repeatable, deadline)
            .await;
        if result.is_err() {
            counters.proposals_failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn submit_until(
        &self,
        command: Bytes,
        origin: Origin,
        repeatable: bool,
        deadline: Duration,
    ) -> Result<Outcome, ProposeError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                bytes: command.len(),
                limit: COMMAND_BYTES_MAX,
            });
        }
        let began = Instant::now();
        let until = began + deadline;
        // Why a try before this one may have written it. Then no refusal of a later one says that nothing was written.
        let mut maybe_written: Option<String> = None;
        let refused = |maybe_written: Option<String>, error: ProposeError| match maybe_written {
            Some(cause) => ProposeError::Unknown {
                waited: began.elapsed(),
                cause,
            },
            None => error,
        };
        loop {
            if let Some(reason) = self.node().stopped.borrow().clone() {
                return Err(refused(maybe_written, ProposeError::Stopped(reason)));
            }
            let leader = self.node().known_leader();
            let refusal = match self.node().proposals.submit(command.clone(), origin, until) {
                Ok(submitted) => {
                    let answer = match repeatable {
                        true => self.answer_of(submitted, leader, until).await,
                        false => submitted.answer(until).await,
                    };
                    match answer {
                        Ok(outcome) => return Ok(outcome),
                        Err(refusal) => refusal,
                    }
                }
                Err(refusal) => refusal,
            };
            let error = match refusal {
                Refusal::TryAgain(reason) => {
                    tracing::debug!(reason, "a proposal is tried again");
                    if !self.has_lost_quorum() && self.pause(until).await {
                        continue;
                    }
                    ProposeError::NoLeader
                }
                Refusal::Unknown(cause) => {
                    maybe_written.get_or_insert(cause);
                    if repeatable && self.pause(until).await {
                        tracing::debug!("a proposal is repeated under its idempotency key");
                        continue;
                    }
                    ProposeError::NoLeader
                }
                Refusal::NotLeader => ProposeError::NotLeader,
                Refusal::Overloaded => ProposeError::Overloaded,
                Refusal::DiskFull(full) => ProposeError::DiskFull(full),
                Refusal::Stopped(reason) => ProposeError::Stopped(reason),
            };
            return Err(refused(maybe_written, error));
        }
    }

    /// Waits for the answer to a repeatable proposal. One that is under way to `leader` is not waited for once there is another; one that
    /// still waits here goes to the other by itself.
    async fn answer_of(&self, submitted: Submitted, leader: KnownLeader, until: Instant) -> Answer {
        let under_way = submitted.under_way();
        let answer = submitted.answer(until);
        tokio::pin!(answer);
        let mut leader = leader;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                next = self.node().next_leader(leader) => {
                    if under_way.is_so() {
                        return Err(Refusal::Unknown("the leader changed before it answered".to_owned()));
                    }
                    leader = next;
                }
            }
        }
    }

    /// A leader that has not heard of a quorum for as long as one round may take: another may lead by now, and who asks here is better served
    /// there.
    fn has_lost_quorum(&self) -> bool {
        #[cfg(feature = "zoo")]
        if crate::zoo::is_without_fence() {
            return false;
        }
        let leads = self.node().view.borrow().leading.is_some();
        let lost = |age| age >= self.node().round_deadline();
        leads && self.quorum_contact().is_some_and(lost)
    }

    /// Waits a moment, or until something changes in the cluster; `false`: the deadline would pass.
    pub(crate) async fn pause(&self, until: Instant) -> bool {
        let moment = Duration::from_millis(random::between(TRY_AGAIN_MS));
        if Instant::now() + moment >= until {
            return false;
        }
        let mut view = self.node().view.subscribe();
        tokio::select! {
            biased;
            () = blox_runtime::time::sleep(moment) => {}
            changed = view.changed() => {
                // The node keeps the sender: it never closes while this handle lives.
                debug_assert!(changed.is_ok());
            }
        }
        true
    }

    /// Waits until a read of the local store is as fresh as asked, and at least at `min_revision` (0: any). Reads that wait together
    /// share one read index.
    pub async fn read_barrier(
        &self,
        consistency: Consistency,
        min_revision: u64,
        deadline: Duration,
    ) -> Result<ReadPoint, ReadError> {
        self.node().counters.reads.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "zoo")]
        let consistency = crate::zoo::as_served(consistency);
        let until = Instant::now() + deadline;
        match consistency {
            Consistency::Linearizable => {
                let index = self.read_index(Asker::Caller, until, deadline).await?;
                let wanted = index.revision.max(min_revision);
                let began = Instant::now();
                tokio::select! {
                    biased;
                    point = self.wait_applied(index.position, min_revision, wanted, until, deadline) => point,
                    () = self.catches_up() => Err(ReadError::Behind {
                        current: self.node().store.progress().borrow().revision,
                        wanted,
                        waited: began.elapsed(),
                    }),
                }
            }
            Consistency::Stale { max } => {
                if self.node().engine.get().is_none() {
                    // Nothing it has is anybody's state.
                    let attention = self.node().attention.load().as_deref().cloned();
                    return Err(ReadError::NotMember(
                        attention.unwrap_or_else(|| "it is starting".to_owned()),
                    ));
                }
                if let Some(limit) = max {
                    let age = self.staleness();
                    if age.is_none_or(|age| age > limit) {
                        return Err(ReadError::TooStale { age, limit });
                    }
                }
                self.wait_applied(0, min_revision, min_revision, until, deadline).await
            }
        }
    }

    async fn read_index(&self, asker: Asker, until: Instant, waited: Duration) -> Result<ReadIndex, ReadError> {
        let mut silent_rounds = 0;
        loop {
            if let Some(reason) = self.node().stopped.borrow().clone() {
                return Err(ReadError::Stopped(reason));
            }
            match blox_runtime::time::timeout_at(until, self.node().reads.ask(asker)).await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(refusal)) => {
                    tracing::debug!(reason = refusal.why, "a read is tried again");
                    silent_rounds = if refusal.silent { silent_rounds + 1 } else { 0 };
                    let cut_off = self.has_lost_quorum() || silent_rounds >= SILENT_ROUNDS_MAX;
                    if asker == Asker::Peer || cut_off || !self.pause(until).await {
                        return Err(ReadError::NoLeader { waited });
                    }
                }
                Err(_) => return Err(ReadError::NoLeader { waited }),
            }
        }
    }

    /// Returns once this node is seen to be far behind: it has been asked for as long as a round may take, and its state has not been as new as any
    /// for longer than a disk stands still. It replays its log then, or installs a snapshot, for nobody knows how long: who reads is better
    /// served by another.
    async fn catches_up(&self) {
        let moment = self.node().round_deadline();
        blox_runtime::time::sleep(moment).await;
        while self.staleness().is_some_and(|age| age <= STALL_MAX.max(moment)) {
            blox_runtime::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn wait_applied(
        &self,
        position: u64,
        min_revision: u64,
        wanted: u64,
        until: Instant,
        waited: Duration,
    ) -> Result<ReadPoint, ReadError> {
        let reached = |progress: &Progress| progress.applied_index >= position && progress.revision >= min_revision;
        let mut progress = self.node().store.progress();
        let mut stopped = self.node().stopped.subscribe();
        let point = |progress: &Progress| ReadPoint {
            revision: progress.revision,
            applied_index: progress.applied_index,
        };
        let now = point(&progress.borrow());
        if reached(&progress.borrow()) {
            return Ok(now);
        }
        let result = tokio::select! {
            biased;
            found = blox_runtime::time::timeout_at(until, progress.wait_for(reached)) => match found {
                Ok(Ok(progress)) => Some(point(&progress)),
                Ok(Err(_)) | Err(_) => None,
            },
            reason = stopped.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone()).unwrap_or_default();
                return Err(ReadError::Stopped(reason));
            }
        };
        result.ok_or_else(|| ReadError::Behind {
            current: progress.borrow().revision,
            wanted,
            waited,
        })
    }

    /// Confirms with a quorum that this node leads in `term`, and returns when that was asked: what must precede calls to ECS.
    pub async fn confirm_leadership(&self, term: u64, deadline: Duration) -> Result<Instant, ReadError> {
        let asked = Instant::now();
        #[cfg(feature = "zoo")]
        if crate::zoo::is_without_fence() {
            return Ok(asked);
        }
        let index = self
            .read_index(Asker::Peer, Instant::now() + deadline, deadline)
            .await?;
        if index.local && index.term == term {
            return Ok(asked);
        }
        Err(ReadError::NoLeader {
            waited: asked.elapsed(),
        })
    }

    /// Whether a quorum has acknowledged this leader within `within`: cheap, asks nobody.
    pub fn has_recent_quorum(&self, within: Duration) -> bool {
        self.node().view.borrow().leading.is_some() && self.quorum_contact().is_some_and(|age| age <= within)
    }

    /// Time since a quorum last acknowledged this node as leader.
    fn quorum_contact(&self) -> Option<Duration> {
        let engine = self.node().engine.get()?;
        if self.node().view.borrow().voters == 1 {
            return Some(Duration::ZERO);
        }
        let acknowledged = engine.raft.data_metrics().borrow_watched().last_quorum_acked?;
        Some(acknowledged.elapsed())
    }

    /// Tells consensus how much room this node's disk has: a leader that knows of too little refuses writes before a disk is full.
    pub fn report_disk(&self, room: DiskRoom) {
        if self.node().engine.get().is_some() && room.free_bytes >= room.needed_bytes + PREPARED_BYTES {
            self.node().log.prepare();
        }
        self.node().disks.report(room);
        self.node().weigh_disks();
    }

    /// What this node knows of disks.
    pub fn disks(&self) -> DiskStatus {
        self.node().disks.status()
    }

    /// Bytes of log that a flush would write: they need room on disk a second time.
    pub fn unflushed_log_bytes(&self) -> u64 {
        self.node().log.counters.unflushed_bytes()
    }

    fn leader_contact(&self) -> Option<Duration> {
        if self.node().view.borrow().leading.is_some() {
            return self.quorum_contact();
        }
        self.node().contact.age()
    }

    /// How old what this node has applied may be. A leader applies what it acknowledges, so for it a quorum's word is enough.
    fn staleness(&self) -> Option<Duration> {
        if self.node().view.borrow().leading.is_some() {
            return self.quorum_contact();
        }
        let applied = self.node().store.progress().borrow().applied_index;
        self.node().contact.age_of(applied)
    }

    /// Told whenever this node starts or stops to lead, also at shutdown.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.node().leadership.subscribe()
    }

    /// What this node knows of its cluster, now.
    pub fn status(&self) -> Status {
        Status::of(self.node(), self.leader_contact(), self.staleness())
    }

    /// The part of it that every answer says.
    pub fn glance(&self) -> Glance {
        Glance::of(self.node(), self.leader_contact())
    }

    /// The replicated clock as this node would stamp it now, milliseconds (exact on a leader, the last applied value elsewhere).
    pub fn elapsed_ms(&self) -> u64 {
        let applied = self.node().store.progress().borrow().elapsed_ms;
        let leading = self.node().view.borrow().leading;
        leading.map_or(applied, |leading| {
            leading.elapsed_ms(self.node().clock.as_ref()).max(applied)
        })
    }

    /// Hands leadership to the voter that is furthest along; returns once another node leads.
    pub async fn transfer_leadership(&self, deadline: Duration) -> Result<(), TransferError> {
        hand_over(self.node(), deadline).await
    }

    /// Resolves once consensus has stopped, with the reason; a storage error ends it, and must end the process.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.node().stopped.subscribe();
        let reason = stopped.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_else(|| "it is gone".to_owned())
    }

    /// Stops taking part, flushes and closes the log; returns when its threads have ended.
    pub async fn shutdown(&self) {
        self.node().stop.cancel();
        let mut finished = self.node().finished.subscribe();
        if finished.wait_for(|finished| *finished).await.is_err() {
            tracing::warn!("consensus was gone before it was shut down");
        }
    }

    /// Counters and gauges of the log and the peers, as (name, value) pairs for the metrics page.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        metrics::read(self.node())
    }
}

/// Hands leadership to the voter that is furthest along; returns once another node leads.
pub(crate) async fn hand_over(node: &Node, deadline: Duration) -> Result<(), TransferError> {
    let engine = match node.engine.get() {
        Some(engine) if node.view.borrow().leading.is_some() => engine,
        _ => return Err(TransferError::NotLeader),
    };
    let me = engine.identity.node_id;
    let candidate = {
        let metrics = engine.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        metrics
            .replication
            .iter()
            .flatten()
            .filter(|(id, matched)| **id != me && voters.contains(id) && matched.is_some())
            .max_by_key(|(_, matched)| **matched)
            .map(|(id, _)| *id)
    };
    let candidate = candidate.ok_or(TransferError::NoCandidate)?;
    engine
        .raft
        .trigger()
        .transfer_leader(candidate)
        .await
        .map_err(|_| TransferError::NotLeader)?;
    let mut view = node.view.subscribe();
    let another_leads = view.wait_for(|view| view.leader.as_ref().is_some_and(|(id, _)| *id != me));
    match blox_runtime::time::timeout(deadline, another_leads).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(TransferError::TimedOut(deadline)),
    }
}
