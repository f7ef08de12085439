//! The store of one node: opened once, applied to by consensus, read by everyone.

mod anew;
mod checkpoints;
#[cfg(feature = "zoo")]
mod zoo;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use blox_runtime::watch;
use bytes::Bytes;
use parking_lot::Mutex;

pub use checkpoints::CheckpointMeta;

use crate::Revision;
use crate::apply;
use crate::checkpoint;
use crate::directory::StateDirectory;
use crate::encoding::meta;
use crate::engine::memory::MemoryEngine;
use crate::engine::{Engine, Family, FileSizes, Write};
use crate::feature_level::FeatureLevel;
use crate::hashes::{HashPoint, HashRing};
use crate::proto::{Outcome, Position, QuarantinedMessage, ReconcilePass, SessionRecord, SourceStatus};
use crate::read::Cut;
use crate::read::cut::position;
use crate::ring::{RING_BYTES_MAX, Ring};
use crate::view::{View, ViewError};
use crate::watch::{WatchEnd, WatchRequest, Watcher};

/// What went wrong with the storage. Fatal to the node: never retried, never acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine or the file system refused.
    #[error("{doing}: {cause}")]
    Storage {
        /// What was tried, on what.
        doing: String,
        /// What the engine said.
        cause: String,
    },
    /// Bytes that cannot be what we wrote.
    #[error("corrupt state: {0}")]
    Corrupt(String),
    /// What a newer version of Blox wrote.
    #[error("{0}: this node is older than the cluster's state; start it with the version that the others run")]
    Unknown(String),
    /// What was asked for without waiting for the disk is on disk only: to be asked for again, in the ordinary way.
    #[error("not in memory")]
    NotInMemory,
}

impl StoreError {
    pub(crate) fn storage(doing: String, cause: impl std::fmt::Display) -> StoreError {
        StoreError::Storage {
            doing,
            cause: cause.to_string(),
        }
    }
}

/// A committed log entry, as consensus hands it to [`Store::apply`].
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its index in the log.
    pub index: u64,
    /// The log id, in consensus' own encoding: stored with the data, in the same batch.
    pub log_id: Bytes,
    /// The membership it sets, in consensus' own encoding.
    pub membership: Option<Bytes>,
    /// An encoded [`crate::proto::Entry`]; `None` for blank and membership entries.
    pub payload: Option<Bytes>,
}

/// What one entry did.
#[derive(Clone, Debug, Default)]
pub struct AppliedEntry {
    /// One outcome a command, in order.
    pub outcomes: Vec<Outcome>,
}

/// How far the state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Index of the last applied log entry; 0: none.
    pub applied_index: u64,
    /// The state's revision.
    pub revision: Revision,
    /// Replicated clock, milliseconds.
    pub elapsed_ms: u64,
    /// The current session; 0: none yet.
    pub session: u64,
}

/// Chained hash of everything applied so far: equal on all nodes at the same applied index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Index of the last applied log entry.
    pub applied_index: u64,
    /// The state's revision.
    pub revision: Revision,
    /// xxh3-128 over the hash before, the index and every write of the entry.
    pub hash: u128,
}

/// How much history is kept: whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Age on the replicated clock, milliseconds.
    pub age_ms: u64,
    /// Revisions.
    pub revisions: u64,
    /// Bytes of history records and of the values they left behind.
    pub bytes: u64,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits {
            age_ms: 24 * 60 * 60 * 1_000,
            revisions: 1_000_000,
            bytes: 4 << 30,
        }
    }
}

/// The replicated state of this node. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    place: PlaceOfState,
    /// The newest feature level this node knows.
    known_level: FeatureLevel,
    /// Held while entries are applied, and while the state is replaced.
    writer: Mutex<Writer>,
    /// The engine readers take snapshots of.
    engine: Mutex<Arc<dyn Engine>>,
    /// The head, shared by all readers until the next apply. Set and cleared under `engine`'s lock, so that none is older than an apply
    /// that has returned.
    head: ArcSwapOption<Cut>,
    pub(crate) ring: Mutex<Ring>,
    hashes: Mutex<HashRing>,
    oldest_revision: AtomicU64,
    /// The state's, as its number.
    feature_level: AtomicU32,
    pub(crate) progress: watch::Sender<Progress>,
}

