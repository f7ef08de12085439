//! `GET /v2/watch`: every change in order, one object a line, deletions too, with bookmarks to resume from.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use blox_store::{Change, Kind, WatchFrom, WatchRequest};
use bytes::Bytes;

use super::watch_event::{bookmark, push_change};
use crate::ear::Ear;
use crate::problem::{Problem, ProblemKind};
use crate::query::{Query, invalid};
use crate::reading::{READING_KEYS, Reading};
use crate::state::ApiState;
use crate::streams::{StreamEnd, StreamEvent, StreamSource, StreamStep, stream_body};

/// The handler. The first line is a bookmark: where the watch begins. An error in mid-stream is a line of type ERROR, then the connection
/// breaks off without the last chunk (over HTTP/2 the stream is reset).
pub(super) async fn watch(
    State(state): State<ApiState>,
    ear: Option<Extension<Ear>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    let known: Vec<&str> = ["from_revision", "kinds"]
        .iter()
        .chain(&READING_KEYS)
        .copied()
        .collect();
    query.only(&known)?;
    let from = match query.number("from_revision")?.unwrap_or(0) {
        0 => WatchFrom::Now,
        revision => WatchFrom::Revision(revision),
    };
    let kinds = kinds_of(&query)?;
    let reading = Reading::from_query(&query)?;
    let place = state.stream_place().ok_or_else(|| {
        Problem::new(
            ProblemKind::TooManyStreams,
            "Too many streams run already; try again on another node.",
        )
    })?;
    state.barrier(reading).await?;
    let mut watcher = state.store().watch(WatchRequest {
        from,
        kinds,
        prefix: Bytes::new(),
    })?;
    if let Some(Extension(ear)) = ear {
        watcher = watcher.woken_by(ear.progress(state.store()));
    }
    let source = StreamSource::new(watcher, &state, Some(state.config().bookmark_interval), place);
    let mut response = stream_body(LineWriter { source, begun: false }, next_lines).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// `kinds=task,instance`; none: all.
fn kinds_of(query: &Query) -> Result<Vec<Kind>, Problem> {
    let Some(text) = query.text("kinds")? else {
        return Ok(Vec::new());
    };
    let kind = |name: &str| {
        Kind::from_name(name).ok_or_else(|| {
            let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
            invalid(
                "kinds",
                &format!("names an unknown kind '{name}'; known are: {}", known.join(", ")),
            )
        })
    };
    text.split(',').map(kind).collect()
}

struct LineWriter {
    source: StreamSource,
    /// The first bookmark was written.
    begun: bool,
}

async fn next_lines(mut writer: LineWriter) -> (LineWriter, StreamStep) {
    if !writer.begun {
        writer.begun = true;
        let bytes = bookmark(writer.source.delivered());
        return (writer, StreamStep { bytes, broken: false });
    }
    let (bytes, broken) = match writer.source.next().await {
        Ok(StreamEvent::Batch(batch)) => (lines(&batch.changes), false),
        Ok(StreamEvent::Idle(revision)) => (bookmark(revision), false),
        Err(end) => {
            let problem = match end {
                StreamEnd::Watch(end) => Problem::from(end),
                StreamEnd::Stopping => Problem::new(
                    ProblemKind::Stopping,
                    "This node is stopping; go on from the last revision on another.",
                ),
            };
            (problem.stream_line().into(), true)
        }
    };
    (writer, StreamStep { bytes, broken })
}

/// What all watchers are told of these changes, each a line that is made once. One alone, as it mostly is, is sent to all of them from the same
/// memory.
fn lines(changes: &[Change]) -> Bytes {
    let line = |change: &Change| {
        change.line(|change| {
            let mut line = Vec::new();
            push_change(&mut line, change);
            line
        })
    };
    if let [change] = changes {
        return line(change);
    }
    let mut lines = Vec::new();
    for change in changes {
        lines.extend_from_slice(&line(change));
    }
    lines.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_users_see_them() {
        let kinds = |query: &str| kinds_of(&Query::parse(Some(query))).ok();
        assert_eq!(kinds("kinds=task,kv"), Some(vec![Kind::Task, Kind::User]));
        assert_eq!(kinds(""), Some(Vec::new()));
        assert_eq!(kinds("kinds=task,pod"), None);
        assert_eq!(kinds("kinds=task,"), None);
    }
}
