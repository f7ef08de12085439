//! What the leader does besides, as `node/src/duties` has it done: a session, and under it the real feed, reconcile and scheduler.

use std::sync::Arc;
use std::time::Duration;

use blox_ecs::{DutyContext, EcsMetrics, RECONCILE_PAUSE_MS_DEFAULT, Source, SourceConfig, run_source};
use blox_raft::{Clock, Consensus, Leadership, ProposeError, Timing};
use blox_runtime::random::{between, id};
use blox_runtime::time::{sleep, timeout};
use blox_runtime::{JoinHandle, watch};
use blox_scheduler::executor::proposer::Leader;
use blox_scheduler::executor::timer::TokioTimer;
use blox_store::Store;
use blox_store::proto::{Command, Compact, OpenSession, command, outcome};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::fleet::wire::NodeEnd;
use crate::fleet::{Fleet, SOURCE};
use crate::launcher::OneSource;
use crate::trace::Trace;

/// From an intent to the latest moment of its call, milliseconds; a node: 20 s.
const CALL_DEADLINE_MS: u64 = 2_000;
/// From a call's deadline until an empty look-up is believed, milliseconds; a node: 60 s.
pub const CLOSE_AFTER_DEADLINE_MS: u64 = 9_000;
/// Between two look-ups of one launch, milliseconds; a node: 5 s.
const LOOK_UP_GAP_MS: u64 = 1_000;
/// From a call's deadline until an intent without an outcome is taken for unknown, milliseconds; a node: 10 s.
const ABANDONED_AFTER_MS: u64 = 1_000;
/// A task that ran so long did not fail, milliseconds; a node: 60 s.
const HEALTHY_RUN_MS: u64 = 1_500;
/// How old a leader check may be when a call leaves, milliseconds: as in a node.
pub const LEADER_CHECK_AGE_MS_MAX: u64 = 1_000;
/// Reconcile goes on after this in some runs, milliseconds; in the others a session sees one pass, and the feed must bring all else.
const RECONCILE_PAUSE_MS: u64 = 1_500;
/// As in `node/src/duties`.
const OPEN_DEADLINE: Duration = Duration::from_millis(5_000);
const OPEN_RETRY: Duration = Duration::from_millis(100);
const QUORUM_CHECK: Duration = Duration::from_millis(200);
const QUORUM_ELECTIONS_MAX: u32 = 3;
const STOP_MAX: Duration = Duration::from_millis(3_000);
/// History is compacted so often, milliseconds, ...
const COMPACT_MS: std::ops::RangeInclusive<u64> = 400..=3_000;
/// ... up to so many revisions before the head: whoever follows and falls behind must begin again.
const COMPACT_KEEPS_REVISIONS: std::ops::RangeInclusive<u64> = 0..=40;
const COMPACT_DEADLINE: Duration = Duration::from_millis(1_000);

/// The launch protocol's waits for this process, as tests with real processes set them: the store and the scheduler must agree.
pub fn shorten_waits() {
    let points = [
        ("launch::call-deadline-ms", CALL_DEADLINE_MS),
        ("launch::close-after-deadline-ms", CLOSE_AFTER_DEADLINE_MS),
        ("launch::look-up-gap-ms", LOOK_UP_GAP_MS),
    ];
    for (point, milliseconds) in points {
        fail::cfg(point, &format!("return({milliseconds})")).expect("an action");
    }
}

/// The scheduler's times in every run.
pub fn limits() -> blox_scheduler::Limits {
    blox_scheduler::Limits {
        abandoned_after_ms: ABANDONED_AFTER_MS,
        healthy_run_ms: HEALTHY_RUN_MS,
        leader_check_age_ms: LEADER_CHECK_AGE_MS_MAX,
        ..blox_scheduler::Limits::in_force()
    }
}

/// Between two reconcile passes, drawn for a run.
pub fn draw_reconcile_pause_ms() -> u64 {
    match between(0..=1) {
        0 => RECONCILE_PAUSE_MS,
        _ => RECONCILE_PAUSE_MS_DEFAULT,
    }
}

