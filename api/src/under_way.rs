//! What is under way on a connection that serves many requests at once, and whether its answers are taken.
//!
//! Of HTTP/1.1 a connection's writes say as much. Over HTTP/2 a reader that takes nothing of one answer holds up that answer alone, without
//! a write that waits.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Of an answer over HTTP/2 so much is given at once, bytes: a frame of the size that every client takes.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// So often within the shorter limit a connection is looked at.
const LOOKS_A_LIMIT: u32 = 4;

/// The requests of a connection. All clones are the same.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Requests>>);

#[derive(Default)]
struct Requests {
    /// Ever.
    asked: u64,
    /// Those that have ended are swept out with each look, and where there is no room.
    under_way: Vec<Weak<Request>>,
}

/// One request, under way until it is dropped.
#[derive(Default)]
pub(crate) struct Request {
    /// When a piece of its answer was given or written, if the next one was not asked for since.
    given: Mutex<Option<Instant>>,
}

/// Why a connection is given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing was asked, and nothing under way.
    Idle,
    /// An answer was not taken.
    Stalled,
}

impl UnderWay {
    /// One more request.
    pub(crate) fn one_more(&self) -> Arc<Request> {
        lock(&self.0).asked += 1;
        self.unsent()
    }

    /// Something that was not asked for now and is to leave: while it waits, the connection is not idle. What it waits for may also be our own
    /// question whether the client is still there, so that it does not count as asked.
    pub(crate) fn unsent(&self) -> Arc<Request> {
        let request = Arc::new(Request::default());
        let mut requests = lock(&self.0);
        if requests.under_way.len() == requests.under_way.capacity() {
            // Those that have ended make room, so that it grows with what is under way alone.
            requests.under_way.retain(|request| request.strong_count() > 0);
        }
        requests.under_way.push(Arc::downgrade(&request));
        request
    }

    /// Waits until nothing was asked nor under way for as long as `idle`, or an answer not taken for as long as `stall`.
    pub(crate) async fn silence(&self, idle: Duration, stall: Duration) -> Silence {
        let mut looks = interval(idle.min(stall) / LOOKS_A_LIMIT);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = 0;
        let mut silent_since = Instant::now();
        loop {
            let now = looks.tick().await;
            let mut requests = lock(&self.0);
            let mut stalled = false;
            requests.under_way.retain(|request| match request.upgrade() {
                Some(request) => {
                    stalled |= lock(&request.given).is_some_and(|given| now.saturating_duration_since(given) >= stall);
                    true
                }
                None => false,
            });
            if stalled {
                return Silence::Stalled;
            }
            if !requests.under_way.is_empty() || requests.asked != asked {
                (asked, silent_since) = (requests.asked, now);
            } else if now.saturating_duration_since(silent_since) >= idle {
                return Silence::Idle;
            }
        }
    }
}

/// An answer's body, in pieces. Its request is under way until the last of them is written, or given up: what waits to be written outlives the
/// body.
pub(crate) struct Answering {
    body: Body,
    /// What is left of the body's last frame.
    rest: Bytes,
    request: Arc<Request>,
}

impl Answering {
    pub(crate) fn new(body: Body, request: Arc<Request>) -> Answering {
        Answering {
            body,
            rest: Bytes::new(),
            request,
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        let request = Arc::clone(&self.request);
        Frame::data(Bytes::from_owner(Piece { bytes, request }))
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.piece()
            }
            Err(trailers) => trailers,
        })))
    }
}

/// Bytes that keep a request under way until they are written.
struct Piece {
    bytes: Bytes,
    request: Arc<Request>,
}

