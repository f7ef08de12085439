//! Pieces of work: what a plan becomes; which slots are busy with them; and their end.

use std::collections::{BTreeMap, BTreeSet};

use blox_store::Revision;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::duty::holds::{Hold, Holds};
use crate::duty::room::{Room, Share};
use crate::executor::{
    ExecuteError, Executed, Executor, LaunchOrder, LookUpOrder, RecordsOrder, StopOrder, TaskToStop,
};
use crate::limits::ACTIONS_PER_COMMAND;
use crate::names::{ClusterId, DeploymentId, EnvironmentId, InstanceArn, SlotKey, SourceName};
use crate::planner::EnvironmentPlan;
use crate::planner::plan::{LookUp, StopReason};

/// A piece of work that has ended.
pub(super) struct Done {
    pub(super) environment: EnvironmentId,
    pub(super) result: Executed,
    share: Share,
    holds: Vec<Hold>,
}

/// Works under way, and what they hold.
pub(super) struct Works<'a> {
    executor: &'a Executor,
    pub(super) running: FuturesUnordered<BoxFuture<'a, Done>>,
    room: Room,
    holds: Holds,
}

impl<'a> Works<'a> {
    pub(super) fn new(executor: &'a Executor) -> Works<'a> {
        Works {
            executor,
            running: FuturesUnordered::new(),
            room: Room::default(),
            holds: Holds::default(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.room.is_left()
    }

    /// Puts those plans first whose environments have had no room for longest.
    pub(super) fn put_in_turn(&self, plans: &mut [EnvironmentPlan]) {
        self.room.put_in_turn(plans);
    }

    /// Environments that found no room since this was last asked: to be planned again once a work has ended.
    pub(super) fn take_turned_away(&mut self) -> BTreeSet<EnvironmentId> {
        self.room.take_turned_away()
    }

    /// Forgets the turns of environments that are not there any more.
    pub(super) fn forget_turns(&mut self, is_there: impl Fn(&EnvironmentId) -> bool) {
        self.room.forget_turns(is_there);
    }

    /// Slots that are not to be planned on now.
    pub(super) fn busy_slots(&self) -> BTreeSet<SlotKey> {
        self.holds.slots()
    }

    /// Begins what a plan asks for. Where there is no room for all of it, its environment is turned away.
    pub(super) fn take_up(&mut self, plan: &EnvironmentPlan) {
        let share = |source: Option<&SourceName>| Share {
            environment: plan.environment.clone(),
            source: source.cloned(),
        };
        if let Some(order) = RecordsOrder::of(plan) {
            let holds = vec![Hold::Records(plan.environment.clone())];
            self.begin(share(None), holds, order, Executor::update_records);
        }
        let _has_room = look_ups(plan).into_iter().all(|order| {
            let share = share(Some(&order.cluster.source));
            self.begin(share, look_up_holds(&order), order, Executor::look_up)
        }) && stops(plan).into_iter().all(|(source, order)| {
            let share = share(Some(&source));
            self.begin(share, stop_holds(&order), order, Executor::stop)
        }) && launches(plan).into_iter().all(|order| {
            let share = share(Some(&order.target.cluster.source));
            self.begin(share, launch_holds(&order), order, Executor::launch)
        });
    }

    /// False: there is no room for it.
    fn begin<Order, Carry, Carried>(&mut self, share: Share, holds: Vec<Hold>, order: Order, carry: Carry) -> bool
    where
        Carry: FnOnce(&'a Executor, Order) -> Carried,
        Carried: Future<Output = Executed> + Send + 'a,
    {
        if holds.iter().any(|hold| self.holds.contains(hold)) {
            // Another work of the same plan has one of the slots: the environment is planned again once that is over.
            return true;
        }
        if !self.room.take(&share) {
            return false;
        }
        self.holds.take(&holds);
        let carried = carry(self.executor, order);
        self.running.push(Box::pin(async move {
            Done {
                environment: share.environment.clone(),
                result: carried.await,
                share,
                holds,
            }
        }));
        true
    }

    /// A work has ended: what it held stays held until the mirror shows the revision, and until the time (0: none).
    pub(super) fn settle(&mut self, done: Done, revision: Revision, not_before_elapsed_ms: u64) {
        self.room.give_back(&done.share);
        self.holds.settle(done.holds, revision, not_before_elapsed_ms);
    }

    /// Lets go of what may be planned again; whose it was.
    pub(super) fn release(&mut self, shown: Revision, now_elapsed_ms: u64) -> BTreeSet<EnvironmentId> {
        self.holds.release(shown, now_elapsed_ms)
    }

    /// Waits for the works under way to record what became of their calls, until none is left or the session is over.
    pub(super) async fn finish(&mut self) {
        while let Some(done) = self.running.next().await {
            match done.result {
                Ok(_) => {}
                Err(ExecuteError::SessionOver { .. }) => return,
                Err(error) => {
                    tracing::info!(environment = %done.environment, %error, "a piece of work is left to the next session")
                }
            }
        }
    }

    /// When something held for a while may next be let go, on the replicated clock.
    pub(super) fn next_release(&self) -> Option<u64> {
        self.holds.next_release()
    }
}

fn launches(plan: &EnvironmentPlan) -> Vec<LaunchOrder> {
    let Some(target) = &plan.target else { return Vec::new() };
    let chunks = plan.place.chunks(ACTIONS_PER_COMMAND);
    let orders = chunks.map(|placements| LaunchOrder {
        environment: plan.environment.clone(),
        target: target.clone(),
        placements: placements.to_vec(),
    });
    orders.collect()
}

/// One order never calls two sources.
fn stops(plan: &EnvironmentPlan) -> Vec<(SourceName, StopOrder)> {
    let replaced = plan.replace.iter().filter_map(|replacement| {
        Some(TaskToStop {
            cluster: plan.target.as_ref()?.cluster.clone(),
            instance: replacement.instance.clone(),
            task: replacement.task.clone(),
            reason: StopReason::Replaced,
            attempts: replacement.attempts,
            deployment: Some(plan.target.as_ref()?.deployment.clone()),
        })
    });
    let stopped = plan.stop.iter().map(|stop| TaskToStop {
        cluster: stop.cluster.clone(),
        instance: stop.instance.clone(),
        task: stop.task.clone(),
        reason: stop.reason,
        attempts: stop.attempts,
        deployment: None,
    });
    let mut tasks_at: BTreeMap<SourceName, Vec<TaskToStop>> = BTreeMap::new();
    for task in stopped.chain(replaced) {
        tasks_at.entry(task.cluster.source.clone()).or_default().push(task);
    }
    let orders = tasks_at.into_iter().flat_map(|(source, tasks)| {
        let chunks: Vec<Vec<TaskToStop>> = tasks.chunks(ACTIONS_PER_COMMAND).map(<[TaskToStop]>::to_vec).collect();
        chunks.into_iter().map(move |tasks| {
            let order = StopOrder {
                environment: plan.environment.clone(),
                tasks,
            };
            (source.clone(), order)
        })
    });
    orders.collect()
}

fn look_ups(plan: &EnvironmentPlan) -> Vec<LookUpOrder> {
    let mut listings: BTreeMap<(&ClusterId, &DeploymentId), Vec<LookUp>> = BTreeMap::new();
    for look_up in &plan.look_up {
        listings
            .entry((&look_up.cluster, &look_up.deployment))
            .or_default()
            .push(look_up.clone());
    }
    let orders = listings.into_iter().flat_map(|((cluster, deployment), launches)| {
        let chunks: Vec<Vec<LookUp>> = launches.chunks(ACTIONS_PER_COMMAND).map(<[LookUp]>::to_vec).collect();
        chunks.into_iter().map(move |launches| LookUpOrder {
            environment: plan.environment.clone(),
            cluster: cluster.clone(),
            deployment: deployment.clone(),
            launches,
        })
    });
    orders.collect()
}

fn launch_holds(order: &LaunchOrder) -> Vec<Hold> {
    order
        .placements
        .iter()
        .map(|placement| slot(&order.environment, &placement.instance))
        .collect()
}

fn stop_holds(order: &StopOrder) -> Vec<Hold> {
    order
        .tasks
        .iter()
        .map(|task| slot(&order.environment, &task.instance))
        .collect()
}

fn look_up_holds(order: &LookUpOrder) -> Vec<Hold> {
    order
        .launches
        .iter()
        .map(|launch| slot(&order.environment, &launch.instance))
        .collect()
}

fn slot(environment: &EnvironmentId, instance: &InstanceArn) -> Hold {
    Hold::Slot(SlotKey {
        environment: environment.clone(),
        instance: instance.clone(),
    })
}
