//! The watch of `/v2`.

use blox_api::ApiConfig;
use serde_json::{Value, json};
use std::time::Duration;

use crate::client::Connection;
use crate::documents::{Task, WEST, instance, task_arn};
use crate::node::Node;

/// The next line that is no bookmark.
async fn change(stream: &mut Connection) -> Value {
    loop {
        let line = stream.stream_json().await;
        if line["type"] != "BOOKMARK" {
            return line;
        }
    }
}

/// Every kind of change in order, deletions with the last value, who did it and why.
#[tokio::test]
async fn changes_come_in_order_with_their_objects() {
    let node = Node::start().await;
    let mut stream = node.stream("/v2/watch").await;
    let head = stream.head().await;
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("application/x-ndjson"))
    );
    assert_eq!(stream.stream_json().await, json!({"type": "BOOKMARK", "revision": 0}));

    let task = Task {
        fargate: true,
        ..Task::default()
    };
    let revision = node.observe(vec![task.observation()]);
    node.forget(&task.observation(), revision);
    node.request("PUT", "/v2/kv/a%FF", &[("x-request-id", "r-1")], b"1")
        .await;
    node.request("DELETE", "/v2/kv/a%FF", &[], b"").await;

    let put = change(&mut stream).await;
    let arn = task_arn(WEST, "alpha", "t1");
    assert_eq!(
        (put["type"].as_str(), put["kind"].as_str(), put["arn"].as_str()),
        (Some("PUT"), Some("task"), Some(arn.as_str()))
    );
    assert_eq!(
        (put["revision"].as_u64(), put["actor"].as_str(), put["cause"].as_str()),
        (Some(1), Some("test"), Some("a test"))
    );
    assert_eq!(put["object"]["document"], task.document());
    let deleted = change(&mut stream).await;
    assert_eq!(
        (deleted["type"].as_str(), deleted["revision"].as_u64()),
        (Some("DELETE"), Some(2))
    );
    assert_eq!(deleted["object"], put["object"], "a deletion shows the last value");
    let key = change(&mut stream).await;
    assert_eq!(
        (key["kind"].as_str(), &key["key"], key["key_base64"].as_str()),
        (Some("kv"), &Value::Null, Some("Yf8="))
    );
    assert_eq!(
        (key["actor"].as_str(), key["request_id"].as_str()),
        (Some("api"), Some("r-1"))
    );
    assert_eq!(key["object"]["value_base64"], "MQ==");
    let key = change(&mut stream).await;
    assert_eq!(
        (key["type"].as_str(), key["object"]["version"].as_u64()),
        (Some("DELETE"), Some(1))
    );
}

/// Resuming is inclusive and gapless from every revision still kept; kinds are chosen.
#[tokio::test]
async fn a_watch_is_resumed_from_any_revision() {
    let node = Node::start().await;
    for version in 1..=5 {
        node.observe(vec![
            Task {
                version,
                ..Task::default()
            }
            .observation(),
            instance(WEST, "alpha", "i1", "ACTIVE", version),
        ]);
    }
    let last = node.revision();
    for from in 1..=last {
        let mut stream = node.stream(&format!("/v2/watch?from_revision={from}")).await;
        stream.head().await;
        assert_eq!(
            stream.stream_json().await,
            json!({"type": "BOOKMARK", "revision": from - 1})
        );
        for revision in from..=last {
            assert_eq!(change(&mut stream).await["revision"], revision);
        }
    }
    let mut stream = node.stream("/v2/watch?from_revision=1&kinds=instance").await;
    stream.head().await;
    assert_eq!(change(&mut stream).await["kind"], "instance");
    let mut stream = node
        .stream(&format!("/v2/watch?from_revision={}&kinds=environment,kv", last + 1))
        .await;
    stream.head().await;
    node.request("PUT", "/v2/kv/a", &[], b"1").await;
    assert_eq!(change(&mut stream).await["revision"], last + 1);
}

/// Bookmarks come when nothing else does, also while only other kinds change, and say how far one has come.
#[tokio::test]
async fn bookmarks_come_in_silence() {
    let node = Node::start().await;
    let mut stream = node.stream("/v2/watch?kinds=kv").await;
    stream.head().await;
    assert_eq!(stream.stream_json().await["revision"], 0);
    let mut version = 1;
    loop {
        let revision = node.observe(vec![
            Task {
                version,
                ..Task::default()
            }
            .observation(),
        ]);
        version += 1;
        let bookmark = stream.stream_json().await;
        assert_eq!(bookmark["type"], "BOOKMARK");
        let bookmarked = bookmark["revision"].as_u64().expect("a revision");
        assert!(bookmarked <= revision);
        if bookmarked == revision && version > 5 {
            break;
        }
    }
}

/// What cannot be watched is said before the stream begins.
#[tokio::test]
async fn bad_beginnings_are_problems() {
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
    let gone = node.get("/v2/watch?from_revision=2").await;
    assert_eq!((gone.status(), gone.json()["oldest_revision"].as_u64()), (410, Some(3)));
    let ahead = node.get("/v2/watch?from_revision=7").await;
    assert_eq!(
        (ahead.status(), ahead.json()["code"].as_str()),
        (400, Some("revision_ahead"))
    );
    assert_eq!(ahead.json()["current_revision"], 5);
    for wrong in [
        "from_revision=x",
        "from_revision=-1",
        "kinds=pod",
        "kind=task",
        "consistency=no",
    ] {
        assert_eq!(node.get(&format!("/v2/watch?{wrong}")).await.status(), 400, "{wrong}");
    }
}

/// The end of a watch in mid-stream is an ERROR line, then the connection breaks off.
#[tokio::test]
async fn a_stopping_node_says_so() {
    let node = Node::start().await;
    let mut stream = node.stream("/v2/watch").await;
    stream.head().await;
    assert_eq!(stream.stream_json().await["type"], "BOOKMARK");
    node.shutdown.cancel();
    let error = change(&mut stream).await;
    assert_eq!(
        (error["type"].as_str(), error["code"].as_str()),
        (Some("ERROR"), Some("stopping"))
    );
    assert_eq!(stream.stream_line().await, None);
}

/// A reader that takes nothing is dropped instead of being kept for ever.
#[tokio::test]
async fn a_reader_that_takes_nothing_is_dropped() {
    let config = ApiConfig {
        write_stall: Duration::from_millis(100),
        streams: 1,
        ..ApiConfig::default()
    };
    let node = Node::start_with(config).await;
    let value = vec![b'x'; 1024 * 1024];
    for _ in 0..16 {
        node.request("PUT", "/v2/kv/k", &[], &value).await;
    }
    let mut stalled = node.stream("/v2/watch?from_revision=1").await;
    assert_eq!(stalled.head().await.status, 200);
    loop {
        let mut next = node.stream("/v2/watch").await;
        if next.head().await.status == 200 {
            break;
        }
        tokio::task::yield_now().await;
    }
}
