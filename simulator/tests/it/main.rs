//! Drives the simulator over HTTP, in raw JSON, as an AWS client and a tester would.

mod client;
mod ecs_wire;
mod faults;
mod fleet;
mod lifecycle;
mod queues;
