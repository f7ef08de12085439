//! Consensus as the routes see it.

use std::time::Duration;

use async_trait::async_trait;
use blox_raft::{
    Consensus, Consistency, DiskStatus, Glance, MemberChange, MemberError, MemberList, MemberProgress, ProposeError,
    ReadError, ReadPoint, Status,
};
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

    /// What the leader knows of the members.
    async fn members(&self, deadline: Duration) -> Result<MemberList, MemberError>;

    /// Carries a change of the members on, at most for this time; unless it is done, saying it again goes on with it.
    async fn change_members(&self, change: MemberChange, deadline: Duration) -> Result<MemberProgress, MemberError>;

    /// What this node knows of its cluster, now.
    fn status(&self) -> Status;

    /// The part of it that every answer says.
    fn glance(&self) -> Glance {
        self.status().into()
    }

    /// What this node knows of disks.
    fn disks(&self) -> DiskStatus {
        DiskStatus::default()
    }

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

    async fn members(&self, deadline: Duration) -> Result<MemberList, MemberError> {
        Consensus::members(self, deadline).await
    }

    async fn change_members(&self, change: MemberChange, deadline: Duration) -> Result<MemberProgress, MemberError> {
        Consensus::change_members(self, change, deadline).await
    }

    fn status(&self) -> Status {
        Consensus::status(self)
    }

    fn glance(&self) -> Glance {
        Consensus::glance(self)
    }

    fn disks(&self) -> DiskStatus {
        Consensus::disks(self)
    }

    fn metrics(&self) -> Vec<(&'static str, f64)> {
        Consensus::metrics(self)
    }
}
