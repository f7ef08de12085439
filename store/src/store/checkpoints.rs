//! The whole state as a directory: written, looked at, and put in the place of what a node has.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{PlaceOfState, Store, StoreError, Writer, check_level};
use crate::Revision;
use crate::apply;
use crate::checkpoint;
use crate::engine::disk::DiskEngine;
use crate::engine::memory::MemoryEngine;
use crate::engine::{Engine, Family, ScanLimit};
use crate::feature_level::FeatureLevel;
use crate::read::cut::position;

/// A checkpoint is verified in steps of this.
const VERIFY_STEP: ScanLimit = ScanLimit {
    count: 4_096,
    bytes: 1 << 20,
};

/// What a checkpoint holds, read out of the checkpoint itself.
#[derive(Clone, Debug)]
pub struct CheckpointMeta {
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Its log id, in consensus' own encoding; empty: nothing applied yet.
    pub log_id: Bytes,
    /// The membership, in consensus' own encoding; empty: none.
    pub membership: Bytes,
    /// The state's revision.
    pub revision: Revision,
    /// The state's feature level.
    pub feature_level: FeatureLevel,
    /// The state's chained hash, 16 bytes; empty where only a manifest was read.
    pub state_hash: Bytes,
}

impl Store {
    /// Writes a checkpoint (hard links where it can) into `directory`, which must not exist yet; durable when it returns. Blocking.
    pub fn checkpoint(&self, directory: &Path) -> Result<CheckpointMeta, StoreError> {
        let engine = Arc::clone(&self.inner.engine.lock());
        match &self.inner.place {
            PlaceOfState::Disk(_) => checkpoint::write(&*engine, directory, checkpoint::ROCKSDB, |directory| {
                checkpoint::meta_of(&DiskEngine::open_read_only(directory)?)
            }),
            PlaceOfState::Memory => checkpoint::write(&*engine, directory, checkpoint::MEMORY, |directory| {
                checkpoint::meta_of(&MemoryEngine::load(directory)?)
            }),
        }
    }

    /// What a checkpoint directory holds; an error where it is not a whole one.
    pub fn inspect(directory: &Path) -> Result<CheckpointMeta, StoreError> {
        checkpoint::inspect(directory).map(|(_, meta)| meta)
    }

    /// Reads a whole checkpoint: an error where a file or a block in it is damaged. Blocking, and as long as the checkpoint is large.
    pub fn verify(directory: &Path) -> Result<(), StoreError> {
        let (kind, _) = checkpoint::inspect(directory)?;
        let engine: Arc<dyn Engine> = match kind.as_str() {
            checkpoint::ROCKSDB => Arc::new(DiskEngine::open_whole(directory)?),
            _ => Arc::new(MemoryEngine::load(directory)?),
        };
        for family in Family::ALL {
            let mut from = Bytes::new();
            loop {
                let pairs = engine.scan(family, &from, &[], VERIFY_STEP)?;
                let Some((last, _)) = pairs.last() else { break };
                // The least key above the last.
                from = [last.as_ref(), &[0]].concat().into();
            }
        }
        Ok(())
    }

    /// Replaces the whole state by the checkpoint in `directory` (which is moved away), crash-atomically; readers that hold a view finish on
    /// the old state. Blocking.
    pub fn install(&self, directory: &Path) -> Result<CheckpointMeta, StoreError> {
        let promised = Store::inspect(directory)?;
        check_level("the snapshot", promised.feature_level, self.inner.known_level)?;
        let mut writer = self.inner.writer.lock();
        let (engine, meta) = match &self.inner.place {
            PlaceOfState::Disk(place) => {
                let (engine, meta) = place.install(directory)?;
                (Arc::new(engine) as Arc<dyn Engine>, meta)
            }
            PlaceOfState::Memory => {
                let (engine, meta) = checkpoint::install_in_memory(directory)?;
                (Arc::new(engine) as Arc<dyn Engine>, meta)
            }
        };
        #[cfg(feature = "zoo")]
        crate::zoo::leave_out_half(&*engine)?;
        let mut position = position(&*engine)?;
        apply::complete_indexes(&*engine, &mut position)?;
        self.inner.hashes.lock().clear();
        self.inner
            .publish(&position, Some(&engine), |ring| ring.restart(position.revision));
        let replaced = std::mem::replace(
            &mut *writer,
            Writer {
                engine,
                position,
                failed: false,
            },
        );
        replaced.engine.discard_when_unused();
        Ok(meta)
    }
}
