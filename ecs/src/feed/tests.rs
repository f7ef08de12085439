//! The feed against a fake queue and a fake state: what is deleted, when, and what comes back.

use std::sync::atomic::Ordering;

use blox_raft::ProposeError;
use blox_store::proto::{ResourceKind, command::Operation};
use tokio_util::sync::CancellationToken;

use super::batch::{COMMAND_BYTES_MAX, COMMAND_OBSERVATIONS_MAX, observation_bytes};
use super::*;
use crate::testing::{FakeEcs, FakeQueue, FakeState, config, source, task_arn, task_event};

/// A feed that runs until the test ends it.
struct Running {
    queue: Arc<FakeQueue>,
    state: Arc<FakeState>,
    source: Arc<Source>,
    cancel: CancellationToken,
    duty: tokio::task::JoinHandle<DutyEnd>,
}

fn run(queue: &Arc<FakeQueue>, state: &Arc<FakeState>) -> Running {
    // Without clusters, reconcile has nothing to do.
    let source = source(config(), FakeEcs::new(), Some(queue.clone()));
    let cancel = CancellationToken::new();
    let duty = tokio::spawn(crate::run_duty(source.clone(), state.clone(), cancel.clone()));
    Running {
        queue: queue.clone(),
        state: state.clone(),
        source,
        cancel,
        duty,
    }
}

impl Running {
    async fn until(&self, what: &str, reached: impl Fn(&Running) -> bool) {
        for _ in 0..60_000 {
            if reached(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never came: {what}");
    }

    async fn stop(self) -> DutyEnd {
        self.cancel.cancel();
        self.duty.await.expect("the duty does not panic")
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.source.metrics().value(name, labels)
    }
}

fn observe_sizes(state: &FakeState) -> Vec<usize> {
    let held = state.held.lock();
    let sizes = held.commands.iter().filter_map(|command| match &command.operation {
        Some(Operation::Observe(observe)) => Some(observe.observations.len()),
        _ => None,
    });
    sizes.collect()
}

/// Nothing is deleted while its command is not applied, however long that takes; everything is, afterwards, and nothing is delivered twice
/// meanwhile because what is pending stays hidden.
#[tokio::test(start_paused = true)]
async fn a_message_is_deleted_only_after_its_command_is_applied() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    *state.delay.lock() = Duration::from_secs(25);
    for number in 0..50 {
        queue.send(task_event("prod", &format!("t{number}"), 1));
    }
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(24)).await;
    assert_eq!(queue.deleted(), 0);
    assert_eq!(queue.deliveries_max(), 1, "a pending message became visible");
    assert!(running.metric("blox_sqs_extended_total", &[]) > 0.0);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    assert_eq!(state.arns(ResourceKind::Task).len(), 50);
    assert_eq!(queue.deleted(), 50);
    assert_eq!(running.stop().await, DutyEnd::Cancelled);
}

/// However many messages wait, the calls that hide them anew, and those that hand them back, are bounded; all of them are made.
#[tokio::test(start_paused = true)]
async fn hiding_and_handing_back_are_bounded() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    *state.delay.lock() = Duration::from_secs(3_600);
    for number in 0..2_000 {
        queue.send(task_event("prod", &format!("t{number}"), 1));
    }
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.deliveries_max(), 1, "a pending message became visible");
    assert!(running.metric("blox_sqs_extended_total", &[]) >= 2_000.0);
    running.stop().await;
    assert_eq!(queue.visible(), 2_000);
    assert_eq!(queue.extensions_at_once_max(), VISIBILITY_CALLS_MAX);
}

/// Many messages travel in few commands of at most 1,000 observations, under the duty's session; each is applied and deleted once.
#[tokio::test(start_paused = true)]
async fn what_waits_together_travels_as_one_command() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    *state.delay.lock() = Duration::from_millis(500);
    for number in 0..3_000 {
        queue.send(task_event("prod", &format!("t{number}"), 1));
    }
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    let sizes = observe_sizes(&state);
    assert_eq!(sizes.iter().sum::<usize>(), 3_000);
    assert!(sizes.len() < 40, "{} commands: {sizes:?}", sizes.len());
    assert!(sizes.iter().all(|size| *size <= COMMAND_OBSERVATIONS_MAX));
    assert!(state.held.lock().commands.iter().all(|command| command.session == 7));
    assert_eq!(
        running.metric("blox_events_total", &[("type", "task"), ("outcome", "applied")]),
        3_000.0
    );
    assert_eq!(running.metric("blox_sqs_deleted_total", &[]), 3_000.0);
    running.stop().await;
}

