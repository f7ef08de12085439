//! openraft's own storage suite, on both engines of the store.

use std::io;
use std::sync::Arc;

use blox_store::Store;
use futures::{Stream, StreamExt, stream};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::SnapshotOf;
use openraft::{LogIdOptionExt, OptionalSend, StorageError};
use tempfile::TempDir;

use crate::log::{self, LogHandle, RaftLog};
use crate::machine::{Applier, Machine, SnapshotDirectory, Snapshots, applied_state};
use crate::types::{Entry, EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig, log_id};

/// The suite applies entries with gaps between them. A log has none, and the store refuses them, so blank entries fill them here.
struct Filled(Machine);

impl RaftStateMachine<TypeConfig> for Filled {
    type SnapshotData = <Machine as RaftStateMachine<TypeConfig>>::SnapshotData;
    type SnapshotBuilder = <Machine as RaftStateMachine<TypeConfig>>::SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let given: Vec<_> = entries.collect().await;
        let mut next = self.0.applied_state().await?.0.next_index();
        let mut filled = Vec::new();
        for item in given {
            let (entry, responder) = item?;
            let LogId { leader_id, index } = entry.log_id;
            for missing in next..index {
                let blank = Entry {
                    log_id: log_id(leader_id.term, missing),
                    payload: EntryPayload::Blank,
                };
                filled.push(Ok((blank, None)));
            }
            next = index + 1;
            filled.push(Ok((entry, responder)));
        }
        self.0.apply(stream::iter(filled)).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Arc<SnapshotDirectory>,
    ) -> Result<(), io::Error> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>>, io::Error> {
        self.0.get_current_snapshot().await
    }
}

/// Where the store keeps its state.
#[derive(Clone, Copy)]
enum StateOn {
    Disk,
    Memory,
}

impl StoreBuilder<TypeConfig, RaftLog, Filled, (TempDir, LogHandle)> for StateOn {
    async fn build(&self) -> Result<((TempDir, LogHandle), RaftLog, Filled), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = match self {
            StateOn::Disk => Store::open(&directory.path().join("state")).expect("opened"),
            StateOn::Memory => Store::in_memory(),
        };
        let (log, handle) = log::create(&directory.path().join("raft")).expect("created");
        let snapshots = Snapshots::open(&directory.path().join("snapshots"), "cluster").expect("opened");
        let (applied, _) = applied_state(&store).expect("readable");
        let (applier, _) = Applier::start(store.clone(), applied, handle.gauge.clone());
        let machine = Machine::new(store, applier, Arc::new(snapshots));
        Ok(((directory, handle), log, Filled(machine)))
    }
}

/// Log and state machine keep the contract openraft asks for, with the state in RocksDB.
#[tokio::test]
async fn openrafts_suite_passes_on_disk() {
    Suite::test_all(StateOn::Disk).await.expect("the whole suite");
}

/// The same with the state in memory, as simulation uses it.
#[tokio::test]
async fn openrafts_suite_passes_in_memory() {
    Suite::test_all(StateOn::Memory).await.expect("the whole suite");
}
