//! Lists as bodies: written from the view chunk by chunk, as fast as the reader takes them.
//!
//! The first chunk is made before the status is sent, so that a state that cannot be read is an error and not half an answer. One more chunk is
//! made ahead while a chunk is on its way; memory does not grow with the answer, and a slow reader holds no thread.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use blox_store::StoreError;
use bytes::Bytes;
use futures::stream;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::LIST_CHUNK_BYTES;
use crate::reading::{ReadFailure, interrupted};

/// Writes a list piece by piece.
pub(crate) trait ListWriter: Send + 'static {
    /// Appends the next piece (an item, the end). Blocking.
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<ListPart, StoreError>;
}

/// Whether a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListPart {
    More,
    Last,
}

struct Chunk<Writer> {
    bytes: Vec<u8>,
    /// `None`: this was the last one.
    rest: Option<Writer>,
}

/// The body of a list; an error while nothing was sent yet. Later ones break the connection off. Each chunk is read from a place of `places`.
pub(crate) async fn list_body<Writer: ListWriter>(writer: Writer, places: Arc<Semaphore>) -> Result<Body, ReadFailure> {
    let first = joined(next_chunk(writer, Arc::clone(&places))).await?;
    let Some(rest) = first.rest else {
        return Ok(Body::from(first.bytes));
    };
    let ahead = Some(next_chunk(rest, Arc::clone(&places)));
    let chunks = stream::unfold(
        (Some(first.bytes), ahead, places),
        |(ready, ahead, places)| async move {
            if let Some(bytes) = ready {
                return Some((Ok(Bytes::from(bytes)), (None, ahead, places)));
            }
            match joined(ahead?).await {
                Ok(chunk) => {
                    let ahead = chunk.rest.map(|rest| next_chunk(rest, Arc::clone(&places)));
                    Some((Ok(Bytes::from(chunk.bytes)), (None, ahead, places)))
                }
                Err(failure) => {
                    tracing::error!(cause = %failure, "a list broke off");
                    Some((Err(io::Error::other(failure.to_string())), (None, None, places)))
                }
            }
        },
    );
    Ok(Body::from_stream(chunks))
}

type ChunkTask<Writer> = AbortOnDropHandle<Result<Chunk<Writer>, ReadFailure>>;

/// Reads on while what was read before is sent, as soon as there is a place. Whoever drops it leaves the line; what is being read keeps its place to
/// its end.
fn next_chunk<Writer: ListWriter>(writer: Writer, places: Arc<Semaphore>) -> ChunkTask<Writer> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let place = places.acquire_owned().await.map_err(interrupted)?;
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            chunk(writer)
        });
        Ok(read.await.map_err(interrupted)??)
    }))
}

fn chunk<Writer: ListWriter>(mut writer: Writer) -> Result<Chunk<Writer>, StoreError> {
    let mut bytes = Vec::with_capacity(LIST_CHUNK_BYTES);
    while bytes.len() < LIST_CHUNK_BYTES {
        if writer.write_next(&mut bytes)? == ListPart::Last {
            return Ok(Chunk { bytes, rest: None });
        }
    }
    Ok(Chunk {
        bytes,
        rest: Some(writer),
    })
}

async fn joined<Writer>(task: ChunkTask<Writer>) -> Result<Chunk<Writer>, ReadFailure> {
    task.await.map_err(interrupted)?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use http_body_util::BodyExt;

    struct Counted {
        next: usize,
        end: usize,
        fail_at: Option<usize>,
    }

    async fn body_of(next: usize, end: usize, fail_at: Option<usize>) -> Result<Body, ReadFailure> {
        list_body(Counted { next, end, fail_at }, Arc::new(Semaphore::new(1))).await
    }

    impl ListWriter for Counted {
        fn write_next(&mut self, out: &mut Vec<u8>) -> Result<ListPart, StoreError> {
            if self.fail_at == Some(self.next) {
                return Err(StoreError::Corrupt("a test".into()));
            }
            out.extend_from_slice(format!("{:08}", self.next).as_bytes());
            self.next += 1;
            Ok(if self.next == self.end {
                ListPart::Last
            } else {
                ListPart::More
            })
        }
    }

    #[tokio::test]
    async fn every_piece_arrives_in_order_over_many_chunks() {
        let end = 5 * LIST_CHUNK_BYTES / 8;
        let body = body_of(0, end, None).await.expect("nothing fails");
        let bytes = body.collect().await.expect("nothing fails").to_bytes();
        let expected: String = (0..end).map(|number| format!("{number:08}")).collect();
        assert!(
            bytes == expected.as_bytes(),
            "{} bytes instead of {}",
            bytes.len(),
            expected.len()
        );
    }

    #[tokio::test]
    async fn an_early_error_is_an_error_and_a_late_one_breaks_off() {
        assert!(body_of(0, 10, Some(3)).await.is_err());
        let late = LIST_CHUNK_BYTES / 4;
        let body = body_of(0, late * 2, Some(late)).await.expect("the first chunk is fine");
        assert!(body.collect().await.is_err());
    }

    /// A writer of large pieces that counts how many are written at once, of all that share its counts.
    #[derive(Clone, Default)]
    struct Watched {
        running: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
        pieces: Arc<AtomicUsize>,
        written: usize,
    }

    const WATCHED_PIECES: usize = 20;

    impl ListWriter for Watched {
        fn write_next(&mut self, out: &mut Vec<u8>) -> Result<ListPart, StoreError> {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            self.pieces.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
            out.resize(out.len() + LIST_CHUNK_BYTES / 2, b'.');
            self.written += 1;
            self.running.fetch_sub(1, Ordering::SeqCst);
            Ok(match self.written {
                WATCHED_PIECES => ListPart::Last,
                _ => ListPart::More,
            })
        }
    }

    /// However many lists are asked for, no more of them are read at once than there are places; readers that take nothing keep none.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn lists_take_turns() {
        const PLACES: usize = 2;
        let (places, watched) = (Arc::new(Semaphore::new(PLACES)), Watched::default());
        let list = || list_body(watched.clone(), Arc::clone(&places));
        let mut untaken = Vec::new();
        for _ in 0..PLACES {
            untaken.push(list().await.expect("nothing fails"));
        }
        let lists: Vec<_> = (0..20).map(|_| tokio::spawn(list())).collect();
        for list in lists {
            let body = list.await.expect("no panic").expect("nothing fails");
            let bytes = body.collect().await.expect("nothing fails").to_bytes();
            assert_eq!(bytes.len(), WATCHED_PIECES * LIST_CHUNK_BYTES / 2);
        }
        assert!((1..=PLACES).contains(&watched.most.load(Ordering::SeqCst)));
        drop(untaken);
    }

    /// A list whose asker has gone leaves the line: nothing is read for it.
    #[tokio::test]
    async fn who_has_gone_stands_in_no_line() {
        let (places, watched) = (Arc::new(Semaphore::new(1)), Watched::default());
        let place = Arc::clone(&places).acquire_owned().await.expect("open");
        let mut waiting = Box::pin(list_body(watched.clone(), Arc::clone(&places)));
        assert!(futures::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
        drop(waiting);
        drop(place);
        // Whoever asks now is the next in the line.
        let body = list_body(watched.clone(), Arc::clone(&places))
            .await
            .expect("nothing fails");
        body.collect().await.expect("nothing fails");
        assert_eq!(watched.pieces.load(Ordering::SeqCst), WATCHED_PIECES);
    }
}
