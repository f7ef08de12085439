//! What handlers of `/v2` share: paths taken apart, answers put together.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use blox_store::Revision;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::answer::AnswerRevision;
use crate::problem::{Problem, ProblemKind};
use crate::request_body::BodyError;

/// An answer may hold so much more than it needs, bytes: it grew by doubling.
const SPARE_BYTES_MAX: usize = 16 << 10;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The decoded rest of the path after a route's prefix, any bytes.
pub(super) fn path_tail(uri: &Uri, prefix: &str) -> Vec<u8> {
    percent_decode_str(uri.path().strip_prefix(prefix).unwrap_or_default()).collect()
}

/// The decoded rest of the path as text.
pub(super) fn path_text(uri: &Uri, prefix: &str) -> Result<String, Problem> {
    String::from_utf8(path_tail(uri, prefix))
        .map_err(|_| Problem::new(ProblemKind::InvalidPath, "The path is not UTF-8."))
}

/// An answer of one JSON object and a newline.
pub(super) fn json<T: Serialize>(status: StatusCode, revision: Revision, value: &T) -> Response {
    let mut line = serde_json::to_vec(value).expect("models have text keys and finite numbers");
    line.push(b'\n');
    // What was only set aside is given back: a slow reader may have it for a while.
    if line.capacity() - line.len() > SPARE_BYTES_MAX {
        line.shrink_to_fit();
    }
    json_body(status, revision, Body::from(line))
}

/// An answer whose body is JSON already.
pub(super) fn json_body(status: StatusCode, revision: Revision, body: Body) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
    response.extensions_mut().insert(AnswerRevision(revision));
    response
}

/// A mod revision as entity tag.
pub(super) fn entity_tag(mod_revision: Revision) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{mod_revision}\"")).expect("digits in quotes are a header value")
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Problem {
        match error {
            BodyError::TooLarge(limit) => {
                let detail = format!("The request body is larger than {limit} bytes.");
                Problem::new(ProblemKind::BodyTooLarge, detail).with("limit_bytes", limit)
            }
            BodyError::Overloaded => Problem::new(
                ProblemKind::Overloaded,
                "Too many request bodies are being read; try again.",
            ),
            BodyError::Broken(cause) => Problem::new(
                ProblemKind::InvalidBody,
                format!("The request body broke off: {cause}."),
            ),
        }
    }
}
