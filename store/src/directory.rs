//! The directory of the state on disk: one database, named by a pointer file, and perhaps what an interrupted installation left.
//!
//! ```text
//! CURRENT                  the name of the directory that counts, replaced atomically
//! generation-<number>/     a RocksDB database
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, sync_directory, write_synced};
use crate::engine::damage::Damage;
use crate::engine::disk::DiskEngine;
use crate::read::cut::position;
use crate::store::{CheckpointMeta, StoreError};

const POINTER: &str = "CURRENT";
const NEW_POINTER: &str = "CURRENT.new";
const GENERATION: &str = "generation-";

/// See the module.
pub(crate) struct StateDirectory {
    path: PathBuf,
    damage: Damage,
}

impl StateDirectory {
    /// Opens the current state, or creates the first one; removes what an interrupted installation left.
    pub fn open(path: &Path) -> Result<(StateDirectory, DiskEngine), StoreError> {
        let directory = StateDirectory {
            path: path.to_owned(),
            damage: Damage::of(path.to_owned()),
        };
        fs::create_dir_all(path).map_err(|error| directory.failed("creating", error))?;
        if let Some(what) = directory.damage.marked() {
            return Err(StoreError::Corrupt(format!("an earlier run found it damaged: {what}")));
        }
        let current = match directory.pointer()? {
            Some(current) => current,
            None => directory.create_first()?,
        };
        for generation in directory
            .generations()?
            .into_iter()
            .filter(|generation| *generation != current)
        {
            let leftover = path.join(name(generation));
            tracing::info!(directory = %leftover.display(), "removing a state that is not current");
            fs::remove_dir_all(&leftover).map_err(|error| directory.failed("cleaning", error))?;
        }
        let engine = DiskEngine::open(&path.join(name(current)), &directory.damage)?;
        Ok((directory, engine))
    }

    /// Told of damage found while it runs.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Makes a checkpoint the current state. Until the pointer is replaced the old state counts, afterwards the new one; a crash at any
    /// moment leaves one of them, and the other is removed at the next start.
    pub fn install(&self, checkpoint: &Path) -> Result<(DiskEngine, CheckpointMeta), StoreError> {
        fail::fail_point!("store::before-install");
        let meta = checkpoint::inspect_for(checkpoint, checkpoint::ROCKSDB)?;
        let generation = self.generations()?.into_iter().max().unwrap_or_default() + 1;
        let target = self.path.join(name(generation));
        let move_here = || -> std::io::Result<()> {
            fs::rename(checkpoint, &target)?;
            sync_directory(checkpoint::parent(checkpoint))?;
            sync_directory(&self.path)
        };
        move_here().map_err(|error| {
            StoreError::storage(
                format!("moving the checkpoint {} to {}", checkpoint.display(), target.display()),
                error,
            )
        })?;
        let engine = self.prepare(&target, &meta).inspect_err(|_| {
            // Nothing has pointed to it: it can never become current. What cannot be deleted now goes at the next start.
            if let Err(error) = fs::remove_dir_all(&target) {
                tracing::warn!(directory = %target.display(), %error, "cannot delete a checkpoint that cannot be installed");
            }
        })?;
        // From here on nothing is deleted, whatever fails: either of the two may be what the disk says is current.
        fail::fail_point!("store::before-swap");
        self.point_to(generation)?;
        fail::fail_point!("store::after-swap");
        Ok((engine, meta))
    }

    fn prepare(&self, target: &Path, meta: &CheckpointMeta) -> Result<DiskEngine, StoreError> {
        let engine = DiskEngine::open(target, &self.damage)?;
        checkpoint::compare(&engine, meta)?;
        checkpoint::remove_manifest(target).map_err(|error| self.failed("installing into", error))?;
        Ok(engine)
    }

    /// Creates generation 1. One that lies there without a pointer was being created when the process ended, and is empty; anything else
    /// means that the pointer was lost.
    fn create_first(&self) -> Result<u64, StoreError> {
        for generation in self.generations()? {
            let found = self.path.join(name(generation));
            let started = DiskEngine::create(&found, &Damage::unwatched())
                .and_then(|engine| position(&engine))?
                .started;
            if started {
                return Err(StoreError::Corrupt(format!(
                    "{} holds a state but no file {POINTER} names it; stop this node and give it back its data directory as it last was, or start it with an empty one and say `blox member replace` with its name to one of the others",
                    found.display()
                )));
            }
            fs::remove_dir_all(&found).map_err(|error| self.failed("cleaning", error))?;
        }
        drop(DiskEngine::create(&self.path.join(name(1)), &self.damage)?);
        sync_directory(checkpoint::parent(&self.path)).map_err(|error| self.failed("syncing the parent of", error))?;
        self.point_to(1)?;
        Ok(1)
    }

    fn point_to(&self, generation: u64) -> Result<(), StoreError> {
        let replace = || -> std::io::Result<()> {
            let new = self.path.join(NEW_POINTER);
            write_synced(&new, name(generation).as_bytes())?;
            fs::rename(&new, self.path.join(POINTER))?;
            sync_directory(&self.path)
        };
        replace().map_err(|error| self.failed("pointing to the new state in", error))
    }

    fn pointer(&self) -> Result<Option<u64>, StoreError> {
        let text = match fs::read(self.path.join(POINTER)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("reading the pointer in", error)),
        };
        let generation = number(&text).filter(|generation| self.path.join(name(*generation)).is_dir());
        generation.map(Some).ok_or_else(|| {
            StoreError::Corrupt(format!(
                "{POINTER} in {} names {text:?}, which is not there; stop this node and give it back its data directory as it last was, or start it with an empty one and say `blox member replace` with its name to one of the others",
                self.path.display()
            ))
        })
    }

    fn generations(&self) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|error| self.failed("reading", error))? {
            let entry = entry.map_err(|error| self.failed("reading", error))?;
            found.extend(entry.file_name().to_str().and_then(number));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn failed(&self, doing: &str, error: std::io::Error) -> StoreError {
        StoreError::storage(format!("{doing} the state directory {}", self.path.display()), error)
    }
}

/// Puts a damaged state aside, in place of one that was put aside before, so that an empty one can be opened; whoever asks for it knows where
/// the state comes from anew. Says where it went.
pub(crate) fn put_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = aside(path);
    let go = || -> std::io::Result<()> {
        remove_if_there(&aside)?;
        fs::rename(path, &aside)?;
        checkpoint::sync_directory(checkpoint::parent(path))
    };
    go().map_err(|error| StoreError::storage(format!("putting aside the damaged state {}", path.display()), error))?;
    Ok(aside)
}

/// Removes what [`put_aside`] left.
pub(crate) fn forget_aside(path: &Path) -> Result<(), StoreError> {
    let aside = aside(path);
    remove_if_there(&aside).map_err(|error| StoreError::storage(format!("removing {}", aside.display()), error))
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn name(generation: u64) -> String {
    format!("{GENERATION}{generation:010}")
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix(GENERATION)?.parse().ok()
}
