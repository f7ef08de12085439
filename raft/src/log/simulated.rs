//! The log's disk in a simulation: in memory, by path, outlasting the process that writes it, and noting every durable change for whoever
//! checks it. It has the names of RocksDB that the log uses, so that everything above it is the log of a node: its tail, its writer, its
//! records and their checksums, its durable note.
//!
//! What is written is durable at once; what a crash loses is what waits before it (the log's task takes its time, [`super::thread`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Range, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::record;
use crate::codec;
use crate::types::Entry;

thread_local! {
    static DISKS: RefCell<BTreeMap<PathBuf, Arc<Mutex<Disk>>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Forgets every disk: a new world begins.
pub(crate) fn forget_all() {
    DISKS.with(RefCell::take);
}

/// A durable change of a log.
#[derive(Clone, Debug)]
pub(crate) enum Durable {
    Entry(Box<Entry>),
    Vote(crate::types::Vote),
    /// Entries up to this one are in a snapshot.
    Purged(crate::types::LogId),
    /// Entries from this index on, up to the second, are gone.
    Removed(u64, u64),
}

/// What became durable in the log under `directory` since this was asked last.
pub(crate) fn take_changes(directory: &Path) -> Vec<Durable> {
    let path = super::open::database_path(directory);
    DISKS.with(|disks| {
        let disks = disks.borrow();
        let Some(disk) = disks.get(&path) else {
            return Vec::new();
        };
        let mut disk = disk.lock();
        disk.changes.drain(..).filter_map(decoded).collect()
    })
}

fn decoded(change: Change) -> Option<Durable> {
    match change {
        Change::Put(key, value) if key == record::VOTE_KEY => Some(Durable::Vote(
            codec::decode_vote(&value).expect("the log wrote it a moment ago"),
        )),
        Change::Put(key, value) if key == record::PURGED_KEY => Some(Durable::Purged(
            codec::decode_log_id(&value).expect("the log wrote it a moment ago"),
        )),
        Change::Put(key, value) => record::index_of(&key).map(|index| {
            let entry = record::decode(index, Bytes::from(value)).expect("the log wrote it a moment ago");
            Durable::Entry(Box::new(entry))
        }),
        Change::Delete(from, until) => Some(Durable::Removed(record::index_of(&from)?, record::index_of(&until)?)),
    }
}

#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>, Vec<u8>),
}

#[derive(Default)]
struct Disk {
    content: BTreeMap<Vec<u8>, Vec<u8>>,
    sequence: u64,
    changes: VecDeque<Change>,
}

/// An open database.
pub(crate) struct DB(Arc<Mutex<Disk>>);

/// What a database says that fails.
#[derive(Debug)]
pub(crate) struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

type Pair = (Box<[u8]>, Box<[u8]>);

impl DB {
    pub(super) fn open(options: &Options, path: impl AsRef<Path>) -> Result<DB, Error> {
        let path = path.as_ref().to_owned();
        DISKS.with(|disks| {
            let mut disks = disks.borrow_mut();
            // A log whose directory was removed is gone.
            if options.error_if_exists && !path.exists() {
                disks.remove(&path);
            }
            if disks.contains_key(&path) && options.error_if_exists {
                return Err(Error("it exists already".to_owned()));
            }
            if !disks.contains_key(&path) && !options.create_if_missing {
                return Err(Error("it does not exist".to_owned()));
            }
            std::fs::create_dir_all(&path).map_err(|error| Error(error.to_string()))?;
            Ok(DB(disks.entry(path).or_default().clone()))
        })
    }

