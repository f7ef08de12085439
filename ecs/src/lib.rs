//! The ECS boundary: what ECS says comes in here, what is asked of it goes out here. The only crate that names the AWS SDK.
//!
//! A tour:
//! - [`SourceConfig`], [`Source`]: one account and region; what the scheduler and the API ask of ECS;
//! - [`run_source`]: the leader duty of one source, feed and reconcile, under one session;
//! - [`events`]: decoding what arrives on the queue, leniently and as received;
//! - `feed`: long polls -> one command for what waits -> apply -> delete, in this order and no other;
//! - `reconcile`: List and Describe against the state, cluster by cluster, within the call budget; absence asked twice;
//! - [`budget`]: token buckets as ECS' own; [`CallError`]: refused, not sent, or unknown;
//! - [`EcsApi`], [`Queue`], [`ReplicatedState`]: the three things the crate stands on, as traits, so that all of the above runs on fakes.

mod answer;
#[cfg(feature = "aws")]
mod aws;
pub mod budget;
mod client;
mod config;
mod duty;
mod error;
pub mod events;
mod feed;
mod metrics;
mod queue;
pub mod reads;
mod reconcile;
mod request;
mod source;
mod state;
#[cfg(test)]
mod testing;

pub use answer::{Described, Failure, REASON_MISSING, TaskDefinition};
pub use client::EcsClient;
pub use config::{ClusterFilter, RECONCILE_PAUSE_MS_DEFAULT, SOURCE_NAME_CHARACTERS_MAX, SourceConfig};
pub use duty::{DutyContext, run_duty, run_source};
pub use error::CallError;
pub use metrics::{EcsMetrics, Sample};
pub use queue::{Message, QUEUE_BATCH_MESSAGES_MAX, Queue, ReceiptHandle, ReceiveOptions};
pub use request::{DESCRIBE_ARNS_MAX, EcsApi, EcsRequest, START_INSTANCES_MAX, StartTasks, TaskListing};
pub use source::{Source, StartAnswer};
pub use state::{DutyEnd, Effect, KnownResource, ReplicatedState};
