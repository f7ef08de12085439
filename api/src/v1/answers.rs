//! Answers as the old contract writes them: errors as plain text, JSON as one line.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blox_raft::{ProposeError, ReadError};
use blox_store::{Revision, StoreError};
use serde::Serialize;

use super::clean_path;
use crate::RETRY_AFTER_SECONDS;
use crate::answer::AnswerRevision;
use crate::problem::Cause;
use crate::reading::ReadFailure;
use crate::writing::WriteFailure;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Any failure inside, of tasks and instances.
pub(super) const INTERNAL_OF_RESOURCES: &str = "Unexpected internal server error";
/// Any failure inside, of environments and deployments.
pub(super) const INTERNAL_OF_ENVIRONMENTS: &str = "Server Error";

/// An error: its text and a newline.
#[derive(Debug)]
pub(crate) struct PlainError {
    status: StatusCode,
    text: Cow<'static, str>,
    /// For the log alone.
    cause: Option<String>,
}

impl PlainError {
    pub(crate) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> PlainError {
        PlainError {
            status,
            text: text.into(),
            cause: None,
        }
    }

    pub(super) fn bad_request(text: impl Into<Cow<'static, str>>) -> PlainError {
        PlainError::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found(text: impl Into<Cow<'static, str>>) -> PlainError {
        PlainError::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn unavailable(text: impl Into<Cow<'static, str>>) -> PlainError {
        PlainError::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// A failure inside: `text` to the client, `cause` to the log.
    pub(super) fn internal(text: &'static str, cause: impl std::fmt::Display) -> PlainError {
        PlainError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: Cow::Borrowed(text),
            cause: Some(cause.to_string()),
        }
    }

    /// A read that failed; `internal` is the text of this family of routes.
    pub(super) fn read(internal: &'static str) -> impl Fn(ReadFailure) -> PlainError {
        move |failure| match failure {
            ReadFailure::Barrier(error) => PlainError::barrier(&error),
            other => PlainError::internal(internal, other),
        }
    }

    pub(super) fn store(internal: &'static str) -> impl Fn(StoreError) -> PlainError {
        move |error| PlainError::internal(internal, error)
    }

    /// A read that could not be made as fresh as asked.
    pub(super) fn barrier(error: &ReadError) -> PlainError {
        PlainError::unavailable(error.to_string())
    }

    /// A write that failed in a way no text of the contract stands for.
    pub(super) fn write(failure: WriteFailure) -> PlainError {
        let error = match failure {
            WriteFailure::Propose(error) => error,
            WriteFailure::Refused { refusal, .. } => {
                return PlainError::internal(INTERNAL_OF_ENVIRONMENTS, format!("refused: {refusal:?}"));
            }
            WriteFailure::Unexpected(cause) => return PlainError::internal(INTERNAL_OF_ENVIRONMENTS, cause),
        };
        match &error {
            ProposeError::Unknown { .. } => PlainError::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            ProposeError::Overloaded => PlainError::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
            ProposeError::TooLarge { .. } => PlainError::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            ProposeError::DiskFull(_) => PlainError::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            ProposeError::NoLeader | ProposeError::NotLeader | ProposeError::Stopped(_) => {
                PlainError::unavailable(error.to_string())
            }
        }
    }
}

impl IntoResponse for PlainError {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PLAIN_TEXT);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}

/// For everything that is no route.
pub(super) fn page_not_found() -> Response {
    PlainError::not_found("404 page not found").into_response()
}

/// `GET /v1/ping`: an empty body that calls itself JSON.
pub(super) fn ping() -> Response {
    json_body(Body::empty())
}

/// A body that is JSON already.
pub(super) fn json_body(body: Body) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// A value as one line of JSON, escaped as Go's encoder does, made from the state at `revision`.
pub(super) fn json<T: Serialize>(value: &T, revision: Revision) -> Response {
    let mut line =
        go_escaped(&serde_json::to_string(value).expect("models of the contract are plain strings and lists"));
    line.push('\n');
    let mut response = json_body(Body::from(line));
    response.extensions_mut().insert(AnswerRevision(revision));
    response
}

/// A permanent redirect, with the query kept.
pub(super) fn moved(method: &Method, location: &str, query: Option<&str>, body: clean_path::Body) -> Response {
    let location = query.map_or_else(|| location.to_owned(), |query| format!("{location}?{query}"));
    let Ok(value) = HeaderValue::from_str(&location) else {
        return page_not_found();
    };
    let mut response = (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, value)]).into_response();
    if body == clean_path::Body::Note && *method == Method::GET {
        let target = location
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;");
        *response.body_mut() = Body::from(format!("<a href=\"{target}\">Moved Permanently</a>.\n\n"));
        response.headers_mut().insert(header::CONTENT_TYPE, HTML);
    }
    response
}

/// Go's encoder escapes what HTML could take for markup; these characters stand in JSON only inside strings.
fn go_escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_by_go() {
        let json = serde_json::to_string("a<b>&\u{2028}\"é").expect("a string is JSON");
        assert_eq!(go_escaped(&json), "\"a\\u003cb\\u003e\\u0026\\u2028\\\"é\"");
    }
}
