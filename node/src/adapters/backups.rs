//! Backups of this node, for the routes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blox_api::Backups;
use blox_raft::{Clock, Consensus};
use blox_store::backup::{Backup, BackupOrigin};
use blox_store::{Store, StoreError};

/// Folder of checkpoints on their way out, in the data directory: hard links, so that they cost nothing but what changes meanwhile.
const FOLDER: &str = "outgoing";

/// See the module.
pub struct LocalBackups {
    store: Store,
    consensus: Consensus,
    clock: Arc<dyn Clock>,
    directory: PathBuf,
}

impl LocalBackups {
    /// Removes what an earlier process has left.
    pub fn open(
        data_directory: &Path,
        store: Store,
        consensus: Consensus,
        clock: Arc<dyn Clock>,
    ) -> io::Result<LocalBackups> {
        let directory = data_directory.join(FOLDER);
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(LocalBackups {
            store,
            consensus,
            clock,
            directory,
        })
    }
}

impl Backups for LocalBackups {
    fn begin(&self) -> Result<Backup, StoreError> {
        let status = self.consensus.status();
        std::fs::create_dir_all(&self.directory).map_err(|error| StoreError::Storage {
            doing: format!("creating {}", self.directory.display()),
            cause: error.to_string(),
        })?;
        let origin = BackupOrigin {
            cluster_id: status.cluster_id,
            node: status.name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at_ms: self.clock.wall_ms(),
        };
        let directory = self.directory.join(uuid::Uuid::new_v4().simple().to_string());
        self.store.backup(&directory, origin)
    }
}
