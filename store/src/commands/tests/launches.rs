//! The launch protocol through the log: one open launch an instance, and no launch closes before its task is in the state.

use super::{
    CLUSTER, INSTANCE, SOURCE, State, TASK, TASK_DEFINITION, create_environment, instance_observation, task_event,
    task_observation,
};
use crate::proto::command::Operation;
use crate::proto::launch_outcome::Outcome as Recorded;
use crate::proto::outcome::Result as Answer;
use crate::proto::{
    DeleteEnvironment, Form, IntendLaunches, LaunchIntent, LaunchKey, LaunchOutcome, LaunchRejection, LaunchState,
    Observation, RecordLaunches, RemoveLaunches,
};

const DEADLINE_ELAPSED_MS: u64 = 10_000;

fn intent(launch_id: &str) -> LaunchIntent {
    LaunchIntent {
        launch_id: launch_id.into(),
        environment_id: "id-web".into(),
        deployment_id: "d1".into(),
        source: SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        instance_arn: INSTANCE.into(),
        task_definition_arn: TASK_DEFINITION.into(),
        call_deadline_elapsed_ms: DEADLINE_ELAPSED_MS,
        failures: 1,
        not_sent: 0,
    }
}

fn intend(state: &mut State, intents: Vec<LaunchIntent>) -> Vec<String> {
    match state.apply_as_leader(Operation::IntendLaunches(IntendLaunches { intents })) {
        Answer::Launched(launched) => launched.taken,
        other => panic!("not intended: {other:?}"),
    }
}

fn record(state: &mut State, launch_id: &str, outcome: Recorded, observations: Vec<Observation>) -> LaunchState {
    let outcome = LaunchOutcome {
        environment_id: "id-web".into(),
        instance_arn: INSTANCE.into(),
        launch_id: launch_id.into(),
        outcome: Some(outcome),
    };
    let command = RecordLaunches {
        outcomes: vec![outcome],
        observations,
    };
    let answer = state.apply_as_leader(Operation::RecordLaunches(command));
    assert!(matches!(answer, Answer::Observed(_)), "{answer:?}");
    state.launch("id-web").expect("the launch").state()
}

fn bound() -> Recorded {
    Recorded::TaskArn(TASK.into())
}

fn answer() -> Vec<Observation> {
    vec![task_observation(TASK, Form::Describe, Some(1), 50, "PENDING")]
}

/// One active instance and the environment `web` with its deployment `d1`.
fn ready() -> State {
    let mut state = State::new();
    state.observe(&[instance_observation(1, "ACTIVE")]);
    state.environment_of(create_environment("web", "d1"));
    state
}

#[test]
fn an_intent_is_taken_once() {
    let mut state = ready();
    assert_eq!(intend(&mut state, vec![intent("l1"), intent("l2")]), ["l1"]);
    assert_eq!(intend(&mut state, vec![intent("l3")]), Vec::<String>::new());
    let launch = state.launch("id-web").expect("the launch");
    assert_eq!(
        (launch.id.as_str(), launch.state(), launch.failures),
        ("l1", LaunchState::Intended, 1)
    );
    assert_eq!(
        (launch.session, launch.intent_revision),
        (state.session, state.revision() - 1)
    );
    assert_eq!(launch.call_deadline_elapsed_ms, DEADLINE_ELAPSED_MS);
    state.open_session();
    assert_eq!(
        intend(&mut state, vec![intent("l4")]),
        Vec::<String>::new(),
        "an unknown launch holds its instance"
    );
}

#[test]
fn intents_that_are_out_of_date_are_not_taken() {
    let mut state = ready();
    let refused = vec![
        LaunchIntent {
            environment_id: "id-other".into(),
            ..intent("l1")
        },
        LaunchIntent {
            deployment_id: "d0".into(),
            ..intent("l2")
        },
        LaunchIntent {
            deployment_id: String::new(),
            ..intent("l3")
        },
        LaunchIntent {
            instance_arn: format!("{INSTANCE}-gone"),
            ..intent("l4")
        },
        LaunchIntent {
            launch_id: String::new(),
            ..intent("l5")
        },
    ];
    let revision = state.revision();
    assert_eq!(intend(&mut state, refused), Vec::<String>::new());
    assert_eq!(state.revision(), revision);
    let deleting = DeleteEnvironment {
        name: "web".into(),
        stop_tasks: true,
        mod_revision: 0,
    };
    state.environment_of(Operation::DeleteEnvironment(deleting));
    assert_eq!(intend(&mut state, vec![intent("l6")]), Vec::<String>::new());
}

#[test]
fn the_answer_binds_with_its_task_in_the_state() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    assert_eq!(record(&mut state, "other", bound(), answer()), LaunchState::Intended);
    assert!(state.task().is_some(), "observations count, whatever the outcome");
    assert_eq!(record(&mut state, "l1", bound(), vec![]), LaunchState::Bound);
    assert_eq!(state.launch("id-web").expect("the launch").task_arn, TASK);
    assert_eq!(
        record(&mut state, "l1", Recorded::Unknown("late".into()), vec![]),
        LaunchState::Bound
    );
    assert_eq!(
        intend(&mut state, vec![intent("l2")]),
        ["l2"],
        "a closed launch makes room"
    );
}

