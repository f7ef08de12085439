//! Reconcile: continuously, the state against List and Describe, source by source and cluster by cluster.
//!
//! A pass over a source describes its clusters, then passes over each, a few at once, those whose last pass is oldest first: so a new leader goes
//! on where the one before stopped. A cluster that fails keeps its state and is tried again in the next pass; the others do not notice.

mod absence;
mod cluster;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blox_runtime::time::Instant;
use blox_store::proto::{Observation, ReconcilePass, ResourceKind};
use futures::StreamExt;
use serde::Deserialize;

use self::absence::{Absences, Asked};
use self::cluster::{ClusterMemory, ClusterPass};
use self::writer::Writer;
use crate::answer::{Described, REASON_MISSING};
use crate::budget::Caller;
use crate::error::CallError;
use crate::request::EcsRequest;
use crate::source::Source;
use crate::state::{DutyEnd, KnownResource, ReplicatedState};

/// Clusters of one source that are passed over at once.
const CLUSTERS_AT_ONCE: usize = 4;
/// The longest pause after a pass in which something failed.
const FAILED_PAUSE_MS_MAX: u64 = 10_000;
/// Pause before an empty list is asked for again where the state holds resources.
const SECOND_LOOK_MS: u64 = 2_000;
/// The status of a cluster that was deleted.
const STATUS_INACTIVE: &str = "INACTIVE";

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// ECS did not answer, or refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was found could not be written.
    #[error("what was found could not be written: {0}")]
    Proposal(String),
    /// The cluster was gone at the begin of the pass, and is not now.
    #[error("ECS called the cluster INACTIVE or MISSING, and a moment later did not")]
    Reappeared,
    /// The duty ends with it.
    #[error(transparent)]
    End(#[from] DutyEnd),
}

/// Reconciles until the session ends, and says why.
pub(crate) async fn run(source: &Source, state: &dyn ReplicatedState) -> DutyEnd {
    let mut reconcile = Reconcile {
        source,
        state,
        clusters: Absences::default(),
        memories: BTreeMap::new(),
    };
    loop {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(source.config().reconcile_pause_ms);
        match reconcile.pass().await {
            Ok(true) => reconcile.count_success(begun),
            Ok(false) => pause = pause.min(Duration::from_millis(FAILED_PAUSE_MS_MAX)),
            Err(PassError::End(end)) => return end,
            Err(error) => {
                tracing::warn!(source = source.name(), %error, "the clusters of the source could not be looked at");
                reconcile.count("blox_reconcile_failures_total", 1);
                pause = pause.min(Duration::from_millis(FAILED_PAUSE_MS_MAX));
            }
        }
        blox_runtime::time::sleep(pause).await;
    }
}

/// Reconcile of one source under one session.
struct Reconcile<'a> {
    source: &'a Source,
    state: &'a dyn ReplicatedState,
    clusters: Absences,
    memories: BTreeMap<String, ClusterMemory>,
}

/// The clusters of a source, as Describe shows them.
#[derive(Default)]
struct Clusters {
    /// They can be listed.
    active: BTreeSet<String>,
    /// Deleted, but still described.
    inactive: BTreeSet<String>,
    /// Known, not listed, and MISSING for Describe.
    missing: BTreeMap<String, Asked>,
    /// All clusters could be listed, and each was described or called MISSING.
    complete: bool,
}

#[derive(Deserialize)]
struct ClusterStatus {
    status: Option<String>,
}

