//! A stand-in for Amazon ECS and SQS with a living fleet, behind the same wire.
//!
//! The unmodified AWS SDK talks to it through `AWS_ENDPOINT_URL`. It knows nothing of Blox: it judges from outside what
//! reaches ECS, and it can be made to misbehave in the ways the real service does.
//!
//! # Tour
//! - [`Simulator`] binds one port and serves until it is told to stop; [`SimulatorConfig`] says with what it begins.
//! - `server` accepts connections and can close one without an answer; `wire` finds service, operation and region in a request.
//! - `ecs` and `sqs` hold one function an operation: (world, input) -> answer.
//! - `world` is the truth: regions, clusters, instances, tasks, what happens to them and when, and the events this causes.
//!   One mutex guards it, one seeded random generator feeds it, one ordered timer queue moves it.
//! - `settings` is what can be switched while it runs: faults, delays, liveliness. `answers` holds or loses answers.
//! - `judge` counts tasks not yet STOPPED by instance; `journal` keeps what was sent and called.
//! - `control` is the JSON surface under `/control`, described in the crate's README.

mod answers;
mod clock;
mod config;
mod control;
mod ecs;
mod journal;
mod judge;
mod server;
mod settings;
mod simulation;
mod sqs;
mod throttle;
mod wire;
mod world;

pub use config::{Preset, SimulatorConfig, SimulatorError};
pub use server::{Simulator, serve};
