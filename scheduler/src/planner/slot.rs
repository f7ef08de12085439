//! A slot: one instance as one environment sees it.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{EnvironmentId, InstanceArn, SlotKey, TaskArn, TaskDefinitionArn};
use crate::planner::input::{Environment, Instance, InstanceStatus, Launch, PlannerInput, StopProgress, Task, Wanted};

/// One instance as one environment sees it.
#[derive(Debug)]
pub struct Slot<'a> {
    /// The instance.
    pub arn: &'a InstanceArn,
    /// Whether the environment's task belongs there.
    pub fitness: Fitness,
    /// The environment's tasks there that are not STOPPED, the oldest first.
    pub live: Vec<&'a Task>,
    /// The latest launch there.
    pub launch: Option<&'a Launch>,
    /// The executor works on it.
    pub in_flight: bool,
    stopping: BTreeSet<&'a TaskArn>,
}

/// Whether an environment's task belongs on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// ACTIVE, its agent connected, its attributes match: exactly one task runs there.
    Eligible,
    /// As eligible, but its agent is not connected: what is there stays.
    Disconnected,
    /// Matches, and is to be emptied.
    Draining,
    /// Its attributes do not match.
    NotMatching,
    /// Matches, in a status of its own.
    Other(String),
    /// INACTIVE, or not in the state.
    Gone,
}

impl Fitness {
    /// The fitness of an instance for an environment.
    pub fn of(instance: Option<&Instance>, wanted: &Wanted) -> Fitness {
        let Some(instance) = instance.filter(|instance| instance.status != InstanceStatus::Inactive) else {
            return Fitness::Gone;
        };
        if !matches(instance, &wanted.attributes) {
            return Fitness::NotMatching;
        }
        match &instance.status {
            InstanceStatus::Active if instance.agent_connected => Fitness::Eligible,
            InstanceStatus::Active => Fitness::Disconnected,
            InstanceStatus::Draining => Fitness::Draining,
            InstanceStatus::Other(status) => Fitness::Other(status.clone()),
            InstanceStatus::Inactive => Fitness::Gone,
        }
    }
}

fn matches(instance: &Instance, asked: &[(String, String)]) -> bool {
    asked.iter().all(|(name, value)| match instance.attributes.get(name) {
        Some(actual) => value.is_empty() || actual == value,
        None => false,
    })
}

impl<'a> Slot<'a> {
    /// The launch there whose outcome is not known.
    pub fn open_launch(&self) -> Option<&'a Launch> {
        self.launch.filter(|launch| launch.is_open())
    }

    /// The task that stays where there are several: the oldest that is not being stopped.
    pub fn kept(&self) -> Option<&'a Task> {
        let unstopped = self.live.iter().find(|task| !self.stopping.contains(&task.arn));
        unstopped.or(self.live.first()).copied()
    }

    /// The doubles: all but the one that stays.
    pub fn doubles(&self) -> impl Iterator<Item = &'a Task> {
        let kept = self.kept().map(|task| &task.arn);
        self.live.iter().copied().filter(move |task| Some(&task.arn) != kept)
    }

    /// A daemon runs there, old or current, and nobody stops it.
    pub fn is_available(&self) -> bool {
        !self.in_flight
            && self
                .kept()
                .is_some_and(|task| task.is_running() && !self.stopping.contains(&task.arn))
    }

    /// The wanted daemon runs there, and nobody stops it.
    pub fn runs(&self, wanted: &TaskDefinitionArn) -> bool {
        self.is_available() && self.kept().is_some_and(|task| task.task_definition == *wanted)
    }

    /// Whether a roll-out must count it as an instance without a daemon. An instance whose agent went away while its daemon was being
    /// replaced counts too, or every flap would let the roll-out go one instance further.
    pub fn counts_as_unavailable(&self) -> bool {
        match self.fitness {
            Fitness::Eligible => !self.is_available(),
            Fitness::Disconnected => {
                !self.is_available() && (!self.live.is_empty() || self.launch.is_some() || self.in_flight)
            }
            _ => false,
        }
    }
}

