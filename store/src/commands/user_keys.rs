//! Keys of the users' own: writes with preconditions, and what stood there before.

use bytes::Bytes;

use super::{Answer, refuse_with};
use crate::apply::Transaction;
use crate::key::Key;
use crate::proto::precondition::Condition;
use crate::proto::stored_value::Body;
use crate::proto::{DeleteKey, KeyValue, KeyWritten, Precondition, PutKey, RefusalCode, StoredValue};
use crate::store::StoreError;

pub(super) fn put_key(transaction: &mut Transaction<'_>, command: &PutKey) -> Result<Answer, StoreError> {
    let key = Key::user(&command.key);
    let previous = transaction.get(&key)?;
    if let Some(refusal) = violated(command.precondition.as_ref(), previous.as_ref()) {
        return Ok(refusal);
    }
    let current = transaction.put(&key, Body::User(command.value.clone()), None)?;
    Ok(Answer::KeyWritten(KeyWritten {
        current: Some(key_value(&command.key, current)?),
        previous: previous.map(|value| key_value(&command.key, value)).transpose()?,
    }))
}

pub(super) fn delete_key(transaction: &mut Transaction<'_>, command: &DeleteKey) -> Result<Answer, StoreError> {
    let key = Key::user(&command.key);
    let previous = transaction.get(&key)?;
    if let Some(refusal) = violated(command.precondition.as_ref(), previous.as_ref()) {
        return Ok(refusal);
    }
    let Some(previous) = previous else {
        return Ok(refuse_with(RefusalCode::KeyMissing, "the key does not exist", "0"));
    };
    transaction.delete(&key)?;
    Ok(Answer::KeyWritten(KeyWritten {
        current: None,
        previous: Some(key_value(&command.key, previous)?),
    }))
}

/// The refusal of a write whose precondition does not hold; its detail is the key's mod revision, 0 where it is absent.
fn violated(precondition: Option<&Precondition>, present: Option<&StoredValue>) -> Option<Answer> {
    let mod_revision = present.map_or(0, |value| value.mod_revision);
    let (holds, wanted) = match precondition?.condition.as_ref()? {
        Condition::ModRevision(0) => (mod_revision == 0, "absent".to_owned()),
        Condition::ModRevision(wanted) => (mod_revision == *wanted, format!("at revision {wanted}")),
        Condition::Exists(true) => (mod_revision != 0, "present".to_owned()),
        Condition::Exists(false) => (mod_revision == 0, "absent".to_owned()),
    };
    if holds {
        return None;
    }
    let found = match mod_revision {
        0 => "absent".to_owned(),
        revision => format!("at revision {revision}"),
    };
    let message = format!("the key was to be {wanted} and is {found}");
    Some(refuse_with(
        RefusalCode::PreconditionFailed,
        message,
        mod_revision.to_string(),
    ))
}

fn key_value(key: &Bytes, stored: StoredValue) -> Result<KeyValue, StoreError> {
    let Some(Body::User(value)) = stored.body else {
        return Err(StoreError::Corrupt(format!(
            "the user key {key:?} holds another kind of value"
        )));
    };
    Ok(KeyValue {
        key: key.clone(),
        value,
        create_revision: stored.create_revision,
        mod_revision: stored.mod_revision,
        version: stored.version,
    })
}
