//! Answering peers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blox_runtime::time::Instant;
use futures::future::join_all;
use futures::{Stream, StreamExt, stream};
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesResponse, StreamAppendError, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::transport::{self, Listener};
use super::{MESSAGE_BYTES_MAX, append, envelope, forwarded, snapshot};
use crate::bootstrap;
use crate::codec;
use crate::compare;
use crate::engine::Engine;
use crate::membership;
use crate::node::{Node, known_committed};
use crate::propose::Origin;
use crate::proto::peer_server::{Peer, PeerServer};
use crate::proto::{self, read_index_reply, transfer_reply};
use crate::read::Asker;
use crate::rebuild;
use crate::types::{TypeConfig, Vote};

/// The longest deadline a forwarded proposal may ask for.
const FORWARDED_DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Answers peers for one node.
pub(crate) struct PeerService {
    node: Arc<Node>,
    /// One snapshot arrives at a time.
    receiving: Semaphore,
    /// One node at a time takes a snapshot from here.
    giving: Arc<Semaphore>,
}

/// Serves peers on `listener` until the node stops.
pub(crate) async fn serve(node: Arc<Node>, listener: Listener) {
    let stop = node.stop.clone();
    let service = PeerServer::new(PeerService {
        node,
        receiving: Semaphore::new(1),
        giving: Arc::new(Semaphore::new(1)),
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX)
    .max_encoding_message_size(MESSAGE_BYTES_MAX);
    tokio::select! {
        biased;
        // Not gracefully: append streams never end by themselves.
        () = stop.cancelled() => {}
        result = transport::serve(listener, service) => {
            if let Err(error) = result {
                tracing::error!(%error, "the peer interface has ended");
            }
        }
    }
}

impl PeerService {
    /// The engine, if the call is for it.
    fn admit<T>(&self, request: &Request<T>) -> Result<Arc<Engine>, Status> {
        let Some(engine) = self.node.engine.get() else {
            if let Some(envelope) = envelope::open(request.metadata()) {
                bootstrap::called(&self.node, &envelope);
            }
            return Err(Status::unavailable("this node is not a member yet"));
        };
        envelope::check(engine, request.metadata())?;
        Ok(engine.clone())
    }
}

/// Consensus has ended here.
pub(super) fn fatal(error: &Fatal<TypeConfig>) -> Status {
    Status::unavailable(format!("consensus has ended on this node: {error}"))
}

fn undecodable(error: &codec::CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn ended(error: RaftError<TypeConfig>) -> Status {
    match error {
        RaftError::Fatal(error) => fatal(&error),
        RaftError::APIError(never) => match never {},
    }
}

fn vote_request(request: &proto::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest {
        vote: codec::required_vote(request.vote.as_ref()).map_err(|error| undecodable(&error))?,
        last_log_id: request.last_log_id.as_ref().map(codec::log_id_from_proto),
        leadership_transfer: request.leadership_transfer,
    })
}

fn vote_reply(answer: &openraft::raft::VoteResponse<TypeConfig>) -> Response<proto::VoteReply> {
    Response::new(proto::VoteReply {
        vote: Some(codec::vote_to_proto(&answer.vote)),
        granted: answer.vote_granted,
        last_log_id: answer.last_log_id.as_ref().map(codec::log_id_to_proto),
    })
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn identify(
        &self,
        request: Request<proto::IdentifyRequest>,
    ) -> Result<Response<proto::IdentifyReply>, Status> {
        Ok(Response::new(bootstrap::introduce(&self.node, request.into_inner())))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteReply>, Status> {
        let engine = self.admit(&request)?;
        let answer = engine
            .raft
            .vote(vote_request(request.get_ref())?)
            .await
            .map_err(ended)?;
        Ok(vote_reply(&answer))
    }

    async fn pre_vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteReply>, Status> {
        let engine = self.admit(&request)?;
        let answer = engine
            .raft
            .pre_vote(vote_request(request.get_ref())?)
            .await
            .map_err(ended)?;
        Ok(vote_reply(&answer))
    }

    async fn heartbeat(&self, request: Request<proto::AppendRequest>) -> Result<Response<proto::AppendReply>, Status> {
        let engine = self.admit(&request)?;
        let request = codec::append_from_proto(request.into_inner()).map_err(|error| undecodable(&error))?;
        let previous = request.prev_log_id;
        let committed = known_committed(&request.vote, request.leader_commit.as_ref());
        let result = match engine.raft.append_entries(request).await.map_err(ended)? {
            AppendEntriesResponse::Success => Ok(previous),
            AppendEntriesResponse::PartialSuccess(matching) => Ok(matching),
            AppendEntriesResponse::Conflict => Err(StreamAppendError::Conflict(
                previous.ok_or_else(|| Status::internal("the empty log conflicts"))?,
            )),
            AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
        };
        if result.is_ok() {
            self.node.contact.touch(committed);
        }
        let mut reply = append::reply(result);
        reply.disk = self.node.disks.own().map(Into::into);
        Ok(Response::new(reply))
    }

    type AppendStream = Pin<Box<dyn Stream<Item = Result<proto::AppendReply, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let engine = self.admit(&request)?;
        let gauge = self.node.log.gauge.clone();
        // What the newest request says is committed. An answer to an older one takes it too, and is the stricter for it; 0: not known.
        let committed = Arc::new(AtomicU64::new(0));
        let state = (request.into_inner(), gauge, committed.clone());
        let requests = stream::unfold(state, |(mut inbound, gauge, committed)| async move {
            gauge.wait_for_room().await;
            let message = inbound.message().await.ok()??;
            match codec::append_from_proto(message) {
                Ok(request) => {
                    if let Some(known) = known_committed(&request.vote, request.leader_commit.as_ref()) {
                        committed.fetch_max(known, Ordering::Relaxed);
                    }
                    Some((request, (inbound, gauge, committed)))
                }
                Err(error) => {
                    tracing::warn!(%error, "an append cannot be decoded; its stream ends");
                    None
                }
            }
        });
        let node = self.node.clone();
        let replies = engine.raft.stream_append(requests).map(move |result| match result {
            Ok(result) => {
                if result.is_ok() {
                    let committed = committed.load(Ordering::Relaxed);
                    node.contact.touch((committed > 0).then_some(committed));
                }
                Ok(append::reply(result))
            }
            Err(error) => Err(fatal(&error)),
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotFrame>>,
    ) -> Result<Response<proto::SnapshotReply>, Status> {
        let engine = self.admit(&request)?;
        let _one = self
            .receiving
            .try_acquire()
            .map_err(|_| Status::unavailable("another snapshot is arriving at this node"))?;
        self.node.contact.touch(None);
        snapshot::receive(&engine, request.into_inner())
            .await
            .map(Response::new)
    }

    type FetchSnapshotStream = Pin<Box<dyn Stream<Item = Result<proto::SnapshotFrame, Status>> + Send>>;

    async fn fetch_snapshot(
        &self,
        request: Request<proto::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let engine = self.admit(&request)?;
        let permit = self
            .giving
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::unavailable("another node is taking a snapshot from this one"))?;
        let position = request.get_ref().position;
        let snapshot = rebuild::snapshot_for_peer(&engine, &self.node.store, position).await?;
        let (frames, _pace) = snapshot::frames(Vote::new(0, 0), snapshot, engine.snapshots.clone());
        let frames = frames.map(move |frame| {
            // Held until the last frame has left.
            let _giving = &permit;
            Ok(frame)
        });
        Ok(Response::new(Box::pin(frames)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferReply>, Status> {
        let engine = self.admit(&request)?;
        let request = request.get_ref();
        let from = codec::required_vote(request.from.as_ref()).map_err(|error| undecodable(&error))?;
        let last = request.last_log_id.as_ref().map(codec::log_id_from_proto);
        let answer = engine
            .raft
            .handle_transfer_leader(TransferLeaderRequest::new(from, request.to, last))
            .await
            .map_err(|error| fatal(&error))?;
        let result = match answer {
            Ok(()) => transfer_reply::Result::Accepted(proto::Accepted {}),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                transfer_reply::Result::VoteChanged(proto::VoteChanged {
                    expected: Some(codec::vote_to_proto(&expected)),
                    actual: Some(codec::vote_to_proto(&actual)),
                })
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                transfer_reply::Result::LogNotFlushed(proto::LogNotFlushed {
                    expected: expected.as_ref().map(codec::log_id_to_proto),
                    actual: actual.as_ref().map(codec::log_id_to_proto),
                })
            }
        };
        Ok(Response::new(proto::TransferReply { result: Some(result) }))
    }

    async fn propose(&self, request: Request<proto::ProposeRequest>) -> Result<Response<proto::ProposeReply>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let until = Instant::now() + Duration::from_millis(request.deadline_ms).min(FORWARDED_DEADLINE_MAX);
        let answers = request.commands.into_iter().map(|command| {
            let submitted =
                forwarded::check(&command).and_then(|()| self.node.proposals.submit(command, Origin::Forwarded, until));
            async move {
                match submitted {
                    Ok(submitted) => submitted.answer(until).await,
                    Err(refusal) => Err(refusal),
                }
            }
        });
        let results = forwarded::results(join_all(answers).await);
        Ok(Response::new(proto::ProposeReply { results }))
    }

    async fn compare_state(
        &self,
        request: Request<proto::CompareStateRequest>,
    ) -> Result<Response<proto::CompareStateReply>, Status> {
        let engine = self.admit(&request)?;
        let reply = compare::answer(&self.node, &engine, request.get_ref()).await;
        Ok(Response::new(reply))
    }

    async fn read_index(
        &self,
        request: Request<proto::ReadIndexRequest>,
    ) -> Result<Response<proto::ReadIndexReply>, Status> {
        self.admit(&request)?;
        let result = match self.node.reads.ask(Asker::Peer).await {
            Ok(index) => read_index_reply::Result::Point(proto::ReadPoint {
                term: index.term,
                position: index.position,
                revision: index.revision,
            }),
            Err(refusal) => read_index_reply::Result::TryAgain(refusal.why),
        };
        Ok(Response::new(proto::ReadIndexReply { result: Some(result) }))
    }

    async fn members(&self, request: Request<proto::MembersRequest>) -> Result<Response<proto::MembersReply>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let until = Instant::now() + Duration::from_millis(request.deadline_ms).min(FORWARDED_DEADLINE_MAX);
        let asked = membership::asked(request)
            .ok_or_else(|| Status::unimplemented("the leader does not know this wish: upgrade it"))?;
        Ok(Response::new(membership::reply(
            membership::answer(&self.node, &asked, until).await,
        )))
    }
}
