//! Watching: ordered, unique, gapless, atomic per revision, resumable on any node.

use std::sync::Arc;

use blox_runtime::watch;

use crate::Revision;
use crate::engine::ScanLimit;
use crate::key::{Key, Kind};
use crate::proto::StoredValue;
use crate::read::history;
use crate::ring::{BatchLimit, FromRing, RingChange};
use crate::store::{Inner, Progress, StoreError};

/// What one batch holds at most, beyond its last revision; and how many changes are looked at while the ring is locked.
const BATCH: BatchLimit = BatchLimit {
    changes: 1_000,
    bytes: 1 << 20,
    looked_at: 4_096,
};
/// History records read at once: a short stay on the disk.
const HISTORY_STEP: ScanLimit = ScanLimit {
    count: 256,
    bytes: 256 << 10,
};

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the next change.
    Now,
    /// With the changes of this revision (inclusive); up to the current revision + 1.
    Revision(Revision),
}

/// What a watch asks for.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Where to begin.
    pub from: WatchFrom,
    /// Kinds to tell of; empty: all.
    pub kinds: Vec<Kind>,
    /// Only keys that begin with these bytes ([`Key::as_bytes`]); empty: all.
    pub prefix: bytes::Bytes,
}

/// Who asked for a change, when and why: shared by all changes of one command.
#[derive(Debug, Default)]
pub struct Cause {
    /// `api`, or the duty that wrote it.
    pub actor: String,
    /// The request or pass of a duty.
    pub request_id: String,
    /// Why, one sentence.
    pub reason: String,
    /// The session it was written in; 0: in none.
    pub session: u64,
    /// Wall clock of the leader, milliseconds since the epoch.
    pub wall_time_ms: i64,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The revision of this change.
    pub revision: Revision,
    /// The value after it; `None`: deleted.
    pub current: Option<Arc<StoredValue>>,
    /// Of a deletion: the last value; `None`: it is no longer kept.
    pub deleted: Option<Arc<StoredValue>>,
    /// What caused it.
    pub cause: Arc<Cause>,
    pub(crate) shared: Arc<RingChange>,
}

impl Change {
    /// This change as a line: made once for all watchers while it is new. Every caller makes the same line of a change.
    pub fn line(&self, make: impl FnOnce(&Change) -> Vec<u8>) -> bytes::Bytes {
        self.shared.line.or_make(|| make(self))
    }
}

/// What a watcher is given: all changes of one or more whole revisions, in order.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// Everything up to and including this revision has been delivered (as far as it was asked for).
    pub revision: Revision,
    /// The changes, in order; may be empty when only the revision moved on (a bookmark).
    pub changes: Vec<Change>,
}

/// Why a watch ended, or could not begin.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WatchEnd {
    /// The revision was compacted away.
    #[error("revision {asked} is compacted; the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The oldest revision kept.
        oldest: Revision,
    },
    /// Beyond the current revision + 1.
    #[error("revision {asked} is ahead of this node's {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// This node's revision.
        current: Revision,
    },
    /// The storage failed, or the store was closed.
    #[error("the state cannot be read: {0}")]
    Storage(String),
}

impl From<StoreError> for WatchEnd {
    fn from(error: StoreError) -> WatchEnd {
        WatchEnd::Storage(error.to_string())
    }
}

/// A running watch. It pulls: a reader that is slow costs no memory here, it falls back to the history, and meets `Compacted` in the end.
pub struct Watcher {
    store: Arc<Inner>,
    progress: watch::Receiver<Progress>,
    kinds: Vec<Kind>,
    prefix: bytes::Bytes,
    delivered: Revision,
    /// The ring's epoch `delivered` belongs to.
    epoch: u64,
    #[cfg(feature = "zoo")]
    was_at_head: bool,
}

