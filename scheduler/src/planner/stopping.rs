//! Stops: asking for one at the right time, and ending the records of those that are over.

use crate::names::{ClusterId, SlotKey};
use crate::planner::input::{Environment, PlannerInput, Task};
use crate::planner::plan::{EnvironmentPlan, StopReason, TaskStop, WaitReason};
use crate::planner::slot::StopTurn;

/// A task that is STOPPED, or that the state has forgotten, needs no stop any more.
/// One that the executor works on still has its outcome to come.
pub(super) fn end_finished(input: &PlannerInput, environment: &Environment, plan: &mut EnvironmentPlan) {
    for (arn, stop) in &environment.stops {
        let key = SlotKey {
            environment: plan.environment.clone(),
            instance: stop.instance.clone(),
        };
        let task = input.task(&stop.cluster, arn);
        if task.is_none_or(Task::is_stopped) && !input.in_flight.contains(&key) {
            plan.end_stops.push(arn.clone());
        }
    }
}

/// Puts a task's stop into the plan, or what its stop waits for.
pub(super) fn ask(
    input: &PlannerInput,
    environment: &Environment,
    plan: &mut EnvironmentPlan,
    cluster: &ClusterId,
    task: &Task,
    reason: StopReason,
) {
    match StopTurn::of(input, environment, task) {
        StopTurn::Due { attempts } => plan.stop.push(TaskStop {
            cluster: cluster.clone(),
            instance: task.instance.clone(),
            task: task.arn.clone(),
            reason,
            attempts,
        }),
        turn => wait(plan, task, turn),
    }
}

/// Puts what a stop under way waits for into the plan.
pub(super) fn wait(plan: &mut EnvironmentPlan, task: &Task, turn: StopTurn) {
    match turn {
        StopTurn::InProgress { until_elapsed_ms } => {
            if let Some(until) = until_elapsed_ms {
                plan.wake_at(until);
            }
            plan.wait_for(&task.instance, WaitReason::Stopping);
        }
        StopTurn::Held {
            reason,
            until_elapsed_ms,
        } => {
            plan.wait_for(
                &task.instance,
                WaitReason::StopBackingOff {
                    reason,
                    until_elapsed_ms,
                },
            );
        }
        StopTurn::Due { .. } => {}
    }
}
