//! The planner's input, kept current from the state's changes: read once from a view, then followed by watch.

use std::collections::{BTreeMap, BTreeSet};

use blox_store::proto::stored_value::Body;
use blox_store::proto::{
    DeploymentRecord, DeploymentStatus, DrainPolicy, EnvironmentRecord, LaunchRecord, LaunchState, ResourceRecord,
    SourceStatus, StopRecord, StopState, StoredValue,
};
use blox_store::{Change, ClusterSelector, Key, Kind, ResourceFilter, Revision, StoreError, View};

use crate::limits::Limits;
use crate::names::{ClusterId, EnvironmentId, GROUP_PREFIX, TaskArn};
use crate::planner::input::{
    Deployment, DeploymentProgress, Drain, Environment, Instance, InstanceStatus, Launch, LaunchProgress, PlannerInput,
    Stop, StopProgress, Task, Wanted,
};

/// The kinds a plan depends on.
pub const KINDS: [Kind; 6] = [
    Kind::Instance,
    Kind::Task,
    Kind::Environment,
    Kind::Deployment,
    Kind::Launch,
    Kind::Stop,
];

/// The planner's input at one revision, and whose plans are out of date.
pub struct Mirror {
    input: PlannerInput,
    revision: Revision,
    names: BTreeMap<String, EnvironmentId>,
    dirty: BTreeSet<EnvironmentId>,
    dirty_clusters: BTreeSet<ClusterId>,
}

impl Mirror {
    /// Everything of a view; all of it is out of date.
    pub fn of(view: &View, limits: Limits) -> Result<Mirror, StoreError> {
        let mut mirror = Mirror::at(view, limits);
        for kind in [Kind::Environment, Kind::Deployment, Kind::Launch, Kind::Stop] {
            for (key, value) in view.scan(kind)? {
                mirror.put(&key, &value);
            }
        }
        mirror.put_resources(view, &ResourceFilter::default())?;
        Ok(mirror)
    }

    /// Only what one environment's plan depends on: its cluster and its own records.
    pub fn of_environment(view: &View, record: &EnvironmentRecord, limits: Limits) -> Result<Mirror, StoreError> {
        let mut mirror = Mirror::at(view, limits);
        mirror.put_environment(record);
        if let Some(deployment) = view.deployment(&record.id, &record.deployment_id)? {
            mirror.put_deployment(&deployment);
        }
        view.launches(&record.id)?
            .iter()
            .for_each(|launch| mirror.put_launch(launch));
        let stops = view.all_stops()?;
        stops
            .iter()
            .filter(|stop| stop.environment_id == record.id)
            .for_each(|stop| mirror.put_stop(stop));
        let spec = record.spec.clone().unwrap_or_default();
        let filter = ResourceFilter {
            cluster: Some(ClusterSelector::Arn(spec.cluster_arn)),
            source: Some(spec.source),
            ..ResourceFilter::default()
        };
        mirror.put_resources(view, &filter)?;
        Ok(mirror)
    }

    fn at(view: &View, limits: Limits) -> Mirror {
        let mut input = PlannerInput::new(limits);
        input.settled_since_restore = (view.restored_revision() > 0).then(BTreeSet::new);
        Mirror {
            input,
            revision: view.revision(),
            names: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_clusters: BTreeSet::new(),
        }
    }

    /// After the launches: they say whose task a task without a group is.
    fn put_resources(&mut self, view: &View, filter: &ResourceFilter) -> Result<(), StoreError> {
        for kind in [Kind::Instance, Kind::Task] {
            for record in view.list(kind, filter.clone())? {
                let record = record?;
                self.put_resource(kind, &record.resource, record.create_revision);
            }
        }
        Ok(())
    }

    /// What to plan from.
    pub fn input(&self) -> &PlannerInput {
        &self.input
    }

    /// What to plan from, to set the time and what is in flight.
    pub fn input_mut(&mut self) -> &mut PlannerInput {
        &mut self.input
    }

