//! What the merge promises: any order and repetition of the same observations ends in the same record.

use proptest::prelude::*;

use super::merge::{Effect, effect, is_raised_from, merge, newest_known};
use super::normalise::{normalise, same_meaning};
use crate::proto::{Form, Observation, ResourceKind, ResourceRecord};

const CLUSTER: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/alpha";
const TASK: &str = "arn:aws:ecs:us-east-1:123456789012:task/alpha/0123";

fn observation(form: Form, ecs_version: Option<i64>, observed_at_ms: i64, document: &str) -> Observation {
    Observation {
        kind: ResourceKind::Task as i32,
        source: "east".into(),
        cluster_arn: CLUSTER.into(),
        arn: TASK.into(),
        form: form as i32,
        ecs_version,
        observed_at_ms,
        document: document.to_owned().into_bytes().into(),
    }
}

fn event(ecs_version: i64, observed_at_ms: i64, document: &str) -> Observation {
    observation(Form::Event, Some(ecs_version), observed_at_ms, document)
}

fn describe(ecs_version: i64, observed_at_ms: i64, document: &str) -> Observation {
    observation(Form::Describe, Some(ecs_version), observed_at_ms, document)
}

fn merge_all<'a>(observations: impl IntoIterator<Item = &'a Observation>) -> Option<ResourceRecord> {
    observations.into_iter().fold(None, |record, observation| {
        Some(
            merge(record.as_ref(), observation)
                .expect("a readable observation")
                .record,
        )
    })
}

fn shown(record: &ResourceRecord) -> &str {
    std::str::from_utf8(&record.shown).expect("text")
}

