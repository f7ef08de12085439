//! The scheduler's integration tests.
//!
//! - [`plans`]: plans as text, one file a scenario under `tests/plans/`;
//! - [`promises`]: the whole of it (planner, executor, state) against a fleet that misbehaves, at random;
//! - [`protocol`]: the launch protocol, step by step;
//! - [`duty`]: the loop of a leader, in virtual time;
//! - [`summaries`]: the counters.

// Time and spawning come in from outside: here is the outside.
#![allow(clippy::disallowed_methods)]

mod duty;
mod fleet;
mod plans;
mod promises;
mod protocol;
mod restored;
mod scene;
mod state;
mod summaries;
mod world;
