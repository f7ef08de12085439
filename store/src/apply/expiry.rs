//! What age ends, on the replicated clock and by command, so that every node forgets the same at the same place in the log.

use bytes::Bytes;

use super::{Transaction, idempotency, outcome};
use crate::encoding::{Index, age_key, split_age_key};
use crate::engine::Family;
use crate::key::Key;
use crate::proto::{Outcome, Removed, ResourceRecord, Tombstone, outcome::Result as Answer, stored_value};
use crate::records::merge::newest_known;
use crate::store::StoreError;

/// How long a deleted resource's ARN is remembered: SQS keeps a message 14 days at most, and no later event can come.
const TOMBSTONES_KEPT_MS: u64 = 15 * 24 * 60 * 60 * 1_000;
/// How long STOPPED tasks and INACTIVE instances stay after ECS forgot them.
const FORGOTTEN_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// The most one command removes of each, whatever it asks for: apply must not stall.
const LIMIT_MAX: usize = 10_000;

/// Removes what is due, at most `limit` of each sort.
pub(super) fn expire(transaction: &mut Transaction<'_>, limit: u32) -> Result<Outcome, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let sorts = [
        expire_tombstones(transaction, limit)?,
        expire_forgotten(transaction, limit)?,
        expire_keys(transaction, limit)?,
    ];
    let count = sorts.iter().sum::<usize>() as u64;
    Ok(outcome(Answer::Removed(Removed {
        count,
        more: sorts.contains(&limit),
    })))
}

/// The oldest entries of an age index that have reached `kept_ms`, with their subjects.
fn due(
    transaction: &Transaction<'_>,
    index: Index,
    kept_ms: u64,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let Some(newest) = transaction.elapsed_ms().checked_sub(kept_ms) else {
        return Ok(Vec::new());
    };
    let end = age_key(index, newest.saturating_add(1), &[]);
    let entries = transaction.overlay.scan(Family::Indexes, &[index as u8], &end, limit)?;
    let entries = entries.into_iter().map(|(key, _)| {
        let (_, subject) =
            split_age_key(&key).ok_or_else(|| StoreError::Corrupt("a key of an age index is too short".to_owned()))?;
        let subject = key.slice_ref(subject);
        Ok((key, subject))
    });
    entries.collect()
}

fn expire_tombstones(transaction: &mut Transaction<'_>, limit: usize) -> Result<usize, StoreError> {
    let entries = due(transaction, Index::TombstoneAge, TOMBSTONES_KEPT_MS, limit)?;
    let count = entries.len();
    for (key, arn) in entries {
        transaction.overlay.write(Family::Indexes, key, None);
        transaction.overlay.write(Family::Tombstones, arn, None);
    }
    Ok(count)
}

fn expire_forgotten(transaction: &mut Transaction<'_>, limit: usize) -> Result<usize, StoreError> {
    let entries = due(transaction, Index::ForgottenAge, FORGOTTEN_KEPT_MS, limit)?;
    let count = entries.len();
    for (index_key, subject) in entries {
        let forgotten_at = split_age_key(&index_key).map(|(elapsed_ms, _)| elapsed_ms);
        transaction.overlay.write(Family::Indexes, index_key, None);
        let key = super::transaction::stored_key(subject)?;
        let value = transaction.get(&key)?;
        let Some(stored_value::Body::Resource(resource)) = value.and_then(|value| value.body) else {
            continue;
        };
        // It may have been seen again, and forgotten again, since.
        if Some(resource.forgotten_at_elapsed_ms) == forgotten_at {
            remove(transaction, &key, &resource)?;
        }
    }
    Ok(count)
}

fn remove(transaction: &mut Transaction<'_>, key: &Key, resource: &ResourceRecord) -> Result<(), StoreError> {
    let (ecs_version, observed_at_ms) = newest_known(resource);
    let tombstone = Tombstone {
        ecs_version,
        observed_at_ms,
        deleted_at_elapsed_ms: transaction.elapsed_ms(),
    };
    transaction.delete(key)?;
    transaction.put_tombstone(&resource.arn, tombstone)
}

fn expire_keys(transaction: &mut Transaction<'_>, limit: usize) -> Result<usize, StoreError> {
    let elapsed_ms = transaction.elapsed_ms();
    let mut count = 0;
    while count < limit
        && idempotency::forget_oldest(transaction, |record| {
            record.stored_at_elapsed_ms.saturating_add(idempotency::KEPT_MS) <= elapsed_ms
        })?
    {
        count += 1;
    }
    Ok(count)
}
