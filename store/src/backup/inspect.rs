//! Looking into a backup: its checkpoint is unpacked and opened, which also shows that it can be.

use std::path::Path;

use super::save::Scratch;
use super::{BackupError, BackupSummary, unpack};
use crate::checkpoint;
use crate::encoding::prefix_end;
use crate::engine::disk::DiskEngine;
use crate::engine::memory::MemoryEngine;
use crate::engine::{Family, Reader, ScanLimit};
use crate::key::Kind;
use crate::store::StoreError;

/// Values read at once while counting.
const COUNT_STEP: ScanLimit = ScanLimit {
    count: 4_096,
    bytes: 4 << 20,
};

/// What a backup holds.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What it says of itself.
    pub summary: BackupSummary,
    /// How much there is of each kind.
    pub counts: Vec<(Kind, u64)>,
}

/// Checks all of a backup, opens the state in it under `scratch` (which must not exist yet, and is removed again) and counts. Blocking.
pub fn inspect(path: &Path, scratch: &Path, progress: impl FnMut(u64)) -> Result<Inspection, BackupError> {
    let scratch = Scratch(scratch.to_owned());
    let unpacked = unpack(path, &scratch.0, progress)?;
    let (engine, meta) = checkpoint::inspect(&unpacked.checkpoint)?;
    let counts = if engine == checkpoint::MEMORY {
        let engine = MemoryEngine::load(&unpacked.checkpoint)?;
        checkpoint::compare(&engine, &meta).and_then(|()| count(&engine))
    } else {
        let engine = DiskEngine::open_read_only(&unpacked.checkpoint)?;
        checkpoint::compare(&engine, &meta).and_then(|()| count(&engine))
    };
    Ok(Inspection {
        summary: unpacked.summary,
        counts: counts?,
    })
}

fn count(reader: &dyn Reader) -> Result<Vec<(Kind, u64)>, StoreError> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            let until = prefix_end(&[kind as u8]);
            let (mut from, mut count) = (vec![kind as u8], 0);
            loop {
                let pairs = reader.scan(Family::Latest, &from, &until, COUNT_STEP)?;
                let Some((last, _)) = pairs.last() else { break };
                from = [last.as_ref(), &[0]].concat();
                count += pairs.len() as u64;
            }
            Ok((kind, count))
        })
        .collect()
}
