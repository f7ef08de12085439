//! Writes: one command, proposed under the caller's idempotency key where there is one.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use blox_raft::ProposeError;
use blox_store::proto::command::Operation;
use blox_store::proto::{Command, Idempotency, Outcome, Refusal, outcome};
use xxhash_rust::xxh3::Xxh3;

use crate::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::problem::{Problem, ProblemKind};
use crate::request_id::RequestId;
use crate::state::ApiState;

/// The request header under which a retry is recognised.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Stands on an answer that was given before, to an earlier request under the same key.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("x-blox-replayed");

/// Why a write has no result.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    Propose(ProposeError),
    /// The command was refused: now, or (`replayed`) when it first came under the caller's idempotency key.
    Refused {
        refusal: Refusal,
        replayed: bool,
    },
    /// An outcome of a shape that the command cannot have.
    Unexpected(String),
}

/// A write that was applied.
pub(crate) struct Written {
    pub(crate) revision: u64,
    pub(crate) replayed: bool,
    pub(crate) result: outcome::Result,
}

impl Written {
    /// Marks an answer that was given before.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if self.replayed {
            mark_replayed(headers);
        }
    }

    /// An outcome of a shape that the command cannot have.
    pub(crate) fn unexpected(&self) -> WriteFailure {
        WriteFailure::Unexpected(format!("the outcome has an unexpected shape: {:?}", self.result))
    }
}

impl ApiState {
    /// Proposes one command of a user.
    pub(crate) async fn write(
        &self,
        operation: Operation,
        cause: String,
        request_id: &RequestId,
        idempotency: Option<Idempotency>,
    ) -> Result<Written, WriteFailure> {
        let command = Command {
            actor: "api".to_owned(),
            request_id: request_id.as_str().to_owned(),
            cause,
            session: 0,
            idempotency,
            operation: Some(operation),
        };
        let outcome = self
            .cluster()
            .propose(command, self.config().propose_deadline)
            .await
            .map_err(WriteFailure::Propose)?;
        let Outcome {
            revision,
            replayed,
            result,
        } = outcome;
        match result {
            Some(outcome::Result::Refusal(refusal)) => Err(WriteFailure::Refused { refusal, replayed }),
            Some(result) => Ok(Written {
                revision,
                replayed,
                result,
            }),
            None => Err(WriteFailure::Unexpected("the outcome is empty".to_owned())),
        }
    }
}

/// Says that an answer was given before.
pub(crate) fn mark_replayed(headers: &mut HeaderMap) {
    headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
}

/// The caller's idempotency key, if one was given: scope is "METHOD /path", and what must be the same under it are query, preconditions and body.
pub(crate) fn idempotency(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<Idempotency>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_BYTES_MAX);
    let Some(key) = key else {
        let detail = format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters.");
        return Err(Problem::new(ProblemKind::InvalidHeader, detail));
    };
    let mut hash = Xxh3::new();
    for (name, part) in [
        ("query", uri.query().unwrap_or_default().as_bytes()),
        ("if-match", condition(headers, header::IF_MATCH)),
        ("if-none-match", condition(headers, header::IF_NONE_MATCH)),
    ] {
        // None of the parts can hold a newline, so that no two requests hash alike by their framing.
        if !part.is_empty() {
            hash.update(name.as_bytes());
            hash.update(b"\n");
            hash.update(part);
            hash.update(b"\n");
        }
    }
    hash.update(b"body\n");
    hash.update(body);
    Ok(Some(Idempotency {
        scope: format!("{method} {}", uri.path()),
        key: key.to_owned(),
        body_hash: hash.digest(),
    }))
}

fn condition(headers: &HeaderMap, name: HeaderName) -> &[u8] {
    headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default()
}
