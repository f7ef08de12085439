//! Deployments: one roll-out of one environment revision, from pending over running to completed, never back.

use super::stored::{Stored, is_key_part, load, load_all, load_all_stored, under};
use super::{Answer, environments, refuse, refuse_with};
use crate::apply::Transaction;
use crate::key::{Key, Kind};
use crate::proto::stored_value::Body;
use crate::proto::{
    CreateDeployment, DeploymentRecord, DeploymentStatus, EnvironmentRecord, RefusalCode, UpdateDeployment,
};
use crate::store::StoreError;

/// Of each environment, so many deployments that have ended are kept beside the current one.
pub(super) const ENDED_DEPLOYMENTS_MAX: usize = 100;

/// A deployment asked for with the environment's token. The checks stand in the original's order: environment, token outdated, token used,
/// another in progress. The token changes when a deployment completes, so "used" is said of the one that runs, "outdated" of those before.
pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateDeployment) -> Result<Answer, StoreError> {
    let name = &command.environment_name;
    let token = &command.token;
    let Some(mut environment) = environment(transaction, name)? else {
        let message = format!("Environment with name '{name}' does not exist");
        return Ok(refuse(RefusalCode::EnvironmentMissing, message));
    };
    if environment.deleting {
        return Ok(environments::refuse_deleting(name));
    }
    if !is_key_part(&command.id) || token.is_empty() {
        return Ok(refuse(RefusalCode::Invalid, "a deployment needs an id and a token"));
    }
    if environment.deployment_token != *token {
        let message = format!("Token '{token}' is outdated and does not match the environment token");
        return Ok(refuse(RefusalCode::TokenOutdated, message));
    }
    let deployments = load_all::<DeploymentRecord>(transaction, Kind::Deployment, &under(&environment.id))?;
    if deployments.iter().any(|(_, deployment)| deployment.token == *token) {
        return Ok(refuse(
            RefusalCode::TokenUsed,
            format!("Deployment with token '{token}' already exists"),
        ));
    }
    let current = deployments
        .iter()
        .find(|(_, deployment)| deployment.id == environment.deployment_id);
    if let Some((_, current)) = current
        && is_in_progress(current)
    {
        let message = format!("There is already a deployment in progress: {}", current.id);
        return Ok(refuse_with(RefusalCode::DeploymentInProgress, message, &current.id));
    }
    let deployment = start(transaction, &mut environment, &command.id, token)?;
    environments::save(transaction, environment)?;
    Ok(Answer::Deployment(deployment))
}

pub(super) fn update(transaction: &mut Transaction<'_>, command: &UpdateDeployment) -> Result<Answer, StoreError> {
    let name = &command.environment_name;
    let Some(environment) = environment(transaction, name)? else {
        return Ok(refuse(
            RefusalCode::EnvironmentMissing,
            format!("Environment {name} does not exist"),
        ));
    };
    let key = Key::deployment(&environment.id, &command.deployment_id);
    let Some(Stored {
        record: mut deployment, ..
    }) = load::<DeploymentRecord>(transaction, &key)?
    else {
        let message = format!(
            "Deployment {} does not exist for environment {name}",
            command.deployment_id
        );
        return Ok(refuse(RefusalCode::DeploymentMissing, message));
    };
    let (from, to) = (deployment.status(), command.status());
    if from == to {
        return Ok(Answer::Deployment(deployment));
    }
    if !moves_forward(from, to) {
        let message = format!("Deployment cannot move from {} to {}", word(from), word(to));
        return Ok(refuse(RefusalCode::Invalid, message));
    }
    let is_completed = to == DeploymentStatus::Completed;
    if is_completed && command.next_deployment_token.is_empty() {
        return Ok(refuse(
            RefusalCode::Invalid,
            "a completed deployment needs the environment's next token",
        ));
    }
    let now_ms = transaction.wall_time_ms();
    deployment.set_status(to);
    if deployment.started_at_ms == 0 {
        deployment.started_at_ms = now_ms;
    }
    if is_completed {
        deployment.ended_at_ms = now_ms;
    }
    transaction.put(&key, Body::Deployment(deployment.clone()), None)?;
    if is_completed && environment.deployment_id == deployment.id {
        let deployment_token = command.next_deployment_token.clone();
        environments::save(
            transaction,
            EnvironmentRecord {
                deployment_token,
                ..environment
            },
        )?;
    }
    Ok(Answer::Deployment(deployment))
}

