//! The scheduler's duty of a leader: follow the state, plan what changed, carry the plans out, under one session.
//!
//! ```text
//! watch ---> mirror ---> plan (what is dirty, at most every 50 ms) ---> works (bounded) ---> executor
//!              ^                                                                               |
//!              +------------- nothing is planned on a slot before its work shows here <--------+
//! ```

mod holds;
mod room;
mod works;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blox_store::{StoreError, WatchBatch, WatchEnd, WatchFrom, WatchRequest, Watcher};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::executor::{ExecuteError, Executor, Surroundings};
use crate::limits::Limits;
use crate::mirror::{KINDS, Mirror};
use crate::names::{ClusterId, EnvironmentId};
use crate::planner::plan_some;
use works::{Done, Works};

/// Once it is cancelled, how long works under way may take to record what became of their calls, milliseconds. Within the time that a node
/// gives its duties to end.
pub const FINISH_MS_MAX: u64 = 2_000;
/// How long the watch rests after changes that were nothing to it: whoever writes key after key would wake the duty for each of them.
const WATCH_REST_MS: u64 = 10;
/// Planning takes at most one part in so many of the time.
const PLAN_COST_SHARE: u64 = 10;

/// What the duty runs on and under.
#[derive(Clone)]
pub struct Context {
    /// Consensus, state, ECS, time.
    pub surroundings: Surroundings,
    /// The session that was opened for it.
    pub session: u64,
    /// The scheduler's times.
    pub limits: Limits,
    /// Ends it: nothing more is begun, and calls under way have [`FINISH_MS_MAX`] to be answered and recorded. What is not by then is dropped:
    /// the next session looks up what became of it.
    pub cancel: CancellationToken,
}

/// Why the duty ended.
#[derive(Debug)]
pub enum DutyEnd {
    /// It was cancelled.
    Cancelled,
    /// The session is over.
    SessionOver(String),
    /// The state cannot be read.
    Storage(StoreError),
}

enum LoopEnd {
    Duty(DutyEnd),
    /// The watch fell behind the kept history: begin again from a view.
    Behind(WatchEnd),
    /// Reconcile has brought in a cluster since the mirror began: begin again from a view that is at least as new as that.
    BroughtIn,
}

/// Runs until cancelled or until the session is over.
pub async fn run(context: Context) -> DutyEnd {
    let executor = Executor::new(context.surroundings.clone(), context.session, context.limits.clone())
        .until(context.cancel.clone());
    // They outlive a new beginning of the watch, and the following itself: what they do is not undone by it.
    let mut works = Works::new(&executor);
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => {}
        end = follow(&context, &mut works) => return end,
    }
    finish(&context, &mut works).await;
    DutyEnd::Cancelled
}

/// Lets works under way record what became of their calls, while this node leads: once it does not, there is nothing to record any more.
async fn finish(context: &Context, works: &mut Works<'_>) {
    let Surroundings { proposer, timer, .. } = &context.surroundings;
    let leads_no_more = async {
        let within = Duration::from_millis(context.limits.leader_check_wait_ms);
        if proposer.confirm_leadership(within).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = works.finish() => return,
        () = leads_no_more => {}
        () = timer.sleep(Duration::from_millis(FINISH_MS_MAX)) => {}
    }
    tracing::warn!(
        works = works.running.len(),
        "pieces of work are left to the next session"
    );
}

async fn follow(context: &Context, works: &mut Works<'_>) -> DutyEnd {
    let mut held = BTreeSet::new();
    loop {
        let (mirror, watcher) = match begin(context) {
            Ok(begun) => begun,
            Err(end) => return end,
        };
        let scheduling = Scheduling {
            context,
            mirror,
            wake_at: BTreeMap::new(),
            planned_at: 0,
            watch_at: 0,
            plan_cost_ms: 0,
            resynced_at: 0,
            held: &mut held,
        };
        match scheduling.run(watcher, works).await {
            LoopEnd::Duty(end) => return end,
            LoopEnd::Behind(reason) => tracing::info!(%reason, "the scheduler's watch begins again from the head"),
            LoopEnd::BroughtIn => {}
        }
        context
            .surroundings
            .timer
            .sleep(Duration::from_millis(context.limits.plan_interval_ms))
            .await;
    }
}

