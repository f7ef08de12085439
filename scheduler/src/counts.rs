//! What is shown of an environment: the daemon counters, and where its daemon does not run and why.

use std::collections::BTreeMap;

use blox_store::proto::EnvironmentRecord;
use blox_store::{StoreError, View};

use crate::limits::Limits;
use crate::mirror::Mirror;
use crate::names::{EnvironmentId, InstanceArn, TaskDefinitionArn};
use crate::planner::backoff::{lasts, next_attempt};
use crate::planner::input::{Environment, LaunchProgress, PlannerInput, Task, Wanted};
use crate::planner::slot::{Fitness, Slot, slots};

/// The counters of Kubernetes' DaemonSet, over the instances of the environment's cluster, and the instances that lack their daemon because
/// it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentSummary {
    /// Eligible instances: ACTIVE, agent connected, attributes match.
    pub desired: u64,
    /// Eligible instances with a task of the environment, in whatever state but STOPPED.
    pub current: u64,
    /// Eligible instances whose task is RUNNING.
    pub ready: u64,
    /// Eligible instances whose task is of the newest deployment's task definition.
    pub updated: u64,
    /// Eligible instances whose task is RUNNING and not being stopped.
    pub available: u64,
    /// Eligible instances without such a task.
    pub unavailable: u64,
    /// Instances that have a task of the environment and should not: attributes do not match, or not ACTIVE. (An agent that is away does not
    /// make one of them.)
    pub misscheduled: u64,
    /// Eligible instances where the last attempt failed; each stays until its daemon runs. By instance.
    pub failed: Vec<FailedInstance>,
}

/// An instance that lacks its daemon because it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedInstance {
    /// The instance.
    pub instance_arn: String,
    /// ECS's word, or why the task stopped.
    pub reason: String,
    /// Replicated clock of the next attempt, milliseconds; 0: at once, or it is under way.
    pub retry_at_elapsed_ms: u64,
}

impl EnvironmentSummary {
    /// Nothing failed: v1's `health`.
    pub fn is_healthy(&self) -> bool {
        self.failed.is_empty()
    }
}

/// The summary of one environment out of a view: reads its cluster's instances and tasks.
pub fn summary(view: &View, environment: &EnvironmentRecord) -> Result<EnvironmentSummary, StoreError> {
    let mirror = Mirror::of_environment(view, environment, Limits::default())?;
    Ok(summary_of(
        mirror.input(),
        &EnvironmentId::from(environment.id.as_str()),
    ))
}

/// The summary of one environment; all zero where it is not wanted.
pub fn summary_of(input: &PlannerInput, id: &EnvironmentId) -> EnvironmentSummary {
    let Some(environment) = input.environments.get(id) else {
        return EnvironmentSummary::default();
    };
    let Some(wanted) = &environment.wanted else {
        return EnvironmentSummary::default();
    };
    Counting {
        input,
        id,
        environment,
        wanted,
    }
    .summary()
}

struct Counting<'a> {
    input: &'a PlannerInput,
    id: &'a EnvironmentId,
    environment: &'a Environment,
    wanted: &'a Wanted,
}

impl<'a> Counting<'a> {
    fn summary(&self) -> EnvironmentSummary {
        let definition = self
            .environment
            .current_deployment()
            .map(|(_, deployment)| &deployment.task_definition);
        let ended = self.newest_ended_tasks();
        let mut summary = EnvironmentSummary::default();
        for slot in slots(self.input, self.id, self.environment, self.wanted) {
            match slot.fitness {
                Fitness::Eligible => {
                    count_eligible(&mut summary, &slot, definition);
                    summary.failed.extend(self.failure(&slot, &ended));
                }
                Fitness::Disconnected => {}
                _ => summary.misscheduled += u64::from(!slot.live.is_empty()),
            }
        }
        summary.unavailable = summary.desired - summary.available;
        summary
    }

    /// The newest STOPPED task of the environment on each instance.
    fn newest_ended_tasks(&self) -> BTreeMap<&'a InstanceArn, &'a Task> {
        let mut newest: BTreeMap<&InstanceArn, &Task> = BTreeMap::new();
        for (cluster, task) in self.input.tasks_of(self.id) {
            let is_newest = newest
                .get(&task.instance)
                .is_none_or(|other| other.age_order() < task.age_order());
            if *cluster == self.wanted.cluster && task.is_stopped() && is_newest {
                newest.insert(&task.instance, task);
            }
        }
        newest
    }

    fn failure(&self, slot: &Slot<'_>, ended: &BTreeMap<&InstanceArn, &Task>) -> Option<FailedInstance> {
        let launch = slot.launch?;
        if slot.is_available() {
            return None;
        }
        let failed = |reason: String, retry_at_elapsed_ms| FailedInstance {
            instance_arn: slot.arn.to_string(),
            reason,
            retry_at_elapsed_ms,
        };
        let is_tried_again = launch.is_open() || slot.kept().is_some();
        if is_tried_again {
            // The record of the failed attempt has made way for the next: its task may still say why.
            let reason = || match ended.get(slot.arn) {
                Some(task) if !task.stopped_reason.is_empty() => task.stopped_reason.clone(),
                _ if launch.failures == 0 => format!("calls in a row not sent: {}; being tried again", launch.not_sent),
                _ => format!("failures in a row: {}; being tried again", launch.failures),
            };
            return (launch.failures > 0 || lasts(launch.not_sent)).then(|| failed(reason(), 0));
        }
        let task = launch.task().and_then(|task| self.input.task(&launch.cluster, task));
        let next = next_attempt(
            Some(launch),
            task,
            self.wanted.deployment.as_ref()?,
            self.input.limits.healthy_run_ms,
        );
        // What was not sent soon will be: only where that lasts is it shown.
        let is_refused =
            matches!(launch.state, LaunchProgress::Rejected { .. }) && (next.not_sent == 0 || lasts(next.not_sent));
        let has_failed = !next.reason.is_empty() && (is_refused || next.failures > 0);
        has_failed.then(|| failed(next.reason, next.not_before_elapsed_ms))
    }
}

fn count_eligible(summary: &mut EnvironmentSummary, slot: &Slot<'_>, definition: Option<&TaskDefinitionArn>) {
    let kept = slot.kept();
    summary.desired += 1;
    summary.current += u64::from(kept.is_some());
    summary.ready += u64::from(kept.is_some_and(Task::is_running));
    summary.updated += u64::from(kept.is_some_and(|task| Some(&task.task_definition) == definition));
    summary.available += u64::from(slot.is_available());
}
