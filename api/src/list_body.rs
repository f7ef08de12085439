//! Lists as bodies: written from the view chunk by chunk, as fast as the reader takes them.
//!
//! The first chunk is made before the status is sent, so that a state that cannot be read is an error and not half an answer. One more chunk is
//! made ahead while a chunk is on its way; memory does not grow with the answer, and a slow reader holds no thread.

use std::io;

use axum::body::Body;
use blox_store::StoreError;
use bytes::Bytes;
use futures::stream;
use tokio::task::JoinHandle;

use crate::LIST_CHUNK_BYTES;
use crate::reading::ReadFailure;

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

/// The body of a list; an error while nothing was sent yet. Later ones break the connection off.
pub(crate) async fn list_body<Writer: ListWriter>(writer: Writer) -> Result<Body, ReadFailure> {
    let first = joined(next_chunk(writer)).await?;
    let Some(rest) = first.rest else {
        return Ok(Body::from(first.bytes));
    };
    let ahead = Some(next_chunk(rest));
    let chunks = stream::unfold((Some(first.bytes), ahead), |(ready, ahead)| async move {
        if let Some(bytes) = ready {
            return Some((Ok(Bytes::from(bytes)), (None, ahead)));
        }
        match joined(ahead?).await {
            Ok(chunk) => {
                let ahead = chunk.rest.map(next_chunk);
                Some((Ok(Bytes::from(chunk.bytes)), (None, ahead)))
            }
            Err(failure) => {
                tracing::error!(cause = %failure, "a list broke off");
                Some((Err(io::Error::other(failure.to_string())), (None, None)))
            }
        }
    });
    Ok(Body::from_stream(chunks))
}

fn next_chunk<Writer: ListWriter>(mut writer: Writer) -> JoinHandle<Result<Chunk<Writer>, StoreError>> {
    tokio::task::spawn_blocking(move || {
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
    })
}

async fn joined<Writer>(handle: JoinHandle<Result<Chunk<Writer>, StoreError>>) -> Result<Chunk<Writer>, ReadFailure> {
    match handle.await {
        Ok(chunk) => Ok(chunk?),
        Err(error) => Err(ReadFailure::Interrupted(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    struct Counted {
        next: usize,
        end: usize,
        fail_at: Option<usize>,
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
        let body = list_body(Counted {
            next: 0,
            end,
            fail_at: None,
        })
        .await
        .expect("nothing fails");
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
        assert!(
            list_body(Counted {
                next: 0,
                end: 10,
                fail_at: Some(3)
            })
            .await
            .is_err()
        );
        let late = LIST_CHUNK_BYTES / 4;
        let body = list_body(Counted {
            next: 0,
            end: late * 2,
            fail_at: Some(late),
        })
        .await
        .expect("the first chunk is fine");
        assert!(body.collect().await.is_err());
    }
}
