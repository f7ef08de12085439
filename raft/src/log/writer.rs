//! The only place that writes the log to disk: batches in order, one fsync for all that wait, callbacks in order.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
#[cfg(not(feature = "simulation"))]
use std::sync::mpsc;

use blox_runtime::time::Instant;
use openraft::LogIdOptionExt;
use openraft::storage::IOFlushed;
use prost::Message;
use tokio::sync::oneshot;

use super::counters::LogCounters;
use super::database::{self, DB, WriteBatch, WriteOptions};
use super::note::Note;
#[cfg(not(feature = "simulation"))]
use super::open::MEMTABLE_BYTES;
#[cfg(not(feature = "simulation"))]
use super::prepared::Prepared;
#[cfg(not(feature = "simulation"))]
use super::reclaim::Reclaim;
use super::record;
use super::shared::LogShared;
use super::tail::Ticket;
use crate::codec;
use crate::error::REMEDY;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Waiting operations are written together up to this many bytes of entries.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// RocksDB is asked how much it holds in memory after each so many bytes.
const MEASURE_STEP_BYTES: u64 = 1 << 20;

/// One change of the log.
pub(super) enum Operation {
    Append {
        ticket: Ticket,
        entries: Vec<Entry>,
        bytes: usize,
        callback: IOFlushed<TypeConfig>,
    },
    SaveVote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Truncate {
        indexes: Range<u64>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Purge {
        upto: LogId,
        indexes: Range<u64>,
    },
    /// Write-ahead logs are made ready (see `prepared`).
    Prepare,
    Stop,
}

impl Operation {
    /// The log is closed: who waits for it is told.
    #[cfg(not(feature = "simulation"))]
    pub(super) fn refuse(self) {
        if let Operation::Append { callback, .. } = self {
            callback.io_completed(Err(io::Error::other("the log is closed")));
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Operation::Append { bytes, .. } => *bytes,
            _ => 0,
        }
    }
}

/// Writes and syncs. A failure is for ever: what was not acknowledged never will be.
pub(super) struct LogWriter {
    db: Arc<DB>,
    note: Note,
    counters: Arc<LogCounters>,
    /// Index after the last entry that is written, or purged.
    end: u64,
    /// Bytes written since RocksDB was last asked how much it holds in memory.
    unmeasured_bytes: u64,
    #[cfg(not(feature = "simulation"))]
    reclaim: Reclaim,
    failure: Option<String>,
}

impl LogWriter {
    /// `last`: the last entry that was found on disk, or purged.
    pub(super) fn new(db: Arc<DB>, note: Note, counters: Arc<LogCounters>, last: Option<LogId>) -> LogWriter {
        LogWriter {
            db,
            note,
            counters,
            end: last.next_index(),
            unmeasured_bytes: 0,
            #[cfg(not(feature = "simulation"))]
            reclaim: Reclaim::default(),
            failure: None,
        }
    }

    /// Writes and syncs these operations as one, then tells whoever waits for them, in order.
    pub(super) fn perform(&mut self, operations: Vec<Operation>, shared: &LogShared) {
        let result = self.write(&operations, shared);
        answer(operations, &result, shared);
    }

    pub(super) fn write(&mut self, operations: &[Operation], shared: &LogShared) -> io::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(failure.clone()));
        }
        let began = Instant::now();
        let result = self.write_and_sync(operations, shared);
        shared.gauge.took(began.elapsed());
        if let Err(error) = &result {
            tracing::error!(%error, "the log cannot be written; consensus ends");
            self.failure = Some(error.to_string());
        }
        result
    }

    fn write_and_sync(&mut self, operations: &[Operation], shared: &LogShared) -> io::Result<()> {
        let mut batch = WriteBatch::default();
        for operation in operations {
            self.add(&mut batch, operation);
        }
        self.add_committed(&mut batch, shared);
        if batch.is_empty() {
            return Ok(());
        }
        fail::fail_point!("raft::before-append");
        let bytes = batch.size_in_bytes() as u64;
        let mut unsynced = WriteOptions::default();
        unsynced.set_sync(false);
        self.db
            .write_opt(batch, &unsynced)
            .map_err(|cause| storage("write to the log", cause))?;
        #[cfg(feature = "zoo")]
        if crate::zoo::acknowledges_early() && operations.iter().all(|one| matches!(one, Operation::Append { .. })) {
            return Ok(());
        }
        // Read before the sync, written after it: the note never claims more than what was durable.
        let sequence = self.db.latest_sequence_number();
        fail::fail_point!("raft::before-sync");
        let began = Instant::now();
        self.db
            .flush_wal(true)
            .map_err(|cause| storage("sync the log", cause))?;
        self.counters.synced(began.elapsed(), bytes);
        fail::fail_point!("raft::after-sync");
        self.measure(bytes);
        #[cfg(not(feature = "simulation"))]
        self.reclaim.written(&self.db, bytes);
        self.note.write(sequence)
    }

    /// Looks from time to time at what a flush would write.
    fn measure(&mut self, bytes: u64) {
        self.unmeasured_bytes += bytes;
        if self.unmeasured_bytes < MEASURE_STEP_BYTES {
            return;
        }
        self.unmeasured_bytes = 0;
        self.counters.measured_unflushed(database::unflushed_bytes(&self.db));
    }

    /// The committed position rides along: it may lag, so it costs no write of its own. It never leads the entries on disk.
    fn add_committed(&self, batch: &mut WriteBatch, shared: &LogShared) {
        let mut committed = shared.committed.lock();
        if let Some(id) = committed.take_if(|id| id.index < self.end) {
            batch.put(record::COMMITTED_KEY, codec::log_id_to_proto(&id).encode_to_vec());
        }
    }

    fn add(&mut self, batch: &mut WriteBatch, operation: &Operation) {
        match operation {
            Operation::Append { entries, .. } => {
                for entry in entries {
                    batch.put(record::key(entry.log_id.index), record::encode(entry));
                    self.end = entry.log_id.index + 1;
                }
                self.counters.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
            }
            Operation::SaveVote { vote, .. } => batch.put(record::VOTE_KEY, codec::encode_vote(vote)),
            Operation::Truncate { indexes, .. } => {
                batch.delete_range(record::key(indexes.start), record::key(indexes.end));
                self.end = indexes.start;
            }
            Operation::Purge { upto, indexes } => {
                batch.put(record::PURGED_KEY, codec::log_id_to_proto(upto).encode_to_vec());
                batch.delete_range(record::key(indexes.start), record::key(indexes.end));
                self.end = self.end.max(indexes.end);
                #[cfg(not(feature = "simulation"))]
                self.reclaim.purged(indexes.end);
            }
            Operation::Prepare | Operation::Stop => {}
        }
    }
}

