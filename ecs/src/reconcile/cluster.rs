//! One pass over one cluster: what the state holds, what ECS lists, what Describe says of both, and what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blox_runtime::time::Instant;
use blox_store::proto::{ForgetResource, ReconcilePass, ResourceKind};

use super::absence::{Absences, Asked};
use super::writer::Writer;
use super::{PassError, SECOND_LOOK_MS, is_inactive, known};
use crate::budget::Caller;
use crate::client::EcsClient;
use crate::request::{DESCRIBE_ARNS_MAX, EcsRequest, TaskListing};
use crate::state::{KnownResource, ReplicatedState};

/// What is remembered of a cluster between passes of one session.
#[derive(Debug, Default)]
pub(super) struct ClusterMemory {
    instances: Absences,
    tasks: Absences,
}

impl ClusterMemory {
    fn absences(&mut self, kind: ResourceKind) -> &mut Absences {
        match kind {
            ResourceKind::Instance => &mut self.instances,
            _ => &mut self.tasks,
        }
    }
}

/// One pass over one cluster.
pub(super) struct ClusterPass<'a> {
    pub(super) client: &'a EcsClient,
    pub(super) state: &'a dyn ReplicatedState,
    pub(super) cluster_arn: &'a str,
    pub(super) memory: &'a mut ClusterMemory,
}

/// What of one kind ECS and the state hold.
struct Looked {
    known: BTreeMap<String, KnownResource>,
    listed: BTreeSet<String>,
    missing: BTreeMap<String, Asked>,
}