    /// The revision it shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether any plan is out of date.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.dirty_clusters.is_empty()
    }

    /// Calls an environment's plan out of date.
    pub fn touch(&mut self, environment: &EnvironmentId) {
        self.dirty.insert(environment.clone());
    }

    /// Calls every plan out of date.
    pub fn touch_all(&mut self) {
        self.dirty = self.input.environments.keys().cloned().collect();
    }

    /// The environments whose plans are out of date; from now on they are not.
    pub fn take_dirty(&mut self) -> BTreeSet<EnvironmentId> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let clusters = std::mem::take(&mut self.dirty_clusters);
        if !clusters.is_empty() {
            let environments = self.input.environments.iter();
            let concerned = environments.filter(|(_, environment)| {
                environment
                    .wanted
                    .as_ref()
                    .is_some_and(|wanted| clusters.contains(&wanted.cluster))
            });
            dirty.extend(concerned.map(|(id, _)| id.clone()));
        }
        dirty
    }

    /// Notes which clusters have been compared with ECS; said before the view of this mirror was taken.
    pub fn note_sources(&mut self, sources: &[SourceStatus]) {
        for (cluster, settled) in compared(sources) {
            if let Some(known) = self.input.settled_since_restore.as_mut().filter(|_| settled) {
                known.insert(cluster.clone());
            }
            self.input.reconciled.insert(cluster);
        }
    }

    /// Whether there is something in it that is not noted yet.
    pub fn would_note(&self, sources: &[SourceStatus]) -> bool {
        compared(sources).any(|(cluster, settled)| {
            let known = self.input.settled_since_restore.as_ref();
            let releases = settled && known.is_some_and(|known| !known.contains(&cluster));
            releases || !self.input.reconciled.contains(&cluster)
        })
    }

    /// Follows a batch of changes: everything up to and including `revision`.
    pub fn follow(&mut self, changes: &[Change], revision: Revision) {
        for change in changes {
            match &change.current {
                Some(value) => self.put(&change.key, value),
                None => self.remove(&change.key),
            }
        }
        self.revision = self.revision.max(revision);
    }

    fn put(&mut self, key: &Key, value: &StoredValue) {
        match &value.body {
            Some(Body::Resource(resource)) => self.put_resource(key.kind(), resource, value.create_revision),
            Some(Body::Environment(environment)) => self.put_environment(environment),
            Some(Body::Deployment(deployment)) => self.put_deployment(deployment),
            Some(Body::Launch(launch)) => self.put_launch(launch),
            Some(Body::Stop(stop)) => self.put_stop(stop),
            Some(Body::User(_)) | None => {}
        }
    }

    fn put_resource(&mut self, kind: Kind, resource: &ResourceRecord, create_revision: Revision) {
        let cluster = ClusterId::new(&resource.source, &resource.cluster_arn);
        match kind {
            Kind::Instance => self.input.put_instance(&cluster, instance(resource)),
            Kind::Task => self.put_task(&cluster, task(resource, create_revision)),
            _ => return,
        }
        self.dirty_clusters.insert(cluster);
    }

    /// Of other people's tasks only the live ones matter: they hold back a drain.
    fn put_task(&mut self, cluster: &ClusterId, task: Task) {
        if task.is_stopped() && !task.group.starts_with(GROUP_PREFIX) && !self.is_bound(cluster, &task) {
            self.input.remove_task(cluster, task.arn.as_str());
        } else {
            self.input.put_task(cluster, task);
        }
    }

    /// Whether a launch started the task: a stand-in for ECS may know no groups.
    fn is_bound(&self, cluster: &ClusterId, task: &Task) -> bool {
        let launches = self
            .input
            .environments
            .values()
            .filter_map(|environment| environment.launches.get(&task.instance));
        launches
            .into_iter()
            .any(|launch| launch.cluster == *cluster && (launch.is_open() || launch.task() == Some(&task.arn)))
    }

    fn environment(&mut self, id: &str) -> &mut Environment {
        let id = EnvironmentId::from(id);
        self.dirty.insert(id.clone());
        self.input.environments.entry(id).or_default()
    }

    fn put_environment(&mut self, record: &EnvironmentRecord) {
        self.remove_environment(&record.name, Some(&record.id));
        self.names
            .insert(record.name.clone(), EnvironmentId::from(record.id.as_str()));
        let environment = self.environment(&record.id);
        environment.wanted = Some(wanted(record));
        environment.deployments.retain(|id, deployment| {
            id.as_str() == record.deployment_id || deployment.status == DeploymentProgress::Pending
        });
    }

    /// Old deployments say nothing about what is wanted; a pending one may be about to become the newest.
    fn put_deployment(&mut self, record: &DeploymentRecord) {
        let deployment = Deployment {
            task_definition: record.task_definition_arn.as_str().into(),
            status: match record.status() {
                DeploymentStatus::Pending | DeploymentStatus::Unspecified => DeploymentProgress::Pending,
                DeploymentStatus::Running => DeploymentProgress::Running,
                DeploymentStatus::Completed => DeploymentProgress::Completed,
                DeploymentStatus::Superseded => DeploymentProgress::Superseded,
            },
        };
        let environment = self.environment(&record.environment_id);
        let current = environment
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.deployment.as_ref());
        if deployment.status == DeploymentProgress::Pending || current.is_some_and(|id| id.as_str() == record.id) {
            environment.deployments.insert(record.id.as_str().into(), deployment);
        } else {
            environment.deployments.remove(record.id.as_str());
        }
    }

    fn put_launch(&mut self, record: &LaunchRecord) {
        let launch = launch(record);
        self.environment(&record.environment_id)
            .launches
            .insert(record.instance_arn.as_str().into(), launch);
    }

    fn put_stop(&mut self, record: &StopRecord) {
        let stop = stop(record);
        self.environment(&record.environment_id)
            .stops
            .insert(record.task_arn.as_str().into(), stop);
    }

    fn remove(&mut self, key: &Key) {
        let parts = key.parts();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (key.kind(), parts.as_slice()) {
            (Kind::Instance, [source, cluster, arn]) => {
                let cluster = ClusterId::new(source, cluster);
                self.input.remove_instance(&cluster, arn);
                self.dirty_clusters.insert(cluster);
            }
            (Kind::Task, [source, cluster, arn]) => {
                let cluster = ClusterId::new(source, cluster);
                self.input.remove_task(&cluster, arn);
                self.dirty_clusters.insert(cluster);
            }
            (Kind::Environment, [name]) => self.remove_environment(name, None),
            (Kind::Deployment, [environment, deployment]) => {
                self.environment(environment).deployments.remove(*deployment);
                self.drop_if_empty(environment);
            }
            (Kind::Launch, [environment, instance]) => {
                self.environment(environment).launches.remove(*instance);
                self.drop_if_empty(environment);
            }
            (Kind::Stop, [environment, task]) => {
                self.environment(environment).stops.remove(*task);
                self.drop_if_empty(environment);
            }
            _ => {}
        }
    }

    /// Forgets the environment of that name, unless it is the one of that id.
    fn remove_environment(&mut self, name: &str, unless: Option<&str>) {
        let Some(id) = self.names.get(name).filter(|id| Some(id.as_str()) != unless).cloned() else {
            return;
        };
        self.names.remove(name);
        self.environment(id.as_str()).wanted = None;
        self.drop_if_empty(id.as_str());
    }

    fn drop_if_empty(&mut self, id: &str) {
        if self.input.environments.get(id).is_some_and(Environment::is_empty) {
            self.input.environments.remove(id);
        }
    }
}

