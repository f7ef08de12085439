//! Observations through the log: what they write, what they count, what they refuse.

use proptest::prelude::*;

use super::{SOURCE, State, TASK, task_event, task_observation};
use crate::key::Kind;
use crate::proto::command::Operation;
use crate::proto::{Form, Observation, Observe};

#[test]
fn each_changed_record_gets_a_revision_and_what_changes_nothing_gets_none() {
    let mut state = State::new();
    let other = task_observation(&format!("{TASK}-other"), Form::Event, Some(1), 5, "PENDING");
    let observed = state.observe(&[task_event(1, 5, "PENDING"), other, task_event(4, 9, "RUNNING")]);
    assert_eq!(
        (observed.applied, observed.duplicates, observed.stale, observed.gaps),
        (3, 0, 0, 2)
    );
    assert_eq!(state.revision(), 3);
    let observed = state.observe(&[task_event(4, 9, "RUNNING"), task_event(1, 5, "PENDING")]);
    assert_eq!((observed.applied, observed.duplicates, observed.stale), (0, 1, 1));
    assert_eq!(state.revision(), 3);
    let (task, mod_revision) = state.task().expect("the task");
    assert_eq!(
        (task.fields.expect("fields").status.as_str(), mod_revision),
        ("RUNNING", 3)
    );
    let status = state.store().sources().expect("readable").remove(0);
    assert_eq!(
        (
            status.source.as_str(),
            status.applied,
            status.duplicates,
            status.stale,
            status.gaps
        ),
        (SOURCE, 3, 1, 1, 2)
    );
}

#[test]
fn an_unreadable_document_is_told_and_stops_nothing() {
    let mut state = State::new();
    let broken = Observation {
        document: "{\"a\":".into(),
        ..task_event(1, 5, "x")
    };
    let nameless = Observation {
        arn: String::new(),
        ..task_event(1, 5, "x")
    };
    let observed = state.observe(&[broken, nameless, task_event(1, 5, "RUNNING")]);
    assert_eq!(observed.applied, 1);
    let refused: Vec<u32> = observed.refused.iter().map(|refused| refused.index).collect();
    assert_eq!(refused, [0, 1]);
    assert!(
        observed.refused[0].reason.contains("not JSON"),
        "{}",
        observed.refused[0].reason
    );
}

#[test]
fn what_the_feed_dropped_is_counted_for_its_source() {
    let mut state = State::new();
    for _ in 0..2 {
        state.apply_as_leader(Operation::Observe(Observe {
            observations: vec![],
            unknown_types: 3,
            source: SOURCE.into(),
            duplicates: 4,
            stale: 5,
            filtered: 6,
        }));
    }
    let status = &state.store().sources().expect("readable")[0];
    assert_eq!(
        (status.unknown_types, status.duplicates, status.stale, status.filtered),
        (6, 8, 10, 12)
    );
    assert_eq!(state.revision(), 0);
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let form = prop_oneof![Just(Form::Event), Just(Form::Describe)];
    let status = prop_oneof![Just("PENDING"), Just("RUNNING"), Just("STOPPED")];
    let ecs_version = prop_oneof![1 => Just(None), 4 => (1..4_i64).prop_map(Some)];
    (form, ecs_version, 0..4_i64, status)
        .prop_map(|(form, version, at, status)| task_observation(TASK, form, version, at, status))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Also through the log and in any grouping, the same observations end in the same record.
    #[test]
    fn any_order_ends_in_the_same_record(
        (one, other) in prop::collection::vec(any_observation(), 1..7).prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        group in 1..4_usize,
    ) {
        let mut in_order = State::new();
        in_order.observe(&one);
        let mut shuffled = State::new();
        for observations in other.chunks(group) {
            shuffled.observe(observations);
        }
        let record = |state: &State| state.resource(Kind::Task, TASK).map(|(record, _)| record);
        prop_assert_eq!(record(&in_order), record(&shuffled));
    }
}
