//! The state machine as openraft sees it: the store, an apply thread, and snapshots as directories.

mod applier;
#[cfg(feature = "simulation")]
mod applier_simulated;
mod manifest;
mod snapshots;

use std::io;
use std::sync::Arc;

use blox_runtime::watch;
use blox_store::Store;
use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};

pub(crate) use applier::{Applier, to_log_entry};
pub(crate) use manifest::ManifestError;
pub(crate) use snapshots::{Incoming, SnapshotDirectory, Snapshots};

use crate::codec;
use crate::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// Entries applied as one write batch: at most this many, ...
const APPLY_ENTRIES_MAX: usize = 512;
/// ... and about this many bytes.
const APPLY_BYTES_MAX: usize = 4 << 20;

/// The state machine. One of these exists a node.
pub(crate) struct Machine {
    store: Store,
    applier: Applier,
    snapshots: Arc<Snapshots>,
}

impl Machine {
    pub(crate) fn new(store: Store, applier: Applier, snapshots: Arc<Snapshots>) -> Machine {
        Machine {
            store,
            applier,
            snapshots,
        }
    }
}

type StoredSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>;

/// What the store has applied, in openraft's words.
pub(crate) fn applied_state(store: &Store) -> io::Result<(Option<LogId>, StoredMembership)> {
    let applied = store.applied().map_err(io::Error::other)?;
    let log_id = codec::decode_stored_log_id(&applied.log_id).map_err(io::Error::other)?;
    let membership = codec::decode_stored_membership(&applied.membership).map_err(io::Error::other)?;
    Ok((log_id, membership))
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Arc<SnapshotDirectory>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        applied_state(&self.store)
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut chunk = vec![first?];
            let mut bytes = applier::payload_bytes(&chunk[0].0);
            // Whatever is there already goes into the same batch; nothing is waited for.
            while chunk.len() < APPLY_ENTRIES_MAX && bytes < APPLY_BYTES_MAX {
                let Some(Some(next)) = entries.next().now_or_never() else {
                    break;
                };
                let next = next?;
                bytes += applier::payload_bytes(&next.0);
                chunk.push(next);
            }
            self.applier.apply(chunk).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            store: self.store.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Arc<SnapshotDirectory>,
    ) -> Result<(), io::Error> {
        let store = self.store.clone();
        let snapshots = self.snapshots.clone();
        let wanted = meta.last_log_id;
        blox_runtime::spawn_blocking(move || snapshots.install(&store, &snapshot, wanted))
            .await
            .map_err(io::Error::other)??;
        self.applier.installed(wanted);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<StoredSnapshot>, io::Error> {
        self.snapshots.current().map(stored_snapshot).transpose()
    }
}

/// Builds snapshots beside a running apply.
pub(crate) struct Builder {
    store: Store,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<SnapshotDirectory>;

    async fn build_snapshot(&mut self) -> Result<StoredSnapshot, io::Error> {
        let store = self.store.clone();
        let snapshots = self.snapshots.clone();
        let built = blox_runtime::spawn_blocking(move || snapshots.build(&store))
            .await
            .map_err(io::Error::other)??;
        stored_snapshot(built)
    }
}

fn stored_snapshot(directory: Arc<SnapshotDirectory>) -> io::Result<StoredSnapshot> {
    Ok(Snapshot {
        meta: manifest::meta(directory.manifest()).map_err(io::Error::other)?,
        snapshot: directory,
    })
}

/// What a snapshot's manifest says, in openraft's words.
pub(crate) fn snapshot_meta(manifest: &crate::proto::SnapshotManifest) -> Result<SnapshotMeta, codec::CodecError> {
    manifest::meta(manifest)
}

/// Told of the last applied log id after each batch and each installed snapshot.
pub(crate) type AppliedReceiver = watch::Receiver<Option<LogId>>;
