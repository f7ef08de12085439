//! `GET /v1/stream/tasks`, `GET /v1/stream/instances`: one object a line, inclusive from `entityVersion` on.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blox_store::proto::stored_value::Body as StoredBody;
use blox_store::{Change, WatchEnd, WatchFrom, WatchRequest};
use bytes::Bytes;

use super::V1Request;
use super::answers::{INTERNAL_OF_RESOURCES, PlainError};
use super::tracked::{Tracked, write_entity};
use crate::query::Query;
use crate::state::ApiState;
use crate::streams::{StreamEnd, StreamEvent, StreamSource, StreamStep, stream_body};

/// Answers with the head at once; nothing is sent while nothing happens.
pub(super) async fn stream(request: &V1Request<'_>, tracked: Tracked) -> Result<Response, PlainError> {
    let from = from_of(&request.query)?;
    let state = request.state;
    let place = state.stream_place().ok_or_else(|| {
        PlainError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many streams run already; try again on another node",
        )
    })?;
    state
        .barrier(request.reading()?)
        .await
        .map_err(|error| PlainError::barrier(&error))?;
    let watch = WatchRequest {
        from,
        kinds: vec![tracked.kind()],
        prefix: Bytes::new(),
    };
    let watcher = state.store().watch(watch).map_err(|end| match end {
        WatchEnd::Compacted { .. } | WatchEnd::Future { .. } => {
            PlainError::bad_request("Entity version is out of range")
        }
        WatchEnd::Storage(cause) => PlainError::internal(INTERNAL_OF_RESOURCES, cause),
    })?;
    let writer = LineWriter {
        source: StreamSource::new(watcher, state, None, place),
        tracked,
        state: state.clone(),
    };
    let mut response = stream_body(writer, next_lines).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("Keep-Alive"));
    Ok(response)
}

/// Absent, empty and `0` mean: from now on. Other query keys and repeats are ignored.
fn from_of(query: &Query) -> Result<WatchFrom, PlainError> {
    let Some(text) = query.lossy("entityVersion") else {
        return Ok(WatchFrom::Now);
    };
    let version = text.parse::<i64>().ok().and_then(|version| u64::try_from(version).ok());
    match version {
        Some(0) => Ok(WatchFrom::Now),
        Some(revision) => Ok(WatchFrom::Revision(revision)),
        None => Err(PlainError::bad_request("Invalid entity version")),
    }
}

struct LineWriter {
    source: StreamSource,
    tracked: Tracked,
    state: ApiState,
}

async fn next_lines(mut writer: LineWriter) -> (LineWriter, StreamStep) {
    let step = match writer.source.next().await {
        Ok(StreamEvent::Batch(batch)) => {
            let mut bytes = Vec::new();
            for change in &batch.changes {
                write_line(&mut bytes, change, &writer);
            }
            StreamStep {
                bytes: bytes.into(),
                broken: false,
            }
        }
        Ok(StreamEvent::Idle(_)) => StreamStep {
            bytes: Bytes::new(),
            broken: false,
        },
        Err(end) => {
            if let StreamEnd::Watch(end) = end {
                tracing::warn!(reason = %end, "a v1 stream broke off");
            }
            StreamStep {
                bytes: Bytes::new(),
                broken: true,
            }
        }
    };
    (writer, step)
}

/// Deletions are not part of the old contract's streams, nor is what its model cannot show.
fn write_line(bytes: &mut Vec<u8>, change: &Change, writer: &LineWriter) {
    let Some(StoredBody::Resource(resource)) = change.current.as_ref().and_then(|value| value.body.as_ref()) else {
        return;
    };
    if write_entity(bytes, resource, change.revision) {
        bytes.push(b'\n');
    } else {
        writer.tracked.count_left_out(&writer.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_versions_are_read_as_by_the_original() {
        let from = |query: &str| from_of(&Query::parse(Some(query))).ok();
        for now in ["", "entityVersion=", "entityVersion=0", "entityVersion=-0", "other=5"] {
            assert_eq!(from(now), Some(WatchFrom::Now), "{now}");
        }
        assert_eq!(
            from("entityVersion=7&entityVersion=x&other"),
            Some(WatchFrom::Revision(7))
        );
        for wrong in [
            "entityVersion=-1",
            "entityVersion=x",
            "entityVersion=1.5",
            "entityVersion=9223372036854775808",
        ] {
            assert_eq!(from(wrong), None, "{wrong}");
        }
    }
}
