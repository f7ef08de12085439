//! The launch protocol, step by step.

use std::sync::atomic::Ordering;

use blox_scheduler::counts::summary_of;
use blox_scheduler::executor::{ExecuteError, LaunchOrder, StopOrder, TaskToStop};
use blox_scheduler::names::ClusterId;
use blox_scheduler::planner::plan;
use blox_scheduler::planner::plan::StopReason;
use blox_store::proto::{LaunchRecord, LaunchState};
use futures::FutureExt;

use crate::fleet::{CLUSTER, Fate, SOURCE};
use crate::world::{ENVIRONMENT, World, definition, instance, tasks_to_stop};

fn world(instances: usize) -> World {
    let world = World::new(1);
    world
        .fleet
        .with(|fleet| (0..instances).for_each(|number| fleet.put_instance(&instance(number), "ACTIVE", true, "ssd")));
    world.tell(usize::MAX);
    world
}

fn launches(world: &World) -> Vec<LaunchRecord> {
    world
        .state
        .store
        .view()
        .and_then(|view| view.launches(ENVIRONMENT))
        .expect("memory does not fail")
}

fn states(world: &World) -> Vec<LaunchState> {
    launches(world).iter().map(LaunchRecord::state).collect()
}

/// Proves that launches go out in calls of ten, and that each is bound to its task, which is in the state by then without any event.
#[test]
fn answered_launches_are_bound() {
    let world = world(23);
    world.step();
    assert_eq!(world.fleet.with(|fleet| fleet.start_calls), 3);
    assert_eq!(states(&world), [LaunchState::Bound; 23]);
    let input = world.input();
    let kept = plan(&input).environments[0].keep.len();
    assert_eq!(kept, 23, "{}", plan(&input));
}

/// Proves that nothing is called for an intent that is not taken, and that the next plan does not repeat it at once.
#[test]
fn an_intent_that_is_not_taken_is_not_called() {
    let mut world = world(1);
    let outdated = plan(&world.input()).environments.remove(0);
    world.update(|spec| spec.task_definition_arn = definition(2));
    let order = LaunchOrder {
        environment: outdated.environment,
        target: outdated.target.expect("it places"),
        placements: outdated.place,
    };
    let end = world.executor().launch(order).now_or_never().expect("nothing waits");
    assert!(matches!(end, Err(ExecuteError::Failed { .. })), "{end:?}");
    assert_eq!(world.fleet.with(|fleet| fleet.start_calls), 0);
    assert_eq!(launches(&world).len(), 0);
}

/// Proves that a task that has become current again between plan and intent is not stopped, and counts for nothing.
#[test]
fn a_stop_that_is_not_taken_is_not_called() {
    let mut world = world(1);
    world.step();
    world.advance(1_000);
    world.tell(usize::MAX);
    world.update(|spec| spec.task_definition_arn = definition(2));
    let outdated = plan(&world.input()).environments.remove(0);
    assert_eq!(outdated.replace.len(), 1, "{outdated:?}");
    world.update(|spec| spec.task_definition_arn = definition(1));
    let order = StopOrder {
        tasks: tasks_to_stop(&outdated),
        environment: outdated.environment,
    };
    let end = world.executor().stop(order).now_or_never().expect("nothing waits");
    assert!(matches!(end, Err(ExecuteError::Failed { .. })), "{end:?}");
    assert_eq!(world.fleet.with(|fleet| fleet.stop_calls), 0);
    assert_eq!(plan(&world.input()).environments[0].keep.len(), 1);
}

/// Proves that stops of an environment that is gone are not called, and that no double is counted for them.
#[test]
fn stops_of_a_gone_environment_are_not_called() {
    let world = world(1);
    world.step();
    let task = world
        .fleet
        .with(|fleet| fleet.tasks.keys().next().cloned().expect("there is one"));
    let order = StopOrder {
        environment: "another".into(),
        tasks: vec![TaskToStop {
            cluster: ClusterId::new(SOURCE, CLUSTER),
            instance: instance(0).as_str().into(),
            task: task.as_str().into(),
            reason: StopReason::Double,
            attempts: 0,
            deployment: None,
        }],
    };
    let end = world.executor().stop(order).now_or_never().expect("nothing waits");
    assert!(matches!(end, Err(ExecuteError::Failed { .. })), "{end:?}");
    assert_eq!(world.fleet.with(|fleet| fleet.stop_calls), 0);
    assert_eq!(world.metrics.doubles_stopped.get(), 0);
}

