//! What the log's handles, its readers and its thread share.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use blox_runtime::time::Instant;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::database::{self, DB, View};
use super::record::{self, DamagedEntry};
use super::tail::{Tail, Ticket};
use super::writer::LogWriter;
use crate::types::{Entry, LogId};

/// Proposals and append requests wait while this much of the log waits for the disk, bytes. A heartbeat is answered once what came before it is on
/// disk: were it more, a disk that is busy would look like a node that is gone.
const UNWRITTEN_BYTES_MAX: usize = 2 << 20;
/// A disk that takes longer than this for a write is not waited for on the consensus thread for a while, ...
const INLINE_TIME_MAX: Duration = Duration::from_millis(10);
/// ... namely this.
const INLINE_REST: Duration = Duration::from_secs(2);

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Damaged(#[from] DamagedEntry),
    #[error("cannot read the log: {0}")]
    Storage(#[from] database::Error),
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
        // A view is of the moment it is made: made under the lock, it sees all that has left the tail, and nothing that happens later. The
        // disk is read after that, so that consensus, which takes this lock too, does not wait for it.
        let keys = record::key(found.on_disk.start)..record::key(found.on_disk.end);
        let view = View::of(&self.db, &keys);
        drop(tail);

        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut expected = found.on_disk.start;
        for item in view {
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
        for entry in found.in_memory {
            bytes += record::size(&entry);
            if bytes > bytes_max {
                break;
            }
            entries.push(entry);
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
    /// Whether what is little is written where it arrives (see [`super::RaftLog`]).
    inline: AtomicBool,
    /// When the disk was last slow.
    slow_at: Mutex<Option<Instant>>,
}

impl LogGauge {
    pub(super) fn add(&self, bytes: usize) {
        self.unwritten.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Bytes of entries that are not on disk yet.
    pub(crate) fn unwritten_bytes(&self) -> usize {
        self.unwritten.load(Ordering::Acquire)
    }

    /// Waits until the disk has not much to write any more.
    pub(crate) async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before looking, so that no change between is missed.
            room.as_mut().enable();
            if self.unwritten_bytes() < UNWRITTEN_BYTES_MAX {
                return;
            }
            room.await;
        }
    }

    /// So many queued operations are done.
    pub(super) fn done(&self, operations: usize) {
        self.outstanding.fetch_sub(operations, Ordering::Release);
    }

    /// A follower that is not busy writes little at once; a leader never waits for the log's disk, its core has followers to serve.
    pub(crate) fn set_inline(&self, on: bool) {
        self.inline.store(on, Ordering::Relaxed);
    }

    /// Whether the disk may be waited for on the consensus thread: not soon after it was slow, since stalls come in series and heartbeats
    /// wait with that thread.
    pub(crate) fn is_inline(&self) -> bool {
        self.inline.load(Ordering::Relaxed) && self.is_quick()
    }

    /// Whether nothing waits for a disk that was quick lately: what is committed then comes alone.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0 && self.is_quick()
    }

    fn is_quick(&self) -> bool {
        (*self.slow_at.lock()).is_none_or(|at| at.elapsed() >= INLINE_REST)
    }

    /// Whether a small append may be synced on the consensus thread: nothing is queued or under way, so that nothing can be overtaken.
    pub(super) fn syncs_inline(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0 && self.is_inline()
    }

    /// A write has taken so long.
    pub(crate) fn took(&self, time: Duration) {
        if time > INLINE_TIME_MAX {
            *self.slow_at.lock() = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slow disk is not waited for on the consensus thread a second time.
    #[test]
    fn a_slow_disk_is_not_waited_for() {
        let gauge = LogGauge::default();
        gauge.set_inline(true);
        gauge.took(INLINE_TIME_MAX);
        assert!(gauge.syncs_inline());
        gauge.took(INLINE_TIME_MAX + Duration::from_millis(1));
        assert!(!gauge.syncs_inline());
        assert!(!gauge.is_at_rest());
    }

    /// Something that waits for the disk, or is under way to it, is no rest, whoever leads.
    #[test]
    fn work_for_the_disk_is_no_rest() {
        let gauge = LogGauge::default();
        assert!(gauge.is_at_rest());
        gauge.outstanding.fetch_add(1, Ordering::AcqRel);
        assert!(!gauge.is_at_rest());
        gauge.done(1);
        assert!(gauge.is_at_rest());
    }
}