/// What the duties of one process work with.
pub struct Duties {
    node: &'static str,
    trace: Arc<Trace>,
    consensus: Consensus,
    store: Store,
    clock: Arc<dyn Clock>,
    source: Arc<Source>,
    scheduler_metrics: Arc<blox_scheduler::Metrics>,
}

/// One time as leader.
#[derive(Clone, Copy)]
struct Session {
    term: u64,
    id: u64,
}

/// Why this node cannot go on.
type NodeFailed = String;

type Running = FuturesUnordered<JoinHandle<Result<(), NodeFailed>>>;

impl Duties {
    /// Of a process that has just begun.
    pub fn new(
        node: &'static str,
        consensus: Consensus,
        store: Store,
        clock: Arc<dyn Clock>,
        fleet: Arc<Fleet>,
        reconcile_pause_ms: u64,
    ) -> Duties {
        let config = SourceConfig {
            name: SOURCE.to_owned(),
            region: "us-east-1".to_owned(),
            role_arn: None,
            queue: Some("events".to_owned()),
            clusters: Vec::new(),
            reconcile_pause_ms,
        };
        let trace = fleet.trace.clone();
        let end = Arc::new(NodeEnd::new(node, fleet));
        let source = Source::with_parts(config, end.clone(), Some(end), clock.clone(), EcsMetrics::new());
        Duties {
            node,
            trace,
            consensus,
            store,
            clock,
            source: Arc::new(source),
            scheduler_metrics: Arc::default(),
        }
    }

    /// Follows leadership; comes back only if this node cannot go on.
    pub async fn run(self) -> NodeFailed {
        let duties = Arc::new(self);
        let mut leadership = duties.consensus.leadership();
        loop {
            let current = *leadership.borrow_and_update();
            if let Leadership::Leader { term } = current
                && let Err(why) = duties.lead(term, &leadership).await
            {
                return why;
            }
            let leads = current != Leadership::Follower;
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() {
                    // Consensus has stopped, and says why itself.
                    return std::future::pending().await;
                },
                () = sleep(OPEN_RETRY), if leads => {}
            }
        }
    }

    /// One time as leader: a session, its duties, their end.
    async fn lead(self: &Arc<Self>, term: u64, leadership: &watch::Receiver<Leadership>) -> Result<(), NodeFailed> {
        let session = tokio::select! {
            biased;
            session = self.open_session(term) => session,
            () = self.leadership_over(term, leadership.clone()) => None,
        };
        let Some(session) = session else { return Ok(()) };
        let (node, id) = (self.node, session.id);
        self.trace.say(format_args!("{node} begins its duties in session {id}"));
        let ending = CancellationToken::new();
        let mut running = self.begin(session, &ending);
        let why = tokio::select! {
            biased;
            () = self.leadership_over(term, leadership.clone()) => Ok("leadership is over"),
            ended = running.next() => note_end(ended).map(|()| "a duty ended"),
        };
        ending.cancel();
        let said = *why.as_ref().unwrap_or(&"a duty failed");
        self.trace
            .say(format_args!("{node} ends its duties in session {id}: {said}"));
        let ended = end(running).await;
        why.and(ended)
    }

    async fn open_session(&self, term: u64) -> Option<Session> {
        loop {
            let open = OpenSession {
                node: self.node.to_owned(),
                term,
            };
            let operation = command::Operation::OpenSession(open);
            match self.propose(0, term, "leads", operation, OPEN_DEADLINE).await {
                Ok(outcome) => match outcome.result {
                    Some(outcome::Result::SessionOpened(opened)) => {
                        return Some(Session {
                            term,
                            id: opened.session,
                        });
                    }
                    _ => return None,
                },
                Err(ProposeError::NotLeader | ProposeError::Stopped(_)) => return None,
                Err(_) => sleep(OPEN_RETRY).await,
            }
        }
    }

    /// Starts every duty under one token.
    fn begin(self: &Arc<Self>, session: Session, ending: &CancellationToken) -> Running {
        let context = DutyContext {
            consensus: self.consensus.clone(),
            store: self.store.clone(),
            session: session.id,
            term: session.term,
            cancel: ending.clone(),
            clock: self.clock.clone(),
        };
        let (duties, cancel) = (self.clone(), ending.clone());
        let running = Running::new();
        running.push(blox_runtime::spawn(observe(self.source.clone(), context)));
        running.push(blox_runtime::spawn(schedule(self.scheduler_context(session, ending))));
        running.push(blox_runtime::spawn(async move {
            duties.maintain(session, cancel).await;
            Ok(())
        }));
        running
    }

    fn scheduler_context(&self, session: Session, ending: &CancellationToken) -> blox_scheduler::Context {
        let leader = Leader::new(self.consensus.clone(), self.store.clone(), session.term);
        blox_scheduler::Context {
            surroundings: blox_scheduler::Surroundings {
                proposer: Arc::new(leader),
                launcher: Arc::new(OneSource(self.source.clone())),
                timer: Arc::new(TokioTimer),
                new_token: Arc::new(|| id().to_string()),
                metrics: self.scheduler_metrics.clone(),
            },
            session: session.id,
            limits: limits(),
            cancel: ending.clone(),
        }
    }

    /// Compacts the history much more often than a node does.
    async fn maintain(&self, session: Session, ending: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = ending.cancelled() => return,
                () = sleep(Duration::from_millis(between(COMPACT_MS))) => {}
            }
            let head = self.store.view().map_or(0, |view| view.revision());
            let revision = head.saturating_sub(between(COMPACT_KEEPS_REVISIONS));
            if revision > self.store.oldest_revision() {
                let operation = command::Operation::Compact(Compact { revision });
                // One that fails waits for the next round.
                let _ = self
                    .propose(session.id, session.term, "history", operation, COMPACT_DEADLINE)
                    .await;
            }
        }
    }

    async fn propose(
        &self,
        session: u64,
        term: u64,
        cause: &str,
        operation: command::Operation,
        deadline: Duration,
    ) -> Result<blox_store::proto::Outcome, ProposeError> {
        let command = Command {
            actor: "node".to_owned(),
            cause: cause.to_owned(),
            session,
            operation: Some(operation),
            ..Command::default()
        };
        self.consensus.propose_upkeep(term, command, deadline).await
    }

    /// Resolves when this node no longer leads in `term`, or no quorum has answered for a while.
    async fn leadership_over(&self, term: u64, mut leadership: watch::Receiver<Leadership>) {
        let patience = Timing::default().election_max * QUORUM_ELECTIONS_MAX;
        let leads = Leadership::Leader { term };
        loop {
            let over = leadership.wait_for(|now| *now != leads);
            let is_over = timeout(QUORUM_CHECK, over).await.is_ok();
            if is_over || !self.consensus.has_recent_quorum(patience) {
                return;
            }
        }
    }
}

