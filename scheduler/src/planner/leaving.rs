//! Environments that want nothing placed: not yet deployed, being deleted, or gone.

use crate::names::{EnvironmentId, SlotKey};
use crate::planner::input::{Environment, PlannerInput, Wanted};
use crate::planner::open_launch;
use crate::planner::plan::{EnvironmentPlan, StopReason, WaitReason};
use crate::planner::slot::{StopTurn, live_tasks};
use crate::planner::stopping;

/// Being deleted: everything of it is stopped, every launch resolved; then it goes.
pub(super) fn plan_deleting(
    input: &PlannerInput,
    id: &EnvironmentId,
    environment: &Environment,
    wanted: &Wanted,
    plan: &mut EnvironmentPlan,
) {
    let live = live_tasks(input, id, environment, wanted);
    for task in live.values() {
        let key = SlotKey {
            environment: id.clone(),
            instance: task.instance.clone(),
        };
        if input.in_flight.contains(&key) {
            plan.wait_for(&task.instance, WaitReason::InFlight);
        } else {
            stopping::ask(
                input,
                environment,
                plan,
                &wanted.cluster,
                task,
                StopReason::EnvironmentDeleted,
            );
        }
    }
    resolve_open(input, id, environment, plan);
    if live.is_empty() {
        forget_closed(environment, plan);
        plan.remove = environment.launches.is_empty() && environment.stops.is_empty();
    }
}

/// Gone with its tasks left running (that is how Blox 0.3 deletes): its launches are resolved and forgotten, its stops left to end.
pub(super) fn plan_gone(
    input: &PlannerInput,
    id: &EnvironmentId,
    environment: &Environment,
    plan: &mut EnvironmentPlan,
) {
    resolve_open(input, id, environment, plan);
    forget_closed(environment, plan);
    for (arn, stop) in &environment.stops {
        let Some(task) = input.task(&stop.cluster, arn).filter(|task| !task.is_stopped()) else {
            continue;
        };
        match StopTurn::of(input, environment, task) {
            turn @ StopTurn::InProgress { .. } => stopping::wait(plan, task, turn),
            // Nobody is left who wants it.
            StopTurn::Due { .. } | StopTurn::Held { .. } => plan.end_stops.push(arn.clone()),
        }
    }
}

/// Without a deployment nothing is placed and nothing stopped.
pub(super) fn plan_undeployed(
    input: &PlannerInput,
    id: &EnvironmentId,
    environment: &Environment,
    plan: &mut EnvironmentPlan,
) {
    resolve_open(input, id, environment, plan);
}

fn resolve_open(input: &PlannerInput, id: &EnvironmentId, environment: &Environment, plan: &mut EnvironmentPlan) {
    for (instance, launch) in environment.launches.iter().filter(|(_, launch)| launch.is_open()) {
        let key = SlotKey {
            environment: id.clone(),
            instance: instance.clone(),
        };
        if input.in_flight.contains(&key) {
            plan.wait_for(instance, WaitReason::InFlight);
        } else {
            open_launch::resolve(input, environment, plan, instance, launch);
        }
    }
}

fn forget_closed(environment: &Environment, plan: &mut EnvironmentPlan) {
    let closed = environment.launches.iter().filter(|(_, launch)| !launch.is_open());
    plan.forget_launches
        .extend(closed.map(|(instance, launch)| (instance.clone(), launch.id.clone())));
}
