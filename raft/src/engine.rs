//! The running consensus of a member: what exists once a node knows which cluster it belongs to.

use std::io;
use std::sync::Arc;

use blox_runtime::time::Instant;
use openraft::{Config, LogIdOptionExt, SnapshotPolicy};
use parking_lot::Mutex;

use crate::config::{RaftConfig, Timing};
use crate::disk::Disks;
use crate::error::{REMEDY, StartError};
use crate::identity::{MemberIdentity, SNAPSHOTS_DIRECTORY};
use crate::log::{LogHandle, RaftLog};
use crate::machine::{self, AppliedReceiver, Applier, Machine, Snapshots};
use crate::net::{Channels, Network, Requests};
use crate::rebuild;
use crate::types::{LogId, Raft};

/// How long a leader without a quorum stays silent before it tries again, milliseconds; at least twice the longest election time-out.
const QUORUM_LOSS_PROBE_MS: u64 = 1000;
/// Bounds transfer and installation of a snapshot together, milliseconds. openraft only hands it to the network, which is to use three
/// quarters of it: half an hour. A transfer that does not move is given up much earlier ([`crate::net`]).
const INSTALL_SNAPSHOT_TIMEOUT_MS: u64 = 40 * 60 * 1000;
/// Messages waiting for openraft's core.
const API_CHANNEL_SIZE: u64 = 1024;
/// Commands waiting for the state machine.
const STATE_MACHINE_CHANNEL_SIZE: u64 = 256;
/// Pauses before an unreachable peer is tried again: it takes part again no later than that after it is back.
const BACKOFF: &str = "50ms 100ms ...250ms";
/// openraft itself falls back to snapshots only beyond this lag: the log kept decides earlier.
const REPLICATION_LAG_FACTOR: u64 = 2;

/// A member's consensus.
pub(crate) struct Engine {
    pub identity: Arc<MemberIdentity>,
    pub raft: Raft,
    pub snapshots: Arc<Snapshots>,
    pub requests: Requests,
    pub applied: AppliedReceiver,
    /// The last refusal of a peer's call that was logged: peers call again and again.
    pub refused: Mutex<Option<(String, Instant)>>,
}

/// openraft's settings from ours.
pub(crate) fn settings(config: &RaftConfig, cluster_id: &str) -> Result<Config, StartError> {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let Timing {
        heartbeat,
        election_min,
        election_max,
        ..
    } = config.timing;
    Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: millis(heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(election_max),
        enable_pre_vote: Some(true),
        quorum_loss_probe_interval: Some(QUORUM_LOSS_PROBE_MS.max(2 * millis(election_max))),
        install_snapshot_timeout: INSTALL_SNAPSHOT_TIMEOUT_MS,
        // A restarted leader must win an election: what it had applied may lag what it had answered.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot.entries),
        max_in_snapshot_log_to_keep: config.snapshot.keep_entries,
        replication_lag_threshold: REPLICATION_LAG_FACTOR * (config.snapshot.entries + config.snapshot.keep_entries),
        api_channel_size: Some(API_CHANNEL_SIZE),
        state_machine_channel_size: Some(STATE_MACHINE_CHANNEL_SIZE),
        backoff: BACKOFF.to_owned(),
        ..Config::default()
    }
    .validate()
    .map_err(|cause| StartError::Configuration(format!("the heartbeat and election times cannot work: {cause}")))
}

impl Engine {
    /// Puts consensus together; it neither votes nor answers before [`Raft::run`].
    pub(crate) async fn build(
        config: &RaftConfig,
        store: &blox_store::Store,
        identity: Arc<MemberIdentity>,
        mut log: RaftLog,
        handle: &LogHandle,
        channels: &Channels,
        disks: &Arc<Disks>,
    ) -> Result<Engine, StartError> {
        let failed = |doing: &str, cause: &dyn std::fmt::Display| StartError::Storage {
            doing: doing.to_owned(),
            cause: cause.to_string(),
        };
        let directory = config.data_directory.join(SNAPSHOTS_DIRECTORY);
        let snapshots = Snapshots::open_knowing(&directory, &identity.cluster_id, store.known_feature_level())
            .map_err(|cause| failed(&format!("open the snapshots in {}", directory.display()), &cause))?;
        let snapshots = Arc::new(snapshots);
        let (applied, _) =
            machine::applied_state(store).map_err(|cause| failed("read the applied position", &cause))?;
        let applied = rebuild::if_needed(config, store, &identity, channels, &snapshots, applied, &mut log).await?;
        check_state_reaches_log(applied, handle, &snapshots, &identity)?;
        cover_purge(store, applied, handle, &snapshots)
            .await
            .map_err(|cause| failed("snapshot the state that the log no longer reaches back to", &cause))?;

        let (applier, applied) = Applier::start(store.clone(), applied, handle.gauge.clone());
        let machine = Machine::new(store.clone(), applier, snapshots.clone());
        let network = Network::new(identity.clone(), channels.clone(), snapshots.clone(), disks.clone());
        let settings = Arc::new(settings(config, &identity.cluster_id)?);
        let raft = Raft::build(identity.node_id, settings, network, log, machine)
            .await
            .map_err(|cause| failed("recover consensus", &cause))?;
        let requests = Requests::new(identity.clone(), channels.clone());
        Ok(Engine {
            identity,
            raft,
            snapshots,
            requests,
            applied,
            refused: Mutex::new(None),
        })
    }
}

