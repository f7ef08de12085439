//! Consensus as the routes see it.

use std::time::Duration;

use async_trait::async_trait;
use blox_raft::{Consensus, Consistency, ProposeError, ReadError, ReadPoint, Status};
use blox_store::Revision;
use blox_store::proto::{Command, Outcome};

/// The few things that routes ask of consensus; tests stand in for it.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Has one command committed and applied. An error other than `Unknown` means that nothing was written.
    async fn propose(&self, command: Command, deadline: Duration) -> Result<Outcome, ProposeError>;

    /// Waits until a read of the local store is as fresh as asked, and at least at `min_revision` (0: any).
    async fn read_barrier(
        &self,
        consistency: Consistency,
        min_revision: Revision,
        deadline: Duration,
    ) -> Result<ReadPoint, ReadError>;

    /// What this node knows of its cluster, now.
    fn status(&self) -> Status;

    /// Counters (names end in `_total`) and gauges of the log and the peers, for `/metrics`.
    fn metrics(&self) -> Vec<(&'static str, f64)>;
}

#[async_trait]
impl Cluster for Consensus {
    async fn propose(&self, command: Command, deadline: Duration) -> Result<Outcome, ProposeError> {
        Consensus::propose(self, command, deadline).await
    }

    async fn read_barrier(
        &self,
        consistency: Consistency,
        min_revision: Revision,
        deadline: Duration,
    ) -> Result<ReadPoint, ReadError> {
        Consensus::read_barrier(self, consistency, min_revision, deadline).await
    }

    fn status(&self) -> Status {
        Consensus::status(self)
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        Consensus::metrics(self)
    }
}