impl ClusterPass<'_> {
    /// The whole pass. An error leaves the cluster as it was, apart from what Describe had already shown.
    pub(super) async fn run(mut self) -> Result<ReconcilePass, PassError> {
        let started_at_ms = self.state.wall_ms();
        let mut writer = Writer::new(self.state, self.client.source(), &started_at_ms.to_string());
        // Read before the lists begin: what changes meanwhile is not what is judged, and a task born meanwhile is not in here at all.
        let known_instances = self.known(ResourceKind::Instance)?;
        let known_tasks = self.known(ResourceKind::Task)?;

        let listed = self
            .list(&[self.instances_request()], !known_instances.is_empty())
            .await?;
        let instances = self
            .look(ResourceKind::Instance, known_instances, listed, &mut writer)
            .await?;
        let requests = [
            self.tasks_request(TaskListing::Running),
            self.tasks_request(TaskListing::Stopped),
        ];
        let listed = self.list(&requests, !known_tasks.is_empty()).await?;
        let tasks = self.look(ResourceKind::Task, known_tasks, listed, &mut writer).await?;
        writer.flush().await?;

        let counts = (instances.listed.len() as u64, tasks.listed.len() as u64);
        let missing = instances.missing.len() + tasks.missing.len();
        let mut gone = self.gone(ResourceKind::Instance, instances);
        gone.extend(self.gone(ResourceKind::Task, tasks));
        writer.forget(gone).await?;
        Ok(self.result(started_at_ms, counts, unjudged(missing, &writer), &writer))
    }

    /// The pass over a cluster that Describe called INACTIVE or MISSING: nothing can be in it, and it cannot be listed. Judged as if each of its
    /// resources had been called MISSING.
    pub(super) async fn run_without_cluster(mut self) -> Result<ReconcilePass, PassError> {
        let started_at_ms = self.state.wall_ms();
        let mut writer = Writer::new(self.state, self.client.source(), &started_at_ms.to_string());
        // Read before the cluster is asked for: what changes meanwhile is not what is judged.
        let known_instances = self.known(ResourceKind::Instance)?;
        let known_tasks = self.known(ResourceKind::Task)?;
        let asked = self.ask_for_cluster().await?;
        let mut gone = Vec::new();
        let missing = known_instances.len() + known_tasks.len();
        for (kind, known) in [
            (ResourceKind::Instance, known_instances),
            (ResourceKind::Task, known_tasks),
        ] {
            let missing = known.keys().map(|arn| (arn.clone(), asked)).collect();
            let looked = Looked {
                known,
                listed: BTreeSet::new(),
                missing,
            };
            gone.extend(self.gone(kind, looked));
        }
        writer.forget(gone).await?;
        Ok(self.result(started_at_ms, (0, 0), unjudged(missing, &writer), &writer))
    }

    /// Describes the cluster once more; an error unless it is INACTIVE or MISSING still.
    async fn ask_for_cluster(&self) -> Result<Asked, PassError> {
        let request = EcsRequest::DescribeClusters {
            clusters: vec![self.cluster_arn.to_string()],
        };
        let sent = Instant::now();
        let described = self
            .client
            .describe_chunk(Caller::Reconcile, self.cluster_arn, request)
            .await?;
        let answered = Instant::now();
        let is_gone = match described.observations.first() {
            Some(observation) => is_inactive(observation),
            None => described.missing().any(|arn| arn == self.cluster_arn),
        };
        match is_gone {
            true => Ok(Asked { sent, answered }),
            false => Err(PassError::Reappeared),
        }
    }

    /// `unjudged`: resources that ECS called MISSING and that may not be forgotten yet.
    fn result(
        &self,
        started_at_ms: i64,
        (instances, tasks): (u64, u64),
        unjudged: usize,
        writer: &Writer<'_>,
    ) -> ReconcilePass {
        ReconcilePass {
            cluster_arn: self.cluster_arn.to_string(),
            started_at_ms,
            ended_at_ms: self.state.wall_ms(),
            instances,
            tasks,
            drift_added: writer.drift.added,
            drift_changed: writer.drift.changed,
            drift_gone: writer.drift.gone,
            missing: unjudged as u64,
            settled: false,
        }
    }

    fn known(&self, kind: ResourceKind) -> Result<BTreeMap<String, KnownResource>, PassError> {
        known(self.state, kind, self.client.source(), Some(self.cluster_arn))
    }

    fn instances_request(&self) -> EcsRequest {
        EcsRequest::ListContainerInstances {
            cluster: self.cluster_arn.to_string(),
            next_token: None,
        }
    }

    fn tasks_request(&self, listing: TaskListing) -> EcsRequest {
        EcsRequest::ListTasks {
            cluster: self.cluster_arn.to_string(),
            listing,
            next_token: None,
        }
    }

    /// All that the requests list. Nothing at all, where there was something, is asked for a second time.
    async fn list(&self, requests: &[EcsRequest], had_some: bool) -> Result<BTreeSet<String>, PassError> {
        let mut listed = self.list_once(requests).await?;
        if listed.is_empty() && had_some {
            blox_runtime::time::sleep(Duration::from_millis(SECOND_LOOK_MS)).await;
            listed = self.list_once(requests).await?;
        }
        Ok(listed)
    }

    async fn list_once(&self, requests: &[EcsRequest]) -> Result<BTreeSet<String>, PassError> {
        let mut listed = BTreeSet::new();
        for request in requests {
            listed.extend(self.client.list(Caller::Reconcile, request.clone()).await?);
        }
        Ok(listed)
    }

    /// Describes what is listed and what is known, and gives what Describe called MISSING and no list held.
    async fn look(
        &self,
        kind: ResourceKind,
        known: BTreeMap<String, KnownResource>,
        listed: BTreeSet<String>,
        writer: &mut Writer<'_>,
    ) -> Result<Looked, PassError> {
        let wanted: Vec<String> = listed
            .iter()
            .chain(known.keys().filter(|arn| !listed.contains(*arn)))
            .cloned()
            .collect();
        let mut missing = BTreeMap::new();
        let mut foreign = BTreeSet::new();
        for chunk in wanted.chunks(DESCRIBE_ARNS_MAX) {
            let request = self.describe_request(kind, chunk.to_vec());
            let sent = Instant::now();
            let mut described = self
                .client
                .describe_chunk(Caller::Reconcile, self.cluster_arn, request)
                .await?;
            let answered = Instant::now();
            let is_missing = |arn: &&str| known.contains_key(*arn) && !listed.contains(*arn);
            let named = described.missing().filter(is_missing);
            missing.extend(named.map(|arn| (arn.to_string(), Asked { sent, answered })));
            // Some stand-ins list tasks of other clusters, too.
            described.observations.retain(|observation| {
                let is_ours = observation.cluster_arn == self.cluster_arn;
                if !is_ours {
                    foreign.insert(observation.arn.clone());
                }
                is_ours
            });
            writer.observe(described.observations).await?;
        }
        let listed = listed.difference(&foreign).cloned().collect();
        Ok(Looked { known, listed, missing })
    }

    fn describe_request(&self, kind: ResourceKind, arns: Vec<String>) -> EcsRequest {
        let cluster = self.cluster_arn.to_string();
        match kind {
            ResourceKind::Instance => EcsRequest::DescribeContainerInstances {
                cluster,
                instances: arns,
            },
            _ => EcsRequest::DescribeTasks { cluster, tasks: arns },
        }
    }

    /// What is to be forgotten: missing long enough, and only as it was before the lists began.
    fn gone(&mut self, kind: ResourceKind, looked: Looked) -> Vec<ForgetResource> {
        let gone = self.memory.absences(kind).judge(&looked.missing);
        let gone = looked.known.into_values().filter(|known| gone.contains(&known.arn));
        gone.map(|known| forget(kind, self.client.source(), self.cluster_arn, known))
            .collect()
    }
}

/// What ECS called missing and the state still holds: not missing for long enough, or changed since the lists began, so that the wish to forget
/// it was not followed.
fn unjudged(missing: usize, writer: &Writer<'_>) -> usize {
    missing.saturating_sub(usize::try_from(writer.drift.gone).unwrap_or(usize::MAX))
}

/// The wish to forget a resource as it was known.
pub(super) fn forget(kind: ResourceKind, source: &str, cluster_arn: &str, known: KnownResource) -> ForgetResource {
    ForgetResource {
        kind: kind.into(),
        source: source.to_string(),
        cluster_arn: cluster_arn.to_string(),
        arn: known.arn,
        mod_revision: known.mod_revision,
    }
}
