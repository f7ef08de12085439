//! The append stream: requests one way, answers the other, in order, without waiting for each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use blox_runtime::time::{Instant, Sleep};
use futures::{Stream, StreamExt, stream};
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;
use prost::Message;
use tonic::metadata::BinaryMetadataValue;

use super::channels::Traffic;
use super::envelope::enclose;
use super::failures::{rpc_error, timed_out};
use super::transport::Channel;
use crate::codec::{self, CodecError};
use crate::proto::{self, peer_client::PeerClient};
use crate::types::TypeConfig;

/// Opening the stream takes a connection and one answer of the peer's.
const OPEN_DEADLINE: Duration = Duration::from_secs(2);
/// A request without entries only tells how far is committed: it is held back this long where entries came to take the last one along, and sent
/// at once where none did, since a follower's watchers wait for it. (A linearizable read on a follower does not: the heartbeat that confirms the
/// read tells as much.)
const HOLD_BACK: Duration = Duration::from_millis(2);
/// A peer that has not answered a request for this long is given up; its disk may be slow, so this is long.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);

type Failure = RPCError<TypeConfig>;
type Replies<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>;

/// Opens the stream: requests are taken from `input` as the transport has room for them.
///
/// The first request is waited for before the peer is called: in it stands openraft's pause before a peer that did not answer is tried again.
pub(super) async fn open<'s, S>(
    mut client: PeerClient<Channel>,
    envelope: &BinaryMetadataValue,
    doing: String,
    traffic: Arc<Traffic>,
    mut input: S,
) -> Result<Replies<'s>, Failure>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let Some(first) = input.next().await else {
        return Ok(Box::pin(stream::empty()));
    };
    let input = stream::iter([first]).chain(input);
    let sent = Arc::new(AtomicU64::new(0));
    let outbound = Outbound {
        input: Arc::new(Mutex::new(Some(input))),
        held: None,
        timer: None,
        holds: true,
        alone_at: None,
        sent: sent.clone(),
        traffic,
    };
    let guard = EndInput(outbound.input.clone());
    let call = client.append(enclose(outbound, envelope));
    let inbound = match blox_runtime::time::timeout(OPEN_DEADLINE, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(rpc_error(&doing, &status)),
        Err(_) => return Err(timed_out(&doing)),
    };
    let session = Session {
        inbound,
        doing,
        sent,
        received: 0,
        _guard: guard,
    };
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
            match blox_runtime::time::timeout(REPLY_DEADLINE, self.inbound.message()).await {
                Ok(Ok(Some(reply))) => {
                    self.received += 1;
                    return Some(answer(&reply).map_err(|error| {
                        rpc_error(&self.doing, &tonic::Status::failed_precondition(error.to_string()))
                    }));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(rpc_error(&self.doing, &status))),
                // What was asked before the wait began has had its time; a stream on which nothing was asked may rest.
                Err(_) if asked > self.received => {
                    tracing::warn!(doing = self.doing, within = ?REPLY_DEADLINE, "not answered in time; tried again");
                    return Some(Err(timed_out(&self.doing)));
                }
                Err(_) => {}
            }
        }
    }
}

/// The requests, as the transport takes them.
struct Outbound<S> {
    input: Arc<Mutex<Option<S>>>,
    held: Option<Held>,
    /// Runs on where what it was set for is gone: setting one wakes the thread once more.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether entries came soon enough after the last request without any to take it along.
    holds: bool,
    /// When one was sent without.
    alone_at: Option<Instant>,
    sent: Arc<AtomicU64>,
    traffic: Arc<Traffic>,
}

/// A request without entries, until its time has come. Answers are matched by log id, so a later request may stand for it.
struct Held {
    request: AppendEntriesRequest<TypeConfig>,
    until: Instant,
}

impl<S> Outbound<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Option<AppendEntriesRequest<TypeConfig>>> {
        let mut input = self.input.lock();
        loop {
            let Some(open) = input.as_mut() else {
                // What is held at the end is never dropped: it may be all that this stream was opened for.
                return Poll::Ready(self.held.take().map(|held| held.request));
            };
            match open.poll_next_unpin(context) {
                Poll::Ready(Some(request)) if request.entries.is_empty() => {
                    if !self.holds {
                        self.alone_at = Some(Instant::now());
                        return Poll::Ready(Some(request));
                    }
                    let until = match self.held.take() {
                        Some(held) => held.until,
                        None => Instant::now() + HOLD_BACK,
                    };
                    self.held = Some(Held { request, until });
                }
                Poll::Ready(Some(request)) => {
                    self.held = None;
                    self.holds |= self.alone_at.is_some_and(|at| at.elapsed() < HOLD_BACK);
                    return Poll::Ready(Some(request));
                }
                Poll::Ready(None) => *input = None,
                Poll::Pending => {
                    let Some(held) = &self.held else { return Poll::Pending };
                    let timer = self
                        .timer
                        .get_or_insert_with(|| Box::pin(blox_runtime::time::sleep_until(held.until)));
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.timer = None;
                    if Instant::now() < held.until {
                        // It was set for an earlier one.
                        continue;
                    }
                    self.holds = false;
                    self.alone_at = Some(Instant::now());
                    return Poll::Ready(self.held.take().map(|held| held.request));
                }
            }
        }
    }
}

