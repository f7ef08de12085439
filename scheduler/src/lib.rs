//! The daemon scheduler: exactly one task of an environment on every instance that matches. It is also the reference for schedulers of a
//! user's own.
//!
//! A tour, in the order of the data:
//! - [`mirror`]: the state's records as plain values, kept current by watch;
//! - [`planner`]: a pure function from those to a [`planner::Plan`]; its plans are committed as text under `tests/plans/`;
//! - [`executor`]: carries a plan out by the launch protocol, over two traits: [`executor::proposer::Proposer`] (consensus and state) and
//!   [`executor::launcher::Launcher`] (ECS);
//! - [`duty`]: the loop of a leader: follow, plan, execute, under one session;
//! - [`counts`]: what is shown of an environment.
//!
//! **The promise.** Never two tasks of an environment on one instance, except where an answer was lost *and* the listing lagged, or a call
//! reached ECS over 60 s after its deadline (a paused process): then a double is stopped (the younger) within one reconcile, counted and
//! shown.

pub mod counts;
pub mod duty;
pub mod executor;
pub mod limits;
pub mod metrics;
pub mod mirror;
pub mod names;
pub mod planner;

pub use counts::{EnvironmentSummary, FailedInstance, summary};
pub use duty::{Context, DutyEnd, run};
pub use executor::Surroundings;
pub use limits::Limits;
pub use metrics::Metrics;
