//! Time, tasks, random numbers and watch channels, as consensus, state, feed and scheduler get them from outside.
//!
//! In a node these are tokio's own, re-exported: the seam costs nothing. What runs below `node` names them by this crate only (a test of
//! `node` holds that), so that with the feature `simulation` the same code runs in a deterministic world of virtual time ([`simulated`]).
//! Only the package `simulation` turns it on, which is no member of the workspace: a node never has it.
//!
//! What needs no seam: tokio's mpsc, oneshot, semaphore and notify wake in the order of waiting and need no runtime. `tokio::select!` must
//! say `biased`, since it draws lots otherwise; so does tokio's watch, for which [`watch`] stands.

pub mod random;
#[cfg(feature = "simulation")]
pub mod simulated;
#[cfg(feature = "zoo")]
pub mod zoo;

#[cfg(not(feature = "simulation"))]
pub use tokio::{
    sync::watch,
    task::{JoinHandle, spawn, spawn_blocking},
};

#[cfg(feature = "simulation")]
pub use simulated::{JoinHandle, spawn, spawn_blocking, time, watch};

/// The monotonic clock and waiting for it.
#[cfg(not(feature = "simulation"))]
pub mod time {
    pub use tokio::time::{Instant, Interval, Sleep, interval, sleep, sleep_until, timeout, timeout_at};
}
