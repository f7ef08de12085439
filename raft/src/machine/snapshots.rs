//! Snapshots on disk. A whole one is a directory `snapshot-...` with a manifest and the store's checkpoint under `state`; what is being
//! built or received stands under another name until it is whole and synced, so that a half one is never seen. One is current; older ones
//! go when their last reader does, leftovers of a crash when the node starts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use blox_store::{FeatureLevel, Store, StoreError};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::manifest::{self, ManifestError};
use crate::codec;
use crate::files;
use crate::proto::SnapshotManifest;
use crate::types::{LogId, position};

const WHOLE: &str = "snapshot-";
const BUILDING: &str = "building-";
const INCOMING: &str = "incoming-";
const STATE: &str = "state";

/// One snapshot on disk. Removed from disk with its last user once it is obsolete.
#[derive(Debug)]
pub(crate) struct SnapshotDirectory {
    path: PathBuf,
    manifest: SnapshotManifest,
    obsolete: AtomicBool,
    received: bool,
}

impl SnapshotDirectory {
    pub(crate) fn manifest(&self) -> &SnapshotManifest {
        &self.manifest
    }

    /// Where the checkpoint's files are.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.path.join(STATE)
    }

    fn applied(&self) -> Option<LogId> {
        self.manifest.applied.as_ref().map(codec::log_id_from_proto)
    }
}

impl Drop for SnapshotDirectory {
    fn drop(&mut self) {
        if !self.obsolete.load(Ordering::Acquire) {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "an old snapshot cannot be removed; the next start removes it");
            }
        };
        // openraft drops what it does not install on the consensus thread, which must not wait for a disk.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// A snapshot while it arrives: removed unless it becomes whole.
pub(crate) struct Incoming {
    path: PathBuf,
    whole: bool,
}

impl Incoming {
    /// Where to put the checkpoint's files.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Every file has arrived and is synced: it must hold what its manifest says.
    pub(crate) fn finish(mut self, manifest: SnapshotManifest) -> Result<Arc<SnapshotDirectory>, ManifestError> {
        let state = self.state_path();
        files::sync_directory(&state)?;
        let found = Store::inspect(&state).map_err(io::Error::other)?;
        // Its sender may have read a damaged disk: what cannot be read through is never installed.
        Store::verify(&state).map_err(|error| ManifestError::Content(error.to_string()))?;
        let found = codec::decode_stored_log_id(&found.log_id)?;
        let said = manifest.applied.as_ref().map(codec::log_id_from_proto);
        if found != said {
            return Err(io::Error::other(format!("it holds the state at {found:?}, not at {said:?}")).into());
        }
        manifest::write(&self.path, &manifest)?;
        fail::fail_point!("raft::snapshot-received");
        self.whole = true;
        Ok(Arc::new(SnapshotDirectory {
            path: self.path.clone(),
            manifest,
            obsolete: AtomicBool::new(true),
            received: true,
        }))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.whole
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a half snapshot cannot be removed; the next start removes it");
        }
    }
}

/// The snapshots of this node.
pub(crate) struct Snapshots {
    directory: PathBuf,
    cluster_id: String,
    /// The newest feature level this node knows.
    known: FeatureLevel,
    current: Mutex<Option<Arc<SnapshotDirectory>>>,
    /// Built, sent, received: counts and bytes for the metrics page.
    pub counters: SnapshotCounters,
}

/// Counters of snapshots; each only grows.
#[derive(Default)]
pub(crate) struct SnapshotCounters {
    pub built: AtomicU64,
    pub installed: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
}

