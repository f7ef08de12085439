//! Reading the history: what changed with which revision.

use super::Cut;
use crate::Revision;
use crate::apply::transaction::{decode, stored_key};
use crate::encoding::{history_key, history_revision};
use crate::engine::{Family, Pair, ScanLimit};
use crate::key::Key;
use crate::proto::HistoryRecord;
use crate::ring::{Line, RingChange, SharedValue};
use crate::store::StoreError;
use crate::watch::Cause;

/// A change as the history has it.
pub(crate) struct PastChange {
    /// With which revision.
    pub revision: Revision,
    /// Of which key.
    pub key: Key,
    /// Everything else.
    pub record: HistoryRecord,
}

/// The changes from `revision` on, whole revisions only, about `limit`; empty: there are none.
pub(crate) fn changes(cut: &Cut, revision: Revision, limit: ScanLimit) -> Result<Vec<PastChange>, StoreError> {
    let scan =
        |from: &[u8], until: Revision, limit| cut.reader.scan(Family::History, from, &history_key(until, 0), limit);
    let mut records = scan(&history_key(revision, 0), cut.position.revision + 1, limit)?;
    while let Some((last, _)) = records.last() {
        // The rest of the last revision.
        let rest = scan(&[last.as_ref(), &[0]].concat(), revision_of(last)? + 1, limit)?;
        if rest.is_empty() {
            break;
        }
        records.extend(rest);
    }
    let mut before = revision.saturating_sub(1);
    let changes = records.into_iter().map(|pair| {
        let change = past_change(pair)?;
        // Every revision has a record: a hole means that history was lost.
        if change.revision != before && change.revision != before + 1 {
            return Err(StoreError::Corrupt(format!(
                "the history jumps from revision {before} to {}",
                change.revision
            )));
        }
        before = change.revision;
        Ok(change)
    });
    changes.collect()
}

fn past_change((key, record): Pair) -> Result<PastChange, StoreError> {
    let mut record: HistoryRecord = decode(record, "a history record")?;
    Ok(PastChange {
        revision: revision_of(&key)?,
        key: stored_key(std::mem::take(&mut record.key))?,
        record,
    })
}

fn revision_of(key: &[u8]) -> Result<Revision, StoreError> {
    history_revision(key).ok_or_else(|| StoreError::Corrupt("a key of `history` is too short".to_owned()))
}

/// A past change with the value that a watcher is told.
pub(crate) fn with_values(cut: &Cut, change: PastChange) -> Result<RingChange, StoreError> {
    let PastChange { revision, key, record } = change;
    // What is shown of a deletion is the last value; of anything else, the new one: the one before is not looked up.
    let (current, last) = match (record.deleted, record.previous_mod_revision) {
        (false, _) => (Some(value_since(cut, &key, revision)?), None),
        (true, 0) => (None, None),
        (true, last) => (None, cut.version(&key, last)?),
    };
    Ok(RingChange {
        revision,
        current: current.map(SharedValue::new),
        deleted: last.map(SharedValue::new),
        cause: Cause::of(record).into(),
        line: Line::default(),
        key,
    })
}

/// The value a key got with a revision that is still kept: left behind since, or still the latest.
fn value_since(cut: &Cut, key: &Key, revision: Revision) -> Result<bytes::Bytes, StoreError> {
    if let Some(bytes) = cut.version(key, revision)? {
        return Ok(bytes);
    }
    let latest = cut.reader.get(Family::Latest, key.as_bytes())?;
    latest.ok_or_else(|| StoreError::Corrupt(format!("revision {revision} wrote a value that is nowhere")))
}