/// Few values each, so that ties at every place of the order are common.
fn any_observation() -> impl Strategy<Value = Observation> {
    let document = prop_oneof![
        Just(r#"{"lastStatus":"PENDING"}"#),
        Just(r#"{"lastStatus":"RUNNING","updatedAt":"2025-05-12T13:12:06.053Z"}"#),
        Just(r#"{"lastStatus":"RUNNING","tags":[{"key":"a","value":"b"}],"healthStatus":"HEALTHY"}"#),
        Just(r#"{ "lastStatus" : "RUNNING" }"#),
        Just(r#"{"lastStatus":"RUNNING"}"#),
        Just(r#"{"lastStatus":"RUNNING","containers":[{"containerArn":"c","name":"web"}]}"#),
        Just(
            r#"{"lastStatus":"RUNNING","containers":[{"containerArn":"c","healthStatus":"HEALTHY"}],"startedAt":1747055526.053}"#
        ),
        Just(r#"{"lastStatus":"STOPPED","newField":{"deep":[1,2.50]}}"#),
    ];
    let form = prop_oneof![Just(Form::Event), Just(Form::Describe)];
    let ecs_version = prop_oneof![Just(None), (1..4_i64).prop_map(Some)];
    (form, ecs_version, 0..4_i64, document)
        .prop_map(|(form, ecs_version, at, document)| observation(form, ecs_version, at, document))
}

/// The same observations in two orders, some of them more than once.
fn two_orders() -> impl Strategy<Value = (Vec<Observation>, Vec<Observation>)> {
    prop::collection::vec(any_observation(), 1..8).prop_flat_map(|observations| {
        let repeated: Vec<usize> = (0..observations.len()).chain(0..observations.len()).collect();
        (Just(observations), Just(repeated).prop_shuffle()).prop_map(|(observations, order)| {
            let other = order.into_iter().map(|index| observations[index].clone()).collect();
            (observations, other)
        })
    })
}

proptest! {
    #[test]
    fn any_order_and_repetition_ends_in_the_same_record((one, other) in two_orders()) {
        prop_assert_eq!(merge_all(&one), merge_all(&other));
    }

    #[test]
    fn what_was_merged_changes_nothing_again(observations in prop::collection::vec(any_observation(), 1..8)) {
        let record = merge_all(&observations);
        for observation in &observations {
            let again = merge(record.as_ref(), observation).expect("a readable observation");
            prop_assert!(matches!(again.effect, Effect::Duplicate | Effect::Stale), "{:?}", again.effect);
            prop_assert_eq!(Some(again.record), record.clone());
            prop_assert_eq!(again.gaps, 0);
        }
    }

    #[test]
    fn the_cheap_answer_is_the_right_one(observations in prop::collection::vec(any_observation(), 0..5), next in any_observation()) {
        let record = merge_all(&observations);
        let merged = merge(record.as_ref(), &next).expect("a readable observation");
        prop_assert_eq!(effect(record.as_ref(), &next).expect("a readable observation"), merged.effect);
        if matches!(merged.effect, Effect::Duplicate | Effect::Stale) {
            prop_assert_eq!(Some(merged.record), record);
        } else {
            prop_assert_ne!(Some(merged.record), record);
        }
    }

    /// Leaving out what is no news costs nothing as long as observations come in the order they were made, as those of one node do.
    #[test]
    fn proposing_news_only_shows_the_same(mut observations in prop::collection::vec(any_observation(), 1..12)) {
        for (at, observation) in (0_i64..).zip(&mut observations) {
            observation.observed_at_ms = at;
            observation.ecs_version = Some(at / 3);
        }
        let everything = merge_all(&observations).expect("a record");
        let news = observations.iter().fold(None, |record: Option<ResourceRecord>, observation| {
            let merged = merge(record.as_ref(), observation).expect("a readable observation");
            if merged.effect.is_news() { Some(merged.record) } else { record }
        });
        let document = |record: &ResourceRecord| normalise(&record.shown).expect("what is shown is readable");
        let news = document(&news.expect("the first is news"));
        prop_assert!(same_meaning(&news, &document(&everything)), "{:?}\n{:?}", news, document(&everything));
    }
}

#[test]
fn the_higher_version_wins_whenever_it_was_observed() {
    let newer = event(5, 100, r#"{"lastStatus":"STOPPED"}"#);
    let older = event(4, 900, r#"{"lastStatus":"RUNNING"}"#);
    let record = merge_all([&newer, &older]).expect("a record");
    assert_eq!(shown(&record), r#"{"lastStatus":"STOPPED"}"#);
    assert_eq!(effect(Some(&record), &older), Ok(Effect::Stale));
    assert_eq!(effect(Some(&record), &newer), Ok(Effect::Duplicate));
}

#[test]
fn equal_versions_with_fresher_data_are_not_lost() {
    let connected = event(7, 100, r#"{"agentConnected":true}"#);
    let disconnected = event(7, 101, r#"{"agentConnected":false}"#);
    let record = merge_all([&connected]).expect("a record");
    let merged = merge(Some(&record), &disconnected).expect("a readable observation");
    assert_eq!((merged.effect, merged.gaps), (Effect::Applied, 0));
    assert_eq!(shown(&merged.record), r#"{"agentConnected":false}"#);
    assert_eq!(effect(Some(&merged.record), &connected), Ok(Effect::Stale));
}

#[test]
fn what_only_the_other_form_knows_is_shown_too() {
    let from_describe = describe(
        3,
        200,
        r#"{"lastStatus":"PENDING","tags":[{"key":"team","value":"a"}],"healthStatus":"UNKNOWN","containers":[{"containerArn":"c","healthStatus":"HEALTHY"}],"cpu":"1"}"#,
    );
    let from_event = event(
        4,
        300,
        r#"{"lastStatus":"RUNNING","updatedAt":"2025-05-12T13:12:06.053Z","containers":[{"containerArn":"c"},{"containerArn":"d"}]}"#,
    );
    let record = merge_all([&from_describe, &from_event]).expect("a record");
    assert_eq!(
        shown(&record),
        concat!(
            r#"{"containers":[{"containerArn":"c","healthStatus":"HEALTHY"},{"containerArn":"d"}],"healthStatus":"UNKNOWN","lastStatus":"RUNNING","#,
            r#""tags":[{"key":"team","value":"a"}],"updatedAt":"2025-05-12T13:12:06.053Z"}"#
        )
    );
    let described_again = describe(5, 400, r#"{"lastStatus":"STOPPED","tags":[]}"#);
    let record = merge_all([&from_describe, &from_event, &described_again]).expect("a record");
    assert_eq!(
        shown(&record),
        r#"{"lastStatus":"STOPPED","tags":[],"updatedAt":"2025-05-12T13:12:06.053Z"}"#
    );
}

#[test]
fn a_describe_that_repeats_the_event_is_no_news() {
    let from_event = event(
        4,
        300,
        r#"{"lastStatus":"RUNNING","startedAt":"2025-05-12T13:12:06.05Z","version":4}"#,
    );
    let record = merge_all([&from_event]).expect("a record");
    let same = describe(
        4,
        900,
        r#"{"version":4,"startedAt":1747055526.05,"lastStatus":"RUNNING","tags":[],"attributes":[]}"#,
    );
    assert_eq!(effect(Some(&record), &same), Ok(Effect::Confirmed));
    let record = merge_all([&from_event, &same]).expect("a record");
    let later = observation(
        Form::Describe,
        Some(4),
        1_900,
        std::str::from_utf8(&same.document).expect("text"),
    );
    assert_eq!(effect(Some(&record), &later), Ok(Effect::Confirmed));
    let tagged = describe(
        4,
        2_900,
        r#"{"version":4,"startedAt":1747055526.05,"lastStatus":"RUNNING","tags":[{"key":"a"}]}"#,
    );
    assert_eq!(effect(Some(&record), &tagged), Ok(Effect::Applied));
}

#[test]
fn a_describe_heals_what_a_lost_event_left_behind_without_a_version_change() {
    let described = describe(5, 100, r#"{"agentConnected":true}"#);
    let flapped = event(5, 200, r#"{"agentConnected":false}"#);
    let described_again = describe(5, 300, r#"{"agentConnected":true}"#);
    let record = merge_all([&described, &flapped]).expect("a record");
    assert_eq!(shown(&record), r#"{"agentConnected":false}"#);
    assert_eq!(effect(Some(&record), &described_again), Ok(Effect::Applied));
}

#[test]
fn without_versions_time_decides_between_the_forms() {
    let synthetic = event(3, 100, r#"{"lastStatus":"RUNNING"}"#);
    let described = observation(Form::Describe, None, 200, r#"{"lastStatus":"STOPPED"}"#);
    let record = merge_all([&described, &synthetic]).expect("a record");
    assert_eq!(record.fields.expect("fields").status, "STOPPED");
}

#[test]
fn jumps_between_events_are_counted_and_describe_fills_no_gap() {
    let record = merge_all([&event(2, 1, "{}"), &describe(5, 2, "{}")]).expect("a record");
    assert_eq!(merge(Some(&record), &event(6, 3, "{}")).expect("readable").gaps, 3);
    assert_eq!(merge(Some(&record), &event(3, 3, "{}")).expect("readable").gaps, 0);
    assert_eq!(merge(None, &event(9, 3, "{}")).expect("readable").gaps, 0);
    let at_the_edge = merge_all([&event(i64::MIN, 1, "{}")]).expect("a record");
    assert!(
        merge(Some(&at_the_edge), &event(i64::MAX, 3, "{}"))
            .expect("readable")
            .gaps
            > 0
    );
}

#[test]
fn only_news_makes_a_forgotten_resource_known_again() {
    let mut record = merge_all([
        &event(4, 100, r#"{"lastStatus":"STOPPED"}"#),
        &describe(5, 200, r#"{"lastStatus":"STOPPED"}"#),
    ])
    .expect("a record");
    record.forgotten_at_elapsed_ms = 77;
    let late = merge(Some(&record), &event(5, 150, r#"{"lastStatus":"STOPPED"}"#)).expect("readable");
    assert_eq!(late.record.forgotten_at_elapsed_ms, 77);
    let seen = merge(Some(&record), &describe(5, 300, r#"{"lastStatus":"STOPPED"}"#)).expect("readable");
    assert_eq!((seen.effect, seen.record.forgotten_at_elapsed_ms), (Effect::Applied, 0));
}

#[test]
fn a_late_event_is_no_news_of_the_dead() {
    let record = merge_all([&event(4, 100, "{}"), &describe(5, 90, "{}")]).expect("a record");
    let (ecs_version, observed_at_ms) = newest_known(&record);
    assert_eq!((ecs_version, observed_at_ms), (Some(5), 100));
    assert!(!is_raised_from(ecs_version, observed_at_ms, &event(5, 500, "{}")));
    assert!(is_raised_from(ecs_version, observed_at_ms, &event(6, 50, "{}")));
    let uncounted = |at| observation(Form::Event, None, at, "{}");
    assert!(!is_raised_from(ecs_version, observed_at_ms, &uncounted(100)));
    assert!(is_raised_from(ecs_version, observed_at_ms, &uncounted(101)));
}

#[test]
fn what_cannot_be_read_or_named_is_refused() {
    assert!(merge(None, &event(1, 1, "[1]")).is_err());
    assert!(merge(None, &event(1, 1, "not json")).is_err());
    assert!(merge(None, &observation(Form::Unspecified, None, 1, "{}")).is_err());
    assert!(
        merge(
            None,
            &Observation {
                kind: 0,
                ..event(1, 1, "{}")
            }
        )
        .is_err()
    );
    assert!(
        merge(
            None,
            &Observation {
                arn: "a\0b".into(),
                ..event(1, 1, "{}")
            }
        )
        .is_err()
    );
    assert!(
        merge(
            None,
            &Observation {
                source: String::new(),
                ..event(1, 1, "{}")
            }
        )
        .is_err()
    );
}
