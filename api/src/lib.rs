//! HTTP: the Blox 0.3 contract under `/v1`, everything newer under `/v2`, health and metrics.
//!
//! A tour:
//! - [`ApiState`]: what the routes stand on, put together by the node from [`ApiParts`];
//! - [`router()`] and [`serve`]: the routes, and the loop that serves them on a listener until it is told to stop;
//! - [`Cluster`]: consensus as the routes see it; [`Catalog`]: ECS as they see it; [`DaemonSummaries`]: the scheduler as they see it;
//!   [`Backups`]: the whole state in one file; [`MetricsSource`]: what the rest of the node has to say on `/metrics`;
//! - `v1`: texts, orders and codes of the old contract, matched on the decoded path as its router did;
//! - `v2`: JSON with RFC 9457 problems, paging as one consistent cut, watch, users' keys.
//!
//! A request's way: `server` (how many connections) -> `connection` (HTTP/1.1 or HTTP/2) -> `answer` (request id, answer headers, deadline, metrics) -> a handler -> `reading` (barrier,
//! view) or `writing` (propose) -> body. Lists are written chunk by chunk from the view, as fast as the reader takes them.

mod answer;
mod backups;
mod catalog;
mod cluster;
mod config;
mod connection;
mod daemons;
mod ear;
mod ecs_lag;
mod gathered;
mod health;
mod held;
mod limits;
mod list_body;
pub mod metrics;
mod paging;
mod preface;
mod problem;
mod query;
mod reading;
mod request_body;
mod request_id;
mod router;
mod server;
mod state;
mod streams;
mod under_way;
mod v1;
mod v2;
mod workers;
mod write_stall;
mod writing;

pub use backups::Backups;
pub use catalog::{Catalog, CatalogError, ClusterLookup, TaskDefinitionLookup};
pub use cluster::Cluster;
pub use config::ApiConfig;
pub use daemons::{DaemonSummaries, EnvironmentSummary, FailedInstance};
pub use limits::*;
pub use metrics::{MetricsPage, MetricsSource};
pub use router::router;
pub use server::serve;
pub use state::{ApiParts, ApiState};
