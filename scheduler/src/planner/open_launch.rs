//! Launches of unknown outcome: bound by what the state shows, else by a look-up in its time.

use crate::names::{InstanceArn, TaskArn};
use crate::planner::input::{Environment, Launch, LaunchProgress, PlannerInput, Task};
use crate::planner::plan::{Binding, EnvironmentPlan, LookUp, WaitReason};

/// Puts the next step towards an open launch's outcome into the plan, and that its slot waits.
pub(super) fn resolve(
    input: &PlannerInput,
    environment: &Environment,
    plan: &mut EnvironmentPlan,
    instance: &InstanceArn,
    launch: &Launch,
) {
    let intended = launch.state == LaunchProgress::Intended;
    plan.wait_for(instance, WaitReason::LaunchOpen { intended });
    let due_at = look_up_due_at(input, launch);
    if intended && input.now_elapsed_ms < due_at {
        // The executor will say what became of it; only if it never does is it taken as unknown.
        plan.wake_at(due_at);
        return;
    }
    if let Some(task) = task_in_state(input, environment, instance, launch) {
        plan.bind.push(Binding {
            instance: instance.clone(),
            launch: launch.id.clone(),
            task: task.clone(),
        });
    } else if input.now_elapsed_ms < due_at {
        plan.wake_at(due_at);
    } else {
        plan.look_up.push(LookUp {
            cluster: launch.cluster.clone(),
            instance: instance.clone(),
            launch: launch.id.clone(),
            deployment: launch.deployment.clone(),
            intent_revision: launch.intent_revision,
            intended,
        });
    }
}

/// The first look-up at once: it finds most tasks. The second only when the call can no longer be on its way and the lists have caught up:
/// it closes the launch.
fn look_up_due_at(input: &PlannerInput, launch: &Launch) -> u64 {
    let limits = &input.limits;
    match launch.state {
        LaunchProgress::Intended => launch.call_deadline_elapsed_ms + limits.abandoned_after_ms,
        LaunchProgress::Unknown {
            first_empty_look_up_elapsed_ms: Some(first),
        } => {
            let closable_at = launch.call_deadline_elapsed_ms + limits.close_after_deadline_ms;
            closable_at.max(first + limits.look_up_gap_ms)
        }
        _ => 0,
    }
}

/// The launch's task, if it has come into the state: on its instance, started by its deployment, newer than its intent, no other launch's.
/// Of several (a double) the oldest; a STOPPED one too, for it may have died already.
fn task_in_state<'a>(
    input: &'a PlannerInput,
    environment: &Environment,
    instance: &InstanceArn,
    launch: &Launch,
) -> Option<&'a TaskArn> {
    let is_its_own = |task: &&Task| {
        task.started_by == launch.deployment.as_str()
            && task.create_revision > launch.intent_revision
            && !environment
                .launches
                .values()
                .any(|other| other.task() == Some(&task.arn))
    };
    let candidates = input.cluster(&launch.cluster)?.tasks_on(instance).filter(is_its_own);
    candidates.min_by_key(|task| task.age_order()).map(|task| &task.arn)
}