/// Writes a new deployment of the environment as it now is, and makes it the environment's; the caller saves the environment.
/// `token` is the one it was asked for with; empty where it comes with a change of the environment.
pub(super) fn start(
    transaction: &mut Transaction<'_>,
    environment: &mut EnvironmentRecord,
    id: &str,
    token: &str,
) -> Result<DeploymentRecord, StoreError> {
    let deployment = DeploymentRecord {
        id: id.to_owned(),
        environment_id: environment.id.clone(),
        environment_name: environment.name.clone(),
        environment_revision: environment.environment_revision,
        task_definition_arn: environment
            .spec
            .as_ref()
            .map_or_else(String::new, |spec| spec.task_definition_arn.clone()),
        token: token.to_owned(),
        status: DeploymentStatus::Pending as i32,
        created_at_ms: transaction.wall_time_ms(),
        started_at_ms: 0,
        ended_at_ms: 0,
    };
    transaction.put(
        &Key::deployment(&environment.id, id),
        Body::Deployment(deployment.clone()),
        None,
    )?;
    environment.deployment_id = id.to_owned();
    remove_oldest(transaction, environment)?;
    Ok(deployment)
}

/// Removes the environment's oldest ended deployments beyond [`ENDED_DEPLOYMENTS_MAX`]: by revision, for wall clocks jump.
fn remove_oldest(transaction: &mut Transaction<'_>, environment: &EnvironmentRecord) -> Result<(), StoreError> {
    let deployments = load_all_stored::<DeploymentRecord>(transaction, Kind::Deployment, &under(&environment.id))?;
    let mut ended: Vec<(u64, Key)> = deployments
        .into_iter()
        .filter(|(_, stored)| stored.record.id != environment.deployment_id && has_ended(&stored.record))
        .map(|(key, stored)| (stored.create_revision, key))
        .collect();
    let surplus = ended.len().saturating_sub(ENDED_DEPLOYMENTS_MAX);
    ended.sort_by_key(|(create_revision, _)| *create_revision);
    for (_, key) in ended.into_iter().take(surplus) {
        transaction.delete(&key)?;
    }
    Ok(())
}

/// Ends the environment's deployment if it is still in progress: another one takes its place.
pub(super) fn supersede_current(
    transaction: &mut Transaction<'_>,
    environment: &EnvironmentRecord,
) -> Result<(), StoreError> {
    let key = Key::deployment(&environment.id, &environment.deployment_id);
    let Some(Stored {
        record: mut current, ..
    }) = load::<DeploymentRecord>(transaction, &key)?
    else {
        return Ok(());
    };
    if is_in_progress(&current) {
        current.set_status(DeploymentStatus::Superseded);
        current.ended_at_ms = transaction.wall_time_ms();
        transaction.put(&key, Body::Deployment(current), None)?;
    }
    Ok(())
}

fn environment(transaction: &Transaction<'_>, name: &str) -> Result<Option<EnvironmentRecord>, StoreError> {
    Ok(load(transaction, &Key::environment(name))?.map(|stored| stored.record))
}

fn is_in_progress(deployment: &DeploymentRecord) -> bool {
    matches!(
        deployment.status(),
        DeploymentStatus::Pending | DeploymentStatus::Running
    )
}

fn has_ended(deployment: &DeploymentRecord) -> bool {
    matches!(
        deployment.status(),
        DeploymentStatus::Completed | DeploymentStatus::Superseded
    )
}

fn moves_forward(from: DeploymentStatus, to: DeploymentStatus) -> bool {
    use DeploymentStatus::{Completed, Pending, Running};
    matches!((from, to), (Pending, Running | Completed) | (Running, Completed))
}

/// The original called a running deployment `in-progress` in this text alone.
fn word(status: DeploymentStatus) -> &'static str {
    match status {
        DeploymentStatus::Pending => "pending",
        DeploymentStatus::Running => "in-progress",
        DeploymentStatus::Completed => "completed",
        DeploymentStatus::Superseded => "superseded",
        DeploymentStatus::Unspecified => "unknown",
    }
}
