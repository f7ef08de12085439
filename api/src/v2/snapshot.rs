//! `GET /v2/snapshot`: the whole state of this node as one file, streamed out of a checkpoint on disk.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use blox_store::backup::Backup;
use bytes::Bytes;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::answer::AnswerRevision;
use crate::problem::{Problem, ProblemKind};
use crate::query::Query;
use crate::reading::{READING_KEYS, Reading};
use crate::state::ApiState;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Pieces (of at most a mebibyte) read ahead of the client.
const PIECES_AHEAD: usize = 2;

/// The handler. The length is known before the first byte: a client that received less knows that it did.
pub(super) async fn save(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    query.only(&READING_KEYS)?;
    let reading = Reading::from_query(&query)?;
    let place = state.backup_place().try_acquire_owned().map_err(|_| {
        let detail = "This node is writing another backup; try again, or ask another node.";
        Problem::new(ProblemKind::Overloaded, detail)
    })?;
    state.barrier(reading).await?;
    let backups = state.backups();
    // The place goes along: a backup that has begun to be made is made to its end, whether or not its request is still there.
    let begun = state.read_little(move || Ok((backups.begin()?, place)));
    let (backup, place) = begun.await?;
    let headers = [
        (header::CONTENT_TYPE, OCTETS),
        (header::CONTENT_LENGTH, HeaderValue::from(backup.length())),
    ];
    let revision = AnswerRevision(backup.revision());
    let mut response = (StatusCode::OK, headers, body(backup, place)).into_response();
    response.extensions_mut().insert(revision);
    Ok(response)
}

/// The file, as fast as its reader takes it. A failure breaks the answer off before its length is reached.
fn body(backup: Backup, place: OwnedSemaphorePermit) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let put = |piece: Bytes| {
            sender
                .blocking_send(Ok(piece))
                .map_err(|_| io::Error::other("its reader has gone"))
        };
        if let Err(error) = backup.write(put) {
            tracing::warn!(%error, "a backup was not written whole");
            // Nobody may be left to tell.
            drop(sender.blocking_send(Err(error)));
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    Body::from_stream(pieces)
}
