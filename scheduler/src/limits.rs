//! Every limit of the scheduler, with its unit. The defaults are what production runs with; tests shorten them.

/// ECS takes at most this many instances in one StartTask.
pub const INSTANCES_PER_START_CALL: usize = 10;
/// ECS describes at most this many tasks in one DescribeTasks.
pub const TASKS_PER_DESCRIBE_CALL: usize = 100;
/// Launches in one `IntendLaunches`, and stops in one `IntendStops`: keeps a command far below an entry's 1 MiB, and one slow call from
/// holding back a whole fleet.
pub const ACTIONS_PER_COMMAND: usize = 50;
/// Calls to ECS that one piece of work makes at the same time.
pub const CALLS_IN_FLIGHT_PER_WORK: usize = 5;
/// Pieces of work (each one command of intents and its calls) that run at the same time.
pub const WORKS_IN_FLIGHT: usize = 32;
/// Of them, how many may call one source: a region that hangs, and a second and a third, leave room for the others.
pub const WORKS_IN_FLIGHT_PER_SOURCE: usize = 8;
/// Of them, how many one environment may have.
pub const WORKS_IN_FLIGHT_PER_ENVIRONMENT: usize = 4;

/// Times of the scheduler, all in milliseconds of the replicated clock unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From an intent to the latest moment its call may be made; what is not sent by then is not sent at all. 20 s.
    pub call_deadline_ms: u64,
    /// Greatest age of the leader check at the moment a call leaves. 1 s.
    pub leader_check_age_ms: u64,
    /// Longest wait for the leader check's answer. 1 s.
    pub leader_check_wait_ms: u64,
    /// From the call's deadline to the earliest look-up that may close a launch as never made. 60 s: the store refuses to close one sooner.
    pub close_after_deadline_ms: u64,
    /// Between two look-ups of one launch: ECS lists lag. 5 s.
    pub look_up_gap_ms: u64,
    /// From a call's deadline until an intent without an outcome is taken as unknown (a launch) or asked again (a stop). 10 s.
    pub abandoned_after_ms: u64,
    /// A task that ran at least this long did not fail, whatever ended it (by ECS's own clock). 60 s.
    pub healthy_run_ms: u64,
    /// Least time between two plans. 50 ms: what happens within it is planned together.
    pub plan_interval_ms: u64,
    /// Everything is planned anew at least this often, whatever changed. 10 s.
    pub resync_interval_ms: u64,
    /// While a cluster waits to be reconciled after a restore, it is looked for the end of that at least this often. 1 s.
    pub held_look_interval_ms: u64,
    /// A slot whose work failed (not its launch: the command, the look-up) is left alone this long. 2 s.
    pub work_retry_ms: u64,
    /// Longest wait for one proposal's outcome. 5 s.
    pub propose_wait_ms: u64,
}

impl Limits {
    /// The defaults; in a build with crash points, three waits that are long for a test are what the point of their name says instead
    /// (`launch::call-deadline-ms=return(2000)`), on every node alike.
    pub fn in_force() -> Limits {
        let limits = Limits::default();
        Limits {
            call_deadline_ms: shortened("launch::call-deadline-ms", limits.call_deadline_ms),
            close_after_deadline_ms: shortened("launch::close-after-deadline-ms", limits.close_after_deadline_ms),
            look_up_gap_ms: shortened("launch::look-up-gap-ms", limits.look_up_gap_ms),
            ..limits
        }
    }
}

fn shortened(point: &'static str, milliseconds: u64) -> u64 {
    // Without crash points nothing else names it.
    let _ = point;
    fail::fail_point!(point, |given| given
        .and_then(|text| text.parse().ok())
        .unwrap_or(milliseconds));
    milliseconds
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            call_deadline_ms: 20_000,
            leader_check_age_ms: 1_000,
            leader_check_wait_ms: 1_000,
            close_after_deadline_ms: 60_000,
            look_up_gap_ms: 5_000,
            abandoned_after_ms: 10_000,
            healthy_run_ms: 60_000,
            plan_interval_ms: 50,
            resync_interval_ms: 10_000,
            held_look_interval_ms: 1_000,
            work_retry_ms: 2_000,
            propose_wait_ms: 5_000,
        }
    }
}
