//! Errors of `/v2`: RFC 9457 problems, each with a code of its own that programs may rely on.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blox_raft::{FullDisk, ProposeError, ReadError};
use blox_store::proto::{Refusal, RefusalCode};
use blox_store::{StoreError, ViewError, WatchEnd};
use serde_json::{Map, Value, json};

use crate::RETRY_AFTER_SECONDS;
use crate::answer::AnswerRevision;
use crate::reading::ReadFailure;
use crate::writing::{WriteFailure, mark_replayed};

/// What kind of problem: gives status, code and title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    UnknownParameter,
    InvalidParameter,
    InvalidHeader,
    InvalidBody,
    InvalidPath,
    RevisionAhead,
    RouteMissing,
    ResourceMissing,
    EnvironmentMissing,
    KeyMissing,
    MethodNotAllowed,
    IdempotencyConflict,
    EnvironmentExists,
    EnvironmentDeleting,
    Compacted,
    PreconditionFailed,
    BodyTooLarge,
    UrlTooLong,
    Refused,
    ClusterRefused,
    TaskDefinitionRefused,
    Overloaded,
    TooManyStreams,
    Internal,
    NoLeader,
    Behind,
    TooStale,
    Stopping,
    EcsUnavailable,
    OutcomeUnknown,
    DeadlineExceeded,
    MemberMissing,
    CandidateMissing,
    MemberAmbiguous,
    MemberExists,
    AddressTaken,
    QuorumAtRisk,
    NotMember,
    DiskFull,
}

impl ProblemKind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use ProblemKind as Kind;
        use StatusCode as Status;
        match self {
            Kind::UnknownParameter => (Status::BAD_REQUEST, "unknown_parameter", "Unknown query parameter"),
            Kind::InvalidParameter => (Status::BAD_REQUEST, "invalid_parameter", "Invalid query parameter"),
            Kind::InvalidHeader => (Status::BAD_REQUEST, "invalid_header", "Invalid request header"),
            Kind::InvalidBody => (Status::BAD_REQUEST, "invalid_body", "Invalid request body"),
            Kind::InvalidPath => (Status::BAD_REQUEST, "invalid_path", "Invalid path"),
            Kind::RevisionAhead => (Status::BAD_REQUEST, "revision_ahead", "The revision does not exist yet"),
            Kind::RouteMissing => (Status::NOT_FOUND, "route_missing", "No such route"),
            Kind::ResourceMissing => (Status::NOT_FOUND, "resource_missing", "No such resource"),
            Kind::EnvironmentMissing => (Status::NOT_FOUND, "environment_missing", "No such environment"),
            Kind::KeyMissing => (Status::NOT_FOUND, "key_missing", "No such key"),
            Kind::MethodNotAllowed => (
                Status::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The route has no such method",
            ),
            Kind::IdempotencyConflict => (
                Status::CONFLICT,
                "idempotency_conflict",
                "The idempotency key was used for another request",
            ),
            Kind::EnvironmentExists => (Status::CONFLICT, "environment_exists", "The environment exists"),
            Kind::EnvironmentDeleting => (
                Status::CONFLICT,
                "environment_deleting",
                "The environment is being deleted",
            ),
            Kind::Compacted => (Status::GONE, "compacted", "The revision is no longer kept"),
            Kind::PreconditionFailed => (
                Status::PRECONDITION_FAILED,
                "precondition_failed",
                "The precondition does not hold",
            ),
            Kind::BodyTooLarge => (
                Status::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "The request body is too large",
            ),
            Kind::UrlTooLong => (Status::URI_TOO_LONG, "url_too_long", "The URL is too long"),
            Kind::Refused => (Status::UNPROCESSABLE_ENTITY, "refused", "The request was refused"),
            Kind::ClusterRefused => (
                Status::UNPROCESSABLE_ENTITY,
                "cluster_refused",
                "The cluster cannot be used",
            ),
            Kind::TaskDefinitionRefused => (
                Status::UNPROCESSABLE_ENTITY,
                "task_definition_refused",
                "The task definition cannot be used",
            ),
            Kind::Overloaded => (Status::TOO_MANY_REQUESTS, "overloaded", "Too much is waiting already"),
            Kind::TooManyStreams => (
                Status::TOO_MANY_REQUESTS,
                "too_many_streams",
                "Too many streams run already",
            ),
            Kind::Internal => (
                Status::INTERNAL_SERVER_ERROR,
                "internal",
                "Unexpected internal server error",
            ),
            Kind::NoLeader => (Status::SERVICE_UNAVAILABLE, "no_leader", "No leader is known"),
            Kind::Behind => (Status::SERVICE_UNAVAILABLE, "behind", "This node has not caught up"),
            Kind::TooStale => (
                Status::SERVICE_UNAVAILABLE,
                "too_stale",
                "This node's state is older than asked for",
            ),
            Kind::Stopping => (Status::SERVICE_UNAVAILABLE, "stopping", "This node is stopping"),
            Kind::EcsUnavailable => (Status::SERVICE_UNAVAILABLE, "ecs_unavailable", "ECS could not be asked"),
            Kind::OutcomeUnknown => (Status::GATEWAY_TIMEOUT, "outcome_unknown", "The outcome is not known"),
            Kind::DeadlineExceeded => (
                Status::GATEWAY_TIMEOUT,
                "deadline_exceeded",
                "The request took too long",
            ),
            Kind::MemberMissing => (Status::NOT_FOUND, "member_missing", "No such member"),
            Kind::CandidateMissing => (Status::CONFLICT, "candidate_missing", "No such candidate"),
            Kind::MemberAmbiguous => (Status::CONFLICT, "member_ambiguous", "More than one could be meant"),
            Kind::MemberExists => (Status::CONFLICT, "member_exists", "It is a member already"),
            Kind::AddressTaken => (Status::CONFLICT, "address_taken", "The address is another member's"),
            Kind::QuorumAtRisk => (Status::CONFLICT, "quorum_at_risk", "This would lose the quorum"),
            Kind::NotMember => (
                Status::SERVICE_UNAVAILABLE,
                "not_a_member",
                "This node is not a member of a cluster",
            ),
            Kind::DiskFull => (
                Status::INSUFFICIENT_STORAGE,
                "disk_full",
                "There is too little room on disk for writes",
            ),
        }
    }
}

