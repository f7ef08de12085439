//! A deterministic world of processes: one thread, virtual time, every choice drawn from one seed. Stands on `openraft-rt-sim`, to which it
//! adds processes: tasks that share a fate, so that a node can be killed between any two steps, or held like one that gets SIGSTOP.

mod process;
mod runtime;
pub mod time;
pub mod watch;

pub use process::{Process, after_each_step, panics};
pub use runtime::{JoinError, JoinHandle, Simulated, Simulation, spawn, spawn_blocking, spawn_outside};
