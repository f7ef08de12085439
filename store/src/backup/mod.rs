//! Backups: the whole state in one file, to found a new cluster with.
//!
//! ```text
//! "bloxsnap" version                      what it is
//! record*                                 kind (1 byte), length (4, big-endian), payload, CRC-32 of all of these (4, big-endian)
//!   header                                a `BackupHeader`: where it comes from, which files follow
//!   (chunk* file-end)*                    each file of a checkpoint in pieces, then its CRC-32
//!   trailer                               a `BackupTrailer`: how much it was, and a hash of everything before it
//! ```
//!
//! Every record has a CRC, so that damage is named by its place; only a file with its trailer is whole. Neither writing nor reading holds
//! more than one chunk in memory.

mod format;
mod inspect;
mod save;
mod unpack;

use std::path::{Path, PathBuf};

pub use inspect::{Inspection, inspect};
pub use save::{Backup, BackupOrigin};
pub use unpack::{Unpacked, unpack, verify};

use crate::feature_level::FeatureLevel;
use crate::store::StoreError;

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It begins with something else.
    #[error("{} is no backup of Blox", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("{} has {what}: use a newer version of blox", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is newer about it.
        what: String,
    },
    /// It ends before its trailer.
    #[error("{} was cut: it ends at byte {offset}, within {place}; take another copy", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its length.
        offset: u64,
        /// What ends there.
        place: String,
    },
    /// Its bytes are not those that were written.
    #[error("{} is damaged at byte {offset}, {place}: {what}; take another copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// What stands there.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The file system refused.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        cause: std::io::Error,
    },
    /// The state in it cannot be opened.
    #[error(transparent)]
    State(#[from] StoreError),
}

impl BackupError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
        move |cause| BackupError::Io {
            doing,
            path: path.to_owned(),
            cause,
        }
    }
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The cluster it was taken of.
    pub cluster_id: String,
    /// The node that wrote it.
    pub node: String,
    /// That node's version of Blox.
    pub version: String,
    /// When it was begun, milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Index of the last log entry in it.
    pub applied_index: u64,
    /// The state's revision.
    pub revision: u64,
    /// The state's feature level.
    pub feature_level: FeatureLevel,
    /// The state's chained hash.
    pub state_hash: u128,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// xxh3-128 of everything before the trailer: two files with the same hash hold the same.
    pub hash: u128,
}
