//! Stand-ins for consensus, ECS and the scheduler.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use blox_api::{
    Catalog, CatalogError, Cluster, ClusterLookup, DaemonSummaries, EnvironmentSummary, MetricsPage, MetricsSource,
    TaskDefinitionLookup,
};
use blox_raft::{
    Clock, Consistency, Member, MemberChange, MemberError, MemberList, MemberProgress, ProposeError, ReadError,
    ReadPoint, Role, Status,
};
use blox_store::backup::{Backup, BackupOrigin};
use blox_store::proto::{Command, Entry, EnvironmentRecord, Outcome};
use blox_store::{LogEntry, Store, StoreError, View};
use bytes::Bytes;
use prost::Message;

/// The wall clock of every test, milliseconds since the epoch.
pub const NOW_MS: i64 = 1_795_000_000_000;

/// Consensus of one node: what is proposed is applied at once.
pub struct OneNode {
    store: Store,
    index: Mutex<u64>,
    pub propose_fails: Mutex<Option<ProposeError>>,
    pub read_fails: Mutex<Option<ReadError>>,
    pub status: Mutex<Status>,
    /// What the leader answers about the members, and what it was asked for.
    pub members: Mutex<Result<MemberList, MemberError>>,
    pub change: Mutex<Result<MemberProgress, MemberError>>,
    pub changes: Mutex<Vec<MemberChange>>,
    pub proposals: AtomicU64,
}

impl OneNode {
    pub fn new(store: Store) -> OneNode {
        let member = Member {
            id: 1,
            name: "node1".into(),
            peer_address: "127.0.0.1:1".into(),
            http_address: "127.0.0.1:2".into(),
            voter: true,
            matched_index: None,
        };
        let status = Status {
            cluster_id: "cluster-1".into(),
            node_id: 1,
            name: "node1".into(),
            role: Role::Leader,
            term: 3,
            leader: Some(member.clone()),
            members: vec![member],
            last_log_index: 0,
            commit_index: 0,
            applied_index: 0,
            snapshot_index: 0,
            leader_contact: Some(Duration::from_millis(7)),
            staleness: Some(Duration::from_millis(9)),
            leader_changes: 1,
            attention: None,
            stopped: None,
            state_differences: Vec::new(),
        };
        OneNode {
            store,
            index: Mutex::new(0),
            propose_fails: Mutex::new(None),
            read_fails: Mutex::new(None),
            status: Mutex::new(status),
            members: Mutex::new(Err(MemberError::NotMember("it is starting".into()))),
            change: Mutex::new(Err(MemberError::NotMember("it is starting".into()))),
            changes: Mutex::default(),
            proposals: AtomicU64::new(0),
        }
    }

    /// Applies one command as an entry of its own.
    pub fn apply(&self, command: Command) -> Outcome {
        let mut index = self.index.lock().expect("no test panics under it");
        *index += 1;
        let entry = Entry {
            wall_time_ms: NOW_MS,
            elapsed_ms: *index,
            commands: vec![command],
        };
        let entry = LogEntry {
            index: *index,
            log_id: Bytes::copy_from_slice(&index.to_be_bytes()),
            membership: None,
            payload: Some(entry.encode_to_vec().into()),
        };
        let applied = self.store.apply(&[entry]).expect("the state in memory takes it");
        applied[0].outcomes[0].clone()
    }
}

#[async_trait]
impl Cluster for OneNode {
    async fn propose(&self, command: Command, _: Duration) -> Result<Outcome, ProposeError> {
        self.proposals.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = self.propose_fails.lock().expect("no test panics under it").clone() {
            return Err(error);
        }
        Ok(self.apply(command))
    }

    async fn read_barrier(
        &self,
        consistency: Consistency,
        min_revision: u64,
        waited: Duration,
    ) -> Result<ReadPoint, ReadError> {
        let failure = self.read_fails.lock().expect("no test panics under it").clone();
        if let (Some(error), Consistency::Linearizable) = (failure, consistency) {
            return Err(error);
        }
        let progress = self.store.progress().borrow().clone();
        if progress.revision < min_revision {
            return Err(ReadError::Behind {
                current: progress.revision,
                wanted: min_revision,
                waited,
            });
        }
        Ok(ReadPoint {
            revision: progress.revision,
            applied_index: progress.applied_index,
        })
    }

    async fn members(&self, _: Duration) -> Result<MemberList, MemberError> {
        self.members.lock().expect("no test panics under it").clone()
    }

