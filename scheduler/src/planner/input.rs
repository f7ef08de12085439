//! What a plan is made of: plain values, read from the state by [`crate::mirror`] or written by hand in a test.

use std::collections::{BTreeMap, BTreeSet};

use blox_store::Revision;

use crate::limits::Limits;
use crate::names::{
    ClusterId, DeploymentId, EnvironmentId, InstanceArn, LaunchId, SlotKey, TaskArn, TaskDefinitionArn,
    environment_of_group,
};

/// Everything the planner looks at.
#[derive(Clone, Debug, Default)]
pub struct PlannerInput {
    /// The replicated clock, milliseconds.
    pub now_elapsed_ms: u64,
    /// The scheduler's times.
    pub limits: Limits,
    /// Environments by id; also those that are gone but have left launches or stops behind.
    pub environments: BTreeMap<EnvironmentId, Environment>,
    /// Clusters that were compared with ECS at least once: only there do no instances mean that there are none.
    pub reconciled: BTreeSet<ClusterId>,
    /// Where the state came out of a backup: the clusters of which a whole pass has found since that the state holds what ECS does. `None`: it
    /// never came out of one.
    pub settled_since_restore: Option<BTreeSet<ClusterId>>,
    /// Slots the executor works on now: the state does not yet show what it does there.
    pub in_flight: BTreeSet<SlotKey>,
    clusters: BTreeMap<ClusterId, Cluster>,
    tasks_of_environments: BTreeMap<EnvironmentId, BTreeSet<(ClusterId, TaskArn)>>,
}

/// A cluster's instances and tasks.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    instances: BTreeMap<InstanceArn, Instance>,
    tasks: BTreeMap<TaskArn, Task>,
    tasks_of_instances: BTreeMap<InstanceArn, BTreeSet<TaskArn>>,
}

/// A container instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its ARN.
    pub arn: InstanceArn,
    /// Its status.
    pub status: InstanceStatus,
    /// Whether ECS hears its agent.
    pub agent_connected: bool,
    /// Its attributes; the value is empty where ECS gives none.
    pub attributes: BTreeMap<String, String>,
}

/// A container instance's `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    /// Takes tasks.
    Active,
    /// To be emptied.
    Draining,
    /// Deregistered: its tasks are ECS's to end.
    Inactive,
    /// Any other (REGISTERING, DEREGISTERING, ...).
    Other(String),
}

impl InstanceStatus {
    /// The status of ECS's word.
    pub fn of(word: &str) -> InstanceStatus {
        match word {
            "ACTIVE" => InstanceStatus::Active,
            "DRAINING" => InstanceStatus::Draining,
            "INACTIVE" => InstanceStatus::Inactive,
            other => InstanceStatus::Other(other.to_owned()),
        }
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: TaskArn,
    /// Revision at which it came into the state.
    pub create_revision: Revision,
    /// `group`; ours begins with [`crate::names::GROUP_PREFIX`].
    pub group: String,
    /// `startedBy`; ours is the deployment's id.
    pub started_by: String,
    /// What it runs.
    pub task_definition: TaskDefinitionArn,
    /// Where it runs.
    pub instance: InstanceArn,
    /// `lastStatus`, as ECS writes it.
    pub last_status: String,
    /// `desiredStatus` is STOPPED.
    pub stop_desired: bool,
    /// ECS's clock, milliseconds since the epoch; 0: not there.
    pub created_at_ms: i64,
    /// ECS's clock; 0: it never ran.
    pub started_at_ms: i64,
    /// ECS's clock; 0: not there.
    pub stopped_at_ms: i64,
    /// `stopCode`.
    pub stop_code: String,
    /// `stoppedReason`.
    pub stopped_reason: String,
}

impl Task {
    /// Whether it is known to be over.
    pub fn is_stopped(&self) -> bool {
        self.last_status == "STOPPED"
    }

    /// Whether its containers run.
    pub fn is_running(&self) -> bool {
        self.last_status == "RUNNING"
    }

