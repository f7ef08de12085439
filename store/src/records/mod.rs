//! What ECS says, as values: bringing both forms to one shape, merging them, and drawing out what queries and Blox 0.3 need.
//!
//! Everything here is a pure function: values in, values out, no clock and no storage. `apply` uses it to decide what a command changes; the
//! feed and reconcile use [`merge::effect`] to propose only what changes something.
//!
//! - [`normalise`]: events and Describe answers in the API's shape;
//! - [`mod@merge`]: two registers, the newest of each form, and the document shown;
//! - `shown`: what one form lends to the other's document;
//! - [`fields`]: what lists filter by, without parsing JSON;
//! - [`v1_entity`]: the `entity` object of Blox 0.3, byte for byte;
//! - [`arn`]: ARNs and cluster names as types;
//! - [`timestamps`]: epoch seconds and ISO 8601.

pub mod arn;
pub mod fields;
pub mod merge;
pub mod normalise;
mod shown;
pub mod timestamps;
pub mod v1_entity;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod merge_tests;

pub use arn::{ClusterArn, ClusterName, InstanceArn, InvalidArn, TaskArn};
pub use merge::{Effect, Merged, ObservationError};
pub use normalise::Document;
