//! Applying log entries: a pure function of the state and the entries. No clock, no random number, no hash-map order: the same log gives
//! the same bytes, however it is cut into calls.

mod compaction;
mod expiry;
mod feature_level;
mod feed;
mod idempotency;
mod indexes;
mod overlay;
mod restore;
mod session;
#[cfg(test)]
mod tests;
pub(crate) mod transaction;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

pub(crate) use compaction::compaction_target;
pub(crate) use indexes::complete as complete_indexes;
pub(crate) use restore::restore;
pub(crate) use transaction::Transaction;

use crate::commands;
use crate::encoding::meta;
use crate::engine::{Family, Reader, Write};
use crate::feature_level::FeatureLevel;
use crate::hashes::{HASH_INTERVAL_ENTRIES, HashPoint};
use crate::proto::{
    Command, Entry, HistoryRecord, Outcome, Position, Refusal, RefusalCode, command::Operation, outcome,
};
use crate::ring::RingChange;
use crate::store::{AppliedEntry, LogEntry, StoreError};

/// After the entry that brings a batch past this, bytes, it is written: what entries do to the state may be far larger than themselves.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// Entries of more than this together, bytes, are no short work.
const SHORT_BYTES_MAX: usize = 2 << 10;

/// What is written for them is no short work beyond this, bytes: a value that is replaced is written once more, and may be large.
const LITTLE_BYTES_MAX: usize = 32 << 10;

/// Whether a batch is written in no time.
pub(crate) fn is_little(batch: &[Write]) -> bool {
    let bytes = |write: &Write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len);
    batch.iter().map(bytes).sum::<usize>() <= LITTLE_BYTES_MAX
}

/// Whether entries are applied in a few steps: keys put and deleted, and reports of sources. (While history is being deleted it is more.)
pub(crate) fn is_short(entries: &[LogEntry]) -> bool {
    let payloads = || entries.iter().filter_map(|entry| entry.payload.as_ref());
    let is_short = |command: &Command| {
        use Operation::{DeleteKey, PutKey, ReportSource};
        matches!(command.operation, Some(PutKey(_) | DeleteKey(_) | ReportSource(_)))
    };
    // What cannot be read is no short work either.
    let all_short =
        |payload: &Bytes| Entry::decode(payload.clone()).is_ok_and(|entry| entry.commands.iter().all(is_short));
    payloads().map(Bytes::len).sum::<usize>() <= SHORT_BYTES_MAX && payloads().all(all_short)
}

/// What applying entries gives: to be written, told, answered.
pub(crate) struct Applied {
    /// One atomic batch.
    pub batch: Vec<Write>,
    /// Where the state stands once it is written.
    pub position: Position,
    /// For watchers, in order.
    pub changes: Vec<Arc<RingChange>>,
    /// The chained hash at each index of theirs that is kept for comparison, in order.
    pub hashes: Vec<HashPoint>,
    /// One an entry; fewer than were given: the batch is full, and the rest comes in another.
    pub outcomes: Vec<AppliedEntry>,
}

/// Applies entries to the state at `position`: all of them, or as many as one batch holds, one at least.
/// `known`: the newest feature level this node knows.
pub(crate) fn apply(
    engine: &dyn Reader,
    position: Position,
    entries: &[LogEntry],
    known: FeatureLevel,
) -> Result<Applied, StoreError> {
    let mut transaction = Transaction::new(engine, position, known);
    let mut outcomes = Vec::with_capacity(entries.len());
    let mut hashes = Vec::new();
    for entry in entries {
        outcomes.push(apply_entry(&mut transaction, entry)?);
        if entry.index.is_multiple_of(HASH_INTERVAL_ENTRIES) {
            hashes.push(HashPoint {
                index: entry.index,
                hash: transaction.overlay.hash(),
            });
        }
        if transaction.overlay.bytes() >= BATCH_BYTES_MAX {
            break;
        }
    }
    let (mut overlay, position, changes) = transaction.into_parts();
    write_position(&mut overlay, &position);
    Ok(Applied {
        batch: overlay.into_batch(),
        position,
        changes,
        hashes,
        outcomes,
    })
}

fn apply_entry(transaction: &mut Transaction<'_>, entry: &LogEntry) -> Result<AppliedEntry, StoreError> {
    let position = &transaction.position;
    if position.started && entry.index != position.applied_index + 1 {
        return Err(StoreError::Corrupt(format!(
            "log entry {} was handed to a state that stands at {}: entries come once and in order",
            entry.index, position.applied_index
        )));
    }
    let revision_before = position.revision;
    transaction.overlay.start_hash(&position.state_hash, entry.index);
    let outcomes = match &entry.payload {
        Some(payload) => apply_payload(transaction, entry.index, payload.clone())?,
        None => Vec::new(),
    };
    if let Some(membership) = &entry.membership {
        let key = Bytes::from_static(meta::MEMBERSHIP);
        transaction
            .overlay
            .write_unhashed(Family::Meta, key, Some(membership.clone()));
    }
    if diverges() {
        let key = Bytes::from_static(b"diverged");
        transaction.overlay.write(Family::Meta, key, Some(Bytes::new()));
    }
    transaction.write_sources();
    compaction::mark(transaction);
    compaction::sweep(transaction, revision_before)?;
    finish_entry(transaction, entry);
    Ok(AppliedEntry { outcomes })
}

