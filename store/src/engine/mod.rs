//! What the state needs from a storage engine: six ordered families, atomic batches, snapshots, checkpoints.
//!
//! Two engines behave alike: [`disk`] (RocksDB) in a node, [`memory`] in simulations. The state's meaning lives above them.

#[cfg(test)]
mod at_once_tests;
pub(crate) mod damage;
pub(crate) mod disk;
mod manifest_note;
pub(crate) mod memory;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;

use crate::store::StoreError;

/// A key and its value, as stored.
pub(crate) type Pair = (Bytes, Bytes);

/// An ordered space of keys. The numbers enter the state hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Family {
    /// Key -> its value now.
    Latest = 0,
    /// Key, newest revision first -> the values `latest` has left behind, and tombstones.
    Versions = 1,
    /// Revision, sub -> which key changed, why, by whom.
    History = 2,
    /// Secondary indexes, see [`crate::encoding::Index`].
    Indexes = 3,
    /// ARN -> what is remembered of a deleted resource.
    Tombstones = 4,
    /// Position, session, sources, quarantine, idempotency keys, see [`crate::encoding::meta`].
    Meta = 5,
}

impl Family {
    /// Every family, by number.
    pub const ALL: [Family; 6] = [
        Family::Latest,
        Family::Versions,
        Family::History,
        Family::Indexes,
        Family::Tombstones,
        Family::Meta,
    ];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Family::Latest => "latest",
            Family::Versions => "versions",
            Family::History => "history",
            Family::Indexes => "indexes",
            Family::Tombstones => "tombstones",
            Family::Meta => "meta",
        }
    }
}

/// One write of a batch; `None` deletes.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// Where.
    pub family: Family,
    /// The key.
    pub key: Bytes,
    /// Its new value.
    pub value: Option<Bytes>,
}

/// Where a scan stops at the latest: always after at least one pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanLimit {
    /// Pairs.
    pub count: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl ScanLimit {
    /// Only the first pair.
    pub const ONE: ScanLimit = ScanLimit {
        count: 1,
        bytes: usize::MAX,
    };
}

/// What the files of an engine hold: figures for people, not for decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSizes {
    /// Bytes in tables that are read from.
    pub table_bytes: u64,
    /// Bytes that compaction is known to have to write again.
    pub compaction_pending_bytes: u64,
}

/// While it is held nothing is done beside writes that they could have to wait for.
pub(crate) struct Undisturbed<'a> {
    pub(crate) _held: Option<MutexGuard<'a, ()>>,
}

/// Reading, at the head or in a snapshot.
pub(crate) trait Reader: Send + Sync {
    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Pairs in order with `from <= key < until` (an empty `until`: to the end), as many as `limit` allows. Fewer than `limit.count`
    /// pairs do not say that the range has ended; an empty answer does.
    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError>;
}

impl<R: Reader + ?Sized> Reader for &R {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        (**self).get(family, key)
    }

    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError> {
        (**self).scan(family, from, until, limit)
    }
}

/// An engine. It has one writer at a time, and any number of readers.
pub(crate) trait Engine: Reader {
    /// One consistent cut, valid as long as it is held.
    fn snapshot(self: Arc<Self>) -> Arc<dyn Reader>;

    /// Writes all or nothing; readers see it when this returns. Later writes to a key win.
    fn write(&self, batch: &[Write]) -> Result<(), StoreError>;

    /// Keeps away, for a moment, what a write that must not wait could have to wait for. `None`: the next write is to be an ordinary one.
    fn undisturbed(&self) -> Option<Undisturbed<'_>> {
        Some(Undisturbed { _held: None })
    }

    /// Reads at the head what is in memory; what is not there is [`StoreError::NotInMemory`].
    fn in_memory(&self) -> Box<dyn Reader + '_>;

    /// As [`Engine::write`], while it is [`Engine::undisturbed`], unless the write would have to wait for a flush or a compaction: `false`, and
    /// nothing is written. What is written so is given to the system with the next ordinary write or [`Engine::hand_over`]: a process that is
    /// killed before may lose it, whole batches from the end.
    fn write_at_once(&self, batch: &[Write]) -> Result<bool, StoreError> {
        self.write(batch).map(|()| true)
    }

    /// Whether [`Engine::write_at_once`] has gathered what the system has not been given.
    fn has_gathered(&self) -> bool {
        false
    }

    /// Gives to the system what [`Engine::write_at_once`] has gathered.
    fn hand_over(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Makes everything written so far durable.
    fn flush(&self) -> Result<(), StoreError>;

    /// Writes the files of a checkpoint into `directory`, which does not exist yet. They need not be durable yet.
    fn write_checkpoint(&self, directory: &Path) -> Result<(), StoreError>;

    /// What a power cut leaves: what was flushed last. Only the engine of simulations can say.
    fn after_power_cut(&self) -> Option<Arc<dyn Engine>> {
        None
    }

    /// Bytes that are in memory and in the write-ahead log, and not yet in files of their own: what a flush would write.
    fn unflushed_bytes(&self) -> u64 {
        0
    }

    /// What its files hold and still have to be brought into order. Only an engine with files has any.
    fn file_sizes(&self) -> FileSizes {
        FileSizes::default()
    }

    /// Has its files deleted as soon as nobody reads from it any more.
    fn discard_when_unused(&self) {}
}
