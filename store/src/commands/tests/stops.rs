//! Stops: an intent a task, tried again after failures and by new sessions, gone when done.

use super::{CLUSTER, INSTANCE, SOURCE, State, TASK, create_environment, task_event};
use crate::key::Key;
use crate::proto::command::Operation;
use crate::proto::outcome::Result as Answer;
use crate::proto::stop_outcome::Outcome as Recorded;
use crate::proto::{
    IntendStops, Observation, RecordStops, StopFailure, StopIntent, StopOutcome, StopRecord, StopState,
};

fn intend(state: &mut State, environment_id: &str) -> Vec<String> {
    intend_of(state, environment_id, "")
}

fn intend_of(state: &mut State, environment_id: &str, deployment_id: &str) -> Vec<String> {
    let intent = StopIntent {
        environment_id: environment_id.into(),
        task_arn: TASK.into(),
        source: SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        instance_arn: INSTANCE.into(),
        reason: "replaced".into(),
        call_deadline_elapsed_ms: state.elapsed_ms + 5_000,
        deployment_id: deployment_id.into(),
    };
    match state.apply_as_leader(Operation::IntendStops(IntendStops { intents: vec![intent] })) {
        Answer::Launched(launched) => launched.taken,
        other => panic!("not intended: {other:?}"),
    }
}

fn record(state: &mut State, outcome: Recorded, observations: Vec<Observation>) {
    let outcome = StopOutcome {
        environment_id: "id-web".into(),
        task_arn: TASK.into(),
        outcome: Some(outcome),
    };
    state.apply_as_leader(Operation::RecordStops(RecordStops {
        outcomes: vec![outcome],
        observations,
    }));
}

fn stop(state: &State) -> StopRecord {
    state
        .store()
        .view()
        .expect("a view")
        .all_stops()
        .expect("readable")
        .remove(0)
}

/// Proves that a stop of what a deployment made outdated is not taken once another deployment is the environment's.
#[test]
fn an_intent_of_another_deployment_is_not_taken() {
    let mut state = State::new();
    state.environment_of(create_environment("web", "d1"));
    assert_eq!(intend_of(&mut state, "id-web", "d0"), Vec::<String>::new());
    assert!(!state.has(&Key::stop("id-web", TASK)));
    assert_eq!(intend_of(&mut state, "id-web", "d1"), [TASK]);
    assert!(state.has(&Key::stop("id-web", TASK)));
}

#[test]
fn an_intent_stands_once_and_is_tried_again_where_it_must() {
    let mut state = State::new();
    assert_eq!(intend(&mut state, "id-web"), Vec::<String>::new(), "of no environment");
    state.environment_of(create_environment("web", "d1"));
    assert_eq!(intend(&mut state, "id-web"), [TASK]);
    let revision = state.revision();
    assert_eq!(intend(&mut state, "id-web"), [TASK]);
    assert_eq!(state.revision(), revision, "the same intent writes nothing");
    record(
        &mut state,
        Recorded::Failed(StopFailure {
            reason: "throttled".into(),
            retry_at_elapsed_ms: 9_000,
        }),
        vec![],
    );
    let failed = stop(&state);
    assert_eq!(
        (failed.state(), failed.failure.as_str(), failed.retry_at_elapsed_ms),
        (StopState::Failed, "throttled", 9_000)
    );
    intend(&mut state, "id-web");
    let again = stop(&state);
    assert_eq!(
        (again.state(), again.attempts, again.failure.as_str()),
        (StopState::Intended, 2, "")
    );
    record(&mut state, Recorded::Requested(true), vec![]);
    let revision = state.revision();
    state.elapsed_ms += 60_000;
    intend(&mut state, "id-web");
    assert_eq!(
        (stop(&state).state(), state.revision()),
        (StopState::Requested, revision)
    );
    state.open_session();
    intend(&mut state, "id-web");
    assert_eq!(
        (stop(&state).state(), stop(&state).attempts),
        (StopState::Intended, 3),
        "a new session asks anew"
    );
}

#[test]
fn done_removes_it_and_observations_come_first() {
    let mut state = State::new();
    state.environment_of(create_environment("web", "d1"));
    intend(&mut state, "id-web");
    record(&mut state, Recorded::Done(true), vec![task_event(9, 90, "STOPPED")]);
    assert!(!state.has(&Key::stop("id-web", TASK)));
    assert_eq!(
        state.task().expect("the task").0.fields.expect("fields").status,
        "STOPPED"
    );
    let revision = state.revision();
    record(&mut state, Recorded::Done(true), vec![]);
    assert_eq!(state.revision(), revision, "an outcome of no stop changes nothing");
}