#[test]
fn no_launch_closes_on_a_task_that_is_not_in_the_state() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    assert_eq!(record(&mut state, "l1", bound(), vec![]), LaunchState::Unknown);
    assert_eq!(record(&mut state, "l1", bound(), vec![]), LaunchState::Unknown);
    assert_eq!(record(&mut state, "l1", bound(), answer()), LaunchState::Bound);
}

#[test]
fn a_task_that_was_there_before_the_intent_binds_nothing() {
    let mut state = ready();
    state.observe(&[task_event(1, 40, "RUNNING")]);
    intend(&mut state, vec![intent("l1")]);
    assert_eq!(record(&mut state, "l1", bound(), answer()), LaunchState::Unknown);
}

#[test]
fn a_task_on_another_instance_binds_nothing() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    let mut elsewhere = answer();
    let document = String::from_utf8(elsewhere[0].document.to_vec())
        .expect("text")
        .replace(INSTANCE, "elsewhere");
    elsewhere[0].document = document.into();
    assert_eq!(record(&mut state, "l1", bound(), elsewhere), LaunchState::Unknown);
}

#[test]
fn a_task_is_bound_to_one_launch_only() {
    let mut state = ready();
    state.environment_of(create_environment("other", "d1"));
    let others = LaunchIntent {
        environment_id: "id-other".into(),
        ..intent("l1")
    };
    assert_eq!(intend(&mut state, vec![others, intent("l2")]), ["l1", "l2"]);
    let outcome = |environment_id: &str, launch_id: &str| LaunchOutcome {
        environment_id: environment_id.into(),
        instance_arn: INSTANCE.into(),
        launch_id: launch_id.into(),
        outcome: Some(bound()),
    };
    let outcomes = vec![outcome("id-other", "l1"), outcome("id-web", "l2")];
    state.apply_as_leader(Operation::RecordLaunches(RecordLaunches {
        outcomes,
        observations: answer(),
    }));
    assert_eq!(
        state.launch("id-other").expect("the launch").state(),
        LaunchState::Bound
    );
    assert_eq!(
        state.launch("id-web").expect("the launch").state(),
        LaunchState::Unknown
    );
}

#[test]
fn a_definite_refusal_closes_the_launch_of_its_own_session() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    let rejected = || {
        let rejection = LaunchRejection {
            reason: "RESOURCE:CPU".into(),
            detail: String::new(),
            retry_at_elapsed_ms: 2_000,
        };
        Recorded::Rejected(rejection)
    };
    assert_eq!(record(&mut state, "l1", rejected(), vec![]), LaunchState::Rejected);
    assert_eq!(state.launch("id-web").expect("the launch").retry_at_elapsed_ms, 2_000);
    intend(&mut state, vec![intent("l2")]);
    state.open_session();
    assert_eq!(
        record(&mut state, "l2", rejected(), vec![]),
        LaunchState::Unknown,
        "another session cannot know"
    );
}

#[test]
fn a_new_session_takes_every_open_launch_as_unknown() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    state.open_session();
    let launch = state.launch("id-web").expect("the launch");
    assert_eq!((launch.state(), launch.id.as_str()), (LaunchState::Unknown, "l1"));
    assert_eq!(
        record(&mut state, "l1", bound(), answer()),
        LaunchState::Bound,
        "a look-up binds it"
    );
    let revision = state.revision();
    state.open_session();
    assert_eq!(state.revision(), revision, "closed launches are left alone");
}

#[test]
fn two_empty_look_ups_close_it_the_second_a_minute_after_the_deadline() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    state.open_session();
    let empty = || Recorded::LookupEmpty(true);
    state.elapsed_ms = 20_000;
    assert_eq!(record(&mut state, "l1", empty(), vec![]), LaunchState::Unknown);
    assert_eq!(
        state
            .launch("id-web")
            .expect("the launch")
            .first_empty_lookup_elapsed_ms,
        20_000
    );
    state.elapsed_ms = DEADLINE_ELAPSED_MS + 59_999;
    assert_eq!(record(&mut state, "l1", empty(), vec![]), LaunchState::Unknown);
    state.elapsed_ms += 1;
    assert_eq!(record(&mut state, "l1", empty(), vec![]), LaunchState::Vanished);
    assert_eq!(intend(&mut state, vec![intent("l2")]), ["l2"]);
}

#[test]
fn only_closed_launches_are_removed_and_only_the_one_named() {
    let mut state = ready();
    intend(&mut state, vec![intent("l1")]);
    let remove = |state: &mut State, launch_id: &str| {
        let key = LaunchKey {
            environment_id: "id-web".into(),
            instance_arn: INSTANCE.into(),
            launch_id: launch_id.into(),
        };
        match state.apply_as_leader(Operation::RemoveLaunches(RemoveLaunches { keys: vec![key] })) {
            Answer::Removed(removed) => removed.count,
            other => panic!("not removed: {other:?}"),
        }
    };
    assert_eq!(remove(&mut state, "l1"), 0, "it is open");
    record(&mut state, "l1", bound(), answer());
    assert_eq!(remove(&mut state, "l0"), 0, "it is another");
    assert_eq!(remove(&mut state, "l1"), 1);
    assert!(state.launch("id-web").is_none());
}