fn instance(resource: &ResourceRecord) -> Instance {
    let fields = resource.fields.clone().unwrap_or_default();
    Instance {
        arn: resource.arn.as_str().into(),
        status: InstanceStatus::of(&fields.status),
        agent_connected: fields.agent_connected,
        attributes: fields
            .attributes
            .into_iter()
            .map(|attribute| (attribute.name, attribute.value))
            .collect(),
    }
}

fn task(resource: &ResourceRecord, create_revision: Revision) -> Task {
    let fields = resource.fields.clone().unwrap_or_default();
    Task {
        arn: resource.arn.as_str().into(),
        create_revision,
        group: fields.group,
        started_by: fields.started_by,
        task_definition: fields.task_definition_arn.into(),
        instance: fields.instance_arn.into(),
        last_status: fields.status,
        stop_desired: fields.desired_status == "STOPPED",
        created_at_ms: fields.created_at_ms,
        started_at_ms: fields.started_at_ms,
        stopped_at_ms: fields.stopped_at_ms,
        stop_code: fields.stop_code,
        stopped_reason: fields.stopped_reason,
    }
}

fn wanted(record: &EnvironmentRecord) -> Wanted {
    let spec = record.spec.clone().unwrap_or_default();
    let drain = match spec.drain_policy() {
        DrainPolicy::Last => Drain::Last,
        DrainPolicy::First => Drain::First,
        DrainPolicy::Never => Drain::Never,
    };
    Wanted {
        name: record.name.clone(),
        cluster: ClusterId::new(&spec.source, &spec.cluster_arn),
        attributes: spec
            .attributes
            .into_iter()
            .map(|attribute| (attribute.name, attribute.value))
            .collect(),
        max_unavailable: spec.max_unavailable,
        drain,
        deployment: (!record.deployment_id.is_empty()).then(|| record.deployment_id.as_str().into()),
        deleting: record.deleting,
    }
}

