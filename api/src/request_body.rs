//! Request bodies: bounded each, and bounded together.

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::DISCARDED_BODY_BYTES_MAX;
use crate::state::ApiState;

/// A body in memory; its share of what all bodies may take is given back when it is dropped.
pub(crate) struct RequestBody {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Why a body was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Larger than the limit (bytes).
    TooLarge(usize),
    /// Bodies of other requests fill the memory set aside for them.
    Overloaded,
    /// The connection broke off, or the framing is broken.
    Broken(String),
}

impl ApiState {
    /// Reads a body of at most `limit` bytes.
    pub(crate) async fn read_body(&self, mut body: Body, limit: usize) -> Result<RequestBody, BodyError> {
        let announced = body
            .size_hint()
            .exact()
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(limit);
        if announced > limit {
            discard(&mut body, 0).await;
            return Err(BodyError::TooLarge(limit));
        }
        let share = u32::try_from(announced).unwrap_or(u32::MAX);
        let share = self
            .body_bytes()
            .try_acquire_many_owned(share)
            .map_err(|_| BodyError::Overloaded)?;
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                discard(&mut body, bytes.len()).await;
                return Err(BodyError::TooLarge(limit));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(RequestBody {
            bytes: bytes.freeze(),
            _share: share,
        })
    }
}

/// Reads on for a while without keeping anything, so that a sender in the middle of its body gets to read the answer.
async fn discard(body: &mut Body, already: usize) {
    let mut discarded = already;
    while discarded < DISCARDED_BODY_BYTES_MAX {
        match body.frame().await {
            Some(Ok(frame)) => discarded += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}