/// The tasks of an environment that are not STOPPED, in its own cluster as its own source sees it: by their group, or because a launch of it
/// started them (a stand-in for ECS may know no groups).
pub fn live_tasks<'a>(
    input: &'a PlannerInput,
    id: &EnvironmentId,
    environment: &'a Environment,
    wanted: &'a Wanted,
) -> BTreeMap<&'a TaskArn, &'a Task> {
    let by_group = input
        .tasks_of(id)
        .filter(|(cluster, _)| **cluster == wanted.cluster)
        .map(|(_, task)| task);
    let by_launch = environment
        .launches
        .values()
        .filter_map(|launch| input.task(&wanted.cluster, launch.task()?));
    by_group
        .chain(by_launch)
        .filter(|task| !task.is_stopped())
        .map(|task| (&task.arn, task))
        .collect()
}

/// The slots of a wanted environment, by instance ARN: every instance of its cluster, and every other where a task or an open launch of it
/// is.
pub fn slots<'a>(
    input: &'a PlannerInput,
    id: &EnvironmentId,
    environment: &'a Environment,
    wanted: &'a Wanted,
) -> Vec<Slot<'a>> {
    let mut live_by_instance: BTreeMap<&InstanceArn, Vec<&Task>> = BTreeMap::new();
    for task in live_tasks(input, id, environment, wanted).into_values() {
        live_by_instance.entry(&task.instance).or_default().push(task);
    }
    let cluster = input.cluster(&wanted.cluster);
    let mut arns: BTreeSet<&InstanceArn> = live_by_instance.keys().copied().collect();
    arns.extend(
        cluster
            .into_iter()
            .flat_map(|cluster| cluster.instances())
            .map(|instance| &instance.arn),
    );
    arns.extend(
        environment
            .launches
            .iter()
            .filter(|(_, launch)| launch.is_open())
            .map(|(arn, _)| arn),
    );
    let slots = arns.into_iter().map(|arn| {
        let mut live = live_by_instance.remove(arn).unwrap_or_default();
        live.sort_by_key(|task| task.age_order());
        let instance = cluster.and_then(|cluster| cluster.instance(arn));
        let key = SlotKey {
            environment: id.clone(),
            instance: arn.clone(),
        };
        Slot {
            arn,
            fitness: Fitness::of(instance, wanted),
            stopping: live
                .iter()
                .filter(|task| is_stopping(environment, task))
                .map(|task| &task.arn)
                .collect(),
            live,
            launch: environment.launches.get(arn),
            in_flight: input.in_flight.contains(&key),
        }
    });
    slots.collect()
}

fn is_stopping(environment: &Environment, task: &Task) -> bool {
    task.stop_desired || environment.stops.contains_key(&task.arn)
}

/// Whether a task's stop is to be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopTurn {
    /// Nobody asked yet, or the last try failed and its wait is over.
    Due {
        /// How often it was asked.
        attempts: u32,
    },
    /// It is on its way.
    InProgress {
        /// When to look again; `None`: ECS stops it, and will say when it is done.
        until_elapsed_ms: Option<u64>,
    },
    /// The last try failed.
    Held {
        /// Why.
        reason: String,
        /// Not asked again before this.
        until_elapsed_ms: u64,
    },
}

impl StopTurn {
    /// How far the stop of a live task is.
    pub fn of(input: &PlannerInput, environment: &Environment, task: &Task) -> StopTurn {
        if task.stop_desired {
            return StopTurn::InProgress { until_elapsed_ms: None };
        }
        let Some(stop) = environment.stops.get(&task.arn) else {
            return StopTurn::Due { attempts: 0 };
        };
        let due = StopTurn::Due {
            attempts: stop.attempts,
        };
        match &stop.state {
            StopProgress::Failed {
                reason,
                retry_at_elapsed_ms,
            } if input.now_elapsed_ms < *retry_at_elapsed_ms => StopTurn::Held {
                reason: reason.clone(),
                until_elapsed_ms: *retry_at_elapsed_ms,
            },
            StopProgress::Failed { .. } => due,
            // ECS took it and will stop the task, at the latest when it hears the agent again.
            StopProgress::Requested => StopTurn::InProgress { until_elapsed_ms: None },
            StopProgress::Intended => {
                let until = stop.call_deadline_elapsed_ms + input.limits.abandoned_after_ms;
                if input.now_elapsed_ms < until {
                    StopTurn::InProgress {
                        until_elapsed_ms: Some(until),
                    }
                } else {
                    due
                }
            }
        }
    }
}
