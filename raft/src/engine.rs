//! The running consensus of a member: what exists once a node knows which cluster it belongs to.

use std::sync::Arc;

use openraft::{Config, LogIdOptionExt, SnapshotPolicy};

use crate::config::{RaftConfig, Timing};
use crate::error::StartError;
use crate::identity::MemberIdentity;
use crate::log::{LogHandle, RaftLog};
use crate::machine::{self, AppliedReceiver, Applier, Machine, Snapshots};
use crate::net::{Channels, Network, Requests};
use crate::types::{LogId, Raft};

/// How long a leader without a quorum stays silent before it tries again, milliseconds; at least twice the longest election time-out.
const QUORUM_LOSS_PROBE_MS: u64 = 1000;
/// Bounds transfer and installation of a snapshot together, milliseconds.
const INSTALL_SNAPSHOT_TIMEOUT_MS: u64 = 60_000;
/// Messages waiting for openraft's core.
const API_CHANNEL_SIZE: u64 = 1024;
/// Commands waiting for the state machine.
const STATE_MACHINE_CHANNEL_SIZE: u64 = 256;
/// Pauses before an unreachable peer is tried again.
const BACKOFF: &str = "50ms 100ms ...1s";
/// openraft itself falls back to snapshots only beyond this lag: the log kept decides earlier.
const REPLICATION_LAG_FACTOR: u64 = 2;

const SNAPSHOTS_DIRECTORY: &str = "snapshots";

/// A member's consensus.
pub(crate) struct Engine {
    pub identity: Arc<MemberIdentity>,
    pub raft: Raft,
    pub snapshots: Arc<Snapshots>,
    pub requests: Requests,
    pub applied: AppliedReceiver,
}

/// openraft's settings from ours.
pub(crate) fn settings(config: &RaftConfig, cluster_id: &str) -> Result<Config, StartError> {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let Timing {
        heartbeat,
        election_min,
        election_max,
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
        log: RaftLog,
        handle: &LogHandle,
        channels: &Channels,
    ) -> Result<Engine, StartError> {
        let failed = |doing: &str, cause: &dyn std::fmt::Display| StartError::Storage {
            doing: doing.to_owned(),
            cause: cause.to_string(),
        };
        let directory = config.data_directory.join(SNAPSHOTS_DIRECTORY);
        let snapshots = Snapshots::open(&directory, &identity.cluster_id)
            .map_err(|cause| failed(&format!("open the snapshots in {}", directory.display()), &cause))?;
        let snapshots = Arc::new(snapshots);
        let (applied, _) =
            machine::applied_state(store).map_err(|cause| failed("read the applied position", &cause))?;
        check_state_reaches_log(applied, handle, &snapshots, &identity)?;

        let (applier, applied) = Applier::start(store.clone(), applied);
        let machine = Machine::new(store.clone(), applier, snapshots.clone());
        let network = Network::new(identity.clone(), channels.clone(), snapshots.clone());
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
             Stop it, empty the directory, and run `blox member replace {}` on a live node",
            identity.node_id,
            applied.next_index(),
            identity.name
        )));
    }
    Ok(())
}
