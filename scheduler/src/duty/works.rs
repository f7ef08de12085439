//! Pieces of work: what a plan becomes, bounded in number; and which slots are busy with them.

use std::collections::{BTreeMap, BTreeSet};

use blox_store::Revision;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::duty::holds::{Hold, Holds};
use crate::executor::{Executed, Executor, LaunchOrder, LookUpOrder, RecordsOrder, StopOrder, TaskToStop};
use crate::limits::{ACTIONS_PER_COMMAND, WORKS_IN_FLIGHT, WORKS_IN_FLIGHT_PER_ENVIRONMENT};
use crate::names::{ClusterId, DeploymentId, EnvironmentId, InstanceArn, SlotKey};
use crate::planner::EnvironmentPlan;
use crate::planner::plan::{LookUp, StopReason};

/// A piece of work that has ended.
pub(super) struct Done {
    pub(super) environment: EnvironmentId,
    pub(super) result: Executed,
    holds: Vec<Hold>,
}

/// Works under way, and what they hold.
pub(super) struct Works<'a> {
    executor: &'a Executor,
    pub(super) running: FuturesUnordered<BoxFuture<'a, Done>>,
    running_of: BTreeMap<EnvironmentId, usize>,
    holds: Holds,
}

impl<'a> Works<'a> {
    pub(super) fn new(executor: &'a Executor) -> Works<'a> {
        Works {
            executor,
            running: FuturesUnordered::new(),
            running_of: BTreeMap::new(),
            holds: Holds::default(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.running.len() < WORKS_IN_FLIGHT
    }

    /// One environment with a large fleet leaves room for the others.
    fn has_room_for(&self, environment: &EnvironmentId) -> bool {
        let running = self.running_of.get(environment).copied().unwrap_or_default();
        self.has_room() && running < WORKS_IN_FLIGHT_PER_ENVIRONMENT
    }

    /// Slots that are not to be planned on now.
    pub(super) fn busy_slots(&self) -> BTreeSet<SlotKey> {
        self.holds.slots()
    }

    /// Begins what a plan asks for; false where there was no room for all of it.
    pub(super) fn take_up(&mut self, plan: &EnvironmentPlan) -> bool {
        let records_hold = vec![Hold::Records(plan.environment.clone())];
        if let Some(order) = RecordsOrder::of(plan)
            && !self.begin(records_hold, order, Executor::update_records)
        {
            return false;
        }
        look_ups(plan)
            .into_iter()
            .all(|order| self.begin(look_up_holds(&order), order, Executor::look_up))
            && stops(plan)
                .into_iter()
                .all(|order| self.begin(stop_holds(&order), order, Executor::stop))
            && launches(plan)
                .into_iter()
                .all(|order| self.begin(launch_holds(&order), order, Executor::launch))
    }

    fn begin<Order, Carry, Carried>(&mut self, holds: Vec<Hold>, order: Order, carry: Carry) -> bool
    where
        Carry: FnOnce(&'a Executor, Order) -> Carried,
        Carried: Future<Output = Executed> + Send + 'a,
    {
        if holds.iter().any(|hold| self.holds.contains(hold)) {
            // Another work of the same plan has one of the slots: the environment is planned again once that is over.
            return true;
        }
        let environment = holds
            .first()
            .expect("a piece of work holds something")
            .environment()
            .clone();
        if !self.has_room_for(&environment) {
            return false;
        }
        self.holds.take(&holds);
        *self.running_of.entry(environment.clone()).or_default() += 1;
        let carried = carry(self.executor, order);
        self.running.push(Box::pin(async move {
            Done {
                environment,
                result: carried.await,
                holds,
            }
        }));
        true
    }

    /// A work has ended: what it held stays held until the mirror shows the revision, and until the time (0: none).
    pub(super) fn settle(&mut self, done: Done, revision: Revision, not_before_elapsed_ms: u64) {
        if let Some(running) = self.running_of.get_mut(&done.environment) {
            *running -= 1;
        }
        self.holds.settle(done.holds, revision, not_before_elapsed_ms);
    }

    /// Lets go of what may be planned again; whose it was.
    pub(super) fn release(&mut self, shown: Revision, now_elapsed_ms: u64) -> BTreeSet<EnvironmentId> {
        self.holds.release(shown, now_elapsed_ms)
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

fn stops(plan: &EnvironmentPlan) -> Vec<StopOrder> {
    let replaced = plan.replace.iter().filter_map(|replacement| {
        Some(TaskToStop {
            cluster: plan.target.as_ref()?.cluster.clone(),
            instance: replacement.instance.clone(),
            task: replacement.task.clone(),
            reason: StopReason::Replaced,
            attempts: replacement.attempts,
        })
    });
    let stopped = plan.stop.iter().map(|stop| TaskToStop {
        cluster: stop.cluster.clone(),
        instance: stop.instance.clone(),
        task: stop.task.clone(),
        reason: stop.reason,
        attempts: stop.attempts,
    });
    let tasks: Vec<TaskToStop> = stopped.chain(replaced).collect();
    let chunks = tasks.chunks(ACTIONS_PER_COMMAND);
    chunks
        .map(|tasks| StopOrder {
            environment: plan.environment.clone(),
            tasks: tasks.to_vec(),
        })
        .collect()
}

fn look_ups(plan: &EnvironmentPlan) -> Vec<LookUpOrder> {
    let mut listings: BTreeMap<(&ClusterId, &DeploymentId), Vec<LookUp>> = BTreeMap::new();
    for look_up in &plan.look_up {
        listings
            .entry((&look_up.cluster, &look_up.deployment))
            deployment: Some(plan.target.as_ref()?.deployment.clone()),
            .or_default()
            .push(look_up.clone());
    }
    let orders = listings.into_iter().flat_map(|((cluster, deployment), launches)| {
        let chunks: Vec<Vec<LookUp>> = launches.chunks(ACTIONS_PER_COMMAND).map(<[LookUp]>::to_vec).collect();
        chunks.into_iter().map(move |launches| LookUpOrder {
            environment: plan.environment.clone(),
            cluster: cluster.clone(),
        deployment: None,
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
