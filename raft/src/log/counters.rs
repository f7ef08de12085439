//! What the log counts for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of the log; each only grows, but for what is unflushed.
#[derive(Default)]
pub(crate) struct LogCounters {
    /// Entries written.
    pub entries: AtomicU64,
    syncs: AtomicU64,
    sync_nanoseconds: AtomicU64,
    bytes: AtomicU64,
    unflushed_bytes: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogCounts {
    pub entries: u64,
    pub syncs: u64,
    pub sync_time: Duration,
    pub bytes: u64,
}

impl LogCounters {
    pub(super) fn synced(&self, took: Duration, bytes: u64) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_nanoseconds
            .fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn measured_unflushed(&self, bytes: u64) {
        self.unflushed_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that are in the write-ahead log and in no table yet.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> LogCounts {
        LogCounts {
            entries: self.entries.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            sync_time: Duration::from_nanos(self.sync_nanoseconds.load(Ordering::Relaxed)),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
