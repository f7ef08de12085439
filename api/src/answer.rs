//! What every answer has in common: request id, the headers that say who answered and how far behind it is, deadline, metrics, log.

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use blox_store::Revision;

use crate::URL_BYTES_MAX;
use crate::held::{NoRoom, hold};
use crate::problem::{Cause, Problem, ProblemKind};
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::state::ApiState;
use crate::v1::PlainError;

const NODE_HEADER: HeaderName = HeaderName::from_static("x-blox-node");
const LEADER_HEADER: HeaderName = HeaderName::from_static("x-blox-leader");
const TERM_HEADER: HeaderName = HeaderName::from_static("x-blox-term");
const REVISION_HEADER: HeaderName = HeaderName::from_static("x-blox-revision");
const APPLIED_LAG_HEADER: HeaderName = HeaderName::from_static("x-blox-applied-lag");
const LEADER_CONTACT_HEADER: HeaderName = HeaderName::from_static("x-blox-leader-contact-ms");
const ECS_LAG_HEADER: HeaderName = HeaderName::from_static("x-blox-ecs-lag-ms");

/// On an answer: the revision it was made from (without it, the node's revision is said).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerRevision(pub(crate) Revision);

/// On an answer: the route's template, for metrics, where the router does not know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteTemplate(pub(crate) &'static str);

/// The outermost layer.
pub(crate) async fn answer(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let started = state.monotonic();
    let request_id = RequestId::of(request.headers(), || state.new_uuid());
    request.extensions_mut().insert(request_id.clone());
    let method = request.method().clone();
    let in_v2 = is_v2(request.uri().path());
    let matched = request.extensions().get::<MatchedPath>().cloned();

    let mut response = bounded(&state, request, next, in_v2).await;

    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = Body::from(problem.body(request_id.as_str()));
    }
    if let Some(Cause(cause)) = response.extensions_mut().remove::<Cause>() {
        tracing::error!(request_id = request_id.as_str(), %method, %cause, "a request failed");
    }
    let template = response.extensions().get::<RouteTemplate>().map(|template| template.0);
    let route = template.or(matched.as_ref().map(MatchedPath::as_str)).unwrap_or("none");
    state.http_metrics().record(
        &method,
        route,
        response.status(),
        state.monotonic().saturating_sub(started),
    );
    let revision = response.extensions().get::<AnswerRevision>().map(|revision| revision.0);
    add_headers(&state, &request_id, revision, response.headers_mut());
    response
}

/// Whether a path belongs to `/v2`, where errors are problems; elsewhere they are plain text.
pub(crate) fn is_v2(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// Health and metrics are answered also under overload.
fn is_exempt(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics" | "/v1/ping")
}

async fn bounded(state: &ApiState, request: Request, next: Next, in_v2: bool) -> Response {
    if request
        .uri()
        .path_and_query()
        .is_some_and(|path| path.as_str().len() > URL_BYTES_MAX)
    {
        let detail = format!("The URL has more than {URL_BYTES_MAX} bytes.");
        return refuse(in_v2, ProblemKind::UrlTooLong, StatusCode::URI_TOO_LONG, detail);
    }
    let _admitted = if is_exempt(request.uri().path()) {
        None
    } else {
        match state.requests().try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let detail = "Too many requests are being served; try again.".to_owned();
                return refuse(in_v2, ProblemKind::Overloaded, StatusCode::TOO_MANY_REQUESTS, detail);
            }
        }
    };
    let deadline = state.config().request_deadline;
    // What a write answers is short, and says what became of it in any case.
    let is_read = request.method() == Method::GET;
    match tokio::time::timeout(deadline, next.run(request)).await {
        Ok(response) if is_read => hold(response, state.answer_bytes()).unwrap_or_else(|NoRoom| {
            let detail = "Too many large answers wait for their readers; try again, or ask another node.".to_owned();
            refuse(in_v2, ProblemKind::Overloaded, StatusCode::TOO_MANY_REQUESTS, detail)
        }),
        Ok(response) => response,
        Err(_) => {
            let detail = format!(
                "The request was not finished within {deadline:?}; whether it changed anything is not known. Try again with the same \
                 Idempotency-Key."
            );
            refuse(
                in_v2,
                ProblemKind::DeadlineExceeded,
                StatusCode::GATEWAY_TIMEOUT,
                detail,
            )
        }
    }
}

fn refuse(in_v2: bool, kind: ProblemKind, status: StatusCode, detail: String) -> Response {
    if in_v2 {
        Problem::new(kind, detail).into_response()
    } else {
        PlainError::new(status, detail).into_response()
    }
}

/// A value that is not known is said by an empty header.
fn add_headers(state: &ApiState, request_id: &RequestId, revision: Option<Revision>, headers: &mut HeaderMap) {
    let glance = state.cluster().glance();
    let leader = glance.leader.as_deref().unwrap_or_default();
    let contact_ms = glance
        .leader_contact
        .map(|contact| u64::try_from(contact.as_millis()).unwrap_or(u64::MAX));
    headers.insert(REQUEST_ID_HEADER, request_id.header_value());
    headers.insert(NODE_HEADER, text(state.node()));
    headers.insert(LEADER_HEADER, text(leader));
    headers.insert(TERM_HEADER, HeaderValue::from(glance.term));
    headers.insert(
        REVISION_HEADER,
        HeaderValue::from(revision.unwrap_or_else(|| state.revision())),
    );
    headers.insert(
        APPLIED_LAG_HEADER,
        HeaderValue::from(glance.commit_index.saturating_sub(glance.applied_index)),
    );
    headers.insert(
        LEADER_CONTACT_HEADER,
        contact_ms.map_or(HeaderValue::from_static(""), HeaderValue::from),
    );
    headers.insert(
        ECS_LAG_HEADER,
        state
            .ecs_lag_ms()
            .map_or(HeaderValue::from_static(""), HeaderValue::from),
    );
    if state.is_draining() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}