/// Commands stay within a megabyte, except where one message alone has more.
#[tokio::test(start_paused = true)]
async fn commands_are_bounded_in_bytes() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    let filler = format!(r#""filler":"{}","lastStatus""#, "x".repeat(300 << 10));
    for number in 0..20 {
        queue.send(task_event("prod", &format!("t{number}"), 1).replace(r#""lastStatus""#, &filler));
    }
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    for command in &state.held.lock().commands {
        if let Some(Operation::Observe(observe)) = &command.operation {
            assert!(observe.observations.iter().map(observation_bytes).sum::<usize>() <= COMMAND_BYTES_MAX);
        }
    }
    running.stop().await;
}

/// What the state holds already is deleted without being proposed, and counted.
#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_never_proposed() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    state.put(ResourceKind::Task, "prod", &task_arn("prod", "t1"));
    queue.send(task_event("prod", "t1", 1));
    queue.send(task_event("prod", "t1", 0));
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    assert_eq!(running.metric("blox_events_total", &[("outcome", "duplicate")]), 1.0);
    assert_eq!(running.metric("blox_events_total", &[("outcome", "stale")]), 1.0);
    // The replicated counters come to know of them, with at most a command a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(observe_sizes(&state).iter().all(|size| *size == 0));
    assert!(observe_sizes(&state).len() <= 2);
    assert_eq!(state.held.lock().dropped, [0, 1, 1, 0]);
    running.stop().await;
}

/// Poison goes into quarantine with its body and reason, then out of the queue; what is good in the same message is applied; unknown types
/// are counted and go. The queue never stops for any of them.
#[tokio::test(start_paused = true)]
async fn poison_is_quarantined_and_the_queue_goes_on() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    queue.send("no JSON");
    queue.send(format!("[{},7]", task_event("prod", "beside", 1)));
    queue.send(r#"{"detail-type":"ECS Service Action","source":"aws.ecs","detail":{}}"#);
    queue.send(task_event("prod", "t1", 1).replace(r#""detail":{"#, r#""detail":{"unreadable":1,"#));
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    running
        .until("counted", |running| running.state.held.lock().dropped[0] == 1)
        .await;
    let quarantine = state.held.lock().quarantine.clone();
    let mut bodies: Vec<_> = quarantine
        .iter()
        .map(|one| String::from_utf8_lossy(&one.body).into_owned())
        .collect();
    bodies.sort();
    assert_eq!(bodies.len(), 3, "{bodies:?}");
    assert!(bodies.contains(&"no JSON".to_string()));
    assert!(
        quarantine
            .iter()
            .all(|one| !one.reason.is_empty() && !one.message_id.is_empty())
    );
    assert_eq!(
        state.arns(ResourceKind::Task),
        [task_arn("prod", "beside"), task_arn("prod", "t1")]
    );
    running.stop().await;
}

/// A proposal whose outcome is unknown is proposed again: what arrives twice changes nothing, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn unknown_outcomes_are_proposed_again() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    let unknown = ProposeError::Unknown {
        waited: Duration::from_secs(1),
        cause: "the test".into(),
    };
    state
        .failures
        .lock()
        .extend([ProposeError::NoLeader, unknown, ProposeError::Overloaded]);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    assert!(state.holds(ResourceKind::Task, &task_arn("prod", "t1")));
    running.stop().await;
}

/// While nothing can be proposed, messages are held and stay hidden, however long that takes; then they are applied.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_proposed_is_held() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    let failures = (0..60).map(|number| match number % 2 {
        0 => ProposeError::NoLeader,
        _ => ProposeError::Overloaded,
    });
    state.failures.lock().extend(failures);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(queue.deliveries_max(), 1, "it became visible");
    assert_eq!(queue.deleted(), 0);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    assert!(state.holds(ResourceKind::Task, &task_arn("prod", "t1")));
    assert_eq!(running.metric("blox_sqs_abandoned_total", &[]), 0.0);
    running.stop().await;
}

