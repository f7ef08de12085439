//! Rebuilding the state of a member that has lost it and not its log.
//!
//! Votes and log are what a node has promised to its peers: nobody can give them back to it. The state is not: it follows from the log. A
//! node whose state was damaged opens an empty one (see `Store::put_aside`) and fills it: by its log, where that still begins at the
//! beginning; otherwise by its own snapshot, where that can be read through (its tables are hard links to those of the state); otherwise by
//! one from a peer. It takes no part in consensus until then. Any snapshot that reaches as far as the log was purged will do: whatever is in
//! one was committed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use blox_store::Store;
use openraft::LogIdOptionExt;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use tonic::Status;

use crate::config::RaftConfig;
use crate::engine::Engine;
use crate::error::{REMEDY, StartError};
use crate::identity::MemberIdentity;
use crate::log::RaftLog;
use crate::machine::{self, SnapshotDirectory, Snapshots};
use crate::net::{self, Channels};
use crate::proto::{self, identify_reply};
use crate::types::{LogId, NodeInfo, position};
use crate::{NodeId, codec};

/// Pause after every peer was asked in vain.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Every so many rounds in vain the log says so.
const ROUNDS_PER_MESSAGE: u64 = 20;

/// Fills the store where neither it nor the snapshot beside it reaches to the log's beginning. The applied position afterwards.
pub(crate) async fn if_needed(
    config: &RaftConfig,
    store: &Store,
    identity: &Arc<MemberIdentity>,
    channels: &Channels,
    snapshots: &Arc<Snapshots>,
    applied: Option<LogId>,
    log: &mut RaftLog,
) -> Result<Option<LogId>, StartError> {
    let failed = |doing: &str, cause: &dyn std::fmt::Display| StartError::Storage {
        doing: doing.to_owned(),
        cause: cause.to_string(),
    };
    let purged = log
        .get_log_state()
        .await
        .map_err(|cause| failed("read the log's beginning", &cause))?;
    let purged = purged.last_purged_log_id.next_index();
    if applied.next_index() >= purged {
        return Ok(applied);
    }
    let verified = snapshots.clone();
    blox_runtime::spawn_blocking(move || verified.verify_current())
        .await
        .map_err(io::Error::other)
        .and_then(|verified| verified)
        .map_err(|cause| failed("verify the snapshot", &cause))?;
    if snapshots.current_position() >= purged {
        tracing::warn!(
            applied = applied.next_index(),
            snapshot = snapshots.current_position(),
            "the state is rebuilt from this node's own snapshot"
        );
        return Ok(applied);
    }
    tracing::warn!(
        applied = applied.next_index(),
        purged,
        "neither state nor snapshot reach back to the log's beginning: the state is rebuilt from a peer's snapshot"
    );
    let snapshot = from_peers(config, identity, channels, snapshots, purged).await?;
    let applied = install(store, snapshots, snapshot, log)
        .await
        .map_err(|cause| failed("install a peer's snapshot", &cause))?;
    tracing::info!(applied = applied.next_index(), "the state is rebuilt");
    Ok(applied)
}

/// Replaces the state by a peer's snapshot; what it says is applied then. The log goes first: a kill in between leaves a node that begins anew.
async fn install(
    store: &Store,
    snapshots: &Arc<Snapshots>,
    snapshot: Arc<SnapshotDirectory>,
    log: &mut RaftLog,
) -> io::Result<Option<LogId>> {
    let wanted = snapshot.manifest().applied.as_ref().map(codec::log_id_from_proto);
    if let Some(wanted) = wanted {
        drop_conflicting(log, wanted).await?;
    }
    let (store, snapshots) = (store.clone(), snapshots.clone());
    let installed = blox_runtime::spawn_blocking(move || {
        snapshots.install(&store, &snapshot, wanted)?;
        machine::applied_state(&store)
    });
    let (applied, _) = installed.await.map_err(io::Error::other)??;
    Ok(applied)
}

