//! What only the leader does: observing ECS, scheduling daemons, keeping the history within its limits. All of it under one session.
//!
//! A session begins with the command that opens it, and every command of the duties carries its number: once another node has opened the
//! next one, whatever this one still sends is refused. The duties end when leadership does, and also when no quorum has answered for a
//! while: a leader that is cut off must not go on reading the queue.

mod maintenance;

use std::sync::Arc;
use std::time::Duration;

use blox_ecs::{DutyContext, run_source};
use blox_raft::{Clock, Consensus, Leadership, ProposeError};
use blox_scheduler::executor::proposer::Leader;
use blox_scheduler::executor::timer::TokioTimer;
use blox_store::proto::{Command, OpenSession, command, outcome};
use blox_store::{HistoryLimits, Store};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::adapters::launcher::EcsLauncher;
use crate::adapters::sources::Sources;
use crate::logging::Position;

/// Who the duties are in the log.
pub const ACTOR: &str = "node";
/// How long the command that opens a session may take; after it, it is tried again.
const OPEN_MS_MAX: u64 = 5_000;
/// Rest between two attempts to open a session.
const OPEN_RETRY_MS: u64 = 100;
/// How often the quorum is looked at.
const QUORUM_CHECK_MS: u64 = 200;
/// Without a quorum's answer for so many election time-outs, the duties stop.
const QUORUM_ELECTIONS_MAX: u32 = 3;
/// How long the duties may take to end before they are cut off where they wait.
const STOP_MS_MAX: u64 = 3_000;

/// What the duties of this node work with.
pub struct Duties {
    /// Leadership and proposals.
    pub consensus: Consensus,
    /// The state.
    pub store: Store,
    /// Where ECS is observed and called.
    pub sources: Arc<Sources>,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// How much history is kept.
    pub limits: HistoryLimits,
    /// Between two rounds of maintenance.
    pub maintenance_pause: Duration,
    /// Longest election time-out.
    pub election_max: Duration,
    /// What log lines say.
    pub position: Position,
    /// What the scheduler did, for the metrics page.
    pub scheduler_metrics: Arc<blox_scheduler::Metrics>,
}

/// One time as leader.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The term this node leads in.
    pub term: u64,
    /// The session's number: the fencing epoch.
    pub id: u64,
}

