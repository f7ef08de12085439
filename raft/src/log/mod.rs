//! The log of one node: entries and votes, in a RocksDB of its own.
//!
//! openraft's core awaits `append`, so `append` never waits for the disk: entries go into a readable memory tail ([`tail`]) and on to the
//! one log thread ([`writer`]), which writes what waits as one batch, syncs once and calls back in order. Votes, truncations and purges
//! go the same way, so that nothing overtakes. What was durable is noted outside the write-ahead log ([`note`]).
//!
//! One exception: a follower whose log thread is idle writes and syncs a small append at once, in its caller: that saves two thread hops
//! on the way of every single write. Not where the disk was slow lately (docs/decisions/0016).

mod counters;
mod database;
mod note;
mod open;
#[cfg(not(feature = "simulation"))]
mod prepared;
mod reader;
#[cfg(not(feature = "simulation"))]
mod reclaim;
mod record;
mod shared;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod sizes;
mod tail;
mod thread;
mod writer;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

pub(crate) use counters::LogCounters;
pub(crate) use open::OpenError;
pub(crate) use reader::LogReader;
pub(crate) use shared::LogGauge;

use crate::types::{Entry, LogId, TypeConfig, Vote};
use shared::LogShared;
use tail::{Tail, Ticket};
use thread::{LogThread, Queue};
use writer::{LogWriter, Operation};

/// A follower syncs appends up to this size where they arrive, bytes.
const INLINE_SYNC_BYTES_MAX: usize = 600;

/// What [`LogHandle::prepare`] writes, bytes.
#[cfg(not(feature = "simulation"))]
pub(crate) const PREPARED_BYTES: u64 = (prepared::FILES * open::MEMTABLE_BYTES) as u64;
#[cfg(feature = "simulation")]
pub(crate) const PREPARED_BYTES: u64 = 0;

/// The log, as openraft writes it. One of these exists a node.
pub(crate) struct RaftLog {
    shared: Arc<LogShared>,
    queue: Queue,
    /// Set with the first operation: a log may be opened where no tasks run.
    courier: OnceLock<mpsc::UnboundedSender<Operation>>,
    next_ticket: Ticket,
    committed: Option<LogId>,
}

/// What the rest of the node may ask of the log, and the means to close it.
pub(crate) struct LogHandle {
    // Not `LogShared`: that keeps the database open.
    tail: Arc<Mutex<Tail>>,
    queue: Queue,
    thread: Mutex<Option<LogThread>>,
    prepares: AtomicBool,
    /// What holds back proposals and append requests.
    pub gauge: Arc<LogGauge>,
    /// For the metrics page.
    pub counters: Arc<LogCounters>,
}

/// Creates an empty log in a directory that does not exist yet.
pub(crate) fn create(directory: &Path) -> Result<(RaftLog, LogHandle), OpenError> {
    Ok(start(open::create(directory)?))
}

/// Opens a log and checks all of it.
pub(crate) fn open(directory: &Path) -> Result<(RaftLog, LogHandle), OpenError> {
    Ok(start(open::open(directory)?))
}

/// Opens a log with all its checks and shows every entry that it still has, in order.
pub(crate) fn for_each_entry(directory: &Path, mut each: impl FnMut(&Entry)) -> Result<(), OpenError> {
    let opened = open::open(directory)?;
    open::read(&opened, directory, |entry| each(&entry))
}

fn start(opened: open::Opened) -> (RaftLog, LogHandle) {
    let counters = Arc::new(LogCounters::default());
    let gauge = Arc::new(LogGauge::default());
    let last = opened.tail.last();
    let tail = Arc::new(Mutex::new(opened.tail));
    let shared = Arc::new(LogShared {
        db: opened.db.clone(),
        tail: tail.clone(),
        writer: Mutex::new(LogWriter::new(opened.db, opened.note, counters.clone(), last)),
        committed: Mutex::new(None),
        gauge: gauge.clone(),
    });
    let (queue, thread) = thread::start(shared.clone());
    let log = RaftLog {
        shared,
        queue: queue.clone(),
        courier: OnceLock::new(),
        next_ticket: 0,
        committed: opened.committed,
    };
    (
        log,
        LogHandle {
            tail,
            queue,
            thread: Mutex::new(Some(thread)),
            prepares: AtomicBool::new(false),
            gauge,
            counters,
        },
    )
}

