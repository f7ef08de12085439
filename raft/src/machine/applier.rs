//! The apply thread: writes committed entries to the store, answers who waits for them, tells how far it is.
//!
//! One exception, as in the log: on a follower whose disk is quick short work is done at once, where it arrives, and on a leader that of a write
//! which comes alone. It waits for no disk, and saves two hand-overs between threads for every single write (docs/decisions/0022).

use std::io;
#[cfg(not(feature = "simulation"))]
use std::sync::Arc;
#[cfg(not(feature = "simulation"))]
use std::sync::mpsc;
#[cfg(not(feature = "simulation"))]
use std::thread::JoinHandle;

#[cfg(not(feature = "simulation"))]
use blox_runtime::time::Instant;
use blox_runtime::watch;
use blox_store::{AppliedEntry, LogEntry, Store};
use openraft::entry::RaftPayload;
use openraft::storage::EntryResponder;
#[cfg(not(feature = "simulation"))]
use tokio::sync::oneshot;

#[cfg(not(feature = "simulation"))]
use super::AppliedReceiver;
use crate::codec;
#[cfg(not(feature = "simulation"))]
use crate::log::LogGauge;
use crate::types::{Entry, EntryPayload, LogId, Outcomes, StoredMembership, TypeConfig, position};

#[cfg(feature = "simulation")]
pub(crate) use super::applier_simulated::Applier;

#[cfg(not(feature = "simulation"))]
struct Chunk {
    entries: Vec<EntryResponder<TypeConfig>>,
    done: oneshot::Sender<io::Result<()>>,
}

#[cfg(not(feature = "simulation"))]
/// Hands committed entries to the apply thread. Dropping it ends the thread.
pub(crate) struct Applier {
    store: Store,
    queue: Option<mpsc::Sender<Chunk>>,
    gauge: Arc<LogGauge>,
    applied: watch::Sender<Option<LogId>>,
    thread: Option<JoinHandle<()>>,
}

#[cfg(not(feature = "simulation"))]
impl Applier {
    /// Starts the apply thread. `gauge` says whether the consensus thread may wait for the disk.
    pub(crate) fn start(store: Store, applied: Option<LogId>, gauge: Arc<LogGauge>) -> (Applier, AppliedReceiver) {
        let (queue, chunks) = mpsc::channel::<Chunk>();
        let (applied, receiver) = watch::channel(applied);
        let thread = std::thread::Builder::new()
            .name("blox-apply".to_owned())
            .spawn({
                let (store, applied) = (store.clone(), applied.clone());
                move || {
                    // Ends when the queue is dropped.
                    for Chunk { entries, done } in chunks {
                        // openraft waits for the answer, unless it has stopped.
                        drop(done.send(apply(&store, entries, &applied)));
                    }
                }
            })
            .expect("the system starts one more thread");
        (
            Applier {
                store,
                queue: Some(queue),
                gauge,
                applied,
                thread: Some(thread),
            },
            receiver,
        )
    }

    /// Applies entries as one batch and answers their proposers.
    pub(super) async fn apply(&self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let follows = self.gauge.is_inline();
        let comes_alone = entries.len() == 1 && self.gauge.is_at_rest();
        let entries = if (follows || comes_alone) && !is_left_to_the_thread() {
            if follows {
                // The leader waits for the answer to what came with the news that these are committed: that is sent first.
                tokio::task::yield_now().await;
            }
            match self.apply_at_once(entries)? {
                Some(entries) => entries,
                None => return Ok(()),
            }
        } else {
            entries
        };
        let ended = || io::Error::other("the apply thread has ended");
        let (done, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Chunk { entries, done }).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Applies entries here, where that is short work; otherwise gives them back. (The thread has nothing to do: entries come when those before
    /// them are applied.)
    fn apply_at_once(
        &self,
        entries: Vec<EntryResponder<TypeConfig>>,
    ) -> io::Result<Option<Vec<EntryResponder<TypeConfig>>>> {
        fail::fail_point!("raft::before-apply");
        let began = Instant::now();
        let log_entries = to_log_entries(&entries);
        let results = self.store.apply_at_once(&log_entries);
        self.gauge.took(began.elapsed());
        let Some(results) = results.map_err(io::Error::other)? else {
            return Ok(Some(entries));
        };
        answer(entries, results, &self.applied)?;
        Ok(None)
    }

    /// A snapshot has replaced the state.
    pub(super) fn installed(&self, applied: Option<LogId>) {
        self.applied.send_replace(applied);
    }
}

#[cfg(not(feature = "simulation"))]
impl Drop for Applier {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the apply thread panicked");
        }
    }
}

/// Whether a test has the apply thread do everything.
#[cfg(not(feature = "simulation"))]
fn is_left_to_the_thread() -> bool {
    fail::fail_point!("raft::apply-on-its-thread", |_| true);
    false
}

pub(super) fn apply(
    store: &Store,
    entries: Vec<EntryResponder<TypeConfig>>,
    applied: &watch::Sender<Option<LogId>>,
) -> io::Result<()> {
    fail::fail_point!("raft::before-apply");
    let log_entries = to_log_entries(&entries);
    let results = store.apply(&log_entries).map_err(io::Error::other)?;
    #[cfg(feature = "simulation")]
    crate::simulation::note_applied(store, &log_entries, &results);
    answer(entries, results, applied)
}

fn to_log_entries(entries: &[EntryResponder<TypeConfig>]) -> Vec<LogEntry> {
    entries.iter().map(|(entry, _)| to_log_entry(entry)).collect()
}

/// Tells what was applied, and whoever waits for it.
fn answer(
    entries: Vec<EntryResponder<TypeConfig>>,
    results: Vec<AppliedEntry>,
    applied: &watch::Sender<Option<LogId>>,
) -> io::Result<()> {
    fail::fail_point!("raft::after-apply");
    if results.len() != entries.len() {
        return Err(io::Error::other(format!(
            "{} entries applied, {} results",
            entries.len(),
            results.len()
        )));
    }
    applied.send_replace(entries.last().map(|(entry, _)| entry.log_id));
    for ((_, responder), result) in entries.into_iter().zip(results) {
        if let Some(responder) = responder {
            responder.send(Outcomes(result.outcomes));
        }
    }
    Ok(())
}

/// An entry as the store takes it.
pub(crate) fn to_log_entry(entry: &Entry) -> LogEntry {
    let membership = entry
        .payload
        .get_membership()
        .map(|membership| codec::encode_stored_membership(&StoredMembership::new(Some(entry.log_id), membership)));
    let payload = match &entry.payload {
        EntryPayload::Normal(commands) => Some(commands.0.clone()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    };
    LogEntry {
        index: position(Some(&entry.log_id)),
        log_id: codec::encode_stored_log_id(&entry.log_id),
        membership,
        payload,
    }
}

/// Bytes of commands an entry carries.
pub(super) fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(commands) => commands.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}