    /// The order of age: what came first is older.
    pub(crate) fn age_order(&self) -> (i64, &TaskArn) {
        (self.created_at_ms, &self.arn)
    }
}

/// An environment with all that belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// What is wanted; `None`: the environment is gone, and only what it left behind is here.
    pub wanted: Option<Wanted>,
    /// Deployments by id, the newest among them.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// The latest launch of each instance.
    pub launches: BTreeMap<InstanceArn, Launch>,
    /// Stops that are not over.
    pub stops: BTreeMap<TaskArn, Stop>,
}

impl Environment {
    /// The deployment whose task definition is wanted.
    pub fn current_deployment(&self) -> Option<(&DeploymentId, &Deployment)> {
        self.deployments
            .get_key_value(self.wanted.as_ref()?.deployment.as_ref()?)
    }

    /// Nothing of it is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.launches.is_empty() && self.stops.is_empty()
    }
}

/// What an environment wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Where.
    pub cluster: ClusterId,
    /// Attributes an instance must have; an empty value asks only for the attribute.
    pub attributes: Vec<(String, String)>,
    /// Instances that may be without a running daemon because of a roll-out; at least 1.
    pub max_unavailable: u32,
    /// When our tasks leave a DRAINING instance.
    pub drain: Drain,
    /// The newest deployment; `None`: nothing is placed yet.
    pub deployment: Option<DeploymentId>,
    /// Everything of it is being stopped, and then it goes.
    pub deleting: bool,
}

/// When a daemon leaves a DRAINING instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// When only daemons of ours remain there.
    Last,
    /// At once.
    First,
    /// Never.
    Never,
}

/// One roll-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// What it rolls out.
    pub task_definition: TaskDefinitionArn,
    /// How far it is.
    pub status: DeploymentProgress,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentProgress {
    /// Nobody has begun.
    Pending,
    /// Under way.
    Running,
    /// Every eligible instance ran its task.
    Completed,
    /// A newer one took its place.
    Superseded,
}

/// One attempt to start one task on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its id.
    pub id: LaunchId,
    /// The deployment it belongs to: `startedBy` of its task.
    pub deployment: DeploymentId,
    /// Where the call goes.
    pub cluster: ClusterId,
    /// What became of it.
    pub state: LaunchProgress,
    /// A task in the state at this revision is not this launch's.
    pub intent_revision: Revision,
    /// Replicated clock of the intent.
    pub intended_at_elapsed_ms: u64,
    /// The call was made before this, or never.
    pub call_deadline_elapsed_ms: u64,
    /// Failures in a row before this attempt.
    pub failures: u32,
    /// Attempts in a row before this one whose call never left.
    pub not_sent: u32,
}

/// What became of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchProgress {
    /// The call may be under way.
    Intended,
    /// The call may have started a task.
    Unknown {
        /// When a look-up first found nothing.
        first_empty_look_up_elapsed_ms: Option<u64>,
    },
    /// Definitely no task was started.
    Rejected {
        /// ECS's word, or ours.
        reason: String,
        /// More of it.
        detail: String,
        /// Not tried again before this.
        retry_at_elapsed_ms: u64,
    },
    /// It started this task.
    Bound {
        /// The task.
        task: TaskArn,
    },
    /// Nothing came of it: two look-ups found nothing.
    Vanished,
}

impl Launch {
    /// Whether its outcome is still to be known.
    pub fn is_open(&self) -> bool {
        matches!(self.state, LaunchProgress::Intended | LaunchProgress::Unknown { .. })
    }

    /// The task it started, if known.
    pub fn task(&self) -> Option<&TaskArn> {
        match &self.state {
            LaunchProgress::Bound { task } => Some(task),
            _ => None,
        }
    }
}

/// One stop asked of ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Where the call goes.
    pub cluster: ClusterId,
    /// The instance the task runs on.
    pub instance: InstanceArn,
    /// How far it is.
    pub state: StopProgress,
    /// The call was made before this, or never.
    pub call_deadline_elapsed_ms: u64,
    /// How often it was asked.
    pub attempts: u32,
}

/// How far a stop is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopProgress {
    /// The call may be under way.
    Intended,
    /// ECS took it.
    Requested,
    /// ECS refused it, or nobody knows.
    Failed {
        /// Why.
        reason: String,
        /// Not asked again before this.
        retry_at_elapsed_ms: u64,
    },
}

