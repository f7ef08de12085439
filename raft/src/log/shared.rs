//! What the log's handles, its readers and its thread share.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{DB, Direction, IteratorMode, ReadOptions};
use tokio::sync::Notify;

use super::record::{self, DamagedEntry};
use super::tail::{Tail, Ticket};
use super::writer::LogWriter;
use crate::types::{Entry, LogId};

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Damaged(#[from] DamagedEntry),
    #[error("cannot read the log: {0}")]
    Storage(#[from] rocksdb::Error),
    #[error("log entry {0} is missing")]
    Missing(u64),
}

/// Shared by the log's handles, readers and thread.
pub(super) struct LogShared {
    pub db: Arc<DB>,
    pub tail: Arc<Mutex<Tail>>,
    pub writer: Mutex<LogWriter>,
    /// The last log id known to be committed, until a write takes it along.
    pub committed: Mutex<Option<LogId>>,
    pub gauge: Arc<LogGauge>,
}

impl LogShared {
    /// The write `ticket`, which carried `bytes` of entries, is over.
    pub(super) fn written(&self, ticket: Ticket, bytes: usize) {
        self.tail.lock().written(ticket);
        self.gauge.unwritten.fetch_sub(bytes, Ordering::Release);
        self.gauge.room.notify_waiters();
    }

    /// Reads entries, about `bytes_max` of them but one at least where there is one. Blocking where some are on disk only.
    pub(super) fn read(&self, wanted: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, ReadError> {
        let tail = self.tail.lock();
        let found = tail.find(wanted, bytes_max);
        if found.on_disk.is_empty() {
            return Ok(found.in_memory);
        }
        // An iterator is a view of the moment it is made: made under the lock, it sees all that has left the tail, and nothing that
        // happens later.
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(record::key(found.on_disk.end).to_vec());
        let start = record::key(found.on_disk.start);
        let iterator = self
            .db
            .iterator_opt(IteratorMode::From(&start, Direction::Forward), options);
        drop(tail);

        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut expected = found.on_disk.start;
        for item in iterator {
            let (key, value) = item?;
            if record::index_of(&key) != Some(expected) {
                return Err(ReadError::Missing(expected));
            }
            bytes += value.len();
            if bytes > bytes_max && !entries.is_empty() {
                return Ok(entries);
            }
            entries.push(record::decode(expected, Bytes::from(value.into_vec()))?);
            expected += 1;
        }
        if expected != found.on_disk.end {
            return Err(ReadError::Missing(expected));
        }
        if bytes < bytes_max {
            entries.extend(found.in_memory);
        }
        Ok(entries)
    }
}

/// How much waits for the disk: what holds back proposals and append requests.
#[derive(Default)]
pub(crate) struct LogGauge {
    unwritten: AtomicUsize,
    room: Notify,
    /// Operations queued and not yet done.
    pub(super) outstanding: AtomicUsize,
    /// Whether small appends are synced where they arrive (see [`super::RaftLog`]).
    pub(super) inline_sync: AtomicBool,
}

impl LogGauge {
    pub(super) fn add(&self, bytes: usize) {
        self.unwritten.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Bytes of entries that are not on disk yet.
    pub(crate) fn unwritten_bytes(&self) -> usize {
        self.unwritten.load(Ordering::Acquire)
    }

    /// Waits until less than `limit` bytes wait for the disk.
    pub(crate) async fn wait_below(&self, limit: usize) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before looking, so that no change between is missed.
            room.as_mut().enable();
            if self.unwritten_bytes() < limit {
                return;
            }
            room.await;
        }
    }

    /// A follower that is not busy syncs small appends at once; a leader never, its core has followers to serve.
    pub(crate) fn set_inline_sync(&self, on: bool) {
        self.inline_sync.store(on, Ordering::Relaxed);
    }
}