fn begin(context: &Context) -> Result<(Mirror, Result<Watcher, WatchEnd>), DutyEnd> {
    let proposer = &context.surroundings.proposer;
    // Before the view: what reconcile says that it has brought in is in there.
    let sources = proposer.sources().map_err(DutyEnd::Storage)?;
    let view = proposer.view().map_err(DutyEnd::Storage)?;
    let mut mirror = Mirror::of(&view, context.limits.clone()).map_err(DutyEnd::Storage)?;
    mirror.note_sources(&sources);
    let from = WatchFrom::Revision(view.revision() + 1);
    let request = WatchRequest {
        from,
        kinds: KINDS.to_vec(),
        prefix: Default::default(),
    };
    Ok((mirror, proposer.watch(request)))
}

/// What the end of a watch means: a state that cannot be read ends the duty, never to be tried again.
fn watch_ended(end: WatchEnd) -> LoopEnd {
    match end {
        WatchEnd::Storage(cause) => LoopEnd::Duty(DutyEnd::Storage(StoreError::Storage {
            doing: "cannot follow the state".to_owned(),
            cause,
        })),
        WatchEnd::Compacted { .. } | WatchEnd::Future { .. } => LoopEnd::Behind(end),
    }
}

/// The loop between two beginnings of the watch.
struct Scheduling<'a> {
    context: &'a Context,
    mirror: Mirror,
    /// When an environment is planned again although nothing has changed.
    wake_at: BTreeMap<EnvironmentId, u64>,
    planned_at: u64,
    /// When the watch has rested.
    watch_at: u64,
    /// How long the last plan took, milliseconds.
    plan_cost_ms: u64,
    resynced_at: u64,
    /// Clusters that wait to be reconciled after a restore, as was told last.
    held: &'a mut BTreeSet<ClusterId>,
}

