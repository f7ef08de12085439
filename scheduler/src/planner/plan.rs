//! A plan: per environment, what to do on each instance, and why nothing is done on the others.

use std::fmt;

use crate::names::{ClusterId, DeploymentId, EnvironmentId, InstanceArn, LaunchId, TaskArn, TaskDefinitionArn};

/// What to do now, over all environments that were planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One part for each environment, by id.
    pub environments: Vec<EnvironmentPlan>,
}

impl Plan {
    /// Nothing is to be done, whatever is waited for.
    pub fn is_idle(&self) -> bool {
        self.environments.iter().all(EnvironmentPlan::is_idle)
    }
}

/// What to do for one environment. Every instance that matters stands in one of place, replace, stop, keep and wait; doubles are the
/// exception: one task is kept, the others stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentPlan {
    /// The environment.
    pub environment: EnvironmentId,
    /// Its name; empty where it is gone.
    pub name: String,
    /// What is rolled out where; `None`: nothing is placed (no deployment yet, being deleted, or gone).
    pub target: Option<Target>,
    /// Launches to make.
    pub place: Vec<Placement>,
    /// Outdated tasks to stop; their instances are placed on once they are STOPPED.
    pub replace: Vec<Replacement>,
    /// Tasks to stop for good.
    pub stop: Vec<TaskStop>,
    /// Tasks that are what they should be.
    pub keep: Vec<Kept>,
    /// Instances where nothing is done now, and why.
    pub wait: Vec<Waiting>,
    /// Launches of unknown outcome whose task has come into the state.
    pub bind: Vec<Binding>,
    /// Launches of unknown outcome to ask ECS for.
    pub look_up: Vec<LookUp>,
    /// Closed launches that say nothing any more.
    pub forget_launches: Vec<(InstanceArn, LaunchId)>,
    /// Stops whose task is STOPPED or gone, or that nobody wants any more.
    pub end_stops: Vec<TaskArn>,
    /// The next step of its deployment.
    pub deployment: Option<DeploymentStep>,
    /// The environment is being deleted, and nothing of it is left.
    pub remove: bool,
    /// When to plan again although nothing has changed, on the replicated clock.
    pub wake_at_elapsed_ms: Option<u64>,
}

/// What is rolled out where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The cluster.
    pub cluster: ClusterId,
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its task definition.
    pub task_definition: TaskDefinitionArn,
}

/// A launch to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub instance: InstanceArn,
    /// Failures in a row before it.
    pub failures: u32,
    /// Attempts in a row before it whose call never left.
    pub not_sent: u32,
}

/// An outdated task to stop, so that the current one can take its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Where.
    pub instance: InstanceArn,
    /// The task to stop.
    pub task: TaskArn,
    /// What it runs.
    pub task_definition: TaskDefinitionArn,
    /// Whether it serves now, so that stopping it costs availability.
    pub available: bool,
    /// How often its stop was asked already.
    pub attempts: u32,
}

/// A task to stop for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStop {
    /// Where the call goes: not always the environment's own cluster, which may have changed.
    pub cluster: ClusterId,
    /// Where it runs.
    pub instance: InstanceArn,
    /// The task.
    pub task: TaskArn,
    /// Why.
    pub reason: StopReason,
    /// How often its stop was asked already.
    pub attempts: u32,
}

/// Why a task is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Another task definition is wanted.
    Replaced,
    /// An older task of the environment runs on the instance.
    Double,
    /// The environment no longer wants the instance.
    NotMatching,
    /// The instance is DRAINING.
    Draining,
    /// The environment is being deleted.
    EnvironmentDeleted,
}

impl StopReason {
    /// What ECS shows as `stoppedReason`.
    pub fn text(self) -> &'static str {
        match self {
            StopReason::Replaced => "blox: replaced by the environment's current task definition",
            StopReason::Double => "blox: an older task of the environment runs on this instance",
            StopReason::NotMatching => "blox: the environment no longer matches this instance",
            StopReason::Draining => "blox: the instance is draining",
            StopReason::EnvironmentDeleted => "blox: the environment is being deleted",
        }
    }
}

/// A task that is what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where.
    pub instance: InstanceArn,
    /// The task.
    pub task: TaskArn,
    /// Whether it is RUNNING.
    pub running: bool,
}