/// Waits for the duties to end, and cuts off those that do not: whatever they still propose is refused by its session.
async fn end(mut running: Running) -> Result<(), NodeFailed> {
    let all_ended = async {
        while let Some(ended) = running.next().await {
            note_end(Some(ended))?;
        }
        Ok(())
    };
    if let Ok(ended) = timeout(STOP_MAX, all_ended).await {
        return ended;
    }
    running.iter().for_each(JoinHandle::abort);
    while running.next().await.is_some() {}
    Ok(())
}

fn note_end<E>(ended: Option<Result<Result<(), NodeFailed>, E>>) -> Result<(), NodeFailed> {
    // A task that panicked is noted by the runtime.
    ended.and_then(Result::ok).unwrap_or(Ok(()))
}

async fn observe(source: Arc<Source>, context: DutyContext) -> Result<(), NodeFailed> {
    match run_source(source, context).await {
        blox_ecs::DutyEnd::Cancelled | blox_ecs::DutyEnd::SessionOver(_) => Ok(()),
        blox_ecs::DutyEnd::NodeFailed(cause) => Err(format!("feed and reconcile: {cause}")),
    }
}

async fn schedule(context: blox_scheduler::Context) -> Result<(), NodeFailed> {
    match blox_scheduler::run(context).await {
        blox_scheduler::DutyEnd::Cancelled | blox_scheduler::DutyEnd::SessionOver(_) => Ok(()),
        blox_scheduler::DutyEnd::Storage(error) => Err(format!("scheduler: {error}")),
    }
}
