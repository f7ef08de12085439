//! Stops: an intent before each StopTask, its outcome after. Stopping twice is harmless, so a stop is simply tried again.

use super::Answer;
use super::observe::apply_observations;
use super::stored::{environments, is_key_part, load};
use crate::apply::Transaction;
use crate::key::Key;
use crate::proto::stop_outcome::Outcome as Recorded;
use crate::proto::stored_value::Body;
use crate::proto::{
    EnvironmentRecord, IntendStops, Launched, RecordStops, StopIntent, StopOutcome, StopRecord, StopState,
};
use crate::store::StoreError;

/// Takes the intents that may be taken, at most one a task: a stop that this session already intends or asked for stays as it is. Answers with
/// the ARNs of the tasks whose stop stands: only for those may a call be made.
pub(super) fn intend(transaction: &mut Transaction<'_>, command: &IntendStops) -> Result<Answer, StoreError> {
    let environments = environments(transaction)?;
    let mut taken = Vec::new();
    for intent in &command.intents {
        if is_wanted(&environments, intent) && is_key_part(&intent.task_arn) {
            intend_one(transaction, intent)?;
            taken.push(intent.task_arn.clone());
        }
    }
    Ok(Answer::Launched(Launched { taken }))
}

/// Of an environment that is there, and of the deployment it was planned for: what another deployment made outdated may be current again.
fn is_wanted(environments: &[EnvironmentRecord], intent: &StopIntent) -> bool {
    let environment = environments
        .iter()
        .find(|environment| environment.id == intent.environment_id);
    environment
        .is_some_and(|environment| intent.deployment_id.is_empty() || intent.deployment_id == environment.deployment_id)
}

/// The observations first, then the outcomes.
pub(super) fn record(transaction: &mut Transaction<'_>, command: &RecordStops) -> Result<Answer, StoreError> {
    let observed = apply_observations(transaction, &command.observations)?;
    for outcome in &command.outcomes {
        record_one(transaction, outcome)?;
    }
    Ok(Answer::Observed(observed))
}

fn intend_one(transaction: &mut Transaction<'_>, intent: &StopIntent) -> Result<(), StoreError> {
    let key = Key::stop(&intent.environment_id, &intent.task_arn);
    let existing = load::<StopRecord>(transaction, &key)?.map(|stored| stored.record);
    if existing.as_ref().is_some_and(|stop| is_under_way(transaction, stop)) {
        return Ok(());
    }
    let stop = StopRecord {
        environment_id: intent.environment_id.clone(),
        task_arn: intent.task_arn.clone(),
        source: intent.source.clone(),
        cluster_arn: intent.cluster_arn.clone(),
        instance_arn: intent.instance_arn.clone(),
        reason: intent.reason.clone(),
        state: StopState::Intended as i32,
        session: transaction.command_session(),
        intended_at_elapsed_ms: transaction.elapsed_ms(),
        call_deadline_elapsed_ms: intent.call_deadline_elapsed_ms,
        attempts: existing.map_or(0, |stop| stop.attempts).saturating_add(1),
        failure: String::new(),
        retry_at_elapsed_ms: 0,
    };
    transaction.put(&key, Body::Stop(stop), None)?;
    Ok(())
}

/// Whether nothing is gained by intending it again: this session asked for it, or its call may still be made or answered.
fn is_under_way(transaction: &Transaction<'_>, stop: &StopRecord) -> bool {
    stop.session == transaction.command_session()
        && match stop.state() {
            StopState::Requested => true,
            StopState::Intended => transaction.elapsed_ms() <= stop.call_deadline_elapsed_ms,
            StopState::Failed | StopState::Unspecified => false,
        }
}

fn record_one(transaction: &mut Transaction<'_>, outcome: &StopOutcome) -> Result<(), StoreError> {
    let key = Key::stop(&outcome.environment_id, &outcome.task_arn);
    let Some(stop) = load::<StopRecord>(transaction, &key)?.map(|stored| stored.record) else {
        return Ok(());
    };
    let changed = match &outcome.outcome {
        Some(Recorded::Done(true)) => {
            transaction.delete(&key)?;
            return Ok(());
        }
        Some(Recorded::Requested(true)) => StopRecord {
            state: StopState::Requested as i32,
            failure: String::new(),
            retry_at_elapsed_ms: 0,
            ..stop.clone()
        },
        Some(Recorded::Failed(failure)) => StopRecord {
            state: StopState::Failed as i32,
            failure: failure.reason.clone(),
            retry_at_elapsed_ms: failure.retry_at_elapsed_ms,
            ..stop.clone()
        },
        Some(Recorded::Done(false) | Recorded::Requested(false)) | None => return Ok(()),
    };
    if changed != stop {
        transaction.put(&key, Body::Stop(changed), None)?;
    }
    Ok(())
}
