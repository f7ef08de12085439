//! What a connection of HTTP/2 writes in one turn, sent as one. Its streams run as tasks of their own, and each that has something to say wakes
//! the connection at once: many watchers that are told of one change would be as many packets, each with a system call on both sides.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::under_way::{Request, UnderWay};

/// So much of a connection waits for the end of a turn at the most, bytes, beside what its answers may take; more is sent on the way.
const WAITING_BYTES_MAX: usize = 32 << 10;
/// Turns that may each bring more before all is sent.
const TURNS_MAX: u32 = 8;
/// Room that is kept from turn to turn, bytes.
const ROOM_BYTES_KEPT: usize = 4 << 10;

/// A stream whose writes wait until its [`Turn`] is over, or until much waits. A flush changes nothing of that; a shutdown sends all.
pub(crate) struct Gathered<Stream>(Arc<Mutex<State<Stream>>>);

/// To be told when whoever writes has done what it could for now.
pub(crate) struct Turn<Stream>(Arc<Mutex<State<Stream>>>);

struct State<Stream> {
    stream: Stream,
    waiting: BytesMut,
    /// Turns since the first of it was written.
    turns: u32,
    /// How much waited at the end of the last one, bytes.
    waited: usize,
    under_way: UnderWay,
    /// While anything waits.
    unsent: Option<Arc<Request>>,
}

/// Both ends. What waits is under way on its connection.
pub(crate) fn gathered<Stream>(stream: Stream, under_way: UnderWay) -> (Gathered<Stream>, Turn<Stream>) {
    let state = Arc::new(Mutex::new(State {
        stream,
        waiting: BytesMut::new(),
        turns: 0,
        waited: 0,
        under_way,
        unsent: None,
    }));
    (Gathered(Arc::clone(&state)), Turn(state))
}

impl<Stream: AsyncWrite + Unpin> Turn<Stream> {
    /// A turn of the task that writes is over. What it wrote is sent after one that brought nothing more: those that were woken together with it come
    /// in between, and what they have to say goes along.
    /// After the last turn nothing is waited for any more.
    pub(crate) fn is_over(&self, context: &mut Context<'_>, is_last: bool) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            return Ok(());
        }
        if !is_last && state.waiting.len() > state.waited && state.turns < TURNS_MAX {
            state.turns += 1;
            state.waited = state.waiting.len();
            context.waker().wake_by_ref();
            return Ok(());
        }
        match state.poll_send(context) {
            Poll::Ready(sent) => sent,
            // Whoever waits for room is woken by the stream, and tells us again.
            Poll::Pending => Ok(()),
        }
    }
}

