//! Time of the simulated world: milliseconds since the Unix epoch that never step back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A wall clock read once and carried on by the monotonic one, so that no clock jump disturbs a running fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_epoch_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_epoch_ms: since_epoch.as_millis() as u64,
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started_epoch_ms + self.started.elapsed().as_millis() as u64
    }

    /// The instant at which [`Clock::now_ms`] reaches `at_ms`.
    pub(crate) fn instant_of(&self, at_ms: u64) -> Instant {
        self.started + Duration::from_millis(at_ms.saturating_sub(self.started_epoch_ms))
    }
}

/// RFC 3339 with milliseconds, as ECS writes times in an event's detail.
pub(crate) fn rfc3339(at_ms: u64) -> String {
    jiff::Timestamp::from_millisecond(at_ms as i64).map_or_else(|_| String::new(), |time| time.to_string())
}

/// RFC 3339 in whole seconds, as EventBridge writes the time of its envelope.
pub(crate) fn rfc3339_seconds(at_ms: u64) -> String {
    rfc3339(at_ms - at_ms % 1_000)
}

/// Seconds since the epoch with a fraction, as the JSON 1.1 protocol writes a timestamp.
pub(crate) fn epoch_seconds(at_ms: u64) -> f64 {
    at_ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two spellings of one moment that events carry.
    #[test]
    fn times_are_spelled_as_in_events() {
        assert_eq!(rfc3339(1_747_055_526_053), "2025-05-12T13:12:06.053Z");
        assert_eq!(rfc3339_seconds(1_747_055_526_053), "2025-05-12T13:12:06Z");
    }
}
