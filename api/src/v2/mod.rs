//! Everything newer than the old contract: JSON, problems as errors, every field that ECS sent.

mod cluster;
mod environment_body;
mod environments;
mod feed;
mod json;
mod kv;
mod kv_list;
mod members;
mod models;
mod preconditions;
mod request;
mod resources;
mod snapshot;
mod watch;
mod watch_event;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::state::ApiState;

/// Key and ARN parts are wildcards: both may hold slashes, raw or percent-encoded.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/v2/cluster", get(cluster::show))
        .route("/v2/tasks", get(resources::list_tasks))
        .route("/v2/tasks/{*arn}", get(resources::get_task))
        .route("/v2/instances", get(resources::list_instances))
        .route("/v2/instances/{*arn}", get(resources::get_instance))
        .route("/v2/clusters", get(resources::list_clusters))
        .route("/v2/clusters/{*arn}", get(resources::get_cluster))
        .route("/v2/environments", get(environments::list))
        .route(
            "/v2/environments/{name}",
            get(environments::get)
                .put(environments::put)
                .delete(environments::delete),
        )
        .route("/v2/environments/{name}/deployments", get(environments::deployments))
        .route("/v2/members", get(members::list))
        .route("/v2/members/{name}", delete(members::remove))
        .route("/v2/members/{name}/replace", post(members::replace))
        .route("/v2/members/{name}/promote", post(members::promote))
        .route("/v2/snapshot", get(snapshot::save))
        .route("/v2/watch", get(watch::watch))
        .route("/v2/feed", get(feed::show))
        .route("/v2/feed/quarantine", get(feed::quarantine))
        .route("/v2/kv", get(kv_list::list))
        .route("/v2/kv/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
}
