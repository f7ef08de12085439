//! Forgetting history. The command only moves the oldest revision; what lies before it is deleted in bounded steps, one after each entry,
//! so that every node's bytes stay the same and no entry waits long.

use bytes::Bytes;
use prost::Message;

use super::transaction::{decode, stored_key};
use super::{Transaction, indexes, outcome, refusal};
use crate::Revision;
use crate::encoding::{self, meta, prefix_end};
use crate::engine::{Family, Reader, ScanLimit};
use crate::proto::{Done, HistoryMark, HistoryRecord, Outcome, Position, RefusalCode, outcome::Result as Answer};
use crate::store::{HistoryLimits, StoreError};

/// History records deleted after an entry that changed nothing: nobody waits for it.
const SWEPT_WHEN_IDLE: u64 = 512;
/// History records deleted after an entry, beside two for each of its own changes: deletion keeps ahead of growth.
const SWEPT_AT_LEAST: u64 = 16;
/// A mark is set after so much time on the replicated clock,
const MARK_EVERY_MS: u64 = 10 * 60 * 1_000;
/// or so many revisions,
const MARK_EVERY_REVISIONS: u64 = 50_000;
/// or so many bytes of history.
const MARK_EVERY_BYTES: u64 = 64 << 20;

/// Forgets history before `revision`, which itself stays readable.
pub(super) fn compact(transaction: &mut Transaction<'_>, revision: Revision) -> Outcome {
    let position = &mut transaction.position;
    if revision > position.revision {
        let message = format!(
            "revision {revision} is ahead of the state's {}: only the past can be compacted",
            position.revision
        );
        return refusal(RefusalCode::Invalid, message, position.revision.to_string());
    }
    position.oldest_revision = position.oldest_revision.max(revision);
    fail::fail_point!("store::compacting");
    outcome(Answer::Done(Done {}))
}

/// Deletes a bounded piece of what lies before the oldest revision.
///
/// Of each key the value that stood just before the oldest revision stays in `versions`: an older one goes with the record of the change
/// that replaced it, a tombstone with its own.
pub(super) fn sweep(transaction: &mut Transaction<'_>, revision_before: Revision) -> Result<(), StoreError> {
    let position = &transaction.position;
    if position.swept_revision >= position.oldest_revision {
        return Ok(());
    }
    let changes = position.revision - revision_before;
    let limit = if changes == 0 {
        SWEPT_WHEN_IDLE
    } else {
        SWEPT_AT_LEAST + 2 * changes
    } as usize;
    let from = encoding::history_key(position.swept_revision, 0);
    let until = encoding::history_key(position.oldest_revision, 0);
    fail::fail_point!("store::sweeping");
    let records = transaction.overlay.scan(Family::History, &from, &until, limit)?;
    transaction.position.swept_revision = match records.last() {
        Some((last, _)) if records.len() >= limit => revision_of(last)?,
        _ => transaction.position.oldest_revision,
    };
    for (record_key, record) in records {
        let revision = revision_of(&record_key)?;
        let record: HistoryRecord = decode(record, "a history record")?;
        let key = stored_key(record.key)?;
        transaction.overlay.write(Family::History, record_key, None);
        if record.previous_mod_revision > 0 {
            transaction.overlay.write(
                Family::Versions,
                encoding::version_key(&key, record.previous_mod_revision),
                None,
            );
        }
        if record.deleted {
            transaction
                .overlay
                .write(Family::Versions, encoding::version_key(&key, revision), None);
            indexes::forget(&mut transaction.overlay, &key, revision)?;
        }
    }
    sweep_marks(transaction)
}

fn sweep_marks(transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
    let until = meta::numbered(meta::MARK, transaction.position.swept_revision);
    for (key, _) in transaction
        .overlay
        .scan(Family::Meta, meta::MARK, &until, SWEPT_AT_LEAST as usize)?
    {
        transaction.overlay.write(Family::Meta, key, None);
    }
    Ok(())
}

fn revision_of(history_key: &[u8]) -> Result<Revision, StoreError> {
    encoding::history_revision(history_key)
        .ok_or_else(|| StoreError::Corrupt("a key of `history` is too short".to_owned()))
}

/// Notes age and size of the history at this revision, now and then.
pub(super) fn mark(transaction: &mut Transaction<'_>) {
    let position = &mut transaction.position;
    let mark = HistoryMark {
        revision: position.revision,
        elapsed_ms: position.elapsed_ms,
        history_bytes: position.history_bytes,
    };
    let last = position.last_mark.unwrap_or_default();
    let due = mark.elapsed_ms - last.elapsed_ms >= MARK_EVERY_MS
        || mark.revision - last.revision >= MARK_EVERY_REVISIONS
        || mark.history_bytes - last.history_bytes >= MARK_EVERY_BYTES;
    if due && mark.revision > last.revision {
        position.last_mark = Some(mark);
        let key = meta::numbered(meta::MARK, mark.revision);
        transaction
            .overlay
            .write(Family::Meta, key, Some(Bytes::from(mark.encode_to_vec())));
    }
}

/// The revision to compact to so that the history stays within `limits`; `None` while it is.
pub(crate) fn compaction_target(
    reader: &dyn Reader,
    position: &Position,
    limits: &HistoryLimits,
) -> Result<Option<Revision>, StoreError> {
    let mut target = position.revision.saturating_sub(limits.revisions);
    let mut from = meta::numbered(meta::MARK, position.oldest_revision);
    let until = prefix_end(meta::MARK);
    'marks: loop {
        let marks = reader.scan(
            Family::Meta,
            &from,
            &until,
            ScanLimit {
                count: 256,
                bytes: usize::MAX,
            },
        )?;
        let Some((last, _)) = marks.last() else { break };
        from = [last.as_ref(), &[0]].concat().into();
        for (_, mark) in marks {
            let mark: HistoryMark = decode(mark, "a history mark")?;
            let too_old = position.elapsed_ms - mark.elapsed_ms >= limits.age_ms;
            let too_large = position.history_bytes - mark.history_bytes >= limits.bytes;
            if !too_old && !too_large {
                break 'marks;
            }
            target = target.max(mark.revision);
        }
    }
    Ok((target > position.oldest_revision).then_some(target))
}