impl Duties {
    /// Follows leadership until `stopping`; returns once no duty runs any more. An error: this node cannot go on, and its process must end.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), NodeFailed> {
        let duties = Arc::new(self);
        let mut leadership = duties.consensus.leadership();
        loop {
            let current = *leadership.borrow_and_update();
            if let Leadership::Leader { term } = current {
                duties.lead(term, &leadership, &stopping).await?;
            }
            let leads = current != Leadership::Follower;
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                changed = leadership.changed() => if changed.is_err() {
                    // Consensus has stopped, and says why itself: that ends the process.
                    stopping.cancelled().await;
                    return Ok(());
                },
                // Still leader, but the session ended for want of a quorum or of a duty: open another one.
                () = tokio::time::sleep(Duration::from_millis(OPEN_RETRY_MS)), if leads => {}
            }
        }
    }

    /// One time as leader: a session, its duties, their end.
    async fn lead(
        self: &Arc<Self>,
        term: u64,
        leadership: &watch::Receiver<Leadership>,
        stopping: &CancellationToken,
    ) -> Result<(), NodeFailed> {
        self.position.set_term(term);
        let session = tokio::select! {
            session = self.open_session(term) => session,
            () = self.leadership_over(term, leadership.clone()) => None,
            () = stopping.cancelled() => None,
        };
        let Some(session) = session else { return Ok(()) };
        self.position.set_session(session.id);
        tracing::info!("leads: the duties begin");
        let ending = CancellationToken::new();
        let mut running = self.begin(session, &ending);
        let why = tokio::select! {
            () = self.leadership_over(term, leadership.clone()) => Ok("leadership is over"),
            () = stopping.cancelled() => Ok("the node stops"),
            ended = running.join_next() => note_end(ended).map(|()| "a duty ended"),
        };
        ending.cancel();
        let ended = self.end(running).await;
        tracing::info!(why = *why.as_ref().unwrap_or(&"a duty failed"), "the duties have ended");
        self.position.set_session(0);
        why.and(ended)
    }

    /// Opens the session of this term; `None` when this node no longer leads in it.
    async fn open_session(&self, term: u64) -> Option<Session> {
        fail::fail_point!("node::before-open-session");
        loop {
            let open = OpenSession {
                node: self.position.node().to_owned(),
                term,
            };
            let command = Command {
                actor: ACTOR.to_owned(),
                cause: format!("{} leads in term {term}", self.position.node()),
                operation: Some(command::Operation::OpenSession(open)),
                ..Command::default()
            };
            match self
                .consensus
                .propose_upkeep(term, command, Duration::from_millis(OPEN_MS_MAX))
                .await
            {
                Ok(outcome) => match outcome.result {
                    Some(outcome::Result::SessionOpened(opened)) => {
                        fail::fail_point!("node::after-open-session");
                        return Some(Session {
                            term,
                            id: opened.session,
                        });
                    }
                    other => {
                        tracing::error!(outcome = ?other, "the session was not opened");
                        return None;
                    }
                },
                Err(ProposeError::NotLeader | ProposeError::Stopped(_)) => return None,
                Err(error) => {
                    tracing::warn!(cause = %error, "the session is not open yet; trying again");
                    tokio::time::sleep(Duration::from_millis(OPEN_RETRY_MS)).await;
                }
            }
        }
    }

    /// Starts every duty under one token.
    fn begin(self: &Arc<Self>, session: Session, ending: &CancellationToken) -> Running {
        let mut running = JoinSet::new();
        for source in self.sources.all() {
            let context = DutyContext {
                consensus: self.consensus.clone(),
                store: self.store.clone(),
                session: session.id,
                term: session.term,
                cancel: ending.clone(),
                clock: Arc::clone(&self.clock),
            };
            running.spawn(observe(Arc::clone(source), context));
        }
        running.spawn(schedule(self.scheduler_context(session, ending)));
        let (duties, ending) = (Arc::clone(self), ending.clone());
        running.spawn(async move { maintenance::run(&duties, session, ending).await });
        running
    }

    fn scheduler_context(&self, session: Session, ending: &CancellationToken) -> blox_scheduler::Context {
        blox_scheduler::Context {
            surroundings: blox_scheduler::Surroundings {
                proposer: Arc::new(Leader::new(self.consensus.clone(), self.store.clone(), session.term)),
                launcher: Arc::new(EcsLauncher(Arc::clone(&self.sources))),
                timer: Arc::new(TokioTimer),
                new_token: Arc::new(|| uuid::Uuid::new_v4().to_string()),
                metrics: Arc::clone(&self.scheduler_metrics),
            },
            session: session.id,
            limits: blox_scheduler::Limits::in_force(),
            cancel: ending.clone(),
        }
    }

    /// Waits for the duties to end, and cuts off those that do not: whatever they still propose is refused by its session.
    async fn end(&self, mut running: Running) -> Result<(), NodeFailed> {
        let all_ended = async {
            while let Some(ended) = running.join_next().await {
                note_end(Some(ended))?;
            }
            Ok(())
        };
        match tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), all_ended).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(duties = running.len(), "duties did not end in time and are cut off");
                running.shutdown().await;
                Ok(())
            }
        }
    }

    /// Resolves when this node no longer leads in `term`, or no quorum has answered for a while.
    async fn leadership_over(&self, term: u64, mut leadership: watch::Receiver<Leadership>) {
        let patience = self.election_max * QUORUM_ELECTIONS_MAX;
        let leads = Leadership::Leader { term };
        #[cfg(feature = "zoo")]
        crate::zoo::outlive(term, leadership.clone()).await;
        loop {
            let over = leadership.wait_for(|now| *now != leads);
            if tokio::time::timeout(Duration::from_millis(QUORUM_CHECK_MS), over)
                .await
                .is_ok()
            {
                return;
            }
            if !self.consensus.has_recent_quorum(patience) {
                tracing::warn!("no quorum has answered lately: the duties stop");
                return;
            }
        }
    }
}

/// The running duties, each with how it ended.
type Running = JoinSet<Result<(), NodeFailed>>;

/// The state cannot be read, or consensus has stopped: the process must end.
#[derive(Debug, thiserror::Error)]
#[error("{duty}: this node cannot go on: {cause}")]
pub struct NodeFailed {
    duty: &'static str,
    cause: String,
}

async fn observe(source: Arc<blox_ecs::Source>, context: DutyContext) -> Result<(), NodeFailed> {
    match run_source(source, context).await {
        blox_ecs::DutyEnd::Cancelled | blox_ecs::DutyEnd::SessionOver(_) => Ok(()),
        blox_ecs::DutyEnd::NodeFailed(cause) => Err(NodeFailed {
            duty: "feed and reconcile",
            cause,
        }),
    }
}

async fn schedule(context: blox_scheduler::Context) -> Result<(), NodeFailed> {
    match blox_scheduler::run(context).await {
        blox_scheduler::DutyEnd::Cancelled | blox_scheduler::DutyEnd::SessionOver(_) => Ok(()),
        blox_scheduler::DutyEnd::Storage(error) => Err(NodeFailed {
            duty: "scheduler",
            cause: error.to_string(),
        }),
    }
}

fn note_end(ended: Option<Result<Result<(), NodeFailed>, JoinError>>) -> Result<(), NodeFailed> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_cancelled() => Ok(()),
        // A panic has aborted the process already.
        Some(Err(error)) => Err(NodeFailed {
            duty: "a leader duty",
            cause: error.to_string(),
        }),
        None => Ok(()),
    }
}
