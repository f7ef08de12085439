//! Streams of the old contract.

use blox_api::ApiConfig;

use crate::documents::{Task, WEST, instance};
use crate::node::Node;

/// What cannot be resumed from is refused with the contract's texts.
#[tokio::test]
async fn bad_versions_are_refused() {
    let node = Node::start().await;
    node.observe(
        (1..=5)
            .map(|version| {
                Task {
                    version,
                    ..Task::default()
                }
                .observation()
            })
            .collect(),
    );
    node.compact(3);
    for (version, expected) in [
        ("x", "400 Invalid entity version\n"),
        ("-1", "400 Invalid entity version\n"),
        ("1.0", "400 Invalid entity version\n"),
        ("99999999999999999999", "400 Invalid entity version\n"),
        ("2", "400 Entity version is out of range\n"),
        ("7", "400 Entity version is out of range\n"),
        ("9223372036854775807", "400 Entity version is out of range\n"),
    ] {
        for stream in ["tasks", "instances"] {
            let answer = node.get(&format!("/v1/stream/{stream}?entityVersion={version}")).await;
            assert_eq!(answer.short(), expected, "{stream} {version}");
        }
    }
}

/// Headers come at once; from now on means what is written after them; other kinds, deletions and what v1 cannot show are not there.
#[tokio::test]
async fn a_stream_from_now_shows_what_comes() {
    let node = Node::start().await;
    let first = Task::default().observation();
    let revision = node.observe(vec![first.clone()]);
    let mut stream = node.stream("/v1/stream/tasks?entityVersion=0&ignored=1").await;
    let head = stream.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("application/octet-stream"));
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    node.forget(&first, revision);
    node.observe(vec![
        instance(WEST, "alpha", "i1", "ACTIVE", 1),
        Task {
            id: "t2",
            fargate: true,
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t3",
            ..Task::default()
        }
        .observation(),
    ]);
    let line = stream.stream_json().await;
    assert_eq!(
        line["entity"]["taskARN"],
        "arn:aws:ecs:us-west-2:123456789012:task/alpha/t3"
    );
    assert_eq!(line["metadata"]["entityVersion"], node.revision().to_string());
}

/// Resuming is inclusive, also at a revision of another kind, also at the current one and the next.
#[tokio::test]
async fn a_stream_is_resumed_inclusively() {
    let node = Node::start().await;
    node.observe(vec![
        Task {
            id: "t1",
            ..Task::default()
        }
        .observation(),
        instance(WEST, "alpha", "i1", "ACTIVE", 1),
        Task {
            id: "t2",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t1",
            version: 2,
            status: "STOPPED",
            ..Task::default()
        }
        .observation(),
    ]);
    for (from, expected) in [(1, vec![1, 3, 4]), (2, vec![3, 4]), (4, vec![4]), (5, vec![])] {
        let mut stream = node.stream(&format!("/v1/stream/tasks?entityVersion={from}")).await;
        assert_eq!(stream.head().await.status, 200, "from {from}");
        let mut seen = Vec::new();
        for _ in &expected {
            let line = stream.stream_json().await;
            seen.push(
                line["metadata"]["entityVersion"]
                    .as_str()
                    .and_then(|text| text.parse::<i32>().ok()),
            );
        }
        assert_eq!(
            seen,
            expected.iter().copied().map(Some).collect::<Vec<_>>(),
            "from {from}"
        );
    }
}

/// A stopping node breaks its streams off, so that a client sees a failure and resumes elsewhere.
#[tokio::test]
async fn a_stopping_node_breaks_streams_off() {
    let node = Node::start().await;
    let mut stream = node.stream("/v1/stream/tasks").await;
    stream.head().await;
    node.observe(vec![Task::default().observation()]);
    assert!(stream.stream_line().await.is_some());
    node.shutdown.cancel();
    assert_eq!(stream.stream_line().await, None);
}

/// There is a bound on streams, and a stream that is over makes room.
#[tokio::test]
async fn streams_are_bounded() {
    let node = Node::start_with(ApiConfig {
        streams: 1,
        ..ApiConfig::default()
    })
    .await;
    let mut first = node.stream("/v1/stream/tasks").await;
    assert_eq!(first.head().await.status, 200);
    let refused = node.get("/v1/stream/instances").await;
    assert_eq!(
        refused.short(),
        "429 Too many streams run already; try again on another node\n"
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(node.get("/v2/watch").await.json()["code"], "too_many_streams");
    drop(first);
    loop {
        let mut next = node.stream("/v1/stream/tasks").await;
        if next.head().await.status == 200 {
            break;
        }
        tokio::task::yield_now().await;
    }
}