/// An instance where nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Where.
    pub instance: InstanceArn,
    /// What for.
    pub reason: WaitReason,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// ECS does not hear the agent: that is neither death nor absence.
    AgentDisconnected,
    /// The instance is deregistered or not known: ECS ends what ran there.
    InstanceGone,
    /// The instance is on its way in or out.
    InstanceStatus(String),
    /// The launch's outcome is not known yet.
    LaunchOpen {
        /// The call may still be under way.
        intended: bool,
    },
    /// The last launch failed.
    BackingOff {
        /// Failures in a row.
        failures: u32,
        /// Why it failed.
        reason: String,
        /// On the replicated clock.
        until_elapsed_ms: u64,
    },
    /// The task is being stopped.
    Stopping,
    /// ECS did not take the stop.
    StopBackingOff {
        /// Why.
        reason: String,
        /// On the replicated clock.
        until_elapsed_ms: u64,
    },
    /// As many instances are without a running daemon as the roll-out may have.
    MaxUnavailable {
        /// The environment's `max_unavailable`.
        limit: u32,
    },
    /// DRAINING, and tasks that are not daemons of ours still run there.
    OtherTasks {
        /// How many.
        count: usize,
    },
    /// The executor works on the slot.
    InFlight,
    /// The state came out of a backup, and its cluster was not wholly compared with ECS since.
    NotReconciledSinceRestore,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::AgentDisconnected => formatter.write_str("agent disconnected"),
            WaitReason::InstanceGone => formatter.write_str("the instance is gone"),
            WaitReason::InstanceStatus(status) => write!(formatter, "the instance is {status}"),
            WaitReason::LaunchOpen { intended: true } => formatter.write_str("a launch is under way"),
            WaitReason::LaunchOpen { intended: false } => formatter.write_str("the outcome of a launch is not known"),
            WaitReason::BackingOff {
                failures,
                reason,
                until_elapsed_ms,
            } => {
                write!(
                    formatter,
                    "{reason} (failures in a row: {failures}); again at {until_elapsed_ms} ms"
                )
            }
            WaitReason::Stopping => formatter.write_str("its task is being stopped"),
            WaitReason::StopBackingOff {
                reason,
                until_elapsed_ms,
            } => {
                write!(
                    formatter,
                    "its task could not be stopped: {reason}; again at {until_elapsed_ms} ms"
                )
            }
            WaitReason::MaxUnavailable { limit } => write!(formatter, "roll-out: at most {limit} unavailable"),
            WaitReason::OtherTasks { count } => write!(formatter, "draining: other tasks remain ({count})"),
            WaitReason::InFlight => formatter.write_str("being worked on"),
            WaitReason::NotReconciledSinceRestore => {
                formatter.write_str("restored from a backup, and not reconciled with ECS since")
            }
        }
    }
}

/// A launch whose task has come into the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Where.
    pub instance: InstanceArn,
    /// The launch.
    pub launch: LaunchId,
    /// Its task.
    pub task: TaskArn,
}

/// A launch to ask ECS for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// Where the call went.
    pub cluster: ClusterId,
    /// Where its task would run.
    pub instance: InstanceArn,
    /// The launch.
    pub launch: LaunchId,
    /// `startedBy` of its task.
    pub deployment: DeploymentId,
    /// A task in the state at this revision is not this launch's.
    pub intent_revision: u64,
    /// The record still says intended: it becomes unknown first.
    pub intended: bool,
}

/// The next step of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentStep {
    /// pending -> running.
    Begin,
    /// running -> completed.
    Complete,
}

impl EnvironmentPlan {
    pub(crate) fn new(environment: &EnvironmentId, name: &str) -> EnvironmentPlan {
        EnvironmentPlan {
            environment: environment.clone(),
            name: name.to_owned(),
            target: None,
            place: Vec::new(),
            replace: Vec::new(),
            stop: Vec::new(),
            keep: Vec::new(),
            wait: Vec::new(),
            bind: Vec::new(),
            look_up: Vec::new(),
            forget_launches: Vec::new(),
            end_stops: Vec::new(),
            deployment: None,
            remove: false,
            wake_at_elapsed_ms: None,
        }
    }

    /// Nothing is to be done for it, whatever is waited for.
    pub fn is_idle(&self) -> bool {
        self.place.is_empty()
            && self.replace.is_empty()
            && self.stop.is_empty()
            && self.bind.is_empty()
            && self.look_up.is_empty()
            && self.forget_launches.is_empty()
            && self.end_stops.is_empty()
            && self.deployment.is_none()
            && !self.remove
    }

    pub(crate) fn wait_for(&mut self, instance: &InstanceArn, reason: WaitReason) {
        if let WaitReason::BackingOff { until_elapsed_ms, .. } | WaitReason::StopBackingOff { until_elapsed_ms, .. } =
            &reason
        {
            self.wake_at(*until_elapsed_ms);
        }
        self.wait.push(Waiting {
            instance: instance.clone(),
            reason,
        });
    }

    pub(crate) fn wake_at(&mut self, elapsed_ms: u64) {
        self.wake_at_elapsed_ms = Some(
            self.wake_at_elapsed_ms
                .map_or(elapsed_ms, |earlier| earlier.min(elapsed_ms)),
        );
    }
}