    pub(super) fn latest_sequence_number(&self) -> u64 {
        self.0.lock().sequence
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.lock().content.get(key).cloned())
    }

    pub(super) fn iterator(
        &self,
        IteratorMode::From(start, Direction::Forward): IteratorMode<'_>,
    ) -> impl Iterator<Item = Result<Pair, Error>> + use<> {
        self.pairs(start.to_vec()..)
    }

    fn pairs(&self, keys: impl RangeBounds<Vec<u8>>) -> std::vec::IntoIter<Result<Pair, Error>> {
        let disk = self.0.lock();
        let boxed = |(key, value): (&Vec<u8>, &Vec<u8>)| Ok((key.as_slice().into(), value.as_slice().into()));
        let pairs: Vec<_> = disk.content.range(keys).map(boxed).collect();
        pairs.into_iter()
    }

    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn write_opt(&self, batch: WriteBatch, _options: &WriteOptions) -> Result<(), Error> {
        let mut disk = self.0.lock();
        disk.sequence += batch.0.len() as u64;
        for change in batch.0 {
            match &change {
                Change::Put(key, value) => {
                    disk.content.insert(key.clone(), value.clone());
                }
                Change::Delete(from, until) => disk.content.retain(|key, _| key < from || key >= until),
            }
            disk.changes.push_back(change);
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, clippy::unused_self)]
    pub(super) fn flush_wal(&self, _sync: bool) -> Result<(), Error> {
        Ok(())
    }
}

/// Changes that are written together.
#[derive(Default)]
pub(crate) struct WriteBatch(Vec<Change>);

impl WriteBatch {
    pub(super) fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push(Change::Put(key.as_ref().to_vec(), value.as_ref().to_vec()));
    }

    pub(super) fn delete_range(&mut self, from: impl AsRef<[u8]>, until: impl AsRef<[u8]>) {
        self.0
            .push(Change::Delete(from.as_ref().to_vec(), until.as_ref().to_vec()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn size_in_bytes(&self) -> usize {
        let size = |change: &Change| match change {
            Change::Put(key, value) => key.len() + value.len(),
            Change::Delete(from, until) => from.len() + until.len(),
        };
        self.0.iter().map(size).sum()
    }
}

#[derive(Default)]
pub(crate) struct WriteOptions;

impl WriteOptions {
    pub(super) fn set_sync(&mut self, _on: bool) {}
}

/// Pairs of a range of keys as they are when it is made.
pub(super) struct View(std::vec::IntoIter<Result<Pair, Error>>);

impl View {
    pub(super) fn of(db: &DB, keys: &Range<impl AsRef<[u8]>>) -> View {
        View(db.pairs(keys.start.as_ref().to_vec()..keys.end.as_ref().to_vec()))
    }
}

impl Iterator for View {
    type Item = Result<Pair, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

pub(crate) enum Direction {
    Forward,
}

pub(crate) enum IteratorMode<'a> {
    From(&'a [u8], Direction),
}

pub(crate) enum DBRecoveryMode {
    PointInTime,
}

pub(crate) enum DBCompressionType {
    Lz4,
}

/// RocksDB's settings: only those that say what may exist mean something here.
#[derive(Default)]
pub(crate) struct Options {
    create_if_missing: bool,
    error_if_exists: bool,
}

impl Options {
    pub(super) fn create_if_missing(&mut self, on: bool) {
        self.create_if_missing = on;
    }

    pub(super) fn set_error_if_exists(&mut self, on: bool) {
        self.error_if_exists = on;
    }

    pub(super) fn set_write_buffer_size(&mut self, _bytes: usize) {}
    pub(super) fn set_max_write_buffer_number(&mut self, _count: i32) {}
    pub(super) fn set_max_total_wal_size(&mut self, _bytes: u64) {}
    pub(super) fn set_recycle_log_file_num(&mut self, _count: usize) {}
    pub(super) fn set_wal_recovery_mode(&mut self, _mode: DBRecoveryMode) {}
    pub(super) fn set_paranoid_checks(&mut self, _on: bool) {}
    pub(super) fn set_compression_type(&mut self, _kind: DBCompressionType) {}
    pub(super) fn set_level_zero_file_num_compaction_trigger(&mut self, _tables: i32) {}
    pub(super) fn set_level_zero_slowdown_writes_trigger(&mut self, _tables: i32) {}
    pub(super) fn set_level_zero_stop_writes_trigger(&mut self, _tables: i32) {}
    pub(super) fn set_bytes_per_sync(&mut self, _bytes: u64) {}
    pub(super) fn set_ratelimiter(&mut self, _bytes: i64, _microseconds: i64, _fairness: i32) {}
    pub(super) fn set_keep_log_file_num(&mut self, _count: usize) {}
}
