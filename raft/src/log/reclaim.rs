//! Giving back the room of purged entries.
//!
//! RocksDB drops what a range deletion covers when it compacts, and it compacts when enough new tables have come: a log that rests keeps on
//! disk what it has let go of, however much that is. So once much was written since the last time, a purge is followed by a compaction of
//! what was purged, beside the log thread, one at a time.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::database::DB;
use super::record;

/// Bytes written between two compactions at least: each reads what was purged, and writes what is kept in the same tables anew.
const STEP_BYTES: u64 = 16 << 20;

/// Compacts what was purged.
#[derive(Default)]
pub(super) struct Reclaim {
    written_bytes: u64,
    /// Index after the last purged entry, until a compaction begins that covers it.
    purged_end: Option<u64>,
    running: Option<JoinHandle<()>>,
}

impl Reclaim {
    /// Entries below `end` are purged; to be told before what carries that is [`Reclaim::written`].
    pub(super) fn purged(&mut self, end: u64) {
        self.purged_end = Some(end);
    }

    /// So many bytes more were written.
    pub(super) fn written(&mut self, db: &Arc<DB>, bytes: u64) {
        self.written_bytes += bytes;
        let busy = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if self.written_bytes < STEP_BYTES || busy {
            return;
        }
        let Some(end) = self.purged_end.take() else { return };
        self.written_bytes = 0;
        let db = db.clone();
        let compact = move || db.compact_range(Some(record::key(0)), Some(record::key(end)));
        let started = std::thread::Builder::new()
            .name("blox-raft-reclaim".to_owned())
            .spawn(compact);
        match started {
            Ok(running) => self.running = Some(running),
            // The next purge tries again; until then the disk keeps what it has.
            Err(error) => tracing::warn!(%error, "purged entries keep their room on disk for now"),
        }
    }

    /// Ends what runs; nothing is written any more.
    pub(super) fn stop(&mut self, db: &DB) {
        let Some(running) = self.running.take() else { return };
        if !running.is_finished() {
            db.cancel_all_background_work(false);
        }
        if running.join().is_err() {
            tracing::error!("the thread that gives back the room of purged entries panicked");
        }
    }
}