/// An answer that is an error of `/v2`. Its body is written by the outermost layer, which knows the request id.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: String,
    members: Map<String, Value>,
    /// For the log alone.
    cause: Option<String>,
    /// It was answered before, to an earlier request under the same idempotency key.
    replayed: bool,
}

/// What went wrong inside: goes to the log with the request id, never to the client.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub(crate) String);

impl Problem {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Problem {
        Problem {
            kind,
            detail: detail.into(),
            members: Map::new(),
            cause: None,
            replayed: false,
        }
    }

    pub(crate) fn internal(cause: impl std::fmt::Display) -> Problem {
        let mut problem = Problem::new(
            ProblemKind::Internal,
            "The cause is in this node's log, under the request id.",
        );
        problem.cause = Some(cause.to_string());
        problem
    }

    /// Adds a member that programs may read.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The body, one line of JSON.
    pub(crate) fn body(&self, request_id: &str) -> Vec<u8> {
        let (status, code, title) = self.kind.parts();
        let mut body = json!({
            "type": format!("urn:blox:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
            "request_id": request_id,
        });
        if let Value::Object(object) = &mut body {
            object.extend(self.members.clone());
        }
        let mut bytes = body.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }

    /// As one line in the middle of a watch.
    pub(crate) fn stream_line(&self) -> Vec<u8> {
        let (_, code, title) = self.kind.parts();
        let mut line = json!({ "type": "ERROR", "code": code, "title": title, "detail": self.detail });
        if let Value::Object(object) = &mut line {
            object.extend(self.members.clone());
        }
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let (status, _, _) = self.kind.parts();
        let mut response = status.into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if let Some(cause) = self.cause.take() {
            response.extensions_mut().insert(Cause(cause));
        }
        if self.replayed {
            mark_replayed(response.headers_mut());
        }
        // What is not there is not there at the revision that was read, which the header must not exceed.
        if let Some(revision) = self.members.get("revision").and_then(Value::as_u64) {
            response.extensions_mut().insert(AnswerRevision(revision));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ReadFailure> for Problem {
    fn from(failure: ReadFailure) -> Problem {
        match failure {
            ReadFailure::Barrier(error) => Problem::from(error),
            ReadFailure::View(error) => Problem::from(error),
            ReadFailure::Interrupted(cause) => Problem::internal(cause),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        let kind = match error {
            ReadError::NoLeader { .. } => ProblemKind::NoLeader,
            ReadError::Behind { .. } => ProblemKind::Behind,
            ReadError::TooStale { .. } => ProblemKind::TooStale,
            ReadError::NotMember(_) => ProblemKind::NotMember,
            ReadError::Stopped(_) => ProblemKind::Stopping,
        };
        Problem::new(kind, sentence(&error))
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Problem {
        let detail = sentence(&error);
        match error {
            ViewError::Compacted { oldest, .. } => {
                Problem::new(ProblemKind::Compacted, detail).with("oldest_revision", oldest)
            }
            ViewError::Future { current, .. } => {
                Problem::new(ProblemKind::RevisionAhead, detail).with("current_revision", current)
            }
            ViewError::Store(error) => Problem::internal(error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Problem::internal(error)
    }
}

impl From<WatchEnd> for Problem {
    fn from(end: WatchEnd) -> Problem {
        let detail = sentence(&end);
        match end {
            WatchEnd::Compacted { oldest, .. } => {
                Problem::new(ProblemKind::Compacted, detail).with("oldest_revision", oldest)
            }
            WatchEnd::Future { current, .. } => {
                Problem::new(ProblemKind::RevisionAhead, detail).with("current_revision", current)
            }
            WatchEnd::Storage(cause) => Problem::internal(cause),
        }
    }
}

impl From<WriteFailure> for Problem {
    fn from(failure: WriteFailure) -> Problem {
        match failure {
            WriteFailure::Propose(error) => Problem::from(error),
            WriteFailure::Refused { refusal, replayed } => Problem {
                replayed,
                ..Problem::from(refusal)
            },
            WriteFailure::Unexpected(cause) => Problem::internal(cause),
        }
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Problem {
        let kind = match &error {
            ProposeError::NoLeader | ProposeError::NotLeader => ProblemKind::NoLeader,
            ProposeError::TooLarge { .. } => ProblemKind::BodyTooLarge,
            ProposeError::Overloaded => ProblemKind::Overloaded,
            ProposeError::Stopped(_) => ProblemKind::Stopping,
            ProposeError::DiskFull(full) => {
                let disks: Vec<Value> = full.0.iter().map(disk_member).collect();
                return Problem::new(ProblemKind::DiskFull, sentence(full)).with("disks", disks);
            }
            ProposeError::Unknown { .. } => {
                let detail = format!(
                    "{} Try again with the same Idempotency-Key, on this node or another.",
                    sentence(&error)
                );
                return Problem::new(ProblemKind::OutcomeUnknown, detail);
            }
        };
        Problem::new(kind, sentence(&error))
    }
}

fn disk_member(disk: &FullDisk) -> Value {
    json!({ "node": disk.node, "free_bytes": disk.free_bytes, "needed_bytes": disk.needed_bytes })
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = sentence(&refusal.message);
        let kind = match refusal.code() {
            RefusalCode::PreconditionFailed => {
                let current = refusal.detail.parse::<u64>().unwrap_or(0);
                return Problem::new(ProblemKind::PreconditionFailed, detail).with("current_revision", current);
            }
            RefusalCode::IdempotencyConflict => ProblemKind::IdempotencyConflict,
            RefusalCode::EnvironmentExists => ProblemKind::EnvironmentExists,
            RefusalCode::EnvironmentMissing => ProblemKind::EnvironmentMissing,
            RefusalCode::EnvironmentDeleting => ProblemKind::EnvironmentDeleting,
            RefusalCode::DeploymentMissing => ProblemKind::ResourceMissing,
            RefusalCode::KeyMissing => ProblemKind::KeyMissing,
            RefusalCode::Compacted => ProblemKind::Compacted,
            RefusalCode::Unspecified
            | RefusalCode::StaleSession
            | RefusalCode::TokenOutdated
            | RefusalCode::TokenUsed
            | RefusalCode::DeploymentInProgress
            | RefusalCode::Invalid => ProblemKind::Refused,
        };
        Problem::new(kind, detail)
    }
}

/// An error's text as a sentence of its own: what ECS says ends in a full stop already, what we say does not.
pub(crate) fn sentence(error: &(impl std::fmt::Display + ?Sized)) -> String {
    let text = error.to_string();
    let text = text.trim_end_matches('.');
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).chain(['.']).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_members_of_the_rfc_and_ours() {
        let problem = Problem::new(ProblemKind::Compacted, "Too old.").with("oldest_revision", 7);
        let body: Value = serde_json::from_slice(&problem.body("r-1")).expect("a body is JSON");
        assert_eq!(
            body,
            json!({
                "type": "urn:blox:problem:compacted",
                "title": "The revision is no longer kept",
                "status": 410,
                "detail": "Too old.",
                "code": "compacted",
                "request_id": "r-1",
                "oldest_revision": 7,
            })
        );
    }

    #[test]
    fn a_sentence_ends_once() {
        assert_eq!(sentence("no leader is known"), "No leader is known.");
        assert_eq!(sentence("Please try again later."), "Please try again later.");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn the_cause_of_an_internal_error_stays_inside() {
        let body = String::from_utf8(Problem::internal("/secret/path").body("r-1")).expect("a body is text");
        assert!(!body.contains("secret"), "{body}");
    }

    #[test]
    fn the_end_of_a_watch_says_where_to_begin_again() {
        let problem = Problem::from(WatchEnd::Compacted { asked: 3, oldest: 9 });
        let line: Value = serde_json::from_slice(&problem.stream_line()).expect("a line is JSON");
        assert_eq!(
            line,
            json!({
                "type": "ERROR",
                "code": "compacted",
                "title": "The revision is no longer kept",
                "detail": "Revision 3 is compacted; the oldest kept is 9.",
                "oldest_revision": 9,
            })
        );
    }
}
