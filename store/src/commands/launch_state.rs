//! The states of a launch, as one pure function.
//!
//! A launch is one attempt to start one task on one instance. ECS offers no token that would make StartTask safe to repeat, so an attempt
//! whose answer is lost stays open, `UNKNOWN`, and holds its instance until an answer or a look-up binds it to its task, or until two
//! look-ups found nothing, the second long enough after the call could last have been made.

use crate::proto::{LaunchRecord, LaunchRejection, LaunchState};

/// How long after the call's deadline a look-up that finds nothing may be believed: listings lag behind.
pub(super) const BELIEVE_EMPTY_LOOKUP_AFTER_DEADLINE_MS: u64 = 60_000;

/// What can happen to a launch.
#[derive(Clone, Copy, Debug)]
pub(super) enum LaunchEvent<'a> {
    /// A new session began: whether the call was made is not known.
    TakenOver,
    /// Its task is this one, by the call's answer or by a look-up.
    Bound { task_arn: &'a str },
    /// ECS definitely refused the call. Only the session that made it can know.
    Rejected {
        rejection: &'a LaunchRejection,
        session: u64,
    },
    /// The call was made, or not; nobody knows.
    Unknown { reason: &'a str },
    /// A look-up found no task that could be its own.
    LookupEmpty,
}

/// Whether the launch holds its instance.
pub(super) fn is_open(launch: &LaunchRecord) -> bool {
    matches!(launch.state(), LaunchState::Intended | LaunchState::Unknown)
}

/// The launch after the event; `None` where it changes nothing: late, repeated, or of another session.
pub(super) fn after(launch: &LaunchRecord, event: LaunchEvent<'_>, now_elapsed_ms: u64) -> Option<LaunchRecord> {
    let is_intended = launch.state() == LaunchState::Intended;
    if !is_open(launch) {
        return None;
    }
    match event {
        LaunchEvent::TakenOver => {
            is_intended.then(|| unknown(launch, "its session ended before an outcome was recorded"))
        }
        LaunchEvent::Unknown { reason } => is_intended.then(|| unknown(launch, reason)),
        LaunchEvent::Bound { task_arn } => Some(LaunchRecord {
            task_arn: task_arn.to_owned(),
            reason: String::new(),
            ..closed(launch, LaunchState::Bound, now_elapsed_ms)
        }),
        LaunchEvent::Rejected { rejection, session } => (session == launch.session).then(|| LaunchRecord {
            reason: rejection.reason.clone(),
            detail: rejection.detail.clone(),
            retry_at_elapsed_ms: rejection.retry_at_elapsed_ms,
            ..closed(launch, LaunchState::Rejected, now_elapsed_ms)
        }),
        LaunchEvent::LookupEmpty => (!is_intended)
            .then(|| after_empty_lookup(launch, now_elapsed_ms))
            .flatten(),
    }
}

fn after_empty_lookup(launch: &LaunchRecord, now_elapsed_ms: u64) -> Option<LaunchRecord> {
    let first = launch.first_empty_lookup_elapsed_ms;
    if first == 0 {
        // 0 means that none was made yet.
        return Some(LaunchRecord {
            first_empty_lookup_elapsed_ms: now_elapsed_ms.max(1),
            ..launch.clone()
        });
    }
    let believable_at = launch
        .call_deadline_elapsed_ms
        .saturating_add(believe_empty_lookup_after_deadline_ms());
    let is_second = now_elapsed_ms > first;
    (is_second && now_elapsed_ms >= believable_at).then(|| closed(launch, LaunchState::Vanished, now_elapsed_ms))
}

/// A minute; in a build with crash points, what the point says that shortens the scheduler's wait too, on every node alike.
fn believe_empty_lookup_after_deadline_ms() -> u64 {
    fail::fail_point!("launch::close-after-deadline-ms", |given| given
        .and_then(|text| text.parse().ok())
        .unwrap_or(BELIEVE_EMPTY_LOOKUP_AFTER_DEADLINE_MS));
    BELIEVE_EMPTY_LOOKUP_AFTER_DEADLINE_MS
}

fn unknown(launch: &LaunchRecord, reason: &str) -> LaunchRecord {
    LaunchRecord {
        state: LaunchState::Unknown as i32,
        reason: reason.to_owned(),
        ..launch.clone()
    }
}

fn closed(launch: &LaunchRecord, state: LaunchState, now_elapsed_ms: u64) -> LaunchRecord {
    LaunchRecord {
        state: state as i32,
        ended_at_elapsed_ms: now_elapsed_ms,
        ..launch.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: u64 = 3;
    const DEADLINE: u64 = 10_000;
    const FIRST_LOOKUP: u64 = 20_000;
    const BELIEVABLE: u64 = DEADLINE + BELIEVE_EMPTY_LOOKUP_AFTER_DEADLINE_MS;

    fn launch(state: LaunchState, first_empty_lookup_elapsed_ms: u64) -> LaunchRecord {
        LaunchRecord {
            id: "launch".into(),
            state: state as i32,
            session: SESSION,
            call_deadline_elapsed_ms: DEADLINE,
            first_empty_lookup_elapsed_ms,
            failures: 2,
            ..LaunchRecord::default()
        }
    }

    /// Every state against every event: which state follows, or that nothing changes.
    #[test]
    fn the_whole_table() {
        use LaunchState::{Bound, Intended, Rejected, Unknown, Vanished};
        let rejection = LaunchRejection {
            reason: "RESOURCE:CPU".into(),
            detail: "d".into(),
            retry_at_elapsed_ms: 99,
        };
        let refused = |session| LaunchEvent::Rejected {
            rejection: &rejection,
            session,
        };
        let bound = LaunchEvent::Bound { task_arn: "task" };
        let lost = LaunchEvent::Unknown { reason: "timed out" };
        let empty = LaunchEvent::LookupEmpty;
        let taken = LaunchEvent::TakenOver;
        let none = 0;
        #[rustfmt::skip]
        let table = [
            // state,   first empty look-up, event, now, state after
            (Intended, none, taken, 5, Some(Unknown)),
            (Intended, none, bound, 5, Some(Bound)),
            (Intended, none, refused(SESSION), 5, Some(Rejected)),
            (Intended, none, refused(SESSION + 1), 5, None),
            (Intended, none, lost, 5, Some(Unknown)),
            (Intended, none, empty, BELIEVABLE, None),
            (Unknown, none, taken, 5, None),
            (Unknown, none, bound, 5, Some(Bound)),
            (Unknown, FIRST_LOOKUP, bound, 5, Some(Bound)),
            (Unknown, none, refused(SESSION), 5, Some(Rejected)),
            (Unknown, none, refused(SESSION + 1), 5, None),
            (Unknown, none, lost, 5, None),
            (Unknown, none, empty, 5, Some(Unknown)),
            (Unknown, none, empty, BELIEVABLE, Some(Unknown)),
            (Unknown, FIRST_LOOKUP, empty, FIRST_LOOKUP, None),
            (Unknown, FIRST_LOOKUP, empty, BELIEVABLE - 1, None),
            (Unknown, FIRST_LOOKUP, empty, BELIEVABLE, Some(Vanished)),
            (Unknown, BELIEVABLE, empty, BELIEVABLE, None),
            (Unknown, BELIEVABLE, empty, BELIEVABLE + 1, Some(Vanished)),
        ];
        for (number, (state, first_lookup, event, now, expected)) in table.into_iter().enumerate() {
            let next = after(&launch(state, first_lookup), event, now);
            assert_eq!(
                next.as_ref().map(LaunchRecord::state),
                expected,
                "line {number}: {state:?} and {event:?} at {now}"
            );
        }
        for state in [Rejected, Bound, Vanished] {
            for event in [taken, bound, refused(SESSION), lost, empty] {
                assert_eq!(
                    after(&launch(state, FIRST_LOOKUP), event, BELIEVABLE),
                    None,
                    "{state:?} is closed for {event:?}"
                );
            }
        }
    }

    #[test]
    fn outcomes_leave_what_the_next_attempt_needs() {
        // `failures` stays what it was before this attempt: the scheduler judges which reasons count.
        let rejection = LaunchRejection {
            reason: "AGENT".into(),
            detail: "d".into(),
            retry_at_elapsed_ms: 99,
        };
        let event = LaunchEvent::Rejected {
            rejection: &rejection,
            session: SESSION,
        };
        let rejected = after(&launch(LaunchState::Intended, 0), event, 7).expect("closed");
        assert_eq!(
            (
                rejected.failures,
                rejected.retry_at_elapsed_ms,
                rejected.ended_at_elapsed_ms
            ),
            (2, 99, 7)
        );
        assert_eq!((rejected.reason.as_str(), rejected.detail.as_str()), ("AGENT", "d"));
        let bound = after(
            &launch(LaunchState::Unknown, 0),
            LaunchEvent::Bound { task_arn: "task" },
            8,
        )
        .expect("closed");
        assert_eq!(
            (bound.task_arn.as_str(), bound.ended_at_elapsed_ms, bound.failures),
            ("task", 8, 2)
        );
        let looked = after(&launch(LaunchState::Unknown, 0), LaunchEvent::LookupEmpty, 0).expect("noted");
        assert_eq!(looked.first_empty_lookup_elapsed_ms, 1);
    }
}