impl Watcher {
    pub(crate) fn new(store: Arc<Inner>, request: WatchRequest) -> Result<Watcher, WatchEnd> {
        let progress = store.progress.subscribe();
        let (epoch, current) = store.ring.lock().head();
        let delivered = match request.from {
            WatchFrom::Now => current,
            WatchFrom::Revision(asked) if asked > current + 1 => return Err(WatchEnd::Future { asked, current }),
            WatchFrom::Revision(asked) => {
                let oldest = store.oldest_revision();
                if asked < oldest {
                    return Err(WatchEnd::Compacted { asked, oldest });
                }
                #[cfg(feature = "zoo")]
                let asked = crate::zoo::resumed_from(asked);
                asked.saturating_sub(1)
            }
        };
        Ok(Watcher {
            store,
            progress,
            kinds: request.kinds,
            prefix: request.prefix,
            delivered,
            epoch,
            #[cfg(feature = "zoo")]
            was_at_head: false,
        })
    }

    /// Waits for what this receiver is told instead of the state itself. It must be told of each progress of the same state, and when that is over.
    #[must_use]
    pub fn woken_by(self, progress: watch::Receiver<Progress>) -> Watcher {
        Watcher { progress, ..self }
    }

    /// The next changes, or an empty batch when `revision` moved on without anything asked for (at most one a call). Waits while nothing
    /// happened. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<WatchBatch, WatchEnd> {
        loop {
            // Marked as seen before the ring is looked at: what comes in between wakes us again.
            self.progress.borrow_and_update();
            let current = self.current()?;
            #[cfg(feature = "zoo")]
            crate::zoo::drop_what_lags(&mut self.was_at_head, &mut self.delivered, current);
            if self.delivered >= current {
                self.progress
                    .changed()
                    .await
                    .map_err(|_| WatchEnd::Storage("the store was closed".to_owned()))?;
                continue;
            }
            let changes = self.step()?;
            if !changes.is_empty() || self.delivered >= current {
                return Ok(WatchBatch {
                    revision: self.delivered,
                    changes,
                });
            }
            // Far behind, with nothing asked for in this step: others run in between.
            tokio::task::yield_now().await;
        }
    }

    /// Everything up to and including this revision has been delivered.
    pub fn delivered(&self) -> Revision {
        self.delivered
    }

    /// The newest revision. Where a replaced state stands before what was delivered, going on would skip changes silently.
    fn current(&mut self) -> Result<Revision, WatchEnd> {
        let (epoch, current) = self.store.ring.lock().head();
        if epoch != self.epoch && self.delivered > current {
            return Err(WatchEnd::Future {
                asked: self.delivered + 1,
                current,
            });
        }
        self.epoch = epoch;
        Ok(current)
    }

    /// Moves on by some revisions: what of them was asked for.
    fn step(&mut self) -> Result<Vec<Change>, WatchEnd> {
        let from = self.delivered + 1;
        let read = self.store.ring.lock().read(from, BATCH, |key| self.wants(key));
        let (wanted, through) = match read {
            FromRing::Changes { wanted, through } => (wanted, through),
            FromRing::Behind => self.read_history(from)?,
        };
        let changes = wanted
            .iter()
            .map(|change| change.to_change())
            .collect::<Result<Vec<_>, _>>()?;
        self.delivered = through;
        Ok(changes)
    }

    fn read_history(&self, from: Revision) -> Result<(Vec<Arc<RingChange>>, Revision), WatchEnd> {
        let cut = self.store.head()?;
        let oldest = cut.position.oldest_revision;
        if from < oldest {
            return Err(WatchEnd::Compacted { asked: from, oldest });
        }
        if from == cut.position.restored_revision {
            // The state was raised to it; nothing changed with it.
            return Ok((Vec::new(), from));
        }
        let mut wanted = Vec::new();
        let (mut bytes, mut through) = (0, self.delivered);
        for change in history::changes(&cut, from, HISTORY_STEP)? {
            if bytes >= BATCH.bytes && change.revision != through {
                break;
            }
            through = change.revision;
            if self.wants(&change.key) {
                let change = history::with_values(&cut, change)?;
                bytes += change.bytes();
                wanted.push(Arc::new(change));
            }
        }
        Ok((wanted, through))
    }

    fn wants(&self, key: &Key) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&key.kind())) && key.as_bytes().starts_with(&self.prefix)
    }
}
