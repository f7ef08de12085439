//! Records out of stored values: each key holds one kind of value, and another there is corruption.

use crate::apply::Transaction;
use crate::key::{Key, Kind};
use crate::proto::stored_value::Body;
use crate::proto::{DeploymentRecord, EnvironmentRecord, LaunchRecord, ResourceRecord, StopRecord, StoredValue};
use crate::store::StoreError;

/// A kind of value, drawn out of the stored one.
pub(super) trait FromBody: Sized {
    fn from_body(body: Body) -> Option<Self>;
}

macro_rules! from_body {
    ($variant:ident, $record:ty) => {
        impl FromBody for $record {
            fn from_body(body: Body) -> Option<Self> {
                match body {
                    Body::$variant(record) => Some(record),
                    _ => None,
                }
            }
        }
    };
}

from_body!(Resource, ResourceRecord);
from_body!(Environment, EnvironmentRecord);
from_body!(Deployment, DeploymentRecord);
from_body!(Launch, LaunchRecord);
from_body!(Stop, StopRecord);

/// A record with its place in the state.
pub(super) struct Stored<Record> {
    pub record: Record,
    pub create_revision: u64,
    pub mod_revision: u64,
}

pub(super) fn load<Record: FromBody>(
    transaction: &Transaction<'_>,
    key: &Key,
) -> Result<Option<Stored<Record>>, StoreError> {
    transaction.get(key)?.map(|value| unpack(key, value)).transpose()
}

/// All records of a kind whose key's tail begins with `prefix`, in key order.
pub(super) fn load_all<Record: FromBody>(
    transaction: &Transaction<'_>,
    kind: Kind,
    prefix: &[u8],
) -> Result<Vec<(Key, Record)>, StoreError> {
    let stored = load_all_stored(transaction, kind, prefix)?;
    Ok(stored.into_iter().map(|(key, stored)| (key, stored.record)).collect())
}

/// The same, each with its place in the state.
pub(super) fn load_all_stored<Record: FromBody>(
    transaction: &Transaction<'_>,
    kind: Kind,
    prefix: &[u8],
) -> Result<Vec<(Key, Stored<Record>)>, StoreError> {
    transaction
        .scan(kind, prefix)?
        .into_iter()
        .map(|(key, value)| {
            let stored = unpack(&key, value)?;
            Ok((key, stored))
        })
        .collect()
}

fn unpack<Record: FromBody>(key: &Key, value: StoredValue) -> Result<Stored<Record>, StoreError> {
    let record = value.body.and_then(Record::from_body).ok_or_else(|| {
        StoreError::Corrupt(format!(
            "the {} key {:?} holds another kind of value",
            key.kind().name(),
            key.parts()
        ))
    })?;
    Ok(Stored {
        record,
        create_revision: value.create_revision,
        mod_revision: value.mod_revision,
    })
}

/// The prefix of all keys that begin with this part.
pub(super) fn under(part: &str) -> Vec<u8> {
    let mut prefix = part.as_bytes().to_vec();
    prefix.push(0);
    prefix
}

/// All environments by id: launches and stops name them so, while their keys are their names. There are few.
pub(super) fn environments(transaction: &Transaction<'_>) -> Result<Vec<EnvironmentRecord>, StoreError> {
    let environments = load_all::<EnvironmentRecord>(transaction, Kind::Environment, b"")?;
    Ok(environments.into_iter().map(|(_, environment)| environment).collect())
}

/// Whether a name or id can be a part of a key.
pub(super) fn is_key_part(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}