impl Drop for Piece {
    /// One more piece was written, though others may wait still: a slow reader is not one that takes nothing.
    fn drop(&mut self) {
        let mut given = lock(&self.request.given);
        *given = given.map(|_| Instant::now());
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = self.next(context);
        *lock(&self.request.given) = frame.is_ready().then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const IDLE: Duration = Duration::from_secs(120);
    const STALL: Duration = Duration::from_secs(60);

    /// A request under way is no silence, nor is one that came and went between two looks.
    #[tokio::test(start_paused = true)]
    async fn only_silence_is_idle() {
        let under_way = UnderWay::default();
        let busy = async {
            let first = under_way.one_more();
            tokio::time::sleep(3 * IDLE).await;
            drop(first);
            tokio::time::sleep(IDLE / 2).await;
            drop(under_way.one_more());
            Instant::now()
        };
        let silence = async { (under_way.silence(IDLE, STALL).await, Instant::now()) };
        let (last, (silence, ended)) = tokio::join!(busy, silence);
        assert_eq!(silence, Silence::Idle);
        assert!(
            (IDLE..=IDLE + STALL / 2).contains(&(ended - last)),
            "{:?}",
            ended - last
        );
    }

    /// Large frames are given piece by piece, and the body says how much of it is left.
    #[tokio::test]
    async fn large_frames_are_given_in_pieces() {
        let whole = 2 * PIECE_BYTES_MAX + 1;
        let content: Vec<u8> = (0..whole).map(|position| (position % 251) as u8).collect();
        let mut answer = Answering::new(Body::from(content.clone()), UnderWay::default().one_more());
        let mut left = whole;
        for expected in [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 1] {
            assert_eq!(
                (answer.size_hint().exact(), answer.is_end_stream()),
                (Some(left as u64), false)
            );
            let piece = answer.frame().await.expect("it goes on").expect("it is whole");
            let begins = whole - left;
            assert_eq!(
                piece.data_ref().map(AsRef::as_ref),
                content.get(begins..begins + expected)
            );
            left -= expected;
        }
        assert!(answer.is_end_stream());
    }

    /// The last piece of an answer keeps its request under way until it is written.
    #[tokio::test(start_paused = true)]
    async fn what_waits_to_be_written_is_under_way() {
        let under_way = UnderWay::default();
        let mut answer = Answering::new(Body::from("all of it"), under_way.one_more());
        let piece = answer
            .frame()
            .await
            .expect("it goes on")
            .expect("it is whole")
            .into_data();
        drop(answer);
        assert_eq!(under_way.silence(10 * IDLE, STALL).await, Silence::Stalled);
        drop(piece);
        assert_eq!(under_way.silence(IDLE, STALL).await, Silence::Idle);
    }

    /// Pieces that are written one by one, each before the time is over, are taken, however long all of them take.
    #[tokio::test(start_paused = true)]
    async fn what_is_written_slowly_is_taken() {
        let under_way = UnderWay::default();
        let mut answer = Answering::new(Body::from(vec![b'x'; 4 * PIECE_BYTES_MAX]), under_way.one_more());
        let mut pieces = Vec::new();
        while let Some(piece) = answer.frame().await {
            pieces.push(piece.expect("it is whole"));
        }
        drop(answer);
        let written = async {
            for piece in pieces {
                tokio::time::sleep(STALL * 3 / 4).await;
                drop(piece);
            }
            Instant::now()
        };
        let silence = async { (under_way.silence(IDLE, STALL).await, Instant::now()) };
        let (last, (silence, ended)) = tokio::join!(written, silence);
        assert_eq!(silence, Silence::Idle);
        assert!(ended - last >= IDLE - STALL, "{:?}", ended - last);
    }

    /// However many requests come and go between two looks, only those under way are remembered.
    #[test]
    fn what_has_ended_makes_room() {
        let under_way = UnderWay::default();
        let live: Vec<_> = (0..10).map(|_| under_way.one_more()).collect();
        for _ in 0..1_000 {
            drop(under_way.one_more());
        }
        assert!(lock(&under_way.0).under_way.len() < 4 * live.len());
    }

    /// An answer that waits for what it tells is not stalled; one of which the next piece is not asked for is.
    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_stalled() {
        let under_way = UnderWay::default();
        let pieces = futures::stream::unfold(0, |piece| async move {
            tokio::time::sleep(5 * STALL).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), piece + 1))
        });
        let mut answer = Answering::new(Body::from_stream(pieces), under_way.one_more());
        let taken = async {
            for _ in 0..3 {
                answer.frame().await.expect("it goes on").expect("it is whole");
            }
            Instant::now()
        };
        let silence = async { (under_way.silence(IDLE, STALL).await, Instant::now()) };
        let (last, (silence, ended)) = tokio::join!(taken, silence);
        assert_eq!(silence, Silence::Stalled);
        drop(answer);
        assert!((STALL..=STALL * 3 / 2).contains(&(ended - last)), "{:?}", ended - last);
    }
}
