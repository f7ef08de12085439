//! Absence: a task born during a List is never deleted, a late event does not raise the dead, the stopped stay a while.

use proptest::prelude::*;

use super::{CLUSTER, INSTANCE, SOURCE, State, TASK, instance_observation, task_event, task_observation};
use crate::key::Kind;
use crate::proto::command::Operation;
use crate::proto::outcome::Result as Answer;
use crate::proto::{ForgetResource, ForgetResources, Form, Observation, ResourceKind};

fn forget(state: &mut State, kind: ResourceKind, arn: &str, mod_revision: u64) -> u64 {
    let resource = ForgetResource {
        kind: kind as i32,
        source: SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        arn: arn.into(),
        mod_revision,
    };
    match state.apply_as_leader(Operation::ForgetResources(ForgetResources {
        resources: vec![resource],
    })) {
        Answer::Removed(removed) => removed.count,
        other => panic!("not removed: {other:?}"),
    }
}

fn forget_task(state: &mut State, mod_revision: u64) -> u64 {
    forget(state, ResourceKind::Task, TASK, mod_revision)
}

#[test]
fn only_a_record_as_it_was_before_the_list_is_touched() {
    let mut state = State::new();
    state.observe(&[task_event(1, 10, "PENDING")]);
    let (_, before_list) = state.task().expect("the task");
    state.observe(&[task_event(2, 20, "RUNNING")]);
    assert_eq!(forget_task(&mut state, before_list), 0);
    assert!(state.task().is_some());
    let (_, as_read) = state.task().expect("the task");
    assert_eq!(forget_task(&mut state, as_read), 1);
    assert!(state.task().is_none());
    assert_eq!(
        forget_task(&mut state, as_read),
        0,
        "what is gone cannot be forgotten again"
    );
}

#[test]
fn a_late_event_does_not_raise_the_dead_but_news_does() {
    let mut state = State::new();
    state.observe(&[task_event(5, 100, "RUNNING")]);
    let (_, as_read) = state.task().expect("the task");
    forget_task(&mut state, as_read);
    let observed = state.observe(&[
        task_event(4, 90, "PENDING"),
        task_event(5, 100, "RUNNING"),
        task_event(5, 900, "RUNNING"),
    ]);
    assert_eq!((observed.applied, observed.stale), (0, 3));
    assert!(state.task().is_none());
    let observed = state.observe(&[task_event(6, 95, "STOPPED")]);
    assert_eq!(observed.applied, 1);
    assert!(state.task().is_some());
}

#[test]
fn without_versions_only_what_was_observed_later_raises_the_dead() {
    let mut state = State::new();
    let described = |at, status| task_observation(TASK, Form::Describe, None, at, status);
    state.observe(&[described(100, "RUNNING")]);
    let (_, as_read) = state.task().expect("the task");
    forget_task(&mut state, as_read);
    assert_eq!(
        state
            .observe(&[described(99, "PENDING"), described(100, "STOPPED")])
            .stale,
        2
    );
    assert!(state.task().is_none());
    assert_eq!(state.observe(&[described(101, "RUNNING")]).applied, 1);
    assert!(state.task().is_some());
}

#[test]
fn stopped_tasks_and_inactive_instances_stay_and_are_marked() {
    let mut state = State::new();
    state.observe(&[task_event(6, 100, "STOPPED"), instance_observation(7, "INACTIVE")]);
    state.elapsed_ms = 5_000;
    let (_, task_as_read) = state.task().expect("the task");
    let (_, instance_as_read) = state.resource(Kind::Instance, INSTANCE).expect("the instance");
    assert_eq!(forget_task(&mut state, task_as_read), 1);
    assert_eq!(
        forget(&mut state, ResourceKind::Instance, INSTANCE, instance_as_read),
        1
    );
    let (task, marked_at) = state.task().expect("still there");
    assert_eq!(task.forgotten_at_elapsed_ms, 5_000);
    assert_eq!(
        state
            .resource(Kind::Instance, INSTANCE)
            .expect("still there")
            .0
            .forgotten_at_elapsed_ms,
        5_000
    );
    state.elapsed_ms = 6_000;
    assert_eq!(
        forget_task(&mut state, marked_at),
        0,
        "it is forgotten already, its age goes on"
    );
    state.observe(&[task_event(7, 200, "STOPPED")]);
    assert_eq!(
        state.task().expect("the task").0.forgotten_at_elapsed_ms,
        0,
        "ECS knows it again"
    );
}

#[test]
fn an_instance_that_was_active_goes_and_so_does_a_cluster() {
    let mut state = State::new();
    state.observe(&[instance_observation(3, "DRAINING")]);
    let cluster = Observation {
        kind: ResourceKind::Cluster as i32,
        arn: CLUSTER.into(),
        document: r#"{"status":"ACTIVE"}"#.into(),
        ..instance_observation(1, "x")
    };
    state.observe(&[cluster]);
    let (_, instance_as_read) = state.resource(Kind::Instance, INSTANCE).expect("the instance");
    let (_, cluster_as_read) = state.resource(Kind::Cluster, CLUSTER).expect("the cluster");
    assert_eq!(
        forget(&mut state, ResourceKind::Instance, INSTANCE, instance_as_read),
        1
    );
    assert_eq!(forget(&mut state, ResourceKind::Cluster, CLUSTER, cluster_as_read), 1);
    assert!(state.resource(Kind::Instance, INSTANCE).is_none());
    assert!(state.resource(Kind::Cluster, CLUSTER).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Event(i64),
    Describe(i64),
    /// A reconcile pass begins: the record's revision is read, then the task is listed.
    ReadThenList,
    /// Its deletion arrives.
    Forget,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..6_i64).prop_map(Step::Event),
        2 => (1..6_i64).prop_map(Step::Describe),
        2 => Just(Step::ReadThenList),
        2 => Just(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is interleaved: a deletion takes effect only if nothing was written since its read, and afterwards nothing but a higher
    /// version brings the task back.
    #[test]
    fn deletions_and_observations_in_any_interleaving(steps in prop::collection::vec(any_step(), 1..20)) {
        let mut state = State::new();
        let mut read = None;
        let mut highest = 0;
        for step in steps {
            let before = state.task();
            match step {
                Step::Event(version) | Step::Describe(version) => {
                    let form = if matches!(step, Step::Event(_)) { Form::Event } else { Form::Describe };
                    state.observe(&[task_observation(TASK, form, Some(version), version * 10, "RUNNING")]);
                    prop_assert_eq!(state.task().is_some(), before.is_some() || version > highest);
                    highest = highest.max(version);
                }
                Step::ReadThenList => read = before.map(|(_, mod_revision)| mod_revision),
                Step::Forget => {
                    let Some(mod_revision) = read else { continue };
                    let is_as_read = before.as_ref().is_some_and(|(_, current)| *current == mod_revision);
                    prop_assert_eq!(forget_task(&mut state, mod_revision), u64::from(is_as_read));
                    prop_assert_eq!(state.task().is_some(), before.is_some() && !is_as_read);
                }
            }
        }
    }
}
