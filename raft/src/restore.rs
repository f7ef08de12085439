//! A data directory made from a backup: that of an initial member of a new cluster, which holds the state already.
//!
//! Everything is prepared in a folder of its own inside the data directory (which may be a mount point, so that it cannot be renamed itself)
//! and then moved to its place, `identity.json` last: before that the directory is no node's, and a node refuses to start with it.
//!
//! The state stands at log position (0, N), N as in the old cluster, in a term before any election, and has no members. When the node becomes
//! one, it writes the first membership into its state at that same position ([`crate::bootstrap`]); consensus then begins with an empty log
//! behind that position, so that whoever joins later can only begin with a snapshot, never with an empty state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use blox_store::backup::{self, BackupError, BackupSummary};
use blox_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::identity;
use crate::proto;
use crate::types::{Membership, NodeInfo, StoredMembership, log_id};

/// Where a restore prepares what it will move to its place.
const SIDE_FOLDER: &str = "restoring";
const UNPACKED_FOLDER: &str = "unpacked";
/// Found at the root of a file system of its own.
const LOST_AND_FOUND: &str = "lost+found";
/// The term of the restored state's log position: before any election of the new cluster.
const TERM_BEFORE_ELECTIONS: u64 = 0;

/// Why a data directory was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in it.
    #[error("{} holds {found:?}: restore into an empty directory, or one that is not there yet", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The file cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The state in it cannot be used.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The file system refused.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    move |cause| RestoreError::Io {
        doing,
        path: path.to_owned(),
        cause,
    }
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The cluster the backup was taken of.
    pub cluster_id: String,
    /// Its revision then.
    pub revision_saved: u64,
    /// The revision of the restored state.
    pub revision: u64,
}

/// Which backup a node was restored from: all initial members must say the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestoredMark {
    /// The backup's hash, hexadecimal.
    pub hash: String,
    /// The revision of the restored state.
    pub revision: u64,
}

impl RestoredMark {
    pub(crate) fn to_proto(&self) -> proto::RestoredMark {
        proto::RestoredMark {
            hash: self.hash.clone(),
            revision: self.revision,
        }
    }

    pub(crate) fn from_proto(mark: proto::RestoredMark) -> RestoredMark {
        RestoredMark {
            hash: mark.hash,
            revision: mark.revision,
        }
    }

    /// What a state came out of, for people.
    pub(crate) fn describe(mark: Option<&RestoredMark>) -> String {
        match mark {
            Some(mark) => format!("the backup {}", mark.hash),
            None => "no backup".to_owned(),
        }
    }
}

/// Writes the first membership of a restored cluster into this node's state, at the position where that stands on every founder; durable when
/// it returns, and only then may the node call itself a member. Blocking.
pub(crate) fn write_membership(store: &Store, founders: &BTreeMap<u64, NodeInfo>) -> io::Result<()> {
    let applied = store.applied().map_err(io::Error::other)?;
    let log_id = codec::decode_stored_log_id(&applied.log_id).map_err(io::Error::other)?;
    let voters: BTreeSet<u64> = founders.keys().copied().collect();
    let membership = Membership::new(vec![voters], founders.clone()).map_err(io::Error::other)?;
    let stored = codec::encode_stored_membership(&StoredMembership::new(log_id, membership));
    store.write_first_membership(stored).map_err(io::Error::other)?;
    fail::fail_point!("raft::restored-membership");
    Ok(())
}

/// Makes `data_directory` (empty, or not there) that of the node `name` of a new cluster, with the state of the backup in `file` in
/// `state_folder`. `progress` is told how many bytes of the file were read. Crash-safe: until it returns, no node starts with the directory, and
/// it can be called again. Blocking.
pub fn restore(
    file: &Path,
    data_directory: &Path,
    state_folder: &str,
    name: &str,
    progress: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    let side = claim(data_directory, state_folder)?;
    let restored = prepare(file, &side, state_folder, name, progress).and_then(|restored| {
        publish(&side, data_directory, state_folder)?;
        Ok(restored)
    });
    if restored.is_err() && !identity::exists(data_directory) {
        // As it was found. What cannot be removed now is removed by the next call.
        for left in [side, data_directory.join(state_folder)] {
            drop(fs::remove_dir_all(left));
        }
    }
    restored
}