    async fn change_members(&self, change: MemberChange, _: Duration) -> Result<MemberProgress, MemberError> {
        self.changes.lock().expect("no test panics under it").push(change);
        self.change.lock().expect("no test panics under it").clone()
    }

    fn status(&self) -> Status {
        self.status.lock().expect("no test panics under it").clone()
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("blox_raft_proposals_failed_total", 2.0),
            ("blox_raft_log_bytes", 4096.0),
            ("blox_raft_term", 99.0),
            ("blox_raft_wal_fsync_duration_seconds_count", 8.0),
            ("blox_raft_wal_fsync_duration_seconds_sum", 0.25),
        ]
    }
}

/// ECS: clusters `alpha` (west) and `both` (west and east), task definitions `sleep` and `sleep:N`.
#[derive(Default)]
pub struct Ecs {
    /// Every call fails with this.
    pub fails: Mutex<Option<String>>,
}

#[async_trait]
impl Catalog for Ecs {
    async fn describe_cluster(&self, cluster: &str, source: Option<&str>) -> Result<ClusterLookup, CatalogError> {
        if let Some(cause) = self.fails.lock().expect("no test panics under it").clone() {
            return Err(CatalogError(cause));
        }
        let name = cluster.rsplit('/').next().unwrap_or(cluster);
        let found = |region: &str, status: &str| ClusterLookup::Found {
            source: region.into(),
            arn: crate::documents::cluster_arn(region, name),
            status: status.into(),
        };
        Ok(match (cluster, source) {
            ("both", None) => ClusterLookup::Ambiguous(vec!["us-east-1".into(), "us-west-2".into()]),
            ("both", Some(source)) => found(source, "ACTIVE"),
            ("old", _) => found("us-west-2", "INACTIVE"),
            ("slow", _) => std::future::pending().await,
            _ if name == "alpha" || name == "beta" => found("us-west-2", "ACTIVE"),
            _ => ClusterLookup::Missing,
        })
    }

    async fn describe_task_definition(&self, source: &str, name: &str) -> Result<TaskDefinitionLookup, CatalogError> {
        let named = name.rsplit('/').next().unwrap_or(name);
        let (family, revision) = named.split_once(':').unwrap_or((named, "1"));
        match family {
            "sleep" => Ok(TaskDefinitionLookup::Found {
                arn: format!("arn:aws:ecs:{source}:123456789012:task-definition/sleep:{revision}"),
                status: "ACTIVE".into(),
            }),
            "old" => Ok(TaskDefinitionLookup::Found {
                arn: "arn".into(),
                status: "INACTIVE".into(),
            }),
            "throttled" => Err(CatalogError("ThrottlingException: Rate exceeded".into())),
            _ => Ok(TaskDefinitionLookup::Refused(
                "ClientException: Unable to describe task definition.".into(),
            )),
        }
    }
}

/// Says of every environment what it was told to.
#[derive(Default)]
pub struct Summaries {
    pub summary: Mutex<EnvironmentSummary>,
}

impl DaemonSummaries for Summaries {
    fn summary(&self, _: &View, _: &EnvironmentRecord) -> Result<EnvironmentSummary, StoreError> {
        Ok(self.summary.lock().expect("no test panics under it").clone())
    }
}

/// One metric of the rest of the node.
pub struct OneMetric;

impl MetricsSource for OneMetric {
    fn collect(&self, page: &mut MetricsPage) {
        page.counter(
            "blox_sqs_received_total",
            "Messages received.",
            &[("source", "us-west-2")],
            5.0,
        );
    }
}

/// A wall clock that stands still beside a monotonic one that runs.
pub struct StillClock(pub std::time::Instant);

impl Clock for StillClock {
    fn wall_ms(&self) -> i64 {
        NOW_MS
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Backups of the state in memory, in a directory of their own.
pub struct Backups {
    store: Store,
    directory: tempfile::TempDir,
    taken: AtomicU64,
}

impl Backups {
    pub fn new(store: Store) -> Backups {
        Backups {
            store,
            directory: tempfile::tempdir().expect("a temporary directory"),
            taken: AtomicU64::new(0),
        }
    }
}

impl blox_api::Backups for Backups {
    fn begin(&self) -> Result<Backup, StoreError> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let origin = BackupOrigin {
            cluster_id: "cluster-1".into(),
            node: "node1".into(),
            version: "0.1.0".into(),
            created_at_ms: NOW_MS,
        };
        self.store
            .backup(&self.directory.path().join(number.to_string()), origin)
    }
}
