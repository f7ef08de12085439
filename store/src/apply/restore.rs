//! A state that came out of a backup becomes the beginning of a new cluster. Pure as `apply` is: every node that restores the same backup
//! holds the same bytes.
//!
//! Keys keep their mod revisions, so that a compare-and-set on what did not change goes on to work. The state's revision is raised so far
//! that no revision of the old cluster, given out after the backup, is ever given out again, and everything before it counts as compacted:
//! whoever watched the old cluster is told so, and never waits for or skips a change silently.

use bytes::Bytes;

use super::{Applied, Transaction, finish_hash, write_position};
use crate::Revision;
use crate::commands;
use crate::encoding::{meta, prefix_end};
use crate::engine::{Engine, Family, Write};
use crate::feature_level::FeatureLevel;
use crate::proto::{HistoryRecord, Position, SourceStatus};
use crate::store::StoreError;

/// How far a restore raises the revision: more than the old cluster can have gone on after the backup (a year at 30 changes a second).
pub(crate) const REVISION_RAISED_BY: Revision = 1_000_000_000;
/// Who changed what the restore itself changes.
const ACTOR: &str = "restore";

/// What makes the state in `engine` a new cluster's.
pub(crate) fn restore(
    engine: &dyn Engine,
    position: Position,
    log_id: Bytes,
    wall_time_ms: i64,
    known: FeatureLevel,
) -> Result<Applied, StoreError> {
    if !position.started {
        return Err(StoreError::Corrupt(
            "the backup holds a state that nothing was ever applied to".to_owned(),
        ));
    }
    let revision = position.revision + REVISION_RAISED_BY;
    let mut transaction = Transaction::new(engine, position, known);
    let position = &mut transaction.position;
    position.revision = revision;
    position.oldest_revision = revision;
    position.restored_revision = revision;
    position.log_id = log_id;
    transaction
        .overlay
        .start_hash(&position.state_hash, position.applied_index);
    transaction.overlay.hash_number(revision);
    transaction.set_cause(HistoryRecord {
        actor: ACTOR.to_owned(),
        cause: "restored from a backup".to_owned(),
        wall_time_ms,
        ..HistoryRecord::default()
    });
    commands::restore_launches(&mut transaction)?;
    forget_passes(&mut transaction)?;
    transaction.write_sources();
    let (mut overlay, mut position, changes) = transaction.into_parts();
    finish_hash(&mut overlay, &mut position);
    write_position(&mut overlay, &position);
    let mut batch = overlay.into_batch();
    // The members are the old cluster's.
    batch.push(Write {
        family: Family::Meta,
        key: Bytes::from_static(meta::MEMBERSHIP),
        value: None,
    });
    Ok(Applied {
        batch,
        position,
        changes,
        hashes: Vec::new(),
        outcomes: Vec::new(),
    })
}

/// What the old cluster compared with ECS says nothing about now: the scheduler waits for each cluster's first whole pass.
fn forget_passes(transaction: &mut Transaction<'_>) -> Result<(), StoreError> {
    let scan = |front: &[u8]| {
        transaction
            .overlay
            .scan(Family::Meta, front, &prefix_end(front), usize::MAX)
    };
    let (passes, sources) = (scan(meta::PASS)?, scan(meta::SOURCE)?);
    for (key, _) in passes {
        transaction.overlay.write(Family::Meta, key, None);
    }
    for (_, status) in sources {
        let status: SourceStatus = super::transaction::decode(status, "a source's status")?;
        transaction.source_status(&status.source)?.reconciled_at_ms = 0;
    }
    Ok(())
}