/// Proves that a call that never left is no failure of its instance: tried again soon, and shown only where that lasts.
#[test]
fn what_was_not_sent_is_tried_again_soon() {
    let world = world(1);
    let failed = || summary_of(&world.input(), &ENVIRONMENT.into()).failed;
    world.state.deposed.store(true, Ordering::SeqCst);
    for round in 1..=10 {
        world.step();
        let launch = launches(&world).remove(0);
        let now = world.state.elapsed_ms.load(Ordering::SeqCst);
        assert_eq!((launch.failures, launch.retry_at_elapsed_ms), (0, now + 1_000));
        assert_eq!((launch.not_sent + 1, failed()), (round, Vec::new()));
        world.advance(1_000);
    }
    world.step();
    assert!(failed()[0].reason.starts_with("NOT_SENT"), "{:?}", failed());
    world.advance(2_000);
    world.state.deposed.store(false, Ordering::SeqCst);
    world.step();
    world.advance(1_000);
    world.tell(usize::MAX);
    assert_eq!((states(&world), failed()), (vec![LaunchState::Bound], Vec::new()));
}

/// Proves that a leader that cannot confirm it leads calls nobody, and says so in the record.
#[test]
fn a_deposed_leader_calls_nobody() {
    let world = world(2);
    world.state.deposed.store(true, Ordering::SeqCst);
    world.step();
    assert_eq!(world.fleet.with(|fleet| fleet.start_calls), 0);
    assert_eq!(states(&world), [LaunchState::Rejected; 2]);
    assert_eq!(launches(&world)[0].reason, "NOT_SENT");
}

/// Proves that a session that is over neither calls nor records anything more: what it left open the next one takes as unknown.
#[test]
fn an_older_session_is_over() {
    let world = world(1);
    let part = plan(&world.input()).environments.remove(0);
    let order = LaunchOrder {
        environment: part.environment,
        target: part.target.expect("it places"),
        placements: part.place,
    };
    world.state.open_session();
    let end = world.executor().launch(order).now_or_never().expect("nothing waits");
    assert!(matches!(end, Err(ExecuteError::SessionOver { .. })), "{end:?}");
    assert_eq!(
        (world.fleet.with(|fleet| fleet.start_calls), launches(&world).len()),
        (0, 0)
    );
}

/// Proves that a lost answer's task is found by the first look-up where the listing shows it, without a second launch.
#[test]
fn a_look_up_binds_a_lost_answer() {
    let world = world(1);
    world.fleet.with(|fleet| fleet.fates.push_back(Fate::AnswerLost));
    world.step();
    assert_eq!(states(&world), [LaunchState::Unknown]);
    world.step();
    assert_eq!(states(&world), [LaunchState::Bound]);
    assert_eq!(
        (world.fleet.with(|fleet| (fleet.start_calls, fleet.list_calls))),
        (1, 1)
    );
}

/// Proves that an event alone binds a lost answer where the listing lags.
#[test]
fn an_event_binds_a_lost_answer() {
    let world = world(1);
    world.fleet.with(|fleet| {
        fleet.fates.push_back(Fate::AnswerLost);
        fleet.listing_lag_ms = u64::MAX / 2;
    });
    world.step();
    world.step();
    assert_eq!(states(&world), [LaunchState::Unknown]);
    world.tell(usize::MAX);
    world.step();
    assert_eq!(states(&world), [LaunchState::Bound]);
}

