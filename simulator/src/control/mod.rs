//! The JSON surface under `/control`: it moves the fleet, sets the faults and shows the truth. README.md has an
//! example of each route.

mod faults;
mod feed;
mod fleet;
mod inspect;
mod journal;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::simulation::Simulation;
use crate::world::{ClusterKey, World};

const DEFAULT_REGION: &str = "us-east-1";

/// All routes, relative to `/control`.
pub(crate) fn router() -> Router<Arc<Simulation>> {
    Router::new()
        .route("/health", get(inspect::health))
        .route("/state", get(inspect::state))
        .route("/counts", get(inspect::counts))
        .route("/counts/reset", post(inspect::reset_counts))
        .route("/queues", get(inspect::queues))
        .route("/journal", get(journal::page))
        .route("/journal/compact", get(journal::compact))
        .route("/journal/queue", get(journal::queue))
        .route("/journal/resources", get(journal::resources))
        .route("/reset", post(fleet::reset))
        .route("/clusters", post(fleet::create_cluster))
        .route("/task-definitions", post(fleet::register_definition))
        .route("/instances", post(fleet::add_instances))
        .route("/instances/{action}", post(fleet::act))
        .route("/tasks/start", post(tasks::start))
        .route("/tasks/stop", post(tasks::stop))
        .route("/tasks/crash", post(tasks::crash))
        .route("/messages", post(feed::send))
        .route("/messages/raw", post(feed::send_raw))
        .route("/flood", post(feed::flood))
        .route(
            "/faults",
            get(faults::show)
                .put(faults::replace)
                .patch(faults::merge)
                .delete(faults::clear),
        )
        .route("/delays", get(faults::delays).patch(faults::merge_delays))
        .route("/liveliness", get(faults::liveliness).put(faults::set_liveliness))
        .route(
            "/answers",
            get(faults::answers)
                .post(faults::add_answer)
                .delete(faults::clear_answers),
        )
        .route("/answers/{id}", delete(faults::remove_answer))
        .route("/held", get(faults::held))
        .route("/release", post(faults::release))
        .fallback(unknown_route)
}

async fn unknown_route() -> ControlError {
    ControlError {
        status: StatusCode::NOT_FOUND,
        message: "no such control route; see the simulator's README".into(),
    }
}

/// What a control route answers.
type Answer = Result<Response<Body>, ControlError>;

/// A refused control request.
#[derive(Debug)]
struct ControlError {
    status: StatusCode,
    message: String,
}

impl ControlError {
    fn bad(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    fn missing(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: message.into(),
        }
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response<Body> {
        let mut response = json_body(json!({"error": self.message}).to_string());
        *response.status_mut() = self.status;
        response
    }
}

fn json_body(body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn answer(value: &impl Serialize) -> Answer {
    serde_json::to_string(value)
        .map(json_body)
        .map_err(|error| ControlError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: format!("cannot write the answer: {error}"),
        })
}

/// A request's body, whatever its content type; an empty one is `{}`.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ControlError::bad(format!("the body is not as expected: {error}")))
}

/// `base` with the fields of `change` laid over it, objects within objects too.
fn merged(base: &impl Serialize, change: &[u8]) -> Result<Value, ControlError> {
    let mut merged = serde_json::to_value(base).map_err(|error| ControlError::bad(error.to_string()))?;
    lay_over(&mut merged, parse(change)?);
    Ok(merged)
}

fn lay_over(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (name, value) in change {
                lay_over(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, ControlError> {
    serde_json::from_value(value).map_err(|error| ControlError::bad(format!("the body is not as expected: {error}")))
}

/// An existing cluster; the region is us-east-1 unless it is said.
fn cluster_key(world: &World, region: Option<&str>, cluster: &str) -> Result<ClusterKey, ControlError> {
    let key = ClusterKey {
        region: region.unwrap_or(DEFAULT_REGION).into(),
        name: cluster.into(),
    };
    match world.cluster(&key) {
        Some(_) => Ok(key),
        None => Err(ControlError::missing(format!(
            "no cluster {cluster} in {}; create it with POST /control/clusters",
            key.region
        ))),
    }
}