/// The log no longer has the entries it has purged: the state, or a snapshot, must.
fn check_state_reaches_log(
    applied: Option<LogId>,
    log: &LogHandle,
    snapshots: &Snapshots,
    identity: &MemberIdentity,
) -> Result<(), StartError> {
    let purged = log.purged().next_index();
    if purged > applied.next_index().max(snapshots.current_position()) {
        return Err(StartError::Identity(format!(
            "the state of node {} stands at entry {}, but its log only begins after entry {purged}: part of its data directory is gone. \
             Stop it; {REMEDY}",
            identity.node_id,
            applied.next_index()
        )));
    }
    Ok(())
}

/// Sees that the current snapshot reaches as far as the log is purged, or will be: openraft purges a log that ends before the state does,
/// and sends peers the snapshot it finds, however old. A kill leaves that behind between the installation of a received snapshot and the
/// building of this node's own, or while the log thread lags behind apply.
async fn cover_purge(
    store: &blox_store::Store,
    applied: Option<LogId>,
    log: &LogHandle,
    snapshots: &Arc<Snapshots>,
) -> io::Result<()> {
    let applied = applied.next_index();
    let ahead = if applied > log.last().next_index() { applied } else { 0 };
    let wanted = log.purged().next_index().max(ahead);
    if snapshots.current_position() >= wanted {
        return Ok(());
    }
    tracing::info!(
        snapshot = snapshots.current_position(),
        wanted,
        "the snapshot is older than the log's beginning: building one"
    );
    let (store, snapshots) = (store.clone(), snapshots.clone());
    let built = blox_runtime::spawn_blocking(move || snapshots.build(&store));
    built.await.map_err(io::Error::other)?.map(drop)
}

#[cfg(test)]
mod tests {
    use blox_store::{LogEntry, Store};
    use openraft::storage::{IOFlushed, RaftLogStorage};
    use openraft::type_config::TypeConfigExt;

    use super::*;
    use crate::codec;
    use crate::log;
    use crate::types::{Entry, EntryPayload, TypeConfig, log_id, position};

    fn config(directory: &std::path::Path) -> RaftConfig {
        RaftConfig {
            name: "a".into(),
            data_directory: directory.to_owned(),
            peer_listen: "127.0.0.1:0".parse().expect("an address"),
            peer_advertise: "127.0.0.1:1".into(),
            http_advertise: "127.0.0.1:2".into(),
            initial_members: Vec::new(),
            timing: Timing::default(),
            snapshot: crate::config::SnapshotPolicy::default(),
        }
    }

    fn apply_through(store: &Store, last: u64) {
        let next = store.progress().borrow().applied_index;
        for index in next..=last {
            let id = log_id(1, index);
            let entry = LogEntry {
                index: position(Some(&id)),
                log_id: codec::encode_stored_log_id(&id),
                membership: None,
                payload: None,
            };
            store.apply(&[entry]).expect("applied");
        }
    }

    /// A kill between the installation of a received snapshot and the building of this node's own leaves a state ahead of log and
    /// snapshot: the next start builds one before the log is purged up to the state.
    #[tokio::test]
    async fn a_state_ahead_of_log_and_snapshot_gets_a_snapshot() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let store = Store::open(&path.join("state")).expect("opened");
        apply_through(&store, 2);
        let snapshots = Snapshots::open(&path.join(SNAPSHOTS_DIRECTORY), "c").expect("opened");
        drop(snapshots.build(&store).expect("built"));
        drop(snapshots);
        let (mut log, handle) = log::create(&path.join("raft")).expect("created");
        let entries = (0..6).map(|index| Entry {
            log_id: log_id(1, index),
            payload: EntryPayload::Blank,
        });
        let (sender, durable) = TypeConfig::oneshot();
        log.append(entries, IOFlushed::signal(sender)).await.expect("appended");
        durable.await.expect("called back").expect("durable");
        apply_through(&store, 20);

        let identity = Arc::new(MemberIdentity {
            cluster_id: "c".into(),
            node_id: 1,
            name: "a".into(),
            incarnation: "i".into(),
            joined_at: 0,
            founders: None,
            restored: false,
        });
        let channels = Channels::default();
        let disks = Arc::default();
        let engine = Engine::build(&config(path), &store, identity, log, &handle, &channels, &disks)
            .await
            .expect("it starts");
        engine.raft.run();
        assert_eq!(handle.purged(), Some(log_id(1, 20)));
        assert_eq!(engine.snapshots.current_position(), 21);
        engine.raft.shutdown().await.expect("it ends");
    }
}
