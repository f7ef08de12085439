//! What feed and reconcile leave in `meta`: progress by source, and messages that could not be read. None of it uses a revision.

use bytes::Bytes;
use prost::Message;

use super::transaction::decode;
use super::{Transaction, outcome};
use crate::encoding::meta;
use crate::engine::Family;
use crate::proto::{
    Done, Outcome, QuarantineMessages, QuarantinedMessage, ReconcilePass, ReportSource, outcome::Result as Answer,
};
use crate::store::StoreError;

/// Messages the quarantine holds; the oldest make room.
const QUARANTINE_MESSAGES_MAX: u64 = 1_000;
/// Bytes of bodies, ids and reasons it holds; the oldest make room.
const QUARANTINE_BYTES_MAX: u64 = 64 << 20;

/// Keeps messages that could not be read.
pub(super) fn quarantine(
    transaction: &mut Transaction<'_>,
    quarantine: &QuarantineMessages,
) -> Result<Outcome, StoreError> {
    for message in &quarantine.messages {
        let position = &mut transaction.position;
        position.quarantine_sequence += 1;
        let message = QuarantinedMessage {
            sequence: position.quarantine_sequence,
            source: quarantine.source.clone(),
            ..message.clone()
        };
        let value = Bytes::from(message.encode_to_vec());
        position.quarantine_count += 1;
        position.quarantine_bytes += value.len() as u64;
        transaction.overlay.write(
            Family::Meta,
            meta::numbered(meta::QUARANTINE, message.sequence),
            Some(value),
        );
        make_room(transaction)?;
    }
    transaction.source_status(&quarantine.source)?.quarantined += quarantine.messages.len() as u64;
    Ok(outcome(Answer::Done(Done {})))
}

fn make_room(transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
    while transaction.position.quarantine_count > QUARANTINE_MESSAGES_MAX
        || transaction.position.quarantine_bytes > QUARANTINE_BYTES_MAX
    {
        let position = &transaction.position;
        // Sequences have no holes: only the oldest ever goes.
        let oldest = position.quarantine_sequence - position.quarantine_count + 1;
        let key = meta::numbered(meta::QUARANTINE, oldest);
        let value = transaction.overlay.get(Family::Meta, &key)?.ok_or_else(|| {
            StoreError::Corrupt(format!("the quarantine counts message {oldest} but does not hold it"))
        })?;
        transaction.overlay.write(Family::Meta, key, None);
        let position = &mut transaction.position;
        position.quarantine_count -= 1;
        position.quarantine_bytes = position.quarantine_bytes.saturating_sub(value.len() as u64);
    }
    Ok(())
}

/// Takes over progress. A watermark never goes back; of each cluster the pass that ended last stays.
pub(super) fn report(transaction: &mut Transaction<'_>, report: &ReportSource) -> Result<Outcome, StoreError> {
    let wall_time_ms = transaction.wall_time_ms();
    let status = transaction.source_status(&report.source)?;
    status.watermark_ms = status.watermark_ms.max(report.watermark_ms);
    for pass in &report.passes {
        status.drift_added += pass.drift_added;
        status.drift_changed += pass.drift_changed;
        status.drift_gone += pass.drift_gone;
    }
    if report.source_reconciled {
        status.reconciled_at_ms = wall_time_ms;
    }
    for pass in &report.passes {
        let key = meta::named(meta::PASS, &[&report.source, &pass.cluster_arn]);
        let earlier = transaction.overlay.get(Family::Meta, &key)?;
        let earlier = earlier
            .map(|bytes| decode::<ReconcilePass>(bytes, "a reconcile pass"))
            .transpose()?;
        let settled = pass.missing == 0 || earlier.as_ref().is_some_and(|earlier| earlier.settled);
        let shown = earlier.filter(|earlier| earlier.ended_at_ms > pass.ended_at_ms);
        let pass = ReconcilePass {
            settled,
            ..shown.unwrap_or_else(|| pass.clone())
        };
        transaction
            .overlay
            .write(Family::Meta, key, Some(pass.encode_to_vec().into()));
    }
    Ok(outcome(Answer::Done(Done {})))
}