impl Scheduling<'_> {
    async fn run(mut self, watcher: Result<Watcher, WatchEnd>, works: &mut Works<'_>) -> LoopEnd {
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(end) => return watch_ended(end),
        };
        self.mirror.touch_all();
        loop {
            // Asked anew each time: under a stream of changes that never pauses, plans are made all the same.
            let wait_ms = self.due_at(works).saturating_sub(self.now());
            if wait_ms == 0 {
                match self.plan(works) {
                    Ok(()) => continue,
                    Err(end) => return end,
                }
            }
            let rest = Duration::from_millis(self.watch_at.saturating_sub(self.now()));
            let timer = &self.context.surroundings.timer;
            let rested = async {
                if !rest.is_zero() {
                    timer.sleep(rest).await;
                }
                watcher.next().await
            };
            tokio::select! {
                biased;
                Some(done) = works.running.next(), if !works.running.is_empty() => {
                    if let Err(end) = self.ended(done, works) {
                        return LoopEnd::Duty(end);
                    }
                }
                batch = rested => match batch {
                    Ok(batch) => self.changed(batch, works),
                    Err(end) => return watch_ended(end),
                },
                () = self.context.surroundings.timer.sleep(Duration::from_millis(wait_ms)) => {}
            }
        }
    }

    fn changed(&mut self, batch: WatchBatch, works: &mut Works<'_>) {
        if batch.changes.is_empty() {
            self.watch_at = self.now() + WATCH_REST_MS;
        }
        self.mirror.follow(&batch.changes, batch.revision);
        self.release(works);
    }

    fn ended(&mut self, done: Done, works: &mut Works<'_>) -> Result<(), DutyEnd> {
        let mut not_before = 0;
        let shown_at = match &done.result {
            Ok(revision) => *revision,
            Err(ExecuteError::SessionOver { cause, .. }) => return Err(DutyEnd::SessionOver(cause.clone())),
            Err(error) => {
                self.context.surroundings.metrics.works_failed.increment();
                tracing::warn!(environment = %done.environment, %error, "a piece of work is planned again");
                not_before = self.now() + self.context.limits.work_retry_ms;
                // Whatever it has committed before it failed is applied here by now.
                self.context
                    .surroundings
                    .proposer
                    .view()
                    .map_err(DutyEnd::Storage)?
                    .revision()
            }
        };
        works.settle(done, shown_at, not_before);
        for environment in works.take_turned_away() {
            self.mirror.touch(&environment);
        }
        self.release(works);
        Ok(())
    }

    /// Slots whose work shows in the mirror may be planned again.
    fn release(&mut self, works: &mut Works<'_>) {
        for environment in works.release(self.mirror.revision(), self.now()) {
            self.mirror.touch(&environment);
        }
    }

    /// When to plan next: at once when something changed and the last plan is old enough, else at the next wake-up.
    fn due_at(&self, works: &Works<'_>) -> u64 {
        let limits = &self.context.limits;
        let resync_at = self.resynced_at + self.resync_interval_ms();
        let wake_at = self
            .wake_at
            .values()
            .copied()
            .chain(works.next_release())
            .fold(resync_at, u64::min);
        let can_plan = self.mirror.is_dirty() && works.has_room();
        // Where a fleet is so large that a plan takes long, planning still leaves most of the time to others.
        let interval = limits.plan_interval_ms.max(self.plan_cost_ms * PLAN_COST_SHARE);
        let earliest = self.planned_at + interval;
        if can_plan { earliest } else { wake_at.max(earliest) }
    }

    fn resync_interval_ms(&self) -> u64 {
        let limits = &self.context.limits;
        match self.held.is_empty() {
            true => limits.resync_interval_ms,
            false => limits.held_look_interval_ms.min(limits.resync_interval_ms),
        }
    }

    /// Says where nothing is done because of a restore, and where that is over.
    fn tell_of_held(&mut self) {
        let held = self.mirror.input().held_clusters();
        for cluster in held.difference(self.held) {
            tracing::info!(
                cluster = &*cluster.arn,
                "the state came out of a backup: nothing is started or stopped before the cluster is reconciled"
            );
        }
        for cluster in self.held.difference(&held) {
            tracing::info!(
                cluster = &*cluster.arn,
                "reconciled after the restore: the scheduler goes on"
            );
        }
        *self.held = held;
    }

    fn plan(&mut self, works: &mut Works<'_>) -> Result<(), LoopEnd> {
        let now = self.now();
        self.planned_at = now;
        if now >= self.resynced_at + self.resync_interval_ms() || self.resynced_at == 0 {
            self.resynced_at = now;
            let sources = self.context.surroundings.proposer.sources();
            let sources = sources.map_err(|error| LoopEnd::Duty(DutyEnd::Storage(error)))?;
            // The mirror may be older than what is said here: with it, what reconcile has just brought in would be launched once more.
            if self.mirror.would_note(&sources) {
                return Err(LoopEnd::BroughtIn);
            }
            self.tell_of_held();
            self.mirror.touch_all();
            let environments = &self.mirror.input().environments;
            works.forget_turns(|environment| environments.contains_key(environment));
        }
        self.release(works);
        for (environment, _) in self.wake_at.iter().filter(|(_, at)| **at <= now) {
            self.mirror.touch(environment);
        }
        if !self.mirror.is_dirty() || !works.has_room() {
            return Ok(());
        }
        let dirty = self.mirror.take_dirty();
        let input = self.mirror.input_mut();
        input.now_elapsed_ms = now;
        input.in_flight = works.busy_slots();
        let mut plan = plan_some(input, &dirty);
        works.put_in_turn(&mut plan.environments);
        self.context.surroundings.metrics.plans.increment();
        for environment in &dirty {
            self.wake_at.remove(environment);
        }
        for environment in plan.environments {
            if let Some(at) = environment.wake_at_elapsed_ms {
                self.wake_at.insert(environment.environment.clone(), at);
            }
            works.take_up(&environment);
        }
        self.plan_cost_ms = self.now().saturating_sub(now);
        Ok(())
    }

    fn now(&self) -> u64 {
        self.context.surroundings.proposer.elapsed_ms()
    }
}
