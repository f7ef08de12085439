//! The append stream: requests one way, answers the other, in order, without waiting for each other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;
use tonic::metadata::BinaryMetadataValue;
use tonic::transport::Channel;

use super::envelope::enclose;
use super::failures::{rpc_error, timed_out};
use crate::codec::{self, CodecError};
use crate::proto::{self, peer_client::PeerClient};
use crate::types::TypeConfig;

/// Opening the stream takes a connection and one answer of the peer's.
const OPEN_DEADLINE: Duration = Duration::from_secs(2);
/// A peer that has not answered a request for this long is given up; its disk may be slow, so this is long.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);

type Failure = RPCError<TypeConfig>;
type Replies<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>;

/// Opens the stream: requests are taken from `input` as the transport has room for them.
pub(super) async fn open<'s, S>(
    mut client: PeerClient<Channel>,
    envelope: &BinaryMetadataValue,
    doing: String,
    input: S,
) -> Result<Replies<'s>, Failure>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let sent = Arc::new(AtomicU64::new(0));
    let outbound = Outbound { input: Arc::new(Mutex::new(Some(input))), sent: sent.clone() };
    let guard = EndInput(outbound.input.clone());
    let call = client.append(enclose(outbound, envelope));
    let inbound = match tokio::time::timeout(OPEN_DEADLINE, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(rpc_error(&doing, &status)),
        Err(_) => return Err(timed_out(&doing)),
    };
    let session = Session { inbound, doing, sent, received: 0, _guard: guard };
    Ok(Box::pin(stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        match session.next().await? {
            Ok(result) => Some((Ok(result), Some(session))),
            Err(failure) => Some((Err(failure), None)),
        }
    })))
}

struct Session<S> {
    inbound: tonic::Streaming<proto::AppendReply>,
    doing: String,
    sent: Arc<AtomicU64>,
    received: u64,
    _guard: EndInput<S>,
}

impl<S> Session<S> {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, Failure>> {
        loop {
            let asked = self.sent.load(Ordering::Relaxed);
            match tokio::time::timeout(REPLY_DEADLINE, self.inbound.message()).await {
                Ok(Ok(Some(reply))) => {
                    self.received += 1;
                    return Some(answer(&reply).map_err(|error| {
                        rpc_error(&self.doing, &tonic::Status::failed_precondition(error.to_string()))
                    }));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(rpc_error(&self.doing, &status))),
                // What was asked before the wait began has had its time; a stream on which nothing was asked may rest.
                Err(_) if asked > self.received => return Some(Err(timed_out(&self.doing))),
                Err(_) => {}
            }
        }
    }
}

/// The requests, as the transport takes them.
struct Outbound<S> {
    input: Arc<Mutex<Option<S>>>,
    sent: Arc<AtomicU64>,
}

impl<S> Stream for Outbound<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = proto::AppendRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<proto::AppendRequest>> {
        let mut input = self.input.lock();
        let Some(open) = input.as_mut() else { return Poll::Ready(None) };
        match open.poll_next_unpin(context) {
            Poll::Ready(Some(request)) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Some(codec::append_to_proto(&request)))
            }
            Poll::Ready(None) => {
                *input = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Drops the input at once when the answers are dropped: openraft's input holds a lock that its next session needs, and the transport
/// would drop it only some time later.
struct EndInput<S>(Arc<Mutex<Option<S>>>);

impl<S> Drop for EndInput<S> {
    fn drop(&mut self) {
        let input = self.0.lock().take();
        drop(input);
    }
}

/// An answer in openraft's words.
pub(super) fn answer(reply: &proto::AppendReply) -> Result<StreamAppendResult<TypeConfig>, CodecError> {
    match reply.result.as_ref().ok_or(CodecError::Missing("the result"))? {
        proto::append_reply::Result::Matching(matching) => {
            Ok(Ok(matching.log_id.as_ref().map(codec::log_id_from_proto)))
        }
        proto::append_reply::Result::Conflict(id) => Ok(Err(StreamAppendError::Conflict(codec::log_id_from_proto(id)))),
        proto::append_reply::Result::HigherVote(vote) => {
            Ok(Err(StreamAppendError::HigherVote(codec::vote_from_proto(vote))))
        }
    }
}

/// openraft's words as an answer.
pub(super) fn reply(result: StreamAppendResult<TypeConfig>) -> proto::AppendReply {
    let result = match result {
        Ok(matching) => proto::append_reply::Result::Matching(proto::Matching {
            log_id: matching.as_ref().map(codec::log_id_to_proto),
        }),
        Err(StreamAppendError::Conflict(id)) => proto::append_reply::Result::Conflict(codec::log_id_to_proto(&id)),
        Err(StreamAppendError::HigherVote(vote)) => {
            proto::append_reply::Result::HigherVote(codec::vote_to_proto(&vote))
        }
    };
    proto::AppendReply { result: Some(result) }
}