struct Writer {
    engine: Arc<dyn Engine>,
    position: Position,
    /// A write failed: what the engine holds is not known any more.
    failed: bool,
}

impl Writer {
    /// An error once a write has failed.
    fn check(&self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::storage(
                "applying log entries".to_owned(),
                "an earlier write failed; restart the node",
            ));
        }
        Ok(())
    }
}

/// Where engines come from.
enum PlaceOfState {
    Disk(StateDirectory),
    Memory,
}

impl Inner {
    fn new(place: PlaceOfState, engine: Arc<dyn Engine>, known_level: FeatureLevel) -> Result<Inner, StoreError> {
        check_format(&*engine)?;
        let mut position = position(&*engine)?;
        check_level("the state", FeatureLevel::new(position.feature_level), known_level)?;
        apply::complete_indexes(&*engine, &mut position)?;
        Ok(Inner {
            place,
            known_level,
            ring: Mutex::new(Ring::new(position.revision, RING_BYTES_MAX)),
            hashes: Mutex::default(),
            oldest_revision: AtomicU64::new(position.oldest_revision),
            feature_level: AtomicU32::new(position.feature_level),
            progress: watch::Sender::new(progress_of(&position)),
            head: ArcSwapOption::empty(),
            engine: Mutex::new(Arc::clone(&engine)),
            writer: Mutex::new(Writer {
                engine,
                position,
                failed: false,
            }),
        })
    }

    /// The cut at the head: everything that was applied before the call is in it.
    pub(crate) fn head(&self) -> Result<Arc<Cut>, StoreError> {
        if let Some(head) = self.head.load_full() {
            return Ok(head);
        }
        let engine = self.engine.lock();
        if let Some(head) = self.head.load_full() {
            return Ok(head);
        }
        let head = Arc::new(Cut::head(Arc::clone(&engine).snapshot())?);
        self.head.store(Some(Arc::clone(&head)));
        Ok(head)
    }

    pub(crate) fn oldest_revision(&self) -> Revision {
        self.oldest_revision.load(Ordering::Acquire)
    }

    /// Shows what was written: first to new views, then to the ring, then to those who wait, so that whoever is told also sees.
    fn publish(&self, position: &Position, replaced: Option<&Arc<dyn Engine>>, tell: impl FnOnce(&mut Ring)) {
        {
            let mut engine = self.engine.lock();
            if let Some(replaced) = replaced {
                *engine = Arc::clone(replaced);
            }
            self.head.store(None);
        }
        self.oldest_revision.store(position.oldest_revision, Ordering::Release);
        self.feature_level.store(position.feature_level, Ordering::Release);
        tell(&mut self.ring.lock());
        self.progress.send_replace(progress_of(position));
    }
}

fn progress_of(position: &Position) -> Progress {
    Progress {
        applied_index: position.applied_index,
        revision: position.revision,
        elapsed_ms: position.elapsed_ms,
        session: position.session,
    }
}

/// Refuses a state written by a newer version; marks a new one.
fn check_format(engine: &dyn Engine) -> Result<(), StoreError> {
    match engine.get(Family::Meta, meta::FORMAT_KEY)?.as_deref() {
        Some([meta::FORMAT]) => Ok(()),
        Some(other) => Err(StoreError::Unknown(format!("the state is written in format {other:?}"))),
        None => engine.write(&[Write {
            family: Family::Meta,
            key: Bytes::from_static(meta::FORMAT_KEY),
            value: Some(Bytes::from_static(&[meta::FORMAT])),
        }]),
    }
}

