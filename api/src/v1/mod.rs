//! The Blox 0.3 contract: routes, texts, orders and codes that programs written for it rely on.
//!
//! Its router matched the decoded path and answered 404 to everything else, wrong methods and HEAD included; so does [`route`].

mod answers;
mod clean_path;
mod deployments;
mod environments;
mod models;
mod requests;
mod resources;
mod route;
mod streams;
mod tracked;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use crate::answer::RouteTemplate;
use crate::query::Query;
use crate::request_id::RequestId;
use crate::state::ApiState;

pub(crate) use answers::PlainError;
pub(crate) use requests::is_environment_name;

use answers::{moved, page_not_found};
use route::Route;
use tracked::Tracked;

/// A request of the old contract, taken apart.
struct V1Request<'request> {
    state: &'request ApiState,
    query: Query,
    request_id: RequestId,
    headers: &'request axum::http::HeaderMap,
}

/// Answers whatever no other route takes.
pub(crate) async fn dispatch(state: ApiState, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let raw_path = parts.uri.path();
    let Ok(path) = percent_decode_str(raw_path).decode_utf8() else {
        return page_not_found();
    };
    // `OPTIONS *` and CONNECT name no path.
    if !path.starts_with('/') {
        return page_not_found();
    }
    if let Some(clean) = clean_path::cleaned(&path) {
        return moved(
            &parts.method,
            &clean_path::escaped(&clean),
            parts.uri.query(),
            clean_path::Body::Empty,
        );
    }
    if let (Some(slashless), Some(raw_slashless)) = (path.strip_suffix('/'), raw_path.strip_suffix('/'))
        && Route::of(&parts.method, slashless).is_some()
    {
        return moved(&parts.method, raw_slashless, parts.uri.query(), clean_path::Body::Note);
    }
    let Some(route) = Route::of(&parts.method, &path) else {
        return page_not_found();
    };
    let Some(request_id) = parts.extensions.get::<RequestId>().cloned() else {
        return page_not_found();
    };
    let request = V1Request {
        state: &state,
        query: Query::parse(parts.uri.query()),
        request_id,
        headers: &parts.headers,
    };
    let template = RouteTemplate(route.template());
    let mut response = serve(&request, route, body)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(template);
    response
}

async fn serve(request: &V1Request<'_>, route: Route<'_>, body: axum::body::Body) -> Result<Response, PlainError> {
    match route {
        Route::Ping => Ok(answers::ping()),
        Route::Tasks => resources::list(request, Tracked::Tasks).await,
        Route::Instances => resources::list(request, Tracked::Instances).await,
        Route::Task { cluster, arn } => resources::get(request, Tracked::Tasks, cluster, arn).await,
        Route::Instance { cluster, arn } => resources::get(request, Tracked::Instances, cluster, arn).await,
        Route::StreamTasks => streams::stream(request, Tracked::Tasks).await,
        Route::StreamInstances => streams::stream(request, Tracked::Instances).await,
        Route::CreateEnvironment => environments::create(request, body).await,
        Route::Environments => environments::list(request).await,
        Route::Environment { name } => environments::get(request, name).await,
        Route::DeleteEnvironment { name } => environments::delete(request, name).await,
        Route::CreateDeployment { environment } => deployments::create(request, environment).await,
        Route::Deployments { environment } => deployments::list(request, environment).await,
        Route::Deployment { environment, id } => deployments::get(request, environment, id).await,
    }
}