impl Snapshots {
    /// Opens `directory`, removes what a crash has left, and finds the newest whole snapshot. Refuses one that it cannot read or must not
    /// use: to remove it may be to lose it.
    pub(crate) fn open_knowing(directory: &Path, cluster_id: &str, known: FeatureLevel) -> io::Result<Snapshots> {
        fs::create_dir_all(directory)?;
        let mut whole: Vec<SnapshotDirectory> = Vec::new();
        for item in fs::read_dir(directory)? {
            let path = item?.path();
            match found(&path, cluster_id, known)? {
                Found::Whole(manifest) => whole.push(SnapshotDirectory {
                    path,
                    manifest,
                    obsolete: AtomicBool::new(true),
                    received: false,
                }),
                Found::Broken(why) => {
                    tracing::warn!(path = %path.display(), why, "removing what is not a whole snapshot");
                    fs::remove_dir_all(&path)?;
                }
                Found::Foreign => tracing::warn!(path = %path.display(), "not a snapshot; it is left alone"),
            }
        }
        let newest = whole.into_iter().max_by_key(SnapshotDirectory::applied);
        if let Some(newest) = &newest {
            newest.obsolete.store(false, Ordering::Release);
        }
        Ok(Snapshots {
            directory: directory.to_owned(),
            cluster_id: cluster_id.to_owned(),
            known,
            current: Mutex::new(newest.map(Arc::new)),
            counters: SnapshotCounters::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn open(directory: &Path, cluster_id: &str) -> io::Result<Snapshots> {
        Snapshots::open_knowing(directory, cluster_id, FeatureLevel::NEWEST)
    }

    /// The current snapshot.
    pub(crate) fn current(&self) -> Option<Arc<SnapshotDirectory>> {
        self.current.lock().clone()
    }

    /// Log position of the current snapshot; 0: none.
    pub(crate) fn current_position(&self) -> u64 {
        position(self.current().and_then(|current| current.applied()).as_ref())
    }

    /// Refuses a snapshot this node cannot use, before any of it is received.
    pub(crate) fn check(&self, manifest: &SnapshotManifest) -> Result<(), ManifestError> {
        manifest::check(manifest, &self.cluster_id, self.known)
    }

    /// Takes a checkpoint of the store and makes it the current snapshot. Blocking.
    pub(crate) fn build(&self, store: &Store) -> io::Result<Arc<SnapshotDirectory>> {
        let id = blox_runtime::random::id().simple().to_string();
        let building = self.directory.join(format!("{BUILDING}{id}"));
        fs::create_dir(&building).map_err(files::failed("create", &building))?;
        fail::fail_point!("raft::before-checkpoint");
        let checkpoint = store.checkpoint(&building.join(STATE)).map_err(io::Error::other)?;
        fail::fail_point!("raft::after-checkpoint");
        let manifest = manifest::of_checkpoint(&checkpoint, &self.cluster_id).map_err(io::Error::other)?;
        manifest::write(&building, &manifest)?;
        let path = self
            .directory
            .join(format!("{WHOLE}{:020}-{id}", checkpoint.applied_index));
        fail::fail_point!("raft::before-snapshot-rename");
        fs::rename(&building, &path).map_err(files::failed("rename", &building))?;
        files::sync_directory(&self.directory)?;
        fail::fail_point!("raft::after-snapshot-rename");
        self.counters.built.fetch_add(1, Ordering::Relaxed);
        let built = SnapshotDirectory {
            path,
            manifest,
            obsolete: AtomicBool::new(false),
            received: false,
        };
        Ok(self.make_current(Arc::new(built)))
    }

    /// Keeps the newer of `snapshot` and the current one.
    fn make_current(&self, snapshot: Arc<SnapshotDirectory>) -> Arc<SnapshotDirectory> {
        let mut current = self.current.lock();
        if let Some(before) = &*current {
            if before.applied() > snapshot.applied() {
                snapshot.obsolete.store(true, Ordering::Release);
                return snapshot;
            }
            before.obsolete.store(true, Ordering::Release);
        }
        *current = Some(snapshot.clone());
        snapshot
    }

    /// A place for a snapshot that is about to arrive.
    pub(crate) fn receive(&self) -> io::Result<Incoming> {
        let path = self
            .directory
            .join(format!("{INCOMING}{}", blox_runtime::random::id().simple()));
        let incoming = Incoming {
            path: path.clone(),
            whole: false,
        };
        fs::create_dir(&path)?;
        fs::create_dir(path.join(STATE))?;
        Ok(incoming)
    }

    /// Reads the current snapshot through, and removes it where it is damaged: its tables are those of the state, by hard links. Blocking.
    pub(crate) fn verify_current(&self) -> io::Result<()> {
        let Some(snapshot) = self.current() else { return Ok(()) };
        match Store::verify(&snapshot.state_path()) {
            Ok(()) => Ok(()),
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::warn!(path = %snapshot.path.display(), %error, "the snapshot is damaged and is discarded");
                snapshot.obsolete.store(true, Ordering::Release);
                *self.current.lock() = None;
                Ok(())
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Replaces the store's state by `snapshot`, and makes the current snapshot one of that state. Blocking.
    pub(crate) fn install(&self, store: &Store, snapshot: &SnapshotDirectory, wanted: Option<LogId>) -> io::Result<()> {
        // The store moves away what it installs: a received snapshot has served its purpose, a current one is linked.
        let linked;
        let source = if snapshot.received {
            snapshot.state_path()
        } else {
            linked = self.receive()?;
            link_files(&snapshot.state_path(), &linked.state_path())?;
            linked.state_path()
        };
        let installed = store.install(&source).map_err(io::Error::other)?;
        let installed = codec::decode_stored_log_id(&installed.log_id).map_err(io::Error::other)?;
        if installed != wanted {
            return Err(io::Error::other(format!(
                "the snapshot held the state at {installed:?}, not at {wanted:?}"
            )));
        }
        fail::fail_point!("raft::snapshot-installed");
        self.counters.installed.fetch_add(1, Ordering::Relaxed);
        if self.current().is_none_or(|current| current.applied() != wanted) {
            self.build(store)?;
        }
        Ok(())
    }
}

/// What stands in the directory of snapshots.
enum Found {
    Whole(SnapshotManifest),
    /// Half a snapshot, or a damaged one: what is wrong with it.
    Broken(String),
    /// Nothing of ours.
    Foreign,
}

fn found(path: &Path, cluster_id: &str, known: FeatureLevel) -> io::Result<Found> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(BUILDING) || name.starts_with(INCOMING) {
        return Ok(Found::Broken("it was never finished".to_owned()));
    }
    if !name.starts_with(WHOLE) {
        return Ok(Found::Foreign);
    }
    let checked = manifest::read(path)
        .and_then(|manifest| manifest::check(&manifest, cluster_id, known).map(|()| Found::Whole(manifest)));
    match checked {
        Err(error @ ManifestError::Damaged) => Ok(Found::Broken(error.to_string())),
        Err(ManifestError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Found::Broken("its manifest is missing".to_owned()))
        }
        Err(error) => Err(io::Error::other(format!("the snapshot {name} cannot be used: {error}"))),
        Ok(whole) => match Store::inspect(&path.join(STATE)) {
            Err(StoreError::Corrupt(what)) => Ok(Found::Broken(what)),
            Err(error) => Err(io::Error::other(format!("the snapshot {name} cannot be used: {error}"))),
            Ok(_) => Ok(whole),
        },
    }
}

/// Links tables, which never change, and copies everything else.
fn link_files(from: &Path, to: &Path) -> io::Result<()> {
    for item in fs::read_dir(from)? {
        let path = item?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.extension().is_some_and(|extension| extension == "sst") {
            fs::hard_link(&path, &target).map_err(files::failed("link", &target))?;
        } else {
            fs::copy(&path, &target).map_err(files::failed("copy", &target))?;
            let copied = File::open(&target).and_then(|copied| copied.sync_all());
            copied.map_err(files::failed("sync", &target))?;
        }
    }
    files::sync_directory(to)
}

#[cfg(test)]
mod tests {
    use blox_store::LogEntry;

    use super::*;
    use crate::types::log_id;

    fn apply_blank(store: &Store, index: u64) {
        let id = log_id(1, index);
        let entry = LogEntry {
            index: position(Some(&id)),
            log_id: codec::encode_stored_log_id(&id),
            membership: None,
            payload: None,
        };
        store.apply(&[entry]).expect("applied");
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("listed")
            .map(|item| item.expect("listed").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// A start keeps the newest whole snapshot and removes half ones and older ones; what is not ours it leaves alone.
    #[test]
    fn a_start_keeps_the_newest_whole_snapshot_only() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let store = Store::in_memory();
        apply_blank(&store, 0);
        let snapshots = Snapshots::open(path, "ours").expect("opened");
        let built = snapshots.build(&store).expect("built");
        let kept = names(path);
        assert_eq!(kept.len(), 1);
        drop((built, snapshots));

        for half in ["building-1", "incoming-2", "snapshot-without-manifest"] {
            fs::create_dir_all(path.join(half).join(STATE)).expect("created");
        }
        fs::write(path.join("stray"), b"x").expect("written");
        let snapshots = Snapshots::open(path, "ours").expect("opened");
        assert_eq!(snapshots.current_position(), 1);
        fs::remove_file(path.join("stray")).expect("left alone");
        assert_eq!(names(path), kept);
    }

    /// A whole snapshot that cannot be used, of another cluster or of a newer version, is not removed: the start is refused.
    #[test]
    fn a_whole_snapshot_is_never_thrown_away() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let store = Store::in_memory();
        apply_blank(&store, 0);
        let built = Snapshots::open(path, "ours")
            .expect("opened")
            .build(&store)
            .expect("built");
        let kept = names(path);
        let refused = |cluster_id| match Snapshots::open(path, cluster_id) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("it opened"),
        };
        assert!(refused("theirs").contains("belongs to cluster ours"));
        let newer = SnapshotManifest {
            feature_level: built.manifest().feature_level + 1,
            ..built.manifest().clone()
        };
        manifest::write(&path.join(&kept[0]), &newer).expect("written");
        assert!(refused("ours").contains("upgrade this node"));
        assert_eq!(names(path), kept);
    }

    /// A snapshot that nobody needs any more is removed beside the thread that dropped it.
    #[test]
    fn removal_does_not_hold_up_the_consensus_thread() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let snapshots = Snapshots::open(directory.path(), "ours").expect("opened");
        let store = Store::in_memory();
        apply_blank(&store, 0);
        let built = snapshots.build(&store).expect("built");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (go, wait) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || wait.recv().is_err());
            built.obsolete.store(true, Ordering::Release);
            drop((built, snapshots));
            assert_eq!(names(directory.path()).len(), 1, "the only blocking thread is busy");
            drop(go);
            assert!(busy.await.expect("it ends"));
            tokio::task::spawn_blocking(|| ()).await.expect("the next in line");
        });
        assert!(names(directory.path()).is_empty());
    }

    /// An older snapshot stays on disk for who still reads it, and no longer.
    #[test]
    fn an_old_snapshot_goes_with_its_last_reader() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::in_memory();
        let snapshots = Snapshots::open(directory.path(), "ours").expect("opened");
        apply_blank(&store, 0);
        let reader = snapshots.build(&store).expect("built");
        apply_blank(&store, 1);
        drop(snapshots.build(&store).expect("built"));
        assert_eq!(snapshots.current_position(), 2);
        assert!(reader.state_path().exists());
        drop(reader);
        assert_eq!(names(directory.path()).len(), 1);
    }

    /// What arrives and never becomes whole leaves nothing behind; nor does what its manifest belies.
    #[test]
    fn half_snapshots_are_never_seen() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::in_memory();
        apply_blank(&store, 0);
        let snapshots = Snapshots::open(directory.path(), "ours").expect("opened");
        drop(snapshots.receive().expect("a place"));
        let built = snapshots.build(&store).expect("built");
        let incoming = snapshots.receive().expect("a place");
        link_files(&built.state_path(), &incoming.state_path()).expect("copied");
        let lying = SnapshotManifest {
            applied: Some(codec::log_id_to_proto(&log_id(9, 9))),
            ..built.manifest().clone()
        };
        assert!(incoming.finish(lying).is_err());
        assert_eq!(names(directory.path()).len(), 1, "only the built one is left");
    }
}