/// Refuses what a newer version wrote.
fn check_level(what: &str, found: FeatureLevel, known: FeatureLevel) -> Result<(), StoreError> {
    if found <= known {
        return Ok(());
    }
    Err(StoreError::Unknown(format!(
        "{what} has feature level {found}, this version of blox knows up to {known}"
    )))
}

impl Store {
    /// Opens (or creates) the state under `directory` with RocksDB.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        Store::open_knowing(directory, FeatureLevel::NEWEST)
    }

    /// As [`Store::open`], by a node that knows feature levels up to `known`: tests pretend to be of another version.
    pub fn open_knowing(directory: &Path, known: FeatureLevel) -> Result<Store, StoreError> {
        let (place, engine) = StateDirectory::open(directory)?;
        Ok(Store {
            inner: Arc::new(Inner::new(PlaceOfState::Disk(place), Arc::new(engine), known)?),
        })
    }

    /// Puts a damaged state aside so that [`Store::open`] begins an empty one in its place: for who can fill it again. Says where it went.
    pub fn put_aside(directory: &Path) -> Result<PathBuf, StoreError> {
        crate::directory::put_aside(directory)
    }

    /// Removes a damaged state that was put aside earlier.
    pub fn forget_aside(directory: &Path) -> Result<(), StoreError> {
        crate::directory::forget_aside(directory)
    }

    /// Told when a read or write finds the state damaged: nothing can be relied on from there on, and the process must end.
    pub fn damage(&self) -> watch::Receiver<Option<String>> {
        match &self.inner.place {
            PlaceOfState::Disk(place) => place.damage().watch(),
            PlaceOfState::Memory => watch::Sender::new(None).subscribe(),
        }
    }

    /// An empty state in memory.
    pub fn in_memory() -> Store {
        let inner = Inner::new(
            PlaceOfState::Memory,
            Arc::new(MemoryEngine::default()),
            FeatureLevel::NEWEST,
        );
        Store {
            inner: Arc::new(inner.expect("an empty memory engine cannot fail")),
        }
    }

    /// A state in memory as a power cut leaves it to the next start: what was flushed last. `None`: this one is on disk.
    pub fn after_power_cut(&self) -> Result<Option<Store>, StoreError> {
        let Some(engine) = self.inner.engine.lock().after_power_cut() else {
            return Ok(None);
        };
        let inner = Arc::new(Inner::new(PlaceOfState::Memory, engine, FeatureLevel::NEWEST)?);
        Ok(Some(Store { inner }))
    }

    /// Applies entries in order as one write batch: data, indexes, history, applied position, membership, revision. (As several, each of
    /// whole entries, where they do so much that one would be too large.) Entries at or below the applied index are refused as a corrupt call, and so is a gap. Watchers are
    /// told after each batch is written. Blocking.
    pub fn apply(&self, entries: &[LogEntry]) -> Result<Vec<AppliedEntry>, StoreError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = self.inner.writer.lock();
        writer.check()?;
        let mut outcomes = Vec::with_capacity(entries.len());
        while let Some(rest) = entries.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            let applied = apply::apply(&*writer.engine, writer.position.clone(), rest, self.inner.known_level)?;
            #[cfg(feature = "zoo")]
            crate::zoo::write_position_apart(&*writer.engine, &applied.batch)?;
            if let Err(error) = writer.engine.write(&applied.batch) {
                writer.failed = true;
                return Err(error);
            }
            outcomes.extend(self.written(&mut writer, applied));
        }
        Ok(outcomes)
    }

    /// As [`Store::apply`], where that is short work and waits for nothing: neither for another writer nor for the disk, a flush or a compaction.
    /// `None`: nothing was done. It reaches the system with the next [`Store::apply`] or [`Store::hand_over`]: a process that is killed before may
    /// lose it, and consensus' log has it.
    pub fn apply_at_once(&self, entries: &[LogEntry]) -> Result<Option<Vec<AppliedEntry>>, StoreError> {
        if !apply::is_short(entries) {
            return Ok(None);
        }
        let Some(mut writer) = self.inner.writer.try_lock() else {
            return Ok(None);
        };
        writer.check()?;
        // Until all of what was let go of is deleted, a piece goes with each entry.
        if writer.position.swept_revision < writer.position.oldest_revision {
            return Ok(None);
        }
        let engine = Arc::clone(&writer.engine);
        let Some(_undisturbed) = engine.undisturbed() else {
            return Ok(None);
        };
        let position = writer.position.clone();
        let applied = match apply::apply(&*engine.in_memory(), position, entries, self.inner.known_level) {
            Err(StoreError::NotInMemory) => return Ok(None),
            other => other?,
        };
        if !apply::is_little(&applied.batch) {
            return Ok(None);
        }
        #[cfg(feature = "zoo")]
        crate::zoo::write_position_apart(&*engine, &applied.batch)?;
        match engine.write_at_once(&applied.batch) {
            Ok(true) => Ok(Some(self.written(&mut writer, applied))),
            Ok(false) => Ok(None),
            Err(error) => {
                writer.failed = true;
                Err(error)
            }
        }
    }

    /// What entries did is in the engine: says so.
    fn written(&self, writer: &mut Writer, applied: apply::Applied) -> Vec<AppliedEntry> {
        writer.position = applied.position;
        self.inner.hashes.lock().extend(applied.hashes);
        self.inner
            .publish(&writer.position, None, |ring| ring.push(applied.changes));
        applied.outcomes
    }

    /// The applied position and membership, as last written.
    pub fn applied(&self) -> Result<CheckpointMeta, StoreError> {
        let head = self.inner.head()?;
        checkpoint::meta_of(&*head.reader)
    }

    /// How far the state has come; the receiver is told after each apply and install.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.inner.progress.subscribe()
    }

    /// The state at the head: one consistent cut.
    pub fn view(&self) -> Result<View, StoreError> {
        self.inner.head().map(View::new)
    }

    /// The state at an older revision, if it is still kept.
    pub fn view_at(&self, revision: Revision) -> Result<View, ViewError> {
        let head = self.inner.head()?;
        let (current, oldest) = (head.revision, head.position.oldest_revision);
        if revision > current {
            Err(ViewError::Future {
                asked: revision,
                current,
            })
        } else if revision < oldest {
            Err(ViewError::Compacted {
                asked: revision,
                oldest,
            })
        } else if revision == current {
            Ok(View::new(head))
        } else {
            Ok(View::new(Arc::new(head.at(revision))))
        }
    }

    /// Changes from some revision on. Errors at once where that revision is compacted or lies ahead.
    pub fn watch(&self, request: WatchRequest) -> Result<Watcher, WatchEnd> {
        Watcher::new(Arc::clone(&self.inner), request)
    }

    /// The oldest revision a watch may start from and a view may be read at.
    pub fn oldest_revision(&self) -> Revision {
        self.inner.oldest_revision()
    }

    /// What may be written now, see [`FeatureLevel`].
    pub fn feature_level(&self) -> FeatureLevel {
        FeatureLevel::new(self.inner.feature_level.load(Ordering::Acquire))
    }

    /// The newest feature level this node knows.
    pub fn known_feature_level(&self) -> FeatureLevel {
        self.inner.known_level
    }

    /// The gate: whether what came with feature level `since` may be written already. Asked by whoever would write it.
    pub fn may_write(&self, since: FeatureLevel) -> bool {
        self.feature_level() >= since
    }

    /// The revision to which a restore from a backup raised this state; 0: it was never restored.
    pub fn restored_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.inner.head()?.position.restored_revision)
    }

    /// The revision to compact to so that the history stays within `limits`; `None` while it does.
    pub fn compaction_target(&self, limits: &HistoryLimits) -> Result<Option<Revision>, StoreError> {
        let head = self.inner.head()?;
        apply::compaction_target(&*head.reader, &head.position, limits)
    }

    /// What feed and reconcile have done, by source name.
    pub fn sources(&self) -> Result<Vec<SourceStatus>, StoreError> {
        let head = self.inner.head()?;
        let statuses = head.meta_scan(meta::SOURCE, meta::SOURCE, usize::MAX)?;
        let statuses = statuses.into_iter().map(|(_, status)| {
            let mut status: SourceStatus = apply::transaction::decode(status, "a source's status")?;
            let front = meta::named(meta::PASS, &[&status.source]);
            for (_, pass) in head.meta_scan(&front, &front, usize::MAX)? {
                status
                    .passes
                    .push(apply::transaction::decode::<ReconcilePass>(pass, "a reconcile pass")?);
            }
            Ok(status)
        });
        statuses.collect()
    }

    /// Messages that could not be read, oldest first, at most `limit`, with a sequence above `after`.
    pub fn quarantine(&self, after: u64, limit: usize) -> Result<Vec<QuarantinedMessage>, StoreError> {
        let from = meta::numbered(meta::QUARANTINE, after.saturating_add(1));
        let messages = self.inner.head()?.meta_scan(meta::QUARANTINE, &from, limit)?;
        messages
            .into_iter()
            .map(|(_, message)| apply::transaction::decode(message, "a quarantined message"))
            .collect()
    }

    /// The current session and its clock.
    pub fn session(&self) -> Result<SessionRecord, StoreError> {
        Ok(self.inner.head()?.meta(meta::SESSION)?.unwrap_or_default())
    }

    /// Chained hash of everything applied so far, with the revision it stands at: equal on all nodes at the same applied index.
    pub fn state_hash(&self) -> Result<(u64, u128), StoreError> {
        self.fingerprint()
            .map(|fingerprint| (fingerprint.revision, fingerprint.hash))
    }

    /// The chained hash with the applied index and the revision it stands at, which are of one moment.
    pub fn fingerprint(&self) -> Result<Fingerprint, StoreError> {
        let head = self.inner.head()?;
        let Position {
            applied_index,
            revision,
            state_hash,
            ..
        } = &head.position;
        let hash = state_hash
            .as_ref()
            .try_into()
            .map(u128::from_be_bytes)
            .unwrap_or_default();
        Ok(Fingerprint {
            applied_index: *applied_index,
            revision: *revision,
            hash,
        })
    }

    /// The chained hash at the newest indexes that [`crate::HASH_INTERVAL_ENTRIES`] divides, oldest first: of what this process has
    /// applied to this state.
    pub fn recent_hashes(&self) -> Vec<HashPoint> {
        self.inner.hashes.lock().points()
    }

    /// Makes all that was applied so far durable. Blocking.
    pub fn flush(&self) -> Result<(), StoreError> {
        let engine = Arc::clone(&self.inner.engine.lock());
        engine.flush()
    }

    /// Whether [`Store::apply_at_once`] has gathered what the system has not been given.
    pub fn has_gathered(&self) -> bool {
        let engine = Arc::clone(&self.inner.engine.lock());
        engine.has_gathered()
    }

    /// Gives to the system what [`Store::apply_at_once`] has gathered in memory. Blocking.
    pub fn hand_over(&self) -> Result<(), StoreError> {
        let engine = Arc::clone(&self.inner.engine.lock());
        engine.hand_over()
    }

    /// Bytes that a flush, and so a checkpoint, would write: they need room on disk a second time.
    pub fn unflushed_bytes(&self) -> u64 {
        let engine = Arc::clone(&self.inner.engine.lock());
        engine.unflushed_bytes()
    }

    /// What its files hold, for the metrics page.
    pub fn file_sizes(&self) -> FileSizes {
        let engine = Arc::clone(&self.inner.engine.lock());
        engine.file_sizes()
    }
}
