//! Time comes in from outside, so that the same scheduler runs in simulation.

use std::time::Duration;

use futures::future::BoxFuture;

/// Where the scheduler waits.
pub trait Timer: Send + Sync + 'static {
    /// Resolves after that time on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Tokio's timer.
pub struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(blox_runtime::time::sleep(duration))
    }
}
