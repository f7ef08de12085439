//! Damage that shows while a state runs: a block whose checksum does not match is never read past. It is written down beside the state, so
//! that the next start does not take the state for whole, and told to whoever can end the process.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use blox_runtime::watch;
use rocksdb::{Error, ErrorKind};

use crate::checkpoint::{sync_directory, write_synced};
use crate::store::StoreError;

/// The file that says so.
pub(crate) const MARKER: &str = "DAMAGED";

/// Where damage is told of.
#[derive(Clone)]
pub(crate) struct Damage {
    /// Directory of the marker; `None`: of something that is looked at once.
    directory: Option<PathBuf>,
    found: Arc<watch::Sender<Option<String>>>,
}

impl Damage {
    /// Of the state whose directory this is.
    pub fn of(directory: PathBuf) -> Damage {
        Damage {
            directory: Some(directory),
            found: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Of something that is looked at once, by whoever gets the error anyway.
    pub fn unwatched() -> Damage {
        Damage {
            directory: None,
            found: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Told of the first damage found.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.found.subscribe()
    }

    /// What an earlier run wrote down; `None`: nothing.
    pub fn marked(&self) -> Option<String> {
        fs::read_to_string(self.directory.as_ref()?.join(MARKER)).ok()
    }

    /// An error of the engine while it runs.
    pub fn storage(&self, doing: String, error: &Error) -> StoreError {
        if error.kind() != ErrorKind::Corruption {
            return StoreError::storage(doing, error);
        }
        let what = format!("{doing}: {error}");
        self.note(&what);
        StoreError::Corrupt(what)
    }

    fn note(&self, what: &str) {
        let first = self.found.send_if_modified(|found| {
            let first = found.is_none();
            found.get_or_insert_with(|| what.to_owned());
            first
        });
        let Some(directory) = self.directory.as_ref().filter(|_| first) else {
            return;
        };
        tracing::error!(what, "the state is damaged");
        let written = write_synced(&directory.join(MARKER), what.as_bytes()).and_then(|()| sync_directory(directory));
        if let Err(error) = written {
            // The process ends for it all the same, and finds the damage again.
            tracing::error!(directory = %directory.display(), %error, "the damage cannot be written down");
        }
    }
}

/// An error of the engine while a database is opened that must be there: whether its files are not what was written, or the system refused.
pub(crate) fn opening(doing: String, error: &Error) -> StoreError {
    let missing = error.kind() == ErrorKind::IOError && error.to_string().contains("No such file");
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
            StoreError::Corrupt(format!("{doing}: {error}"))
        }
        _ if missing => StoreError::Corrupt(format!("{doing}: {error}")),
        _ => StoreError::storage(doing, error),
    }
}
