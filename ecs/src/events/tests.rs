//! Decoding: AWS' own samples whole, the three forms of a body, and everything hostile.

use proptest::prelude::*;

use super::*;
use crate::testing::{cluster_arn, instance_arn, task_arn, task_event};

/// The EC2 task sample of the ECS developer guide ("Amazon ECS task state change events").
const TASK_SAMPLE: &str = include_str!("testdata/task_state_change.json");
/// The container instance sample of the ECS developer guide ("Amazon ECS container instance state change events").
const INSTANCE_SAMPLE: &str = include_str!("testdata/container_instance_state_change.json");

fn decode_text(body: &str) -> Decoded {
    decode(
        "main",
        &ClusterFilter::default(),
        &Bytes::copy_from_slice(body.as_bytes()),
    )
}

fn poison(body: &str) -> String {
    let decoded = decode_text(body);
    assert_eq!(decoded.observations, [], "{body}");
    decoded.poison.unwrap_or_else(|| panic!("not poison: {body}"))
}

/// The `detail` of a sample, byte for byte.
fn detail_of(sample: &'static str) -> &'static str {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        detail: &'a RawValue,
    }
    let event: Event<'static> = serde_json::from_str(sample).expect("the sample is JSON");
    event.detail.get()
}

/// Of AWS' task sample, every field is kept, and what Blox reads is read.
#[test]
fn the_task_sample_is_kept_whole() {
    let decoded = decode_text(TASK_SAMPLE);
    let [observation] = decoded.observations.as_slice() else {
        panic!("{decoded:?}")
    };
    assert_eq!(observation.kind(), ResourceKind::Task);
    assert_eq!(observation.form(), Form::Event);
    assert_eq!(observation.source, "main");
    assert_eq!(
        observation.arn,
        "arn:aws:ecs:us-east-1:123456789012:task/example/c1ffa94f19a540ed8d9f7e1d2a5d6f3a"
    );
    assert_eq!(observation.cluster_arn, cluster_arn("example"));
    assert_eq!(observation.ecs_version, Some(4));
    assert_eq!(observation.observed_at_ms, 1_747_055_526_000);
    assert_eq!(observation.document, detail_of(TASK_SAMPLE).as_bytes());
    assert_eq!((decoded.unknown_types, decoded.filtered, decoded.poison), (0, 0, None));
}

/// Of AWS' container instance sample too, with its old ARN that does not name the cluster.
#[test]
fn the_container_instance_sample_is_kept_whole() {
    let decoded = decode_text(INSTANCE_SAMPLE);
    let [observation] = decoded.observations.as_slice() else {
        panic!("{decoded:?}")
    };
    assert_eq!(observation.kind(), ResourceKind::Instance);
    assert_eq!(
        observation.arn,
        "arn:aws:ecs:us-east-1:111122223333:container-instance/b54a2a04-046f-4331-9d74-3f6d7f6ca315"
    );
    assert_eq!(
        observation.cluster_arn,
        "arn:aws:ecs:us-east-1:111122223333:cluster/default"
    );
    assert_eq!(observation.ecs_version, Some(14_801));
    assert_eq!(observation.observed_at_ms, 1_481_047_990_000);
    assert_eq!(observation.document, detail_of(INSTANCE_SAMPLE).as_bytes());
}

/// The bare event, the same by SNS, the same in a Pipes array, and the array by SNS give the same observations.
#[test]
fn all_forms_of_a_body_mean_the_same() {
    let event = task_event("prod", "t1", 3);
    let sns = |message: &str| {
        let message = serde_json::to_string(message).expect("a string");
        format!(
            r#"{{"Type":"Notification","MessageId":"m","TopicArn":"arn:aws:sns:x","Message":{message},"Signature":"s"}}"#
        )
    };
    let bare = decode_text(&event);
    assert_eq!(bare.observations.len(), 1);
    for body in [
        sns(&event),
        format!(" [{event}]"),
        sns(&format!("[{event}]")),
        format!("[{}]", sns(&event)),
    ] {
        assert_eq!(decode_text(&body), bare, "{body}");
    }
    let two = decode_text(&format!("[{event},{}]", task_event("prod", "t2", 1)));
    assert_eq!(
        two.observations.iter().map(|one| one.arn.clone()).collect::<Vec<_>>(),
        [task_arn("prod", "t1"), task_arn("prod", "t2")]
    );
}

/// Types that AWS adds, or that carry no resource of ours, are counted, whatever they hold.
#[test]
fn unknown_types_are_counted() {
    for detail_type in [
        "ECS Service Action",
        "ECS Deployment State Change",
        "ECS Hook State Change",
        "AWS API Call via CloudTrail",
    ] {
        let decoded = decode_text(&format!(
            r#"{{"detail-type":"{detail_type}","source":"aws.ecs","detail":[1]}}"#
        ));
        assert_eq!(
            (decoded.unknown_types, decoded.poison, decoded.observations.len()),
            (1, None, 0)
        );
    }
}

