//! The HTTP interface over real sockets, on a state in memory and a stand-in for consensus.

mod client;
mod documents;
mod doubles;
mod health;
mod hostile;
mod http_2;
mod kv;
mod kv_list;
mod members;
mod metrics;
mod node;
mod v1_deployments;
mod v1_environments;
mod v1_resources;
mod v1_routes;
mod v1_streams;
mod v2_environments;
mod v2_feed;
mod v2_resources;
mod v2_snapshot;
mod v2_watch;