/// A command larger than an entry is tried message by message; the one that is too large alone goes into quarantine.
#[tokio::test(start_paused = true)]
async fn a_message_too_large_for_an_entry_goes_into_quarantine() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    let too_large = || ProposeError::TooLarge { bytes: 9, limit: 8 };
    // The command of both, then the first alone.
    state.failures.lock().extend([too_large(), too_large()]);
    queue.send(task_event("prod", "t1", 1));
    queue.send(task_event("prod", "t2", 1));
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    assert_eq!(state.arns(ResourceKind::Task), [task_arn("prod", "t2")]);
    assert_eq!(state.held.lock().quarantine.len(), 1);
    running.stop().await;
}

/// A deletion that fails does no harm: the message comes back, changes nothing, and goes.
#[tokio::test(start_paused = true)]
async fn a_failed_deletion_is_harmless() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    queue.fail_deletions(1);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    assert_eq!(running.metric("blox_sqs_delete_failures_total", &[]), 1.0);
    assert_eq!(running.metric("blox_events_total", &[("outcome", "duplicate")]), 1.0);
    assert_eq!(observe_sizes(&state).iter().sum::<usize>(), 1);
    running.stop().await;
}

/// Without a recent quorum nothing is received; with one again, at once.
#[tokio::test(start_paused = true)]
async fn nothing_is_received_without_a_quorum() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    state.has_quorum.store(false, Ordering::Relaxed);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(queue.receives(), 0);
    state.has_quorum.store(true, Ordering::Relaxed);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    running.stop().await;
}

/// A stale session ends the duty, and what it had received is visible to the next leader at once.
#[tokio::test(start_paused = true)]
async fn a_stale_session_ends_the_duty_and_hands_messages_back() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    state.session_is_stale.store(true, Ordering::Relaxed);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    let end = running.duty.await.expect("the duty does not panic");
    assert!(matches!(end, DutyEnd::SessionOver(_)), "{end:?}");
    assert_eq!(queue.visible(), 1);
    assert_eq!(queue.deleted(), 0);
}

/// A queue that does not exist is asked for with growing pauses, and used when it is there.
#[tokio::test(start_paused = true)]
async fn a_missing_queue_is_tried_again() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    queue.set_missing(true);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(queue.receives() < 80, "{} receives in two minutes", queue.receives());
    queue.set_missing(false);
    running.until("all deleted", |running| running.queue.is_empty()).await;
    running.stop().await;
}

/// The watermark follows an idle queue, at most once a second, and stops where a message is not applied.
#[tokio::test(start_paused = true)]
async fn the_watermark_is_reported_when_it_moves() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let marks: Vec<i64> = state
        .held
        .lock()
        .reports
        .iter()
        .map(|report| report.watermark_ms)
        .filter(|mark| *mark > 0)
        .collect();
    let lag_ms = running.state.wall_ms() - marks.last().copied().unwrap_or(0);
    assert!(marks.is_sorted() && !marks.is_empty(), "{marks:?}");
    assert!(lag_ms <= 5_000, "an idle queue shows a lag of {lag_ms} ms");
    assert!(marks.len() <= 60);
    running.stop().await;
}

/// Only one poll asks an idle queue; all do as soon as messages come in.
#[tokio::test(start_paused = true)]
async fn an_idle_queue_costs_one_poll() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let idle = queue.receives();
    assert!((25..=35).contains(&idle), "{idle} receives in a minute");
    for number in 0..40 {
        queue.send(task_event("prod", &format!("t{number}"), 1));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(queue.receives() >= idle + 7, "the other polls did not help");
    running.stop().await;
}

/// The duty ends at once when it is told to, even in the middle of a long poll and a slow proposal.
#[tokio::test(start_paused = true)]
async fn it_stops_at_once() {
    let (queue, state) = (FakeQueue::new(), FakeState::new());
    *state.delay.lock() = Duration::from_secs(3_600);
    queue.send(task_event("prod", "t1", 1));
    let running = run(&queue, &state);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    assert_eq!(running.stop().await, DutyEnd::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(queue.visible(), 1);
}