impl<S> Stream for Outbound<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = proto::AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<proto::AppendRequest>> {
        self.poll_request(context).map(|request| {
            request.map(|request| {
                self.sent.fetch_add(1, Ordering::Relaxed);
                let message = codec::append_to_proto(&request);
                self.traffic.append(request.entries.len(), message.encoded_len());
                message
            })
        })
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
    proto::AppendReply {
        result: Some(result),
        disk: None,
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;
    use crate::net::transport;
    use crate::types::{Entry, EntryPayload, Vote, log_id};

    fn request(entries: u64, commit: u64) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: (0..entries)
                .map(|index| Entry {
                    log_id: log_id(1, index),
                    payload: EntryPayload::Blank,
                })
                .collect(),
            leader_commit: Some(log_id(1, commit)),
        }
    }

    fn outbound() -> (
        mpsc::UnboundedSender<AppendEntriesRequest<TypeConfig>>,
        Outbound<mpsc::UnboundedReceiver<AppendEntriesRequest<TypeConfig>>>,
    ) {
        let (sender, receiver) = mpsc::unbounded();
        (
            sender,
            Outbound {
                input: Arc::new(Mutex::new(Some(receiver))),
                held: None,
                timer: None,
                holds: true,
                alone_at: None,
                sent: Arc::default(),
                traffic: Arc::default(),
            },
        )
    }

    fn commit(request: &proto::AppendRequest) -> Option<u64> {
        request.commit.as_ref().map(|id| id.index)
    }

    /// Entries take a held commit along; without entries it is sent once its time has come, the newest only.
    #[tokio::test(start_paused = true)]
    async fn commits_wait_for_entries_but_not_for_long() {
        let (sender, mut outbound) = outbound();
        sender.unbounded_send(request(0, 1)).expect("open");
        sender.unbounded_send(request(2, 2)).expect("open");
        let sent = outbound.next().await.expect("entries");
        assert_eq!((sent.entries.len(), commit(&sent)), (2, Some(2)));

        let began = tokio::time::Instant::now();
        sender.unbounded_send(request(0, 3)).expect("open");
        sender.unbounded_send(request(0, 4)).expect("open");
        let sent = outbound.next().await.expect("the commit");
        assert_eq!((sent.entries.len(), commit(&sent)), (0, Some(4)));
        assert!(began.elapsed() >= HOLD_BACK && began.elapsed() < HOLD_BACK * 2);
    }

    /// Where no entries came in time the next commit is sent at once, until entries come soon after one again.
    #[tokio::test(start_paused = true)]
    async fn commits_that_nothing_takes_along_are_sent_at_once() {
        let (sender, mut outbound) = outbound();
        let mut waited = async |commit: u64, entries_after: Duration| {
            let began = tokio::time::Instant::now();
            sender.unbounded_send(request(0, commit)).expect("open");
            outbound.next().await.expect("the commit");
            let waited = began.elapsed();
            tokio::time::sleep(entries_after).await;
            sender.unbounded_send(request(1, commit)).expect("open");
            outbound.next().await.expect("entries");
            waited
        };
        let (soon, late) = (HOLD_BACK / 2, HOLD_BACK * 2);
        assert!(waited(1, late).await >= HOLD_BACK, "it begins by holding back");
        assert!(waited(2, late).await < HOLD_BACK);
        assert!(waited(3, soon).await < HOLD_BACK);
        assert!(
            waited(4, late).await >= HOLD_BACK,
            "entries would have taken the last one along"
        );
    }

    /// A stream of one request without entries, such as a probe, is sent although its input ends at once.
    #[tokio::test(start_paused = true)]
    async fn what_is_held_at_the_end_is_sent() {
        let (sender, mut outbound) = outbound();
        sender.unbounded_send(request(0, 1)).expect("open");
        drop(sender);
        assert_eq!(commit(&outbound.next().await.expect("the probe")), Some(1));
        assert!(outbound.next().await.is_none());
    }

    /// A peer is called once there is something to send: openraft's pause between tries stands in the first request, and a peer that is away
    /// would be called without any otherwise.
    #[tokio::test]
    async fn a_call_waits_for_its_first_request() {
        let (sender, input) = mpsc::unbounded();
        // Nobody listens there: the call fails as soon as it is made.
        let client = PeerClient::new(transport::connect("127.0.0.1:1").expect("an address"));
        let envelope = BinaryMetadataValue::from_bytes(b"");
        let opening = open(client, &envelope, "append".to_owned(), Arc::default(), input);
        tokio::pin!(opening);
        let waiting = tokio::time::timeout(Duration::from_millis(200), &mut opening).await;
        assert!(waiting.is_err(), "it does not call before there is a request");
        sender.unbounded_send(request(0, 1)).expect("open");
        let called = tokio::time::timeout(OPEN_DEADLINE, opening)
            .await
            .expect("it calls now");
        assert!(matches!(called, Err(RPCError::Unreachable(_))));
    }

    /// Dropping the answers drops the input at once, wherever the transport is.
    #[tokio::test]
    async fn the_input_ends_with_the_answers() {
        let (sender, mut outbound) = outbound();
        drop(EndInput(outbound.input.clone()));
        assert!(sender.is_closed());
        assert!(outbound.next().await.is_none());
    }
}