fn launch(record: &LaunchRecord) -> Launch {
    let first_empty = record.first_empty_lookup_elapsed_ms;
    let state = match record.state() {
        LaunchState::Intended => LaunchProgress::Intended,
        LaunchState::Unknown | LaunchState::Unspecified => LaunchProgress::Unknown {
            first_empty_look_up_elapsed_ms: (first_empty != 0).then_some(first_empty),
        },
        LaunchState::Rejected => LaunchProgress::Rejected {
            reason: record.reason.clone(),
            detail: record.detail.clone(),
            retry_at_elapsed_ms: record.retry_at_elapsed_ms,
        },
        LaunchState::Bound => LaunchProgress::Bound {
            task: TaskArn::from(record.task_arn.as_str()),
        },
        LaunchState::Vanished => LaunchProgress::Vanished,
    };
    Launch {
        id: record.id.as_str().into(),
        deployment: record.deployment_id.as_str().into(),
        cluster: ClusterId::new(&record.source, &record.cluster_arn),
        state,
        intent_revision: record.intent_revision,
        intended_at_elapsed_ms: record.intended_at_elapsed_ms,
        call_deadline_elapsed_ms: record.call_deadline_elapsed_ms,
        failures: record.failures,
        not_sent: record.not_sent,
    }
}

fn stop(record: &StopRecord) -> Stop {
    let state = match record.state() {
        StopState::Intended | StopState::Unspecified => StopProgress::Intended,
        StopState::Requested => StopProgress::Requested,
        StopState::Failed => StopProgress::Failed {
            reason: record.failure.clone(),
            retry_at_elapsed_ms: record.retry_at_elapsed_ms,
        },
    };
    Stop {
        cluster: ClusterId::new(&record.source, &record.cluster_arn),
        instance: record.instance_arn.as_str().into(),
        state,
        call_deadline_elapsed_ms: record.call_deadline_elapsed_ms,
        attempts: record.attempts,
    }
}

/// The clusters that reconcile has compared with ECS, and whether each is settled since the last restore.
fn compared(sources: &[SourceStatus]) -> impl Iterator<Item = (ClusterId, bool)> + '_ {
    let passes = |source: &'_ SourceStatus| -> Vec<(ClusterId, bool)> {
        let pass = source.passes.iter();
        pass.map(|pass| (ClusterId::new(&source.source, &pass.cluster_arn), pass.settled))
            .collect()
    };
    sources.iter().flat_map(passes)
}
