//! Environments: made, changed, deleted. Each change of what is wanted is an environment revision with a deployment of its own.

use super::deployments;
use super::stored::{Stored, is_key_part, load, under};
use super::{Answer, refuse, refuse_with};
use crate::apply::Transaction;
use crate::key::{Key, Kind};
use crate::proto::stored_value::Body;
use crate::proto::{
    CreateEnvironment, DeleteEnvironment, Done, EnvironmentRecord, EnvironmentSpec, RefusalCode, RemoveEnvironment,
    Removed, UpdateEnvironment,
};
use crate::store::StoreError;

/// How many instances may be without their daemon during a roll-out where the caller did not say.
const MAX_UNAVAILABLE_DEFAULT: u32 = 1;

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateEnvironment) -> Result<Answer, StoreError> {
    let key = Key::environment(&command.name);
    if transaction.get(&key)?.is_some() {
        let name = &command.name;
        let message =
            format!("Error saving environment {name} to store: An environment with name {name} already exists");
        return Ok(refuse(RefusalCode::EnvironmentExists, message));
    }
    let spec = match settled(command.spec.as_ref()) {
        Ok(spec) => spec,
        Err(message) => return Ok(refuse(RefusalCode::Invalid, message)),
    };
    if !is_key_part(&command.name) || !is_key_part(&command.id) || command.deployment_token.is_empty() {
        return Ok(refuse(
            RefusalCode::Invalid,
            "an environment needs a name, an id and a deployment token",
        ));
    }
    let now_ms = transaction.wall_time_ms();
    let mut environment = EnvironmentRecord {
        id: command.id.clone(),
        name: command.name.clone(),
        spec: Some(spec),
        environment_revision: 1,
        deployment_token: command.deployment_token.clone(),
        deployment_id: String::new(),
        deleting: false,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        mod_revision: 0,
    };
    if !command.deployment_id.is_empty() {
        deployments::start(transaction, &mut environment, &command.deployment_id, "")?;
    }
    save(transaction, environment)
}

pub(super) fn update(transaction: &mut Transaction<'_>, command: &UpdateEnvironment) -> Result<Answer, StoreError> {
    let (mut environment, mod_revision) = match present(transaction, &command.name, command.mod_revision)? {
        Ok(found) => found,
        Err(refusal) => return Ok(refusal),
    };
    if environment.deleting {
        return Ok(refuse_deleting(&command.name));
    }
    let spec = match settled(command.spec.as_ref()) {
        Ok(spec) => spec,
        Err(message) => return Ok(refuse(RefusalCode::Invalid, message)),
    };
    let wanted = environment.spec.clone().unwrap_or_default();
    if (&spec.source, &spec.cluster_arn) != (&wanted.source, &wanted.cluster_arn) {
        let message = format!(
            "Environment {} is of cluster {} in source {}, which cannot be changed: create another environment",
            command.name, wanted.cluster_arn, wanted.source
        );
        return Ok(refuse(RefusalCode::Invalid, message));
    }
    if spec == wanted {
        return Ok(Answer::Environment(EnvironmentRecord {
            mod_revision,
            ..environment
        }));
    }
    if !is_key_part(&command.deployment_id) || command.deployment_token.is_empty() {
        return Ok(refuse(
            RefusalCode::Invalid,
            "a changed environment needs a deployment id and a deployment token",
        ));
    }
    environment.spec = Some(spec);
    environment.environment_revision += 1;
    environment.deployment_token = command.deployment_token.clone();
    deployments::supersede_current(transaction, &environment)?;
    deployments::start(transaction, &mut environment, &command.deployment_id, "")?;
    save(transaction, environment)
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeleteEnvironment) -> Result<Answer, StoreError> {
    let (mut environment, mod_revision) = match present(transaction, &command.name, command.mod_revision)? {
        Ok(found) => found,
        Err(refusal) => return Ok(refusal),
    };
    if !command.stop_tasks {
        remove_all(transaction, &environment)?;
        return Ok(Answer::Done(Done {}));
    }
    if environment.deleting {
        return Ok(Answer::Environment(EnvironmentRecord {
            mod_revision,
            ..environment
        }));
    }
    environment.deleting = true;
    save(transaction, environment)
}