/// Whether a test has this node write what the others do not.
fn diverges() -> bool {
    fail::fail_point!("store::diverge", |_| true);
    false
}

fn apply_payload(transaction: &mut Transaction<'_>, index: u64, payload: Bytes) -> Result<Vec<Outcome>, StoreError> {
    let entry = Entry::decode(payload).map_err(|error| StoreError::Corrupt(format!("log entry {index}: {error}")))?;
    transaction.position.elapsed_ms = transaction.position.elapsed_ms.max(entry.elapsed_ms);
    let wall_time_ms = entry.wall_time_ms;
    entry
        .commands
        .into_iter()
        .map(|command| apply_command(transaction, index, wall_time_ms, command))
        .collect()
}

fn apply_command(
    transaction: &mut Transaction<'_>,
    index: u64,
    wall_time_ms: i64,
    mut command: Command,
) -> Result<Outcome, StoreError> {
    // Before anything else: what a node that knows it would do with it is not known here.
    if command.operation.is_none() {
        return feature_level::unknown_command(transaction, index, &command);
    }
    transaction.set_cause(HistoryRecord {
        actor: std::mem::take(&mut command.actor),
        request_id: std::mem::take(&mut command.request_id),
        cause: std::mem::take(&mut command.cause),
        session: command.session,
        wall_time_ms,
        ..HistoryRecord::default()
    });
    let current = transaction.position.session;
    #[cfg(feature = "zoo")]
    crate::zoo::lift_fence(&mut command, current);
    #[cfg(feature = "zoo")]
    if blox_runtime::zoo::carries(blox_runtime::zoo::Bug::KeyIgnored) {
        command.idempotency = None;
    }
    let mut outcome = if command.session != 0 && command.session != current {
        refusal(
            RefusalCode::StaleSession,
            format!("session {} has ended; the current one is {current}", command.session),
            current.to_string(),
        )
    } else {
        match command.idempotency.take() {
            None => execute(transaction, &command)?,
            Some(key) => idempotency::once(transaction, &key, |transaction| execute(transaction, &command))?,
        }
    };
    if !outcome.replayed {
        outcome.revision = transaction.position.revision;
    }
    Ok(outcome)
}

fn execute(transaction: &mut Transaction<'_>, command: &Command) -> Result<Outcome, StoreError> {
    let Some(operation) = &command.operation else {
        return Err(StoreError::Corrupt(
            "a command without an operation was to be executed".to_owned(),
        ));
    };
    match operation {
        Operation::OpenSession(open) => session::open(transaction, open),
        Operation::QuarantineMessages(quarantine) => feed::quarantine(transaction, quarantine),
        Operation::ReportSource(report) => feed::report(transaction, report),
        Operation::Compact(compact) => Ok(compaction::compact(transaction, compact.revision)),
        Operation::Expire(expire) => expiry::expire(transaction, expire.limit),
        Operation::RaiseFeatureLevel(raise) => feature_level::raise(transaction, raise),
        _ => commands::execute(transaction, command),
    }
}

fn finish_entry(transaction: &mut Transaction<'_>, entry: &LogEntry) {
    let (overlay, position) = (&mut transaction.overlay, &mut transaction.position);
    finish_hash(overlay, position);
    position.started = true;
    position.applied_index = entry.index;
    position.log_id = entry.log_id.clone();
}

/// Takes the position into the hash, and the hash into the position.
fn finish_hash(overlay: &mut overlay::Overlay<'_>, position: &mut Position) {
    for number in [
        position.revision,
        position.oldest_revision,
        position.swept_revision,
        position.elapsed_ms,
        position.session,
        position.quarantine_sequence,
        position.idempotency_sequence,
    ] {
        overlay.hash_number(number);
    }
    position.state_hash = Bytes::copy_from_slice(&overlay.hash().to_be_bytes());
}

fn write_position(overlay: &mut overlay::Overlay<'_>, position: &Position) {
    let key = Bytes::from_static(meta::POSITION);
    overlay.write_unhashed(Family::Meta, key, Some(position.encode_to_vec().into()));
}

/// An outcome without a revision yet.
pub(crate) fn outcome(result: outcome::Result) -> Outcome {
    Outcome {
        revision: 0,
        replayed: false,
        result: Some(result),
    }
}

/// A refusal: nothing was changed.
pub(crate) fn refusal(code: RefusalCode, message: String, detail: String) -> Outcome {
    outcome(outcome::Result::Refusal(Refusal {
        code: code.into(),
        message,
        detail,
    }))
}
