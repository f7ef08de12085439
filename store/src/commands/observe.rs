//! Observations: what ECS said, merged into the records.

use std::collections::BTreeMap;

use super::Answer;
use super::stored::load;
use crate::apply::Transaction;
use crate::proto::stored_value::Body;
use crate::proto::{Observation, Observe, Observed, RefusedObservation, ResourceRecord};
use crate::records::merge::{self, Effect, Merged};
use crate::store::StoreError;

pub(super) fn observe(transaction: &mut Transaction<'_>, command: &Observe) -> Result<Answer, StoreError> {
    let observed = apply_observations(transaction, &command.observations)?;
    let dropped = command.unknown_types + command.duplicates + command.stale + command.filtered;
    if dropped > 0 && !command.source.is_empty() {
        let status = transaction.source_status(&command.source)?;
        status.unknown_types += command.unknown_types;
        status.duplicates += command.duplicates;
        status.stale += command.stale;
        status.filtered += command.filtered;
    }
    Ok(Answer::Observed(observed))
}

/// Applies observations in order; what cannot be read is refused and told, and stops nothing.
pub(super) fn apply_observations(
    transaction: &mut Transaction<'_>,
    observations: &[Observation],
) -> Result<Observed, StoreError> {
    let mut by_source: BTreeMap<&str, Observed> = BTreeMap::new();
    let mut refused = Vec::new();
    for (index, observation) in observations.iter().enumerate() {
        match apply_one(transaction, observation)? {
            Ok((effect, gaps)) => count(by_source.entry(&observation.source).or_default(), effect, gaps),
            Err(reason) => refused.push(RefusedObservation {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                reason,
            }),
        }
    }
    let mut total = Observed {
        refused,
        ..Observed::default()
    };
    for (source, observed) in by_source {
        let status = transaction.source_status(source)?;
        status.applied += observed.applied;
        status.duplicates += observed.duplicates;
        status.stale += observed.stale;
        status.gaps += observed.gaps;
        total.applied += observed.applied;
        total.duplicates += observed.duplicates;
        total.stale += observed.stale;
        total.gaps += observed.gaps;
    }
    Ok(total)
}

type Refused = String;

fn apply_one(
    transaction: &mut Transaction<'_>,
    observation: &Observation,
) -> Result<Result<(Effect, u64), Refused>, StoreError> {
    let key = match merge::key_of(observation) {
        Ok(key) => key,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let existing = load::<ResourceRecord>(transaction, &key)?.map(|stored| stored.record);
    if existing.is_none() && is_echo_of_the_dead(transaction, observation)? {
        return Ok(Ok((Effect::Stale, 0)));
    }
    let Merged { record, effect, gaps } = match merge::merge(existing.as_ref(), observation) {
        Ok(merged) => merged,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if matches!(effect, Effect::Applied | Effect::Confirmed) {
        let ecs_version = record.fields.as_ref().and_then(|fields| fields.ecs_version);
        transaction.put(&key, Body::Resource(record), ecs_version)?;
    }
    Ok(Ok((effect, gaps)))
}

/// Whether the resource was deleted and the observation is of the time before.
fn is_echo_of_the_dead(transaction: &Transaction<'_>, observation: &Observation) -> Result<bool, StoreError> {
    let tombstone = transaction.tombstone(&observation.arn)?;
    Ok(tombstone
        .is_some_and(|deleted| !merge::is_raised_from(deleted.ecs_version, deleted.observed_at_ms, observation)))
}

fn count(observed: &mut Observed, effect: Effect, gaps: u64) {
    match effect {
        Effect::Applied => observed.applied += 1,
        Effect::Confirmed | Effect::Duplicate => observed.duplicates += 1,
        Effect::Stale => observed.stale += 1,
    }
    observed.gaps += gaps;
}