/// By the scheduler: a deleting environment of which nothing runs any more. Another one under the same name is left alone.
pub(super) fn remove(transaction: &mut Transaction<'_>, command: &RemoveEnvironment) -> Result<Answer, StoreError> {
    let found = load::<EnvironmentRecord>(transaction, &Key::environment(&command.name))?;
    let Some(environment) = found
        .map(|stored| stored.record)
        .filter(|found| found.id == command.environment_id)
    else {
        return Ok(Answer::Removed(Removed { count: 0, more: false }));
    };
    if !environment.deleting {
        let message = format!("Environment {} is not being deleted", command.name);
        return Ok(refuse(RefusalCode::Invalid, message));
    }
    let count = remove_all(transaction, &environment)?;
    Ok(Answer::Removed(Removed { count, more: false }))
}

/// The environment and its mod revision, or why it cannot be changed: it is missing, or not at the revision asked for (0: not asked).
fn present(
    transaction: &Transaction<'_>,
    name: &str,
    asked_mod_revision: u64,
) -> Result<Result<(EnvironmentRecord, u64), Answer>, StoreError> {
    let Some(Stored {
        record, mod_revision, ..
    }) = load(transaction, &Key::environment(name))?
    else {
        return Ok(Err(refuse(
            RefusalCode::EnvironmentMissing,
            format!("Environment {name} does not exist"),
        )));
    };
    if asked_mod_revision != 0 && asked_mod_revision != mod_revision {
        let message = format!("Environment {name} is at revision {mod_revision}, not at {asked_mod_revision}");
        return Ok(Err(refuse_with(
            RefusalCode::PreconditionFailed,
            message,
            mod_revision.to_string(),
        )));
    }
    Ok(Ok((record, mod_revision)))
}

pub(super) fn refuse_deleting(name: &str) -> Answer {
    refuse(
        RefusalCode::EnvironmentDeleting,
        format!("Environment {name} is being deleted"),
    )
}

/// Writes the environment, stamped, and answers with it.
pub(super) fn save(
    transaction: &mut Transaction<'_>,
    mut environment: EnvironmentRecord,
) -> Result<Answer, StoreError> {
    environment.updated_at_ms = transaction.wall_time_ms();
    environment.mod_revision = 0;
    let stored = transaction.put(
        &Key::environment(&environment.name),
        Body::Environment(environment.clone()),
        None,
    )?;
    environment.mod_revision = stored.mod_revision;
    Ok(Answer::Environment(environment))
}

/// The specification with its defaults filled in and in one order, so that equal wishes compare equal.
fn settled(spec: Option<&EnvironmentSpec>) -> Result<EnvironmentSpec, &'static str> {
    let mut spec = spec.cloned().ok_or("an environment needs a specification")?;
    if !is_key_part(&spec.source) || !is_key_part(&spec.cluster_arn) || spec.task_definition_arn.is_empty() {
        return Err("an environment needs a source, a cluster and a task definition");
    }
    if spec.max_unavailable == 0 {
        spec.max_unavailable = MAX_UNAVAILABLE_DEFAULT;
    }
    spec.attributes
        .sort_by(|left, right| (&left.name, &left.value).cmp(&(&right.name, &right.value)));
    spec.attributes.dedup();
    Ok(spec)
}

/// Removes the environment with its deployments, launches and stops; how many keys that were.
fn remove_all(transaction: &mut Transaction<'_>, environment: &EnvironmentRecord) -> Result<u64, StoreError> {
    let mut count = 0;
    for kind in [Kind::Stop, Kind::Launch, Kind::Deployment] {
        for (key, _) in transaction.scan(kind, &under(&environment.id))? {
            transaction.delete(&key)?;
            count += 1;
        }
    }
    transaction.delete(&Key::environment(&environment.name))?;
    Ok(count + 1)
}
