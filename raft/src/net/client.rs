//! openraft's calls to one peer.

use std::future::Future;
use std::sync::Arc;

use blox_runtime::time::Instant;
use futures::Stream;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetAppend, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::metadata::BinaryMetadataValue;

use super::channels::{BadAddress, Channels, Purpose};
use super::envelope::{enclose, seal};
use super::failures::{rpc_error, timed_out};
use super::silence::{Change, Silence};
use super::transport::Channel;
use super::{append, snapshot};
use crate::NodeId;
use crate::codec;
use crate::disk::Disks;
use crate::identity::MemberIdentity;
use crate::machine::{SnapshotDirectory, Snapshots};
use crate::proto::{self, peer_client::PeerClient};
use crate::types::{NodeInfo, TypeConfig, Vote};

type Failure = RPCError<TypeConfig>;

/// Makes clients for openraft.
pub(crate) struct Network {
    me: Arc<MemberIdentity>,
    channels: Channels,
    snapshots: Arc<Snapshots>,
    disks: Arc<Disks>,
}

impl Network {
    pub(crate) fn new(
        me: Arc<MemberIdentity>,
        channels: Channels,
        snapshots: Arc<Snapshots>,
        disks: Arc<Disks>,
    ) -> Network {
        Network {
            me,
            channels,
            snapshots,
            disks,
        }
    }