/// Proves that a lost call is closed by its second empty look-up, not before 60 s after its deadline, and tried again only then.
#[test]
fn a_lost_call_closes_after_two_empty_look_ups() {
    let world = world(1);
    world.fleet.with(|fleet| fleet.fates.push_back(Fate::CallLost));
    world.step();
    world.step();
    let deadline = launches(&world)[0].call_deadline_elapsed_ms;
    let closable_in = deadline + world.limits.close_after_deadline_ms - world.state.elapsed_ms.load(Ordering::SeqCst);
    world.advance(closable_in - 1);
    assert!(world.step().environments[0].look_up.is_empty());
    assert_eq!(states(&world), [LaunchState::Unknown]);
    world.advance(1);
    world.step();
    assert_eq!(states(&world), [LaunchState::Vanished]);
    assert_eq!(world.fleet.with(|fleet| (fleet.start_calls, fleet.list_calls)), (1, 2));
    world.step();
    assert_eq!(states(&world), [LaunchState::Bound]);
}

/// Proves that a call that works only after its launch was closed (a process paused for over a minute) leads to a double whose younger is
/// stopped and counted.
#[test]
fn a_call_beyond_the_promise_is_cleaned_up() {
    let world = world(1);
    world.fleet.with(|fleet| fleet.fates.push_back(Fate::Late(200_000)));
    world.step();
    for _ in 0..60 {
        world.advance(5_000);
        world.tell(usize::MAX);
        world.step();
    }
    let (doubles, live) = world
        .fleet
        .with(|fleet| (fleet.doubles.len(), fleet.live_on(&instance(0), &World::group()).len()));
    assert_eq!((doubles, live), (1, 1));
    assert_eq!(world.metrics.doubles_stopped.get(), 1);
}

/// Proves that an intent whose own outcome got lost is not called, and is free for the next attempt without any look-up.
#[test]
fn an_intent_of_unknown_outcome_is_released() {
    for applied in [true, false] {
        let world = world(1);
        let lose = if applied {
            &world.state.lose_applied
        } else {
            &world.state.lose_unapplied
        };
        let part = plan(&world.input()).environments.remove(0);
        let order = LaunchOrder {
            environment: part.environment,
            target: part.target.expect("it places"),
            placements: part.place,
        };
        lose.store(true, Ordering::SeqCst);
        world
            .executor()
            .launch(order)
            .now_or_never()
            .expect("nothing waits")
            .expect("it is recorded");
        assert_eq!(world.fleet.with(|fleet| fleet.start_calls), 0);
        let expected: &[LaunchState] = if applied { &[LaunchState::Rejected] } else { &[] };
        assert_eq!(states(&world), expected);
    }
}

/// Proves that a leader's death between intent and record leaves an unknown launch that the next leader resolves without a second one.
#[test]
fn the_next_leader_takes_over_what_is_open() {
    for (fate, calls) in [(Fate::CallerDiesAfter, 1), (Fate::CallerDiesBefore, 2)] {
        let mut world = world(1);
        world.fleet.with(|fleet| fleet.fates.push_back(fate));
        world.step();
        assert_eq!(states(&world), [LaunchState::Intended]);
        world.change_leader();
        assert_eq!(states(&world), [LaunchState::Unknown]);
        for _ in 0..30 {
            world.step();
            world.advance(5_000);
        }
        assert_eq!(states(&world), [LaunchState::Bound], "{fate:?}");
        assert_eq!(
            world.fleet.with(|fleet| (fleet.start_calls, fleet.doubles.len())),
            (calls, 0),
            "{fate:?}"
        );
    }
}

/// Proves that ECS's refusals are held back by reason and in the record, and that a whole refused call is one of them.
#[test]
fn refusals_back_off() {
    let world = world(1);
    world
        .fleet
        .with(|fleet| fleet.fates.push_back(Fate::Failing("RESOURCE:MEMORY")));
    world.step();
    let refused = launches(&world).remove(0);
    let now = world.state.elapsed_ms.load(Ordering::SeqCst);
    assert_eq!(
        (refused.reason.as_str(), refused.retry_at_elapsed_ms),
        ("RESOURCE:MEMORY", now + 1_000)
    );
    assert!(world.step().environments[0].place.is_empty());
    world.advance(1_000);
    world.fleet.with(|fleet| fleet.fates.push_back(Fate::Refused));
    world.step();
    let refused = launches(&world).remove(0);
    assert_eq!(
        (refused.reason.as_str(), refused.retry_at_elapsed_ms),
        ("ThrottlingException", now + 3_000)
    );
    world.advance(2_000);
    world.step();
    assert_eq!(states(&world), [LaunchState::Bound]);
}