impl LogHandle {
    /// The last entry's id; without entries the purged one's.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.tail.lock().last()
    }

    /// The last purged entry's id.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.tail.lock().purged()
    }

    /// The last vote.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.tail.lock().vote()
    }

    /// About how many bytes of log stand above `index`.
    pub(crate) fn bytes_after(&self, index: Option<u64>) -> u64 {
        self.tail.lock().sizes().bytes_after(index)
    }

    /// The index up to which entries must go so that about `bytes` are kept; `None`: nothing must go.
    pub(crate) fn purge_point(&self, bytes: u64) -> Option<u64> {
        self.tail.lock().sizes().purge_point(bytes)
    }

    /// Makes write-ahead logs ready, once, beside everything else. It takes [`PREPARED_BYTES`] on disk, which must be there.
    pub(crate) fn prepare(&self) {
        if !self.prepares.swap(true, Ordering::Relaxed) {
            self.tell(Operation::Prepare);
        }
    }

    fn tell(&self, operation: Operation) {
        self.gauge.outstanding.fetch_add(1, Ordering::AcqRel);
        // A thread that is gone already needs no word any more.
        drop(self.queue.send(operation));
    }

    /// Writes what waits and ends the log thread. Blocking.
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        self.tell(Operation::Stop);
        if !thread.join() {
            tracing::error!("the log thread panicked");
        }
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.close();
    }
}

impl RaftLog {
    fn enqueue(&self, operation: Operation) -> io::Result<()> {
        self.shared.gauge.outstanding.fetch_add(1, Ordering::AcqRel);
        self.courier
            .get_or_init(|| thread::courier(self.queue.clone()))
            .send(operation)
            .map_err(|_| io::Error::other("the log is closed"))
    }

    /// Whether to sync here.
    fn syncs_inline(&self, bytes: usize) -> bool {
        bytes <= INLINE_SYNC_BYTES_MAX && self.shared.gauge.syncs_inline()
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.shared.tail.lock();
        Ok(LogState {
            last_purged_log_id: tail.purged(),
            last_log_id: tail.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        #[cfg(feature = "zoo")]
        if crate::zoo::saves_no_vote() {
            self.shared.tail.lock().set_vote(*vote);
            return Ok(());
        }
        fail::fail_point!("raft::before-save-vote");
        let (done, answer) = oneshot::channel();
        self.enqueue(Operation::SaveVote { vote: *vote, done })?;
        answer.await.map_err(|_| io::Error::other("the log is closed"))??;
        fail::fail_point!("raft::after-save-vote");
        self.shared.tail.lock().set_vote(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.committed = committed;
        *self.shared.committed.lock() = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes = entries.iter().map(record::size).sum();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.shared
            .tail
            .lock()
            .append(&entries, ticket)
            .map_err(io::Error::other)?;
        self.shared.gauge.add(bytes);
        let operation = Operation::Append {
            ticket,
            entries,
            bytes,
            callback,
        };
        if self.syncs_inline(bytes) {
            self.shared.writer.lock().perform(vec![operation], &self.shared);
            return Ok(());
        }
        self.enqueue(operation)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let removed = self.shared.tail.lock().truncate_after(last_log_id);
        let Some(indexes) = removed else { return Ok(()) };
        let (done, answer) = oneshot::channel();
        self.enqueue(Operation::Truncate { indexes, done })?;
        answer.await.map_err(|_| io::Error::other("the log is closed"))?
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        fail::fail_point!("raft::before-purge");
        let removed = self.shared.tail.lock().purge(log_id);
        removed.map_or(Ok(()), |indexes| {
            self.enqueue(Operation::Purge { upto: log_id, indexes })
        })
    }
}

#[cfg(test)]
mod tests;
