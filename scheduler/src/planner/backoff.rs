//! How long a slot is left alone after a failed launch, by reason.

use crate::names::DeploymentId;
use crate::planner::input::{Launch, LaunchProgress, Task};

/// The first wait after a failure, milliseconds.
const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait, milliseconds.
const LONGEST_WAIT_MS: u64 = 15 * 60 * 1_000;
/// The first wait where the instance itself does not suit the task: that seldom changes by itself. Milliseconds.
const FIRST_WAIT_UNSUITABLE_MS: u64 = 60_000;
/// The longest wait where ECS could not be reached or asked us to slow down, milliseconds.
const LONGEST_WAIT_UNREACHABLE_MS: u64 = 60_000;
/// The wait after AGENT: the agent is expected back, milliseconds.
const WAIT_AGENT_MS: u64 = 5_000;

/// So many attempts in a row whose call never left are repeated after [`FIRST_WAIT_MS`] and not shown as failed: a large roll-out spends the
/// call budget, which refills each second. More of them last.
const NOT_SENT_PASSING_MAX: u32 = 10;

/// Our own reason where the call never left.
pub const REASON_NOT_SENT: &str = "NOT_SENT";
/// What ECS says when StopTask ended a task.
const STOP_CODE_BY_REQUEST: &str = "UserInitiated";
/// Every `reason` we give to StopTask begins with this.
pub const STOP_REASON_PREFIX: &str = "blox: ";

/// What kind of failure a reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// "Not now": tried again soon, and not counted.
    NotNow,
    /// The call never left: no failure of the instance. Counted apart.
    NotSent,
    /// ECS did not get or did not take the call.
    Unreachable,
    /// The instance does not suit the task definition.
    Unsuitable,
    /// Everything else.
    Other,
}

impl FailureKind {
    /// The kind of a launch's reason: a failure reason of StartTask, an error code of the API, or [`REASON_NOT_SENT`].
    pub fn of(reason: &str) -> FailureKind {
        match reason {
            "AGENT" => FailureKind::NotNow,
            REASON_NOT_SENT => FailureKind::NotSent,
            "ThrottlingException" | "ServerException" | "ServiceUnavailable" => FailureKind::Unreachable,
            "ATTRIBUTE" | "LOCATION" => FailureKind::Unsuitable,
            _ => FailureKind::Other,
        }
    }

    /// Whether it makes the next wait longer.
    pub fn counts(self) -> bool {
        !matches!(self, FailureKind::NotNow | FailureKind::NotSent)
    }

    /// The wait after the `failures`-th failure of its kind in a row, milliseconds.
    pub fn wait_ms(self, failures: u32) -> u64 {
        let (first, longest) = match self {
            FailureKind::NotNow => return WAIT_AGENT_MS,
            FailureKind::NotSent => {
                let lasting = failures.saturating_sub(NOT_SENT_PASSING_MAX);
                return FailureKind::Unreachable.wait_ms(lasting + 1);
            }
            FailureKind::Unreachable => (FIRST_WAIT_MS, LONGEST_WAIT_UNREACHABLE_MS),
            FailureKind::Unsuitable => (FIRST_WAIT_UNSUITABLE_MS, LONGEST_WAIT_MS),
            FailureKind::Other => (FIRST_WAIT_MS, LONGEST_WAIT_MS),
        };
        let doublings = failures.saturating_sub(1).min(20);
        (first << doublings).min(longest)
    }
}

/// When and as what the next launch of a slot may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextAttempt {
    /// Failures in a row so far.
    pub failures: u32,
    /// Attempts in a row so far whose call never left.
    pub not_sent: u32,
    /// Not before this; 0: at once.
    pub not_before_elapsed_ms: u64,
    /// What failed last; empty: nothing did.
    pub reason: String,
}

impl NextAttempt {
    const AT_ONCE: NextAttempt = NextAttempt {
        failures: 0,
        not_sent: 0,
        not_before_elapsed_ms: 0,
        reason: String::new(),
    };
}

/// Whether so many attempts in a row whose call never left are more than a spent call budget.
pub fn lasts(not_sent: u32) -> bool {
    not_sent > NOT_SENT_PASSING_MAX
}

