//! The idempotency table: a command that comes again under its caller's key is answered, not executed.

use bytes::Bytes;
use prost::Message;

use super::transaction::decode;
use super::{Transaction, refusal};
use crate::encoding::meta;
use crate::engine::Family;
use crate::proto::{Idempotency, IdempotencyRecord, Outcome, RefusalCode};
use crate::store::StoreError;

/// Keys kept; the oldest make room.
pub(super) const KEYS_MAX: u64 = 100_000;
/// Bytes of keys and answers kept; the oldest make room.
pub(super) const BYTES_MAX: u64 = 256 << 20;
/// How long a key is kept, on the replicated clock.
pub(super) const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// The answer of the earlier command under this key, or that of executing this one, which is remembered.
pub(super) fn once(
    transaction: &mut Transaction<'_>,
    key: &Idempotency,
    execute: impl FnOnce(&mut Transaction<'_>) -> Result<Outcome, StoreError>,
) -> Result<Outcome, StoreError> {
    let stored_under = meta::named(meta::IDEMPOTENCY, &[&key.scope, &key.key]);
    if let Some(bytes) = transaction.overlay.get(Family::Meta, &stored_under)? {
        let record: IdempotencyRecord = decode(bytes, "an idempotency record")?;
        return Ok(replay(key, record));
    }
    let mut outcome = execute(transaction)?;
    outcome.revision = transaction.position.revision;
    remember(transaction, stored_under, key.body_hash, outcome.clone())?;
    Ok(outcome)
}

fn replay(key: &Idempotency, record: IdempotencyRecord) -> Outcome {
    if record.body_hash != key.body_hash {
        let message = format!(
            "the idempotency key {:?} was used for {} with another body; take a new key",
            key.key, key.scope
        );
        return refusal(RefusalCode::IdempotencyConflict, message, String::new());
    }
    Outcome {
        replayed: true,
        ..record.outcome.unwrap_or_default()
    }
}

fn remember(transaction: &mut Transaction<'_>, key: Bytes, body_hash: u64, outcome: Outcome) -> Result<(), StoreError> {
    let position = &mut transaction.position;
    position.idempotency_sequence += 1;
    let record = IdempotencyRecord {
        body_hash,
        outcome: Some(outcome),
        stored_at_elapsed_ms: position.elapsed_ms,
        sequence: position.idempotency_sequence,
    };
    let value = Bytes::from(record.encode_to_vec());
    position.idempotency_count += 1;
    position.idempotency_bytes += (key.len() + value.len()) as u64;
    let order = meta::numbered(meta::IDEMPOTENCY_ORDER, position.idempotency_sequence);
    transaction.overlay.write(Family::Meta, order, Some(key.clone()));
    transaction.overlay.write(Family::Meta, key, Some(value));
    while transaction.position.idempotency_count > KEYS_MAX || transaction.position.idempotency_bytes > BYTES_MAX {
        if !forget_oldest(transaction, |_| true)? {
            break;
        }
    }
    Ok(())
}

/// Forgets the oldest key if `due` says so of it; false where nothing was forgotten.
pub(super) fn forget_oldest(
    transaction: &mut Transaction<'_>,
    due: impl FnOnce(&IdempotencyRecord) -> bool,
) -> Result<bool, StoreError> {
    let position = &transaction.position;
    if position.idempotency_count == 0 {
        return Ok(false);
    }
    // Sequences have no holes: only the oldest ever goes.
    let oldest = position.idempotency_sequence - position.idempotency_count + 1;
    let order = meta::numbered(meta::IDEMPOTENCY_ORDER, oldest);
    let missing = || {
        StoreError::Corrupt(format!(
            "the idempotency table counts key {oldest} but does not hold it"
        ))
    };
    let key = transaction.overlay.get(Family::Meta, &order)?.ok_or_else(missing)?;
    let value = transaction.overlay.get(Family::Meta, &key)?.ok_or_else(missing)?;
    let bytes = (key.len() + value.len()) as u64;
    if !due(&decode(value, "an idempotency record")?) {
        return Ok(false);
    }
    transaction.overlay.write(Family::Meta, order, None);
    transaction.overlay.write(Family::Meta, key, None);
    transaction.position.idempotency_count -= 1;
    transaction.position.idempotency_bytes = transaction.position.idempotency_bytes.saturating_sub(bytes);
    Ok(true)
}
