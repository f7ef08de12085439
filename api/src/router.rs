//! The routes. `/v1` is matched by its own rules (see `v1`), everything else by axum.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::answer::{answer, is_v2};
use crate::problem::{Problem, ProblemKind};
use crate::state::ApiState;
use crate::{health, metrics, v1, v2};

/// Every route of a node.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .merge(v2::routes())
        .fallback(unmatched)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), answer))
        .with_state(state)
}

/// The old contract, and its 404 for everything that nobody knows.
async fn unmatched(state: State<ApiState>, request: Request) -> Response {
    if is_v2(request.uri().path()) {
        let detail = format!("There is no route '{}'.", request.uri().path());
        return Problem::new(ProblemKind::RouteMissing, detail).into_response();
    }
    v1::dispatch(state.0, request).await
}

async fn method_not_allowed(request: Request) -> Response {
    let detail = format!("'{}' has no method {}.", request.uri().path(), request.method());
    Problem::new(ProblemKind::MethodNotAllowed, detail).into_response()
}