/// What the slot's latest launch means for the next. `task`: the task it started, where the state still has it. A new deployment starts
/// afresh: it may well be the cure.
pub fn next_attempt(
    launch: Option<&Launch>,
    task: Option<&Task>,
    deployment: &DeploymentId,
    healthy_run_ms: u64,
) -> NextAttempt {
    let Some(launch) = launch.filter(|launch| launch.deployment == *deployment) else {
        return NextAttempt::AT_ONCE;
    };
    match &launch.state {
        LaunchProgress::Rejected {
            reason,
            detail,
            retry_at_elapsed_ms,
        } => NextAttempt {
            failures: launch.failures + u32::from(FailureKind::of(reason).counts()),
            not_sent: match FailureKind::of(reason) {
                FailureKind::NotSent => launch.not_sent + 1,
                _ => 0,
            },
            not_before_elapsed_ms: *retry_at_elapsed_ms,
            reason: if detail.is_empty() {
                reason.clone()
            } else {
                format!("{reason}: {detail}")
            },
        },
        LaunchProgress::Bound { .. } => match task {
            Some(task) if died_young(task, healthy_run_ms) => after_death(launch, task),
            _ => NextAttempt::AT_ONCE,
        },
        LaunchProgress::Vanished => NextAttempt {
            failures: launch.failures + 1,
            not_sent: 0,
            not_before_elapsed_ms: launch.intended_at_elapsed_ms
                + FailureKind::Unreachable.wait_ms(launch.failures + 1),
            reason: "the call's answer was lost, and no task came of it".to_owned(),
        },
        LaunchProgress::Intended | LaunchProgress::Unknown { .. } => NextAttempt::AT_ONCE,
    }
}

/// A failure: nobody asked for the end, and it came before the task had run for long enough. By ECS's own clock alone.
fn died_young(task: &Task, healthy_run_ms: u64) -> bool {
    let asked = task.stop_code == STOP_CODE_BY_REQUEST || task.stopped_reason.starts_with(STOP_REASON_PREFIX);
    let ran_ms = if task.started_at_ms == 0 {
        0
    } else {
        task.stopped_at_ms - task.started_at_ms
    };
    task.is_stopped() && !asked && ran_ms < i64::try_from(healthy_run_ms).unwrap_or(i64::MAX)
}

/// The wait counts from the death: the intent on the replicated clock plus the task's life on ECS's, so that no clock is read against the
/// other.
fn after_death(launch: &Launch, task: &Task) -> NextAttempt {
    let failures = launch.failures + 1;
    let life_ms = match task.created_at_ms {
        0 => 0,
        created => u64::try_from(task.stopped_at_ms - created).unwrap_or(0),
    };
    let reason = if task.stopped_reason.is_empty() {
        "its task stopped".to_owned()
    } else {
        task.stopped_reason.clone()
    };
    NextAttempt {
        failures,
        not_sent: 0,
        not_before_elapsed_ms: launch.intended_at_elapsed_ms + life_ms + FailureKind::Other.wait_ms(failures),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::{FailureKind, REASON_NOT_SENT};

    /// Proves that waits double from one second to fifteen minutes and stay there.
    #[test]
    fn waits_double_up_to_their_cap() {
        let waits: Vec<u64> = [1, 2, 3, 10, 11, 40, u32::MAX]
            .map(|failures| FailureKind::Other.wait_ms(failures))
            .to_vec();
        assert_eq!(waits, [1_000, 2_000, 4_000, 512_000, 900_000, 900_000, 900_000]);
    }

    /// Proves that a call that never left is no failure of the instance and is repeated each second, until that lasts.
    #[test]
    fn what_was_not_sent_is_not_now() {
        let kind = FailureKind::of(REASON_NOT_SENT);
        assert!(!kind.counts());
        let waits: Vec<u64> = [1, 10, 11, 12, 16, 40, u32::MAX]
            .map(|tries| kind.wait_ms(tries))
            .to_vec();
        assert_eq!(waits, [1_000, 1_000, 2_000, 4_000, 60_000, 60_000, 60_000]);
    }

    /// Proves that an agent that is away is neither counted nor waited for longer and longer.
    #[test]
    fn an_absent_agent_is_not_now() {
        assert!(!FailureKind::of("AGENT").counts());
        assert_eq!(FailureKind::of("AGENT").wait_ms(1), FailureKind::of("AGENT").wait_ms(9));
        assert!(FailureKind::of("RESOURCE:MEMORY").counts());
    }
}
