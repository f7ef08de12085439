//! Launches: intents before calls, outcomes after them. How one moves is in `launch_state`.

use super::Answer;
use super::launch_state::{LaunchEvent, after, is_open};
use super::observe::apply_observations;
use super::stored::{Stored, environments, is_key_part, load, load_all};
use crate::apply::Transaction;
use crate::key::{Key, Kind};
use crate::proto::launch_outcome::Outcome as Recorded;
use crate::proto::stored_value::Body;
use crate::proto::{
    EnvironmentRecord, IntendLaunches, LaunchIntent, LaunchOutcome, LaunchRecord, LaunchState, Launched,
    RecordLaunches, RemoveLaunches, Removed, ResourceRecord,
};
use crate::store::StoreError;

/// Takes the intents that may be taken: only for those may a call be made.
pub(super) fn intend(transaction: &mut Transaction<'_>, command: &IntendLaunches) -> Result<Answer, StoreError> {
    let environments = environments(transaction)?;
    let mut taken = Vec::new();
    for intent in &command.intents {
        let key = Key::launch(&intent.environment_id, &intent.instance_arn);
        if may_intend(transaction, &environments, intent, &key)? {
            let launch = intended(transaction, intent);
            #[cfg(feature = "zoo")]
            let launch = crate::zoo::intended_late(launch);
            transaction.put(&key, Body::Launch(launch), None)?;
            taken.push(intent.launch_id.clone());
        }
    }
    Ok(Answer::Launched(Launched { taken }))
}

/// The observations first, so that no launch closes before its task is in the state; then the outcomes.
pub(super) fn record(transaction: &mut Transaction<'_>, command: &RecordLaunches) -> Result<Answer, StoreError> {
    let observed = apply_observations(transaction, &command.observations)?;
    let environments = environments(transaction)?;
    for outcome in &command.outcomes {
        record_one(transaction, &environments, outcome)?;
    }
    Ok(Answer::Observed(observed))
}

pub(super) fn remove(transaction: &mut Transaction<'_>, command: &RemoveLaunches) -> Result<Answer, StoreError> {
    let mut count = 0;
    for named in &command.keys {
        let key = Key::launch(&named.environment_id, &named.instance_arn);
        let launch = load::<LaunchRecord>(transaction, &key)?.map(|stored| stored.record);
        if launch.is_some_and(|launch| launch.id == named.launch_id && !is_open(&launch)) {
            transaction.delete(&key)?;
            count += 1;
        }
    }
    Ok(Answer::Removed(Removed { count, more: false }))
}

/// A new session began: calls that an older one may have made, or not, have an unknown outcome.
pub(crate) fn take_over_launches(transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
    let now_elapsed_ms = transaction.elapsed_ms();
    for (key, launch) in load_all::<LaunchRecord>(transaction, Kind::Launch, b"")? {
        if let Some(taken_over) = after(&launch, LaunchEvent::TakenOver, now_elapsed_ms) {
            transaction.put(&key, Body::Launch(taken_over), None)?;
        }
    }
    Ok(())
}

/// A backup was restored: what the calls of open launches came to is for this cluster to look up from the beginning.
pub(crate) fn restore_launches(transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
    for (key, launch) in load_all::<LaunchRecord>(transaction, Kind::Launch, b"")? {
        if is_open(&launch) {
            let restored = LaunchRecord {
                state: LaunchState::Unknown as i32,
                reason: "it was open when the backup was taken".to_owned(),
                first_empty_lookup_elapsed_ms: 0,
                ..launch
            };
            transaction.put(&key, Body::Launch(restored), None)?;
        }
    }
    Ok(())
}