/// Events of clusters the source is not about are counted and dropped.
#[test]
fn other_clusters_are_filtered() {
    let config = crate::SourceConfig {
        clusters: vec!["prod".into()],
        ..crate::testing::config()
    };
    let decode_one = |cluster: &str| {
        decode(
            "main",
            &config.cluster_filter(),
            &Bytes::from(task_event(cluster, "t", 1)),
        )
    };
    assert_eq!(decode_one("prod").observations.len(), 1);
    let other = decode_one("prod-2");
    assert_eq!((other.observations.len(), other.filtered, other.poison), (0, 1, None));
}

/// A version may be absent or null, as stand-ins have it; unknown fields anywhere change nothing.
#[test]
fn what_is_absent_or_unknown_is_accepted() {
    let arn = instance_arn("prod", "i");
    let cluster = cluster_arn("prod");
    for version in ["", r#","version":null"#] {
        let body = format!(
            r#"{{"detail-type":"ECS Container Instance State Change","source":"aws.ecs","time":"2027-01-15T08:00:00.123Z","new":{{"x":[]}},"detail":{{"containerInstanceArn":"{arn}","clusterArn":"{cluster}","future":[{{}}]{version}}}}}"#
        );
        let decoded = decode_text(&body);
        assert_eq!(decoded.observations[0].ecs_version, None);
        assert_eq!(decoded.observations[0].observed_at_ms % 1_000, 123);
    }
}

/// What cannot be read is poison with a reason that says what is wrong.
#[test]
fn what_cannot_be_read_says_why() {
    let good = task_event("prod", "t1", 3);
    let cases = [
        ("", "not an event"),
        ("hello", "not an event"),
        ("null", "not an event"),
        ("{}", "neither an event"),
        ("[1]", "not an event"),
        ("[", "not JSON"),
        (
            r#"{"Type":"SubscriptionConfirmation","Message":"x"}"#,
            "neither an event",
        ),
        (&good.replace("aws.ecs", "my.app"), "my.app"),
        (&good.replace("2027-01-15T08:00:00Z", "yesterday"), "yesterday"),
        (&good.replace(r#""time":"2027-01-15T08:00:00Z","#, ""), "no time"),
        (&good.replace(r#""version":3"#, r#""version":"3""#), "detail"),
        (
            &good.replace(r#""taskArn":"#, r#""taskarn":"#),
            "detail.taskArn is missing",
        ),
        (
            &good.replace(r#""clusterArn":"#, r#""clusterarn":"#),
            "detail.clusterArn is missing",
        ),
        (&good.replace(r#""taskArn":"arn:"#, r#""taskArn":"x:"#), "no ARN"),
        (
            &good.replace(r#""taskArn":"arn:"#, r#""taskArn":"arn:\u0000"#),
            "no ARN",
        ),
    ];
    for (body, expected) in cases {
        let reason = poison(body);
        assert!(reason.contains(expected), "{body} gave {reason:?}");
    }
}

/// One bad element does not hide the good ones beside it.
#[test]
fn good_elements_beside_a_bad_one_are_kept() {
    let decoded = decode_text(&format!(
        "[{},{{}},{}]",
        task_event("prod", "t1", 1),
        task_event("prod", "t2", 1)
    ));
    assert_eq!(decoded.observations.len(), 2);
    assert!(decoded.poison.is_some());
}

/// Bodies as large as SQS carries, and JSON nested deeper than any parser's stack, are read or refused, never fatal.
#[test]
fn large_and_deep_bodies_do_no_harm() {
    for size in [256 << 10, 1 << 20] {
        let filler = "x".repeat(size);
        let body =
            task_event("prod", "t1", 3).replace(r#""lastStatus""#, &format!(r#""filler":"{filler}","lastStatus""#));
        assert!(body.len() > size);
        assert_eq!(decode_text(&body).observations.len(), 1);
    }
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(poison(&deep).contains("wrapped too often"));
    // Deep inside the document it is the state's reader that refuses it, or keeps it: here it is kept as it came.
    let body = task_event("prod", "t1", 3).replace(r#""lastStatus""#, &format!(r#""deep":{deep},"lastStatus""#));
    assert_eq!(decode_text(&body).observations.len(), 1);
    let unclosed = "{\"detail\":".repeat(100_000);
    poison(&unclosed);
}

proptest! {
    /// No bytes whatever make it panic; what it observes always has an ARN that can stand in a key.
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let decoded = decode("main", &ClusterFilter::default(), &Bytes::from(body));
        prop_assert!(decoded.poison.is_some() || decoded.observations.is_empty());
    }

    /// Nor does a good event with bytes changed, cut out or doubled.
    #[test]
    fn mutated_events_never_panic(at in 0usize..400, with in any::<u8>(), cut in 0usize..50) {
        let mut body = task_event("prod", "t1", 3).into_bytes();
        let at = at.min(body.len() - 1);
        let end = (at + cut).min(body.len());
        body.splice(at..end, [with]);
        for observation in decode("main", &ClusterFilter::default(), &Bytes::from(body)).observations {
            prop_assert!(observation.arn.starts_with("arn:") && !observation.arn.contains('\0'));
            prop_assert!(!observation.cluster_arn.contains('\0'));
        }
    }
}