/// Where the log has another entry than the snapshot ends with, that one and all after it were never committed. openraft drops them when a
/// leader sends the snapshot; beside a state that was there before it, it takes them for damage.
async fn drop_conflicting(log: &mut RaftLog, snapshot: LogId) -> io::Result<()> {
    let mut reader = log.get_log_reader().await;
    let around = snapshot.index.saturating_sub(1)..=snapshot.index;
    let found: Vec<LogId> = reader
        .try_get_log_entries(around)
        .await?
        .iter()
        .map(|entry| entry.log_id)
        .collect();
    let Some(conflicting) = found
        .last()
        .filter(|last| last.index == snapshot.index && **last != snapshot)
    else {
        return Ok(());
    };
    tracing::warn!(%conflicting, %snapshot, "the log's end was never committed and is dropped");
    let before = found.first().copied().filter(|first| first.index < snapshot.index);
    // None before it: it is the first one that was not purged.
    let before = match before {
        Some(before) => Some(before),
        None => log.get_log_state().await?.last_purged_log_id,
    };
    log.truncate_after(before).await
}

async fn from_peers(
    config: &RaftConfig,
    identity: &Arc<MemberIdentity>,
    channels: &Channels,
    snapshots: &Arc<Snapshots>,
    purged: u64,
) -> Result<Arc<SnapshotDirectory>, StartError> {
    if config.initial_members.iter().all(|member| member.name == identity.name) {
        return Err(StartError::Identity(format!(
            "the state of node {} is lost, its log only begins after entry {purged}, and it knows of no peer that could give it a snapshot. \
             Stop it; {REMEDY}",
            identity.node_id
        )));
    }
    let mut rounds: u64 = 0;
    loop {
        let peers = peers(config, identity, channels).await;
        for (id, node) in &peers {
            match net::fetch_snapshot(identity, channels, snapshots, (*id, node), purged).await {
                Ok((_, snapshot)) => {
                    tracing::info!(peer = node.name, "took a snapshot from a peer");
                    return Ok(snapshot);
                }
                Err(reason) => tracing::warn!(peer = node.name, reason, "a peer gives no snapshot"),
            }
        }
        if rounds.is_multiple_of(ROUNDS_PER_MESSAGE) {
            tracing::warn!(
                peers = peers.len(),
                "no peer gives this node a snapshot yet; it goes on asking"
            );
        }
        rounds += 1;
        blox_runtime::time::sleep(ASK_AGAIN).await;
    }
}

/// The other members, as those say that answer. (The membership this node knew went with its state.)
async fn peers(config: &RaftConfig, identity: &MemberIdentity, channels: &Channels) -> BTreeMap<NodeId, NodeInfo> {
    let mut found = BTreeMap::new();
    for member in config
        .initial_members
        .iter()
        .filter(|member| member.name != identity.name)
    {
        let question = proto::IdentifyRequest {
            name: identity.name.clone(),
            ..proto::IdentifyRequest::default()
        };
        let Ok(reply) = net::identify(channels, &member.peer_address, question).await else {
            continue;
        };
        let Some(identify_reply::State::Member(cluster)) = reply.state else {
            continue;
        };
        if cluster.cluster_id != identity.cluster_id {
            continue;
        }
        let others = cluster.nodes.iter().filter(|node| node.id != identity.node_id);
        found.extend(others.map(codec::node_from_proto));
    }
    found
}

