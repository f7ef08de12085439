//! Time comes in from outside, so that the same consensus runs in simulation.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where consensus reads the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock, milliseconds since the epoch: stamped on entries for display only.
    fn wall_ms(&self) -> i64;
    /// Monotonic clock since some fixed start of this process.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts the monotonic clock at zero.
    #[allow(clippy::new_without_default)]
    pub fn new() -> SystemClock {
        SystemClock {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
