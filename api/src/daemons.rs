//! The scheduler as the routes see it: how an environment's daemons are doing.

use blox_store::proto::EnvironmentRecord;
use blox_store::{StoreError, View};

/// Counts an environment's daemons; computed by the scheduler's planner, wired by the node.
pub trait DaemonSummaries: Send + Sync + 'static {
    /// The environment's daemons in this view. Blocking (it reads the cluster's instances and tasks).
    fn summary(&self, view: &View, environment: &EnvironmentRecord) -> Result<EnvironmentSummary, StoreError>;
}

/// The counters of an environment, in instances, as Kubernetes has them for a DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentSummary {
    /// Eligible instances: each should run the daemon.
    pub desired: u64,
    /// Eligible instances that run it, of whatever revision.
    pub current: u64,
    /// Eligible instances whose daemon is RUNNING.
    pub ready: u64,
    /// Eligible instances that run the wanted task definition.
    pub updated: u64,
    /// Ready ones that count as available.
    pub available: u64,
    /// Eligible instances without an available daemon.
    pub unavailable: u64,
    /// Instances that run the daemon and should not.
    pub misscheduled: u64,
    /// Instances whose daemon could not be started or keeps dying, until it runs.
    pub failed: Vec<FailedInstance>,
}

/// An instance on which the daemon does not run because attempts failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedInstance {
    /// Its ARN.
    pub instance_arn: String,
    /// Why the last attempt failed, as ECS put it.
    pub reason: String,
    /// Wall clock of the next attempt, milliseconds since the epoch; `None`: not scheduled.
    pub retry_at_ms: Option<i64>,
}