/// The snapshot to give to a peer whose log begins after `wanted`: the current one, or one built for it.
pub(crate) async fn snapshot_for_peer(
    engine: &Engine,
    store: &Store,
    wanted: u64,
) -> Result<Arc<SnapshotDirectory>, Status> {
    if let Some(current) = engine.snapshots.current()
        && engine.snapshots.current_position() >= wanted
    {
        return Ok(current);
    }
    let (store, snapshots) = (store.clone(), engine.snapshots.clone());
    let built = blox_runtime::spawn_blocking(move || snapshots.build(&store))
        .await
        .map_err(io::Error::other)
        .and_then(|built| built)
        .map_err(|error| Status::internal(format!("no snapshot can be built: {error}")))?;
    let applied = built.manifest().applied.as_ref().map(codec::log_id_from_proto);
    if position(applied.as_ref()) < wanted {
        return Err(Status::unavailable("this node has not applied that much itself yet"));
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use blox_store::LogEntry;
    use openraft::storage::IOFlushed;
    use openraft::type_config::TypeConfigExt;

    use super::*;
    use crate::config::{SnapshotPolicy, Timing};
    use crate::identity::SNAPSHOTS_DIRECTORY;
    use crate::log::{self, LogHandle};
    use crate::types::{Entry, EntryPayload, TypeConfig, Vote, log_id};

    /// A log of entries 0 to `last` with these terms, purged up to `purged`.
    async fn log_of(path: &Path, term_of: impl Fn(u64) -> u64, purged: u64, last: u64) -> (RaftLog, LogHandle) {
        let (mut log, handle) = log::create(&path.join("raft")).expect("created");
        let entry = |index| Entry {
            log_id: log_id(term_of(index), index),
            payload: EntryPayload::Blank,
        };
        let entries: Vec<Entry> = (0..=last).map(entry).collect();
        let (sender, durable) = TypeConfig::oneshot();
        log.append(entries, IOFlushed::signal(sender)).await.expect("appended");
        durable.await.expect("called back").expect("durable");
        log.save_vote(&Vote::new(term_of(last), 1)).await.expect("saved");
        log.purge(log_id(term_of(purged), purged)).await.expect("purged");
        (log, handle)
    }

    /// A peer's snapshot of entries 0 to `last`.
    fn snapshot_of(path: &Path, term_of: impl Fn(u64) -> u64, last: u64) -> Arc<SnapshotDirectory> {
        let store = Store::open(&path.join("peer")).expect("opened");
        for index in 0..=last {
            let id = log_id(term_of(index), index);
            let entry = LogEntry {
                index: position(Some(&id)),
                log_id: codec::encode_stored_log_id(&id),
                membership: None,
                payload: None,
            };
            store.apply(&[entry]).expect("applied");
        }
        let snapshots = Snapshots::open(&path.join("peers"), "c").expect("opened");
        snapshots.build(&store).expect("built")
    }

    /// Rebuilds the state beside this log, and begins to take part; the log's last entry then.
    async fn rebuilt(path: &Path, (mut log, handle): (RaftLog, LogHandle), peers: Arc<SnapshotDirectory>) -> LogId {
        let store = Store::open(&path.join("state")).expect("opened");
        let snapshots = Arc::new(Snapshots::open(&path.join(SNAPSHOTS_DIRECTORY), "c").expect("opened"));
        let applied = install(&store, &snapshots, peers, &mut log).await.expect("installed");
        drop(snapshots);
        let config = RaftConfig {
            name: "a".into(),
            data_directory: path.to_owned(),
            peer_listen: "127.0.0.1:0".parse().expect("an address"),
            peer_advertise: "127.0.0.1:1".into(),
            http_advertise: "127.0.0.1:2".into(),
            initial_members: Vec::new(),
            timing: Timing::default(),
            snapshot: SnapshotPolicy::default(),
        };
        let identity = Arc::new(MemberIdentity {
            cluster_id: "c".into(),
            node_id: 1,
            name: "a".into(),
            incarnation: "i".into(),
            joined_at: 0,
            founders: None,
            restored: false,
        });
        let (channels, disks) = (Channels::default(), Arc::default());
        let engine = Engine::build(&config, &store, identity, log, &handle, &channels, &disks)
            .await
            .expect("it starts");
        engine.raft.run();
        let last = handle.last();
        engine.raft.shutdown().await.expect("it ends");
        assert_eq!(position(applied.as_ref()), store.progress().borrow().applied_index);
        last.expect("it has entries")
    }

    /// A tail that was never committed, by number beyond a peer's snapshot and by term before it, does not keep the node from its state; nor
    /// does one that begins right behind what was purged.
    #[tokio::test]
    async fn a_tail_that_conflicts_with_the_snapshot_is_dropped() {
        for (purged, parted) in [(100, 105), (109, 110)] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path();
            let ours = log_of(path, |index| if index < parted { 1 } else { 3 }, purged, 120).await;
            let peers = snapshot_of(path, |index| if index < parted { 1 } else { 5 }, 110);
            assert_eq!(
                rebuilt(path, ours, peers).await,
                log_id(5, 110),
                "purged up to {purged}"
            );
        }
    }

    /// What follows the snapshot in the log stays: it may be committed.
    #[tokio::test]
    async fn a_tail_that_continues_the_snapshot_stays() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let ours = log_of(path, |_| 3, 100, 120).await;
        let peers = snapshot_of(path, |_| 3, 110);
        assert_eq!(rebuilt(path, ours, peers).await, log_id(3, 120));
    }
}
