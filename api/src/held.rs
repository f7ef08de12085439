//! Answers that are whole in memory, bounded together until they are written: what a slow reader is owed outlives the request's place among those at work.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shorter answers are not counted, bytes: a connection takes as much itself.
const COUNTED_BYTES_MIN: usize = 16 << 10;

/// Other answers take all the memory there is for them.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// Gives an answer its share of `room` until it is written. One that is made as it is taken has none: it is never whole in memory.
pub(crate) fn hold(answer: Response, room: &Arc<Semaphore>) -> Result<Response, NoRoom> {
    let whole = answer.body().size_hint().exact().unwrap_or(0);
    if whole < COUNTED_BYTES_MIN as u64 {
        return Ok(answer);
    }
    let share = u32::try_from(whole).map_err(|_| NoRoom)?;
    let share = Arc::clone(room).try_acquire_many_owned(share).map_err(|_| NoRoom)?;
    let share = Arc::new(share);
    Ok(answer.map(|body| Body::new(Held { body, share })))
}

/// A body with its share.
struct Held {
    body: Body,
    share: Arc<OwnedSemaphorePermit>,
}

/// Bytes that keep the share: they wait to be written when the body is gone.
struct HeldBytes {
    bytes: Bytes,
    _share: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let held = |bytes| {
            let _share = Arc::clone(&self.share);
            Bytes::from_owner(HeldBytes { bytes, _share })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// The share is given back when the last byte is, not with the body; what there is no room for is refused, and short answers are not counted.
    #[tokio::test]
    async fn answers_share_what_there_is() {
        let room = Arc::new(Semaphore::new(3 * COUNTED_BYTES_MIN));
        let answer = |bytes: usize| Response::new(Body::from(vec![b'x'; bytes]));
        let mut first = hold(answer(2 * COUNTED_BYTES_MIN), &room)
            .expect("there is room")
            .into_body();
        assert!(hold(answer(2 * COUNTED_BYTES_MIN), &room).is_err());
        assert!(hold(answer(COUNTED_BYTES_MIN - 1), &room).is_ok());
        assert_eq!(first.size_hint().exact(), Some(2 * COUNTED_BYTES_MIN as u64));
        let frame = first.frame().await.expect("it goes on").expect("it is whole");
        let bytes = frame.into_data().expect("data");
        assert_eq!(bytes.len(), 2 * COUNTED_BYTES_MIN);
        drop(first);
        let rest = bytes.slice(1..);
        drop(bytes);
        assert_eq!(room.available_permits(), COUNTED_BYTES_MIN);
        drop(rest);
        assert_eq!(room.available_permits(), 3 * COUNTED_BYTES_MIN);
    }
}
