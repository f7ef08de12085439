//! What a node asks another one beside replication: to identify itself, and a leader for its callers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::channels::{Channels, Purpose};
use super::envelope::{enclose, seal};
use super::failures::never_handled;
use super::snapshot;
use crate::NodeId;
use crate::identity::MemberIdentity;
use crate::machine::{SnapshotDirectory, Snapshots};
use crate::proto;
use crate::read::NotConfirmed;
use crate::types::{NodeInfo, SnapshotMeta};

const IDENTIFY_DEADLINE: Duration = Duration::from_secs(1);
/// A peer may build the snapshot that it is asked for first.
const SNAPSHOT_BEGINS_DEADLINE: Duration = Duration::from_secs(60);
/// Time an answer may take on its way, beyond what the asked node was given.
const TRAVEL_ALLOWANCE: Duration = Duration::from_millis(200);

/// What became of proposals that were not answered.
#[derive(Debug)]
pub(crate) enum ForwardFailure {
    /// They never reached the leader's hands: nothing was written.
    NeverHandled(String),
    /// They may have been written.
    Unknown(String),
}

/// Asks leaders.
pub(crate) struct Requests {
    me: Arc<MemberIdentity>,
    channels: Channels,
}

impl Requests {
    pub(crate) fn new(me: Arc<MemberIdentity>, channels: Channels) -> Requests {
        Requests { me, channels }
    }

    /// Hands proposals to the leader.
    pub(crate) async fn propose(
        &self,
        (target, node): (NodeId, &NodeInfo),
        commands: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Vec<proto::ProposeResult>, ForwardFailure> {
        let mut client = self
            .channels
            .client(&node.peer_address, Purpose::Requests)
            .map_err(|error| ForwardFailure::NeverHandled(error.to_string()))?;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let request = proto::ProposeRequest { commands, deadline_ms };
        self.channels.traffic.request(request.encoded_len());
        let request = enclose(request, &seal(&self.me, target, node));
        match blox_runtime::time::timeout(deadline + TRAVEL_ALLOWANCE, client.propose(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner().results),
            Ok(Err(status)) if never_handled(&status) => Err(ForwardFailure::NeverHandled(status.message().to_owned())),
            Ok(Err(status)) => Err(ForwardFailure::Unknown(format!(
                "the leader {} did not answer: {}",
                node.name,
                status.message()
            ))),
            Err(_) => Err(ForwardFailure::Unknown(format!(
                "the leader {} did not answer in time",
                node.name
            ))),
        }
    }

    /// Asks the leader up to where to apply before a linearizable read.
    pub(crate) async fn read_index(
        &self,
        (target, node): (NodeId, &NodeInfo),
        deadline: Duration,
    ) -> Result<proto::ReadPoint, NotConfirmed> {
        let mut client = self
            .channels
            .client(&node.peer_address, Purpose::Requests)
            .map_err(|error| NotConfirmed::because(error.to_string()))?;
        let request = proto::ReadIndexRequest {};
        self.channels.traffic.request(request.encoded_len());
        let request = enclose(request, &seal(&self.me, target, node));
        let reply = blox_runtime::time::timeout(deadline, client.read_index(request))
            .await
            .map_err(|_| NotConfirmed::silence(format!("the leader {} did not answer in time", node.name)))?
            .map_err(|status| NotConfirmed::because(status.to_string()))?;
        match reply.into_inner().result {
            Some(proto::read_index_reply::Result::Point(point)) => Ok(point),
            Some(proto::read_index_reply::Result::TryAgain(reason)) => Err(NotConfirmed::because(reason)),
            None => Err(NotConfirmed::because("the answer is empty")),
        }
    }

    /// Has a peer say which state hashes it holds, and tells it whose state differs.
    pub(crate) async fn compare_state(
        &self,
        (target, node): (NodeId, &NodeInfo),
        request: proto::CompareStateRequest,
        deadline: Duration,
    ) -> Result<proto::CompareStateReply, String> {
        let mut client = self
            .channels
            .client(&node.peer_address, Purpose::Requests)
            .map_err(|error| error.to_string())?;
        let request = enclose(request, &seal(&self.me, target, node));
        let reply = blox_runtime::time::timeout(deadline, client.compare_state(request))
            .await
            .map_err(|_| format!("{} did not answer in time", node.name))?
            .map_err(|status| status.to_string())?;
        Ok(reply.into_inner())
    }

    /// Hands a question or wish about the members to the leader.
    pub(crate) async fn members(
        &self,
        (target, node): (NodeId, &NodeInfo),
        request: proto::MembersRequest,
        deadline: Duration,
    ) -> Result<proto::MembersReply, String> {
        let mut client = self
            .channels
            .client(&node.peer_address, Purpose::Requests)
            .map_err(|error| error.to_string())?;
        let request = enclose(request, &seal(&self.me, target, node));
        match blox_runtime::time::timeout(deadline + TRAVEL_ALLOWANCE, client.members(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(format!("the leader {} did not answer: {}", node.name, status.message())),
            Err(_) => Err(format!("the leader {} did not answer in time", node.name)),
        }
    }
}

/// Takes a snapshot that reaches to `position` at least from a peer; it is whole and undamaged when this returns.
pub(crate) async fn fetch_snapshot(
    me: &MemberIdentity,
    channels: &Channels,
    snapshots: &Arc<Snapshots>,
    (target, node): (NodeId, &NodeInfo),
    position: u64,
) -> Result<(SnapshotMeta, Arc<SnapshotDirectory>), String> {
    let mut client = channels
        .client(&node.peer_address, Purpose::Snapshot)
        .map_err(|error| error.to_string())?;
    let request = enclose(proto::FetchSnapshotRequest { position }, &seal(me, target, node));
    let frames = blox_runtime::time::timeout(SNAPSHOT_BEGINS_DEADLINE, client.fetch_snapshot(request))
        .await
        .map_err(|_| "it did not begin in time".to_owned())?
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    let (_, meta, snapshot) = snapshot::take(snapshots, frames)
        .await
        .map_err(|status| status.message().to_owned())?;
    Ok((meta, snapshot))
}

/// Asks whoever listens at `address` who it is.
pub(crate) async fn identify(
    channels: &Channels,
    address: &str,
    request: proto::IdentifyRequest,
) -> Result<proto::IdentifyReply, String> {
    let mut client = channels
        .client(address, Purpose::Requests)
        .map_err(|error| error.to_string())?;
    match blox_runtime::time::timeout(IDENTIFY_DEADLINE, client.identify(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(status.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
