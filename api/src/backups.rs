//! Backups as the routes see them.

use blox_store::StoreError;
use blox_store::backup::Backup;

/// Takes backups of this node's state: where on disk, and of which cluster, the node knows.
pub trait Backups: Send + Sync + 'static {
    /// Takes a checkpoint now. Blocking.
    fn begin(&self) -> Result<Backup, StoreError>;
}