impl PlannerInput {
    /// Nothing known yet.
    pub fn new(limits: Limits) -> PlannerInput {
        PlannerInput {
            limits,
            ..PlannerInput::default()
        }
    }

    /// Whether nothing may be started or stopped in a cluster yet: the state came out of a backup, and may be wrong about it.
    pub fn is_held(&self, cluster: &ClusterId) -> bool {
        self.settled_since_restore
            .as_ref()
            .is_some_and(|settled| !settled.contains(cluster))
    }

    /// The clusters of wanted environments in which nothing may be started or stopped yet.
    pub fn held_clusters(&self) -> BTreeSet<ClusterId> {
        let wanted = self
            .environments
            .values()
            .filter_map(|environment| environment.wanted.as_ref());
        wanted
            .map(|wanted| &wanted.cluster)
            .filter(|cluster| self.is_held(cluster))
            .cloned()
            .collect()
    }

    /// A cluster, if anything in it is known.
    pub fn cluster(&self, id: &ClusterId) -> Option<&Cluster> {
        self.clusters.get(id)
    }

    /// Puts an instance in the place of what was known of it.
    pub fn put_instance(&mut self, cluster: &ClusterId, instance: Instance) {
        let known = self.clusters.entry(cluster.clone()).or_default();
        known.instances.insert(instance.arn.clone(), instance);
    }

    /// Forgets an instance.
    pub fn remove_instance(&mut self, cluster: &ClusterId, arn: &str) {
        if let Some(known) = self.clusters.get_mut(cluster) {
            known.instances.remove(arn);
        }
    }

    /// Puts a task in the place of what was known of it.
    pub fn put_task(&mut self, cluster: &ClusterId, task: Task) {
        self.remove_task(cluster, task.arn.as_str());
        if let Some(environment) = environment_of_group(&task.group) {
            let tasks = self
                .tasks_of_environments
                .entry(EnvironmentId::from(environment))
                .or_default();
            tasks.insert((cluster.clone(), task.arn.clone()));
        }
        let known = self.clusters.entry(cluster.clone()).or_default();
        known
            .tasks_of_instances
            .entry(task.instance.clone())
            .or_default()
            .insert(task.arn.clone());
        known.tasks.insert(task.arn.clone(), task);
    }

    /// Forgets a task, and gives what was known of it.
    pub fn remove_task(&mut self, cluster: &ClusterId, arn: &str) -> Option<Task> {
        let known = self.clusters.get_mut(cluster)?;
        let task = known.tasks.remove(arn)?;
        if let Some(tasks) = known.tasks_of_instances.get_mut(&task.instance) {
            tasks.remove(arn);
            if tasks.is_empty() {
                known.tasks_of_instances.remove(&task.instance);
            }
        }
        if let Some(environment) = environment_of_group(&task.group)
            && let Some(tasks) = self.tasks_of_environments.get_mut(environment)
        {
            tasks.remove(&(cluster.clone(), task.arn.clone()));
            if tasks.is_empty() {
                self.tasks_of_environments.remove(environment);
            }
        }
        Some(task)
    }

    /// All tasks that carry an environment's group, STOPPED ones too.
    pub fn tasks_of(&self, environment: &EnvironmentId) -> impl Iterator<Item = (&ClusterId, &Task)> {
        let places = self.tasks_of_environments.get(environment).into_iter().flatten();
        places.filter_map(|(cluster, arn)| Some((cluster, self.clusters.get(cluster)?.tasks.get(arn)?)))
    }

    /// One task.
    pub fn task(&self, cluster: &ClusterId, arn: &TaskArn) -> Option<&Task> {
        self.clusters.get(cluster)?.tasks.get(arn)
    }
}

impl Cluster {
    /// Its instances, by ARN.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// One instance.
    pub fn instance(&self, arn: &InstanceArn) -> Option<&Instance> {
        self.instances.get(arn)
    }

    /// The tasks of one instance, anybody's.
    pub fn tasks_on(&self, instance: &InstanceArn) -> impl Iterator<Item = &Task> {
        let arns = self.tasks_of_instances.get(instance).into_iter().flatten();
        arns.filter_map(|arn| self.tasks.get(arn))
    }
}