impl Reconcile<'_> {
    /// One pass over the source; whether it came to its end: over every cluster, but those that this node may not read.
    async fn pass(&mut self) -> Result<bool, PassError> {
        let known = self.known_clusters()?;
        let clusters = self.look(&known).await?;
        let mut complete = clusters.complete;
        let mut denied = Vec::new();
        let order = self.in_order(&clusters)?;
        self.memories.retain(|arn, _| order.contains(arn));
        let mut memories = std::mem::take(&mut self.memories);
        let this = &*self;
        let clusters_here = &clusters;
        let passes = order.into_iter().map(|arn| {
            let mut memory = memories.remove(&arn).unwrap_or_default();
            async move {
                let result = this
                    .pass_cluster(&arn, clusters_here.active.contains(&arn), &mut memory)
                    .await;
                (arn, memory, result)
            }
        });
        let passes: Vec<_> = passes.collect();
        let mut passes = futures::stream::iter(passes).buffer_unordered(CLUSTERS_AT_ONCE);
        let mut kept = BTreeMap::new();
        while let Some((arn, memory, result)) = passes.next().await {
            match result {
                Err(PassError::End(end)) => return Err(end.into()),
                Err(error) => {
                    tracing::warn!(source = this.source.name(), cluster = arn, %error, "the pass over a cluster failed");
                    this.count("blox_reconcile_failures_total", 1);
                    match error {
                        PassError::Call(error) if error.is_access_denied() => denied.push(arn.clone()),
                        _ => complete = false,
                    }
                }
                Ok(()) => {}
            }
            kept.insert(arn, memory);
        }
        drop(passes);
        self.memories = kept;
        self.forget_clusters(known, &clusters).await?;
        if complete && !denied.is_empty() {
            let source = self.source.name();
            tracing::warn!(source, clusters = ?denied, "reconciled but for clusters that access is denied to");
        }
        if complete {
            self.writer().report(Vec::new(), true).await?;
        }
        Ok(complete)
    }

    async fn pass_cluster(&self, arn: &str, active: bool, memory: &mut ClusterMemory) -> Result<(), PassError> {
        let pass = ClusterPass {
            client: self.source.client(),
            state: self.state,
            cluster_arn: arn,
            memory,
        };
        let result = if active {
            pass.run().await?
        } else {
            pass.run_without_cluster().await?
        };
        self.count_pass(&result);
        self.writer().report(vec![result], false).await
    }

    fn writer(&self) -> Writer<'_> {
        Writer::new(self.state, self.source.name(), &self.state.wall_ms().to_string())
    }

    /// Clusters the state holds and the source is about.
    fn known_clusters(&self) -> Result<BTreeMap<String, KnownResource>, PassError> {
        let mut known = known(self.state, ResourceKind::Cluster, self.source.name(), None)?;
        let filter = self.source.cluster_filter();
        known.retain(|arn, _| filter.accepts(arn));
        Ok(known)
    }

    /// Describes the clusters that are listed (or configured) and those that are known.
    async fn look(&self, known: &BTreeMap<String, KnownResource>) -> Result<Clusters, PassError> {
        let filter = self.source.cluster_filter();
        let (mut wanted, has_list) = match filter.is_all() {
            false => (filter.clusters().to_vec(), true),
            true => match self.list_clusters(!known.is_empty()).await {
                Ok(listed) => (listed, true),
                // The clusters that are known can be reconciled without the list.
                Err(error) if !known.is_empty() => {
                    tracing::warn!(source = self.source.name(), %error, "clusters could not be listed");
                    (Vec::new(), false)
                }
                Err(error) => return Err(error.into()),
            },
        };
        // What is configured is a wish, not a list: it proves nobody's existence.
        let listed: BTreeSet<String> = wanted.iter().filter(|_| filter.is_all()).cloned().collect();
        wanted.extend(known.keys().cloned());
        wanted.sort_unstable();
        wanted.dedup();
        let request = |clusters| EcsRequest::DescribeClusters { clusters };
        let sent = Instant::now();
        let described = self
            .source
            .client()
            .describe(Caller::Reconcile, "", &wanted, request)
            .await?;
        let answered = Instant::now();
        let mut clusters = sort(&described);
        // A cluster is missing only where a complete list did not hold it either.
        if has_list {
            let missing = described.missing().filter(|arn| known.contains_key(*arn));
            let missing = missing.filter(|arn| !listed.contains(*arn));
            clusters.missing = missing.map(|arn| (arn.to_string(), Asked { sent, answered })).collect();
        }
        clusters.complete = has_list && !self.tell_of_skipped(&described);
        let unknown = described.missing().filter(|arn| !known.contains_key(*arn));
        unknown
            .for_each(|cluster| tracing::warn!(source = self.source.name(), cluster, "ECS does not know this cluster"));
        let mut writer = self.writer();
        writer.observe(described.observations).await?;
        writer.flush().await?;
        Ok(clusters)
    }

    /// Whether Describe could not show a cluster for another reason than that it does not exist: no pass over it is made.
    fn tell_of_skipped(&self, described: &Described) -> bool {
        let skipped = described
            .failures
            .iter()
            .filter(|failure| failure.reason != REASON_MISSING);
        let count = skipped.clone().count();
        for failure in skipped {
            let (cluster, reason, detail) = (&failure.arn, &failure.reason, &failure.detail);
            tracing::warn!(
                source = self.source.name(),
                cluster,
                reason,
                detail,
                "a cluster could not be described and is skipped"
            );
        }
        count > 0
    }

    /// All clusters of the account and region. None at all, where there were some, is asked for a second time.
    async fn list_clusters(&self, had_some: bool) -> Result<Vec<String>, CallError> {
        let request = EcsRequest::ListClusters { next_token: None };
        let listed = self.source.client().list(Caller::Reconcile, request.clone()).await?;
        if !listed.is_empty() || !had_some {
            return Ok(listed);
        }
        blox_runtime::time::sleep(Duration::from_millis(SECOND_LOOK_MS)).await;
        self.source.client().list(Caller::Reconcile, request).await
    }

    /// Those whose last pass ended longest ago first.
    fn in_order(&self, clusters: &Clusters) -> Result<Vec<String>, PassError> {
        let last_passes = self.state.last_passes(self.source.name()).map_err(DutyEnd::from)?;
        let mut order: Vec<String> = clusters
            .active
            .iter()
            .chain(&clusters.inactive)
            .chain(clusters.missing.keys())
            .cloned()
            .collect();
        order.sort_by_key(|arn| last_passes.get(arn).copied().unwrap_or(0));
        Ok(order)
    }

    /// Forgets the clusters themselves that were MISSING in two passes, once nothing in them is left to be judged.
    async fn forget_clusters(
        &mut self,
        known: BTreeMap<String, KnownResource>,
        clusters: &Clusters,
    ) -> Result<(), PassError> {
        let gone = self.clusters.judge(&clusters.missing);
        let mut forget = Vec::new();
        for cluster in known.into_values().filter(|cluster| gone.contains(&cluster.arn)) {
            let arn = cluster.arn.clone();
            let is_empty =
                self.holds_none(ResourceKind::Instance, &arn)? && self.holds_none(ResourceKind::Task, &arn)?;
            if is_empty {
                forget.push(cluster::forget(
                    ResourceKind::Cluster,
                    self.source.name(),
                    &arn,
                    cluster,
                ));
            }
        }
        self.writer().forget(forget).await
    }

    fn holds_none(&self, kind: ResourceKind, cluster_arn: &str) -> Result<bool, PassError> {
        Ok(known(self.state, kind, self.source.name(), Some(cluster_arn))?.is_empty())
    }

    fn count(&self, name: &'static str, amount: u64) {
        self.source
            .metrics()
            .add(name, &[("source", self.source.name())], amount);
    }

    fn count_pass(&self, pass: &ReconcilePass) {
        self.count("blox_reconcile_passes_total", 1);
        let drift = [
            ("added", pass.drift_added),
            ("changed", pass.drift_changed),
            ("gone", pass.drift_gone),
        ];
        for (kind, amount) in drift {
            let labels = [("source", self.source.name()), ("kind", kind)];
            self.source.metrics().add("blox_reconcile_drift_total", &labels, amount);
        }
    }

    fn count_success(&self, begun: Instant) {
        let labels = [("source", self.source.name())];
        self.source.metrics().set(
            "blox_reconcile_duration_seconds",
            &labels,
            begun.elapsed().as_secs_f64(),
        );
        let now_seconds = self.state.wall_ms() as f64 / 1_000.0;
        self.source
            .metrics()
            .set("blox_reconcile_last_success_timestamp_seconds", &labels, now_seconds);
    }
}

/// The known resources of a kind that ECS has not forgotten yet, by ARN.
fn known(
    state: &dyn ReplicatedState,
    kind: ResourceKind,
    source: &str,
    cluster_arn: Option<&str>,
) -> Result<BTreeMap<String, KnownResource>, PassError> {
    let known = state.known(kind, source, cluster_arn).map_err(DutyEnd::from)?;
    Ok(known
        .into_iter()
        .filter(|known| !known.forgotten)
        .map(|known| (known.arn.clone(), known))
        .collect())
}

/// Sorts the clusters that Describe showed.
fn sort(described: &Described) -> Clusters {
    let mut clusters = Clusters::default();
    for observation in &described.observations {
        let group = if is_inactive(observation) {
            &mut clusters.inactive
        } else {
            &mut clusters.active
        };
        group.insert(observation.arn.clone());
    }
    clusters
}

fn is_inactive(observation: &Observation) -> bool {
    let parsed: Result<ClusterStatus, _> = serde_json::from_slice(&observation.document);
    parsed.is_ok_and(|cluster| cluster.status.as_deref() == Some(STATUS_INACTIVE))
}