/// Sees that the directory is empty but for what an interrupted restore has left, which goes; gives the folder to prepare in.
fn claim(data_directory: &Path, state_folder: &str) -> Result<PathBuf, RestoreError> {
    fs::create_dir_all(data_directory).map_err(failed("creating", data_directory))?;
    let side = data_directory.join(SIDE_FOLDER);
    let interrupted = side.exists();
    for entry in fs::read_dir(data_directory).map_err(failed("reading", data_directory))? {
        let name = entry.map_err(failed("reading", data_directory))?.file_name();
        let ours = interrupted && (name == SIDE_FOLDER || name == state_folder);
        if !ours && name != LOST_AND_FOUND {
            return Err(RestoreError::NotEmpty {
                directory: data_directory.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    if interrupted {
        // The state first: without the other folder it would look like somebody's.
        remove(&data_directory.join(state_folder))?;
        sync(data_directory)?;
        remove(&side)?;
    }
    fs::create_dir(&side).map_err(failed("creating", &side))?;
    sync(data_directory)?;
    Ok(side)
}

fn prepare(
    file: &Path,
    side: &Path,
    state_folder: &str,
    name: &str,
    progress: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    let unpacked = backup::unpack(file, &side.join(UNPACKED_FOLDER), progress)?;
    fail::fail_point!("raft::restore-unpacked");
    let summary = unpacked.summary;
    let state = side.join(state_folder);
    let revision = rebuild(&state, &unpacked.checkpoint, &summary)?;
    sync_tree(&state)?;
    fail::fail_point!("raft::restore-rebuilt");
    let mark = RestoredMark {
        hash: format!("{:032x}", summary.hash),
        revision,
    };
    identity::write_restored(side, name, mark).map_err(failed("writing the identity in", side))?;
    Ok(Restored {
        cluster_id: summary.cluster_id,
        revision_saved: summary.revision,
        revision,
    })
}

/// Makes a state directory of a checkpoint, and its state that of a new cluster; the revision it comes to.
fn rebuild(state: &Path, checkpoint: &Path, summary: &BackupSummary) -> Result<u64, RestoreError> {
    let store = Store::open(state)?;
    let installed = store.install(checkpoint)?;
    // Positions count from one, log indexes from zero.
    let log_id = log_id(TERM_BEFORE_ELECTIONS, installed.applied_index.saturating_sub(1));
    let restored = store.begin_anew(codec::encode_stored_log_id(&log_id), summary.created_at_ms)?;
    Ok(restored.revision)
}

/// Moves what was prepared to its place.
fn publish(side: &Path, data_directory: &Path, state_folder: &str) -> Result<(), RestoreError> {
    sync(side)?;
    let state = data_directory.join(state_folder);
    fs::rename(side.join(state_folder), &state).map_err(failed("moving the state to", &state))?;
    sync(data_directory)?;
    fail::fail_point!("raft::restore-state-moved");
    identity::take_place(side, data_directory).map_err(failed("moving the identity to", data_directory))?;
    sync(data_directory)?;
    fail::fail_point!("raft::restore-done");
    remove(side)?;
    sync(data_directory)
}

/// Refuses a directory that a restore has not finished; removes what one that has finished left behind.
pub(crate) fn check_finished(data_directory: &Path) -> Result<(), String> {
    let side = data_directory.join(SIDE_FOLDER);
    if !side.exists() {
        return Ok(());
    }
    if identity::exists(data_directory) {
        return fs::remove_dir_all(&side).map_err(|error| format!("cannot remove {}: {error}", side.display()));
    }
    Err(format!(
        "{} is half restored from a backup: say `blox snapshot restore` once more, or empty it",
        data_directory.display()
    ))
}

fn remove(directory: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", directory)(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), RestoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed("syncing", path))
}

/// Makes every file below durable, and every name.
fn sync_tree(directory: &Path) -> Result<(), RestoreError> {
    for entry in fs::read_dir(directory).map_err(failed("reading", directory))? {
        let path = entry.map_err(failed("reading", directory))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            sync(&path)?;
        }
    }
    sync(directory)
}