fn may_intend(
    transaction: &Transaction<'_>,
    environments: &[EnvironmentRecord],
    intent: &LaunchIntent,
    key: &Key,
) -> Result<bool, StoreError> {
    if !is_key_part(&intent.launch_id) || !is_key_part(&intent.instance_arn) {
        return Ok(false);
    }
    let environment = environments
        .iter()
        .find(|environment| environment.id == intent.environment_id);
    let is_wanted = environment
        .is_some_and(|environment| !environment.deleting && environment.deployment_id == intent.deployment_id);
    if !is_wanted || intent.deployment_id.is_empty() {
        return Ok(false);
    }
    let launch = load::<LaunchRecord>(transaction, key)?;
    if launch.is_some_and(|launch| is_open(&launch.record)) {
        return Ok(false);
    }
    let instance = Key::resource(
        Kind::Instance,
        &intent.source,
        &intent.cluster_arn,
        &intent.instance_arn,
    );
    Ok(transaction.get(&instance)?.is_some())
}

fn intended(transaction: &Transaction<'_>, intent: &LaunchIntent) -> LaunchRecord {
    LaunchRecord {
        id: intent.launch_id.clone(),
        environment_id: intent.environment_id.clone(),
        deployment_id: intent.deployment_id.clone(),
        source: intent.source.clone(),
        cluster_arn: intent.cluster_arn.clone(),
        instance_arn: intent.instance_arn.clone(),
        task_definition_arn: intent.task_definition_arn.clone(),
        state: LaunchState::Intended as i32,
        session: transaction.command_session(),
        intent_revision: transaction.revision(),
        intended_at_elapsed_ms: transaction.elapsed_ms(),
        intended_at_ms: transaction.wall_time_ms(),
        call_deadline_elapsed_ms: intent.call_deadline_elapsed_ms,
        failures: intent.failures,
        not_sent: intent.not_sent,
        ..LaunchRecord::default()
    }
}

fn record_one(
    transaction: &mut Transaction<'_>,
    environments: &[EnvironmentRecord],
    outcome: &LaunchOutcome,
) -> Result<(), StoreError> {
    let key = Key::launch(&outcome.environment_id, &outcome.instance_arn);
    let Some(Stored { record: launch, .. }) = load::<LaunchRecord>(transaction, &key)? else {
        return Ok(());
    };
    if launch.id != outcome.launch_id {
        return Ok(());
    }
    let not_its_own;
    let event = match &outcome.outcome {
        Some(Recorded::TaskArn(task_arn)) if is_its_own(transaction, environments, &launch, task_arn)? => {
            LaunchEvent::Bound { task_arn }
        }
        Some(Recorded::TaskArn(task_arn)) => {
            not_its_own = format!("task {task_arn} is not in the state, or not of this launch");
            LaunchEvent::Unknown { reason: &not_its_own }
        }
        Some(Recorded::Rejected(rejection)) => LaunchEvent::Rejected {
            rejection,
            session: transaction.command_session(),
        },
        Some(Recorded::Unknown(reason)) => LaunchEvent::Unknown { reason },
        Some(Recorded::LookupEmpty(true)) => LaunchEvent::LookupEmpty,
        Some(Recorded::LookupEmpty(false)) | None => return Ok(()),
    };
    if let Some(changed) = after(&launch, event, transaction.elapsed_ms()) {
        transaction.put(&key, Body::Launch(changed), None)?;
    }
    Ok(())
}

/// Whether the task can be what the launch started: it is in the state, on the same instance, was not there when the intent was taken, and no
/// other launch on that instance is bound to it.
fn is_its_own(
    transaction: &Transaction<'_>,
    environments: &[EnvironmentRecord],
    launch: &LaunchRecord,
    task_arn: &str,
) -> Result<bool, StoreError> {
    let key = Key::resource(Kind::Task, &launch.source, &launch.cluster_arn, task_arn);
    let Some(task) = load::<ResourceRecord>(transaction, &key)? else {
        return Ok(false);
    };
    let is_on_instance = task
        .record
        .fields
        .is_some_and(|fields| fields.instance_arn == launch.instance_arn);
    if !is_on_instance || task.create_revision <= launch.intent_revision {
        return Ok(false);
    }
    for environment in environments
        .iter()
        .filter(|environment| environment.id != launch.environment_id)
    {
        let other = load::<LaunchRecord>(transaction, &Key::launch(&environment.id, &launch.instance_arn))?;
        if other.is_some_and(|other| other.record.task_arn == task_arn) {
            return Ok(false);
        }
    }
    Ok(true)
}