pub(super) fn storage(doing: &str, cause: database::Error) -> io::Error {
    if database::is_damage(&cause) {
        return io::Error::other(format!(
            "cannot {doing}: its files are damaged or missing: {cause}. Stop it; {REMEDY}"
        ));
    }
    io::Error::other(format!("cannot {doing}: {cause}"))
}

fn copy(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

/// Tells whoever waits for these operations, in order.
pub(super) fn answer(operations: Vec<Operation>, result: &io::Result<()>, shared: &LogShared) {
    for operation in operations {
        match operation {
            Operation::Append {
                ticket,
                bytes,
                callback,
                ..
            } => {
                shared.written(ticket, bytes);
                callback.io_completed(copy(result));
            }
            // The asker may have given up: then nobody waits for the answer.
            Operation::SaveVote { done, .. } | Operation::Truncate { done, .. } => drop(done.send(copy(result))),
            Operation::Purge { .. } => {
                fail::fail_point!("raft::after-purge");
            }
            Operation::Prepare | Operation::Stop => {}
        }
    }
}

/// What is to be written together: the first, and what waits behind it; and whether the log stops after it.
pub(super) fn gather(first: Operation, mut next: impl FnMut() -> Option<Operation>) -> (Vec<Operation>, bool) {
    let mut operations = Vec::new();
    let mut bytes = 0;
    let mut waiting = Some(first);
    while let Some(operation) = waiting {
        bytes += operation.bytes();
        let stops = matches!(operation, Operation::Stop);
        operations.push(operation);
        if stops {
            return (operations, true);
        }
        waiting = if bytes < BATCH_BYTES_MAX { next() } else { None };
    }
    (operations, false)
}

/// The log thread: takes all that waits, performs it, and again, until it is told to stop.
#[cfg(not(feature = "simulation"))]
pub(super) fn run(shared: &LogShared, queue: &mpsc::Receiver<Operation>) {
    let mut prepared = None;
    let mut stopping = false;
    while !stopping {
        let Ok(first) = queue.recv() else { break };
        let operations;
        (operations, stopping) = gather(first, || queue.try_recv().ok());
        let taken = operations.len();
        if operations
            .iter()
            .any(|operation| matches!(operation, Operation::Prepare))
        {
            prepared.get_or_insert_with(|| Prepared::begin(shared.db.clone(), MEMTABLE_BYTES));
        }
        shared.writer.lock().perform(operations, shared);
        shared.gauge.done(taken);
    }
    if let Some(mut prepared) = prepared {
        prepared.stop();
    }
    let mut writer = shared.writer.lock();
    let db = writer.db.clone();
    writer.reclaim.stop(&db);
}

#[cfg(test)]
mod tests {
    use openraft::type_config::TypeConfigExt;
    use parking_lot::Mutex;

    use super::*;
    use crate::log::shared::LogGauge;
    use crate::log::tail::Tail;
    use crate::types::{EntryPayload, log_id};

    /// A write that fails is reported to whoever waits, and so is every later one: nothing is retried, nothing acknowledged.
    #[test]
    fn a_failure_is_for_ever() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("db");
        drop(DB::open_default(&path).expect("created"));
        // A database that cannot be written stands in for a disk that fails.
        let db = Arc::new(DB::open_for_read_only(&rocksdb::Options::default(), &path, false).expect("opened"));
        let note = Note::create(&directory.path().join("note")).expect("created");
        let counters = Arc::new(LogCounters::default());
        let shared = LogShared {
            db: db.clone(),
            tail: Arc::new(Mutex::new(Tail::default())),
            writer: Mutex::new(LogWriter::new(db, note, counters, None)),
            committed: Mutex::new(None),
            gauge: Arc::new(LogGauge::default()),
        };
        for index in 0..3 {
            let (callback, mut called_back) = TypeConfig::oneshot();
            let entry = Entry {
                log_id: log_id(1, index),
                payload: EntryPayload::Blank,
            };
            shared.gauge.add(1);
            let append = Operation::Append {
                ticket: index,
                entries: vec![entry],
                bytes: 1,
                callback: IOFlushed::signal(callback),
            };
            shared.writer.lock().perform(vec![append], &shared);
            assert!(
                called_back.try_recv().expect("called back at once").is_err(),
                "entry {index}"
            );
            let (done, mut answered) = oneshot::channel();
            shared.writer.lock().perform(
                vec![Operation::SaveVote {
                    vote: Vote::new(1, 1),
                    done,
                }],
                &shared,
            );
            assert!(answered.try_recv().expect("answered at once").is_err());
        }
        assert!(
            Note::open(&directory.path().join("note")).is_ok_and(|(_, sequence)| sequence == 0),
            "nothing is noted"
        );
    }
}
