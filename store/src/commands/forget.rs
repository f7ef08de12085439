//! Absence: what ECS no longer lists and, asked twice, calls MISSING.
//!
//! Absence has no version. A record is touched only if it is still as it was before the List began, so that a task born meanwhile is never
//! deleted; and what is deleted leaves its last version behind, so that a late event does not bring it back.

use super::Answer;
use super::stored::{Stored, load};
use crate::apply::Transaction;
use crate::key::{Key, Kind};
use crate::proto::stored_value::Body;
use crate::proto::{ForgetResource, ForgetResources, Removed, ResourceKind, ResourceRecord, Tombstone};
use crate::records::merge::newest_known;
use crate::store::StoreError;

pub(super) fn forget_resources(
    transaction: &mut Transaction<'_>,
    command: &ForgetResources,
) -> Result<Answer, StoreError> {
    let mut count = 0;
    for resource in &command.resources {
        if forget(transaction, resource)? {
            count += 1;
        }
    }
    Ok(Answer::Removed(Removed { count, more: false }))
}

fn forget(transaction: &mut Transaction<'_>, resource: &ForgetResource) -> Result<bool, StoreError> {
    let kind = match resource.kind() {
        ResourceKind::Cluster => Kind::Cluster,
        ResourceKind::Instance => Kind::Instance,
        ResourceKind::Task => Kind::Task,
        ResourceKind::Unspecified => return Ok(false),
    };
    let key = Key::resource(kind, &resource.source, &resource.cluster_arn, &resource.arn);
    let Some(Stored {
        record, mod_revision, ..
    }) = load::<ResourceRecord>(transaction, &key)?
    else {
        return Ok(false);
    };
    if mod_revision != resource.mod_revision || record.forgotten_at_elapsed_ms != 0 {
        return Ok(false);
    }
    if is_at_its_end(&record) {
        keep_for_a_while(transaction, &key, record)?;
    } else {
        bury(transaction, &key, &record)?;
    }
    Ok(true)
}

/// ECS forgets stopped tasks and inactive instances by itself: people still ask for them.
fn is_at_its_end(record: &ResourceRecord) -> bool {
    let status = record.fields.as_ref().map_or("", |fields| fields.status.as_str());
    match record.kind() {
        ResourceKind::Task => status == "STOPPED",
        ResourceKind::Instance => status == "INACTIVE",
        ResourceKind::Cluster | ResourceKind::Unspecified => false,
    }
}

fn keep_for_a_while(
    transaction: &mut Transaction<'_>,
    key: &Key,
    mut record: ResourceRecord,
) -> Result<(), StoreError> {
    // 0 means that ECS still knows it.
    let now_elapsed_ms = transaction.elapsed_ms().max(1);
    let (ecs_version, _) = newest_known(&record);
    record.forgotten_at_elapsed_ms = now_elapsed_ms;
    transaction.put(key, Body::Resource(record), ecs_version)?;
    transaction.expire_later(key, now_elapsed_ms)
}

fn bury(transaction: &mut Transaction<'_>, key: &Key, record: &ResourceRecord) -> Result<(), StoreError> {
    let (ecs_version, observed_at_ms) = newest_known(record);
    transaction.delete(key)?;
    let deleted_at_elapsed_ms = transaction.elapsed_ms();
    transaction.put_tombstone(
        &record.arn,
        Tombstone {
            ecs_version,
            observed_at_ms,
            deleted_at_elapsed_ms,
        },
    )
}
