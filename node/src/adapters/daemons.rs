//! The scheduler's counters for the routes.

use std::sync::Arc;

use blox_api::{DaemonSummaries, EnvironmentSummary, FailedInstance};
use blox_raft::Clock;
use blox_store::proto::EnvironmentRecord;
use blox_store::{StoreError, View};

/// Counted by the scheduler's own planner, so that what is shown is what it acts on.
pub struct Planned {
    /// Tells when a next attempt is, in the reader's time.
    pub clock: Arc<dyn Clock>,
}

impl DaemonSummaries for Planned {
    fn summary(&self, view: &View, environment: &EnvironmentRecord) -> Result<EnvironmentSummary, StoreError> {
        let counted = blox_scheduler::summary(view, environment)?;
        let (elapsed_ms, wall_ms) = (view.elapsed_ms(), self.clock.wall_ms());
        let failed = counted.failed.into_iter().map(|failed| FailedInstance {
            instance_arn: failed.instance_arn,
            reason: failed.reason,
            retry_at_ms: wall_time_of(failed.retry_at_elapsed_ms, elapsed_ms, wall_ms),
        });
        Ok(EnvironmentSummary {
            desired: counted.desired,
            current: counted.current,
            ready: counted.ready,
            updated: counted.updated,
            available: counted.available,
            unavailable: counted.unavailable,
            misscheduled: counted.misscheduled,
            failed: failed.collect(),
        })
    }
}

/// A moment of the replicated clock on this machine's wall clock; 0 is no moment.
fn wall_time_of(at_elapsed_ms: u64, now_elapsed_ms: u64, wall_ms: i64) -> Option<i64> {
    if at_elapsed_ms == 0 {
        return None;
    }
    let ahead_ms = i64::try_from(at_elapsed_ms)
        .ok()?
        .checked_sub(i64::try_from(now_elapsed_ms).ok()?)?;
    wall_ms.checked_add(ahead_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lies ahead on the replicated clock lies as far ahead on the wall's.
    #[test]
    fn moments_keep_their_distance() {
        assert_eq!(wall_time_of(0, 500, 1_000_000), None);
        assert_eq!(wall_time_of(1_500, 500, 1_000_000), Some(1_001_000));
        assert_eq!(wall_time_of(400, 500, 1_000_000), Some(999_900));
    }
}
