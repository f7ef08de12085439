//! What the duties read from the local store: while its node leads, nothing newer exists.

use std::collections::HashMap;

use blox_store::proto::{Form, Observation, ResourceKind, ResourceRecord};
use blox_store::records::merge;
use blox_store::{ClusterSelector, Kind, ResourceFilter, Store, StoreError};

use crate::state::{Effect, KnownResource};

/// What each observation would do to one cut of the store.
pub fn effects(store: &Store, observations: &[Observation]) -> Result<Vec<Effect>, StoreError> {
    let view = store.view()?;
    let effects = observations.iter().map(|observation| match merge::key_of(observation) {
        Err(error) => Ok(Effect::Unreadable(error.to_string())),
        Ok(key) => {
            let Observation {
                source,
                cluster_arn,
                arn,
                ..
            } = observation;
            let record = view.resource(key.kind(), source, cluster_arn, arn)?;
            Ok(effect(record.as_ref().map(|record| &record.resource), observation))
        }
    });
    effects.collect()
}

/// The resources of a kind that the store holds, of one cluster (`None`: of all).
pub fn known(
    store: &Store,
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
    let known = store.view()?.list(kind, filter)?.map(|record| {
        let record = record?;
        Ok(KnownResource {
            mod_revision: record.mod_revision,
            forgotten: record.resource.forgotten_at_elapsed_ms != 0,
            arn: record.resource.arn,
        })
    });
    known.collect()
}

/// When the last pass over each cluster of a source ended, milliseconds since the epoch.
pub fn last_passes(store: &Store, source: &str) -> Result<HashMap<String, i64>, StoreError> {
    let statuses = store.sources()?;
    let passes = statuses
        .into_iter()
        .filter(|status| status.source == source)
        .flat_map(|status| status.passes);
    Ok(passes.map(|pass| (pass.cluster_arn, pass.ended_at_ms)).collect())
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
    let shown = record.fields.as_ref().and_then(|fields| fields.ecs_version);
    match (shown, observation.ecs_version) {
        (Some(shown), Some(observed)) => observed > shown,
        _ => observation.form() == Form::Event || record.describe.is_some(),
    }
}
