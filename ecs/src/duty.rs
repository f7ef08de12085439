//! The leader duty of one source: feed and reconcile under one session, until it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use blox_raft::{Clock, Consensus, ProposeError};
use blox_store::proto::{Command, Form, Observation, Outcome, ResourceKind, ResourceRecord};
use blox_store::records::merge;
use blox_store::{ClusterSelector, Kind, ResourceFilter, Store, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::source::Source;
use crate::state::{DutyEnd, Effect, KnownResource, PROPOSAL_TIMEOUT_MS, ReplicatedState};
use crate::{feed, reconcile};

/// Under what a duty runs.
#[derive(Clone)]
pub struct DutyContext {
    /// Where commands are proposed.
    pub consensus: Consensus,
    /// This node's state: while it leads, the newest there is.
    pub store: Store,
    /// The session every command carries.
    pub session: u64,
    /// The term this node leads in.
    pub term: u64,
    /// Fires when the session is over.
    pub cancel: CancellationToken,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
}

/// Runs feed and reconcile of one source until the session ends; says why it ended. On the caller's task: spawn one a source.
pub async fn run_source(source: Arc<Source>, context: DutyContext) -> DutyEnd {
    let cancel = context.cancel.clone();
    run_duty(source, Arc::new(LiveState { context }), cancel).await
}

/// As [`run_source`], over any state: for tests and simulation.
pub async fn run_duty(source: Arc<Source>, state: Arc<dyn ReplicatedState>, cancel: CancellationToken) -> DutyEnd {
    tracing::info!(
        source = source.name(),
        session = state.session(),
        "feed and reconcile begin"
    );
    let feed = source
        .queue()
        .map(|queue| feed::Feed::new(source.clone(), queue.clone(), state.clone()));
    let end = tokio::select! {
        () = cancel.cancelled() => DutyEnd::Cancelled,
        end = run_feed(feed.as_ref()).boxed() => end,
        end = reconcile::run(&source, state.as_ref()).boxed() => end,
    };
    if let Some(feed) = feed {
        feed.hand_back().await;
    }
    tracing::info!(source = source.name(), session = state.session(), reason = %end, "feed and reconcile end");
    end
}

async fn run_feed(feed: Option<&feed::Feed>) -> DutyEnd {
    match feed {
        Some(feed) => feed.run().await,
        None => std::future::pending().await,
    }
}

/// The real state: proposals through consensus, reads from the local store.
struct LiveState {
    context: DutyContext,
}

impl ReplicatedState for LiveState {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        let deadline = Duration::from_millis(PROPOSAL_TIMEOUT_MS);
        self.context
            .consensus
            .propose_as_leader(self.context.term, command, deadline)
            .boxed()
    }

    fn has_recent_quorum(&self, within: Duration) -> bool {
        self.context.consensus.has_recent_quorum(within)
    }

    fn session(&self) -> u64 {
        self.context.session
    }

    fn wall_ms(&self) -> i64 {
        self.context.clock.wall_ms()
    }

    fn effects(&self, observations: &[Observation]) -> Result<Vec<Effect>, StoreError> {
        let view = self.context.store.view()?;
        let mut effects = Vec::with_capacity(observations.len());
        for observation in observations {
            effects.push(match merge::key_of(observation) {
                Err(error) => Effect::Unreadable(error.to_string()),
                Ok(key) => {
                    let Observation {
                        source,
                        cluster_arn,
                        arn,
                        ..
                    } = observation;
                    let record = view.resource(key.kind(), source, cluster_arn, arn)?;
                    effect(record.as_ref().map(|record| &record.resource), observation)
                }
            });
        }
        Ok(effects)
    }

    fn known(
        &self,
        kind: ResourceKind,
        source: &str,
        cluster_arn: Option<&str>,
    ) -> Result<Vec<KnownResource>, StoreError> {
        let kind = match kind {
            ResourceKind::Instance => Kind::Instance,
            ResourceKind::Task => Kind::Task,
            ResourceKind::Cluster | ResourceKind::Unspecified => Kind::Cluster,
        };
        let filter = ResourceFilter {
            source: Some(source.to_string()),
            cluster: cluster_arn.map(|arn| ClusterSelector::Arn(arn.to_string())),
            ..ResourceFilter::default()
        };
        let records = self.context.store.view()?.list(kind, filter)?;
        let known = records.map(|record| {
            let record = record?;
            Ok(KnownResource {
                mod_revision: record.mod_revision,
                forgotten: record.resource.forgotten_at_elapsed_ms != 0,
                arn: record.resource.arn,
            })
        });
        known.collect()
    }

    fn last_passes(&self, source: &str) -> Result<HashMap<String, i64>, StoreError> {
        let statuses = self.context.store.sources()?;
        let passes = statuses
            .into_iter()
            .filter(|status| status.source == source)
            .flat_map(|status| status.passes);
        Ok(passes.map(|pass| (pass.cluster_arn, pass.ended_at_ms)).collect())
    }
}

fn effect(record: Option<&ResourceRecord>, observation: &Observation) -> Effect {
    match (merge::effect(record, observation), record) {
        (Err(error), _) => Effect::Unreadable(error.to_string()),
        (Ok(merge::Effect::Applied), None) => Effect::Created,
        (Ok(merge::Effect::Applied), Some(record)) => Effect::Changed {
            missed: is_missed(record, observation),
        },
        (Ok(merge::Effect::Confirmed | merge::Effect::Duplicate), _) => Effect::Duplicate,
        (Ok(merge::Effect::Stale), _) => Effect::Stale,
    }
}

/// Whether ECS was ahead of the record: by version, or, from stand-ins that do not count, because an earlier Describe said otherwise.
fn is_missed(record: &ResourceRecord, observation: &Observation) -> bool {
    match (shown_version(record), observation.ecs_version) {
        (Some(shown), Some(observed)) => observed > shown,
        _ => observation.form() == Form::Event || record.describe.is_some(),
    }
}

fn shown_version(record: &ResourceRecord) -> Option<i64> {
    record.fields.as_ref().and_then(|fields| fields.ecs_version)
}