impl<Stream: AsyncWrite + Unpin> State<Stream> {
    /// Sends all that waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(sent);
        }
        (self.turns, self.waited) = (0, 0);
        self.unsent = None;
        if self.waiting.capacity() > ROOM_BYTES_KEPT {
            self.waiting = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes as much as there is room for, some at least.
    fn poll_take(&mut self, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= WAITING_BYTES_MAX {
            ready!(self.poll_send(context))?;
        }
        let mut taken = 0;
        for slice in slices {
            let room = WAITING_BYTES_MAX - self.waiting.len();
            let part = &slice[..slice.len().min(room)];
            self.waiting.extend_from_slice(part);
            taken += part.len();
            if part.len() < slice.len() {
                break;
            }
        }
        if taken > 0 && self.unsent.is_none() {
            self.unsent = Some(self.under_way.unsent());
        }
        Poll::Ready(Ok(taken))
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Gathered<Stream> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(context, buffer)
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Gathered<Stream> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_take(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_take(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        ready!(state.poll_send(context))?;
        Pin::new(&mut state.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::under_way::Silence;

    /// A stream that notes how it is written to.
    struct Noted {
        stream: DuplexStream,
        writes: Vec<usize>,
    }

    impl AsyncWrite for Noted {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            self.writes.push(written);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }

    fn noted(room: usize) -> (Gathered<Noted>, Turn<Noted>, DuplexStream) {
        let (stream, theirs) = tokio::io::duplex(room);
        let noted = Noted {
            stream,
            writes: Vec::new(),
        };
        let (gathered, turn) = gathered(noted, UnderWay::default());
        (gathered, turn, theirs)
    }

    /// Ends a turn, within a task.
    async fn end(turn: &Turn<Noted>) {
        poll_fn(|context| Poll::Ready(turn.is_over(context, false)))
            .await
            .expect("sent");
    }

    /// What is written in some turns is one write after one without any, whatever is flushed in between; nothing is sent before.
    #[tokio::test]
    async fn turns_are_sent_as_one() {
        let (mut ours, turn, mut theirs) = noted(1_024);
        for text in ["one ", "two "] {
            ours.write_all(text.as_bytes()).await.expect("there is room");
            ours.flush().await.expect("nothing to do");
        }
        end(&turn).await;
        assert!(turn.0.lock().stream.writes.is_empty());
        ours.write_all(b"three").await.expect("there is room");
        end(&turn).await;
        assert!(turn.0.lock().stream.writes.is_empty());
        end(&turn).await;
        assert_eq!(turn.0.lock().stream.writes, [13]);
        let mut text = [0; 13];
        theirs.read_exact(&mut text).await.expect("it was sent");
        assert_eq!(&text, b"one two three");
        end(&turn).await;
        assert_eq!(turn.0.lock().stream.writes, [13], "nothing waits");
    }

    /// Turns that bring more each do not go on for ever.
    #[tokio::test]
    async fn turns_are_counted() {
        let (mut ours, turn, _theirs) = noted(1_024);
        for _ in 0..=TURNS_MAX {
            ours.write_all(b"x").await.expect("there is room");
            end(&turn).await;
        }
        assert_eq!(turn.0.lock().stream.writes, [TURNS_MAX as usize + 1]);
    }

    /// The task that ends a turn is woken for the next.
    #[tokio::test]
    async fn what_was_written_is_not_left() {
        let (mut ours, turn, mut theirs) = noted(1_024);
        ours.write_all(b"said").await.expect("there is room");
        let task = tokio::spawn(poll_fn(move |context| {
            turn.is_over(context, false).expect("sent");
            if turn.0.lock().waiting.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        let mut text = [0; 4];
        theirs.read_exact(&mut text).await.expect("it was sent");
        assert_eq!(&text, b"said");
        task.await.expect("it ends");
        drop(ours);
    }

    /// More than may wait goes to the stream on the way, and waits for a reader that takes nothing; all of it arrives, in order.
    #[tokio::test]
    async fn much_does_not_wait() {
        let (mut ours, turn, mut theirs) = noted(1 << 10);
        let all: Vec<u8> = (0..3 * WAITING_BYTES_MAX).map(|number| (number % 251) as u8).collect();
        let sent = async {
            ours.write_all(&all).await.expect("it is read");
            assert!(turn.0.lock().waiting.len() <= WAITING_BYTES_MAX);
            ours.shutdown().await.expect("it is read");
        };
        let read = async {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.expect("it ends");
            read
        };
        let ((), read) = tokio::join!(sent, read);
        assert!(read == all);
        let (mut ours, _turn, _theirs) = noted(1 << 10);
        let written = ours.write_all(&all);
        let late = tokio::time::timeout(Duration::from_millis(20), written).await;
        assert!(late.is_err(), "nobody reads");
    }

    /// A connection is not idle while what was written on it waits for its reader, and is once that is taken.
    #[tokio::test(start_paused = true)]
    async fn what_waits_is_under_way() {
        const LIMIT: Duration = Duration::from_secs(60);
        let (mut ours, turn, mut theirs) = noted(16);
        let under_way = turn.0.lock().under_way.clone();
        ours.write_all(&[1; 64]).await.expect("there is room");
        let sending = tokio::spawn(poll_fn(move |context| {
            turn.is_over(context, false).expect("it is read in the end");
            if turn.0.lock().waiting.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        let idle = tokio::time::timeout(5 * LIMIT, under_way.silence(LIMIT, LIMIT)).await;
        assert!(idle.is_err(), "{idle:?} while the reader takes nothing");
        theirs.read_exact(&mut [0; 64]).await.expect("all of it is sent");
        sending.await.expect("it ends");
        let idle = tokio::time::timeout(5 * LIMIT, under_way.silence(LIMIT, LIMIT)).await;
        assert_eq!(idle.expect("nothing is under way"), Silence::Idle);
    }

    /// What the last turn wrote does not wait for another one.
    #[tokio::test]
    async fn the_last_turn_is_sent_at_once() {
        let (mut ours, turn, _theirs) = noted(1_024);
        ours.write_all(b"bye").await.expect("there is room");
        let ended = poll_fn(|context| Poll::Ready(turn.is_over(context, true)));
        ended.await.expect("sent");
        assert_eq!(turn.0.lock().stream.writes, [3]);
    }
}