    fn client(&self, target: u64, node: &NodeInfo, purpose: Purpose) -> Peer {
        Peer {
            purpose,
            target,
            name: node.name.clone(),
            silence: Silence::default(),
            disks: self.disks.clone(),
            address: node.peer_address.clone(),
            envelope: seal(&self.me, target, node),
            channels: self.channels.clone(),
            snapshots: self.snapshots.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &NodeInfo) -> Peer {
        self.client(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &NodeInfo) -> Peer {
        self.client(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &NodeInfo) -> Peer {
        self.client(target, node, Purpose::Snapshot)
    }
}

/// One peer, as openraft calls it.
pub(crate) struct Peer {
    purpose: Purpose,
    target: NodeId,
    name: String,
    silence: Silence,
    disks: Arc<Disks>,
    address: String,
    envelope: BinaryMetadataValue,
    channels: Channels,
    snapshots: Arc<Snapshots>,
}

impl Peer {
    fn connection(&self, purpose: Purpose) -> Result<PeerClient<Channel>, Failure> {
        self.channels
            .client(&self.address, purpose)
            .map_err(|error: BadAddress| Failure::Unreachable(Unreachable::from_string(error)))
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} to {}", self.address)
    }

    /// Waits for an answer no longer than `option` allows.
    async fn within<T>(
        &self,
        what: &str,
        option: &RPCOption,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failure> {
        match blox_runtime::time::timeout(option.soft_ttl(), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(rpc_error(&self.doing(what), &status)),
            Err(_) => Err(timed_out(&self.doing(what))),
        }
    }

    fn undecodable(&self, what: &str, error: &codec::CodecError) -> Failure {
        Failure::Unreachable(Unreachable::from_string(format!(
            "{}: the answer: {error}",
            self.doing(what)
        )))
    }

    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let mut client = self.connection(Purpose::Heartbeat)?;
        let call = client.heartbeat(enclose(codec::append_to_proto(&request), &self.envelope));
        let reply = self.within("heartbeat", &option, call).await?;
        self.disks.heard(self.target, reply.disk.map(Into::into));
        append::answer(&reply)
            .map_err(|error| self.undecodable("heartbeat", &error))
            .map(|result| match result {
                Ok(matching) => AppendEntriesResponse::PartialSuccess(matching),
                Err(openraft::raft::StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
                Err(openraft::raft::StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
            })
    }

    fn vote_answer(&self, reply: &proto::VoteReply) -> Result<VoteResponse<TypeConfig>, Failure> {
        let vote = codec::required_vote(reply.vote.as_ref()).map_err(|error| self.undecodable("vote", &error))?;
        Ok(VoteResponse::new(
            vote,
            reply.last_log_id.as_ref().map(codec::log_id_from_proto),
            reply.granted,
        ))
    }
}

fn vote_request(request: &VoteRequest<TypeConfig>) -> proto::VoteRequest {
    proto::VoteRequest {
        vote: Some(codec::vote_to_proto(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(codec::log_id_to_proto),
        leadership_transfer: request.leadership_transfer,
    }
}

impl NetBackoff<TypeConfig> for Peer {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetAppend<TypeConfig> for Peer {
    /// Only heartbeats come this way; appends have their stream.
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let sent = Instant::now();
        let result = self.heartbeat(request, option).await;
        match (self.silence.heartbeat(sent, result.is_ok()), &result) {
            (Some(Change::FellSilent), Err(cause)) => {
                tracing::warn!(peer = self.name, %cause, "does not answer heartbeats");
            }
            (Some(Change::AnswersAgain { after }), _) => {
                tracing::info!(
                    peer = self.name,
                    silent_s = after.as_secs_f64(),
                    "answers heartbeats again"
                );
            }
            _ => {}
        }
        result
    }
}

impl NetStreamAppend<TypeConfig> for Peer {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Purpose::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let client = self.connection(Purpose::Replication)?;
            let traffic = self.channels.traffic.clone();
            append::open(client, &self.envelope, self.doing("append"), traffic, input).await
        })
    }
}

impl NetVote<TypeConfig> for Peer {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let mut client = self.connection(Purpose::Heartbeat)?;
        let call = client.vote(enclose(vote_request(&request), &self.envelope));
        let reply = self.within("vote", &option, call).await?;
        self.vote_answer(&reply)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let mut client = self.connection(Purpose::Heartbeat)?;
        let call = client.pre_vote(enclose(vote_request(&request), &self.envelope));
        let reply = self.within("pre-vote", &option, call).await?;
        self.vote_answer(&reply)
    }
}

impl NetTransferLeader<TypeConfig> for Peer {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        let message = proto::TransferRequest {
            from: Some(codec::vote_to_proto(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(codec::log_id_to_proto),
        };
        let mut client = self.connection(Purpose::Heartbeat)?;
        let call = client.transfer_leader(enclose(message, &self.envelope));
        let reply = self.within("transfer of leadership", &option, call).await?;
        transfer_answer(reply).map_err(|error| self.undecodable("transfer of leadership", &error))
    }
}

fn transfer_answer(reply: proto::TransferReply) -> Result<TransferLeaderResponse<TypeConfig>, codec::CodecError> {
    match reply.result.ok_or(codec::CodecError::Missing("the result"))? {
        proto::transfer_reply::Result::Accepted(_) => Ok(Ok(())),
        proto::transfer_reply::Result::VoteChanged(changed) => Ok(Err(TransferLeaderError::VoteChanged {
            expected: codec::required_vote(changed.expected.as_ref())?,
            actual: codec::required_vote(changed.actual.as_ref())?,
        })),
        proto::transfer_reply::Result::LogNotFlushed(behind) => Ok(Err(TransferLeaderError::LogNotFlushed {
            expected: behind.expected.as_ref().map(codec::log_id_from_proto),
            actual: behind.actual.as_ref().map(codec::log_id_from_proto),
        })),
    }
}

impl NetSnapshot<TypeConfig> for Peer {
    type SnapshotData = Arc<SnapshotDirectory>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<TypeConfig, Arc<SnapshotDirectory>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.connection(Purpose::Snapshot)?;
        let (frames, pace) = snapshot::frames(vote, snapshot.snapshot, self.snapshots.clone());
        let sending = client.install_snapshot(enclose(frames, &self.envelope));
        let reply = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            () = pace.stalled() => return Err(timed_out(&self.doing("snapshot")).into()),
            reply = self.within("snapshot", &option, sending) => reply?,
        };
        let vote = codec::required_vote(reply.vote.as_ref()).map_err(|error| self.undecodable("snapshot", &error))?;
        Ok(SnapshotResponse::new(vote))
    }
}
