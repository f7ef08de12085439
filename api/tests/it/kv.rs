//! Users' keys: values, revisions, compare and set, idempotency, limits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use blox_api::ApiConfig;
use blox_raft::{ProposeError, ReadError};

use crate::node::Node;

/// A value comes back as it was put, with etcd's three revisions, whatever bytes key and value hold.
#[tokio::test]
async fn values_come_back_with_their_revisions() {
    let node = Node::start().await;
    for key in [
        "a",
        "a/b",
        "a//b",
        "/",
        "%00%FF%2F",
        "with%20space",
        "%C3%A9",
        "plus+plus",
    ] {
        let path = format!("/v2/kv/{key}");
        let missing = node.get(&path).await;
        assert_eq!(
            (missing.status(), missing.json()["code"].as_str()),
            (404, Some("key_missing")),
            "{key}"
        );
        let value = [0, 255, b'\n', key.as_bytes()[0]];
        let put = node.request("PUT", &path, &[], &value).await;
        let revision = node.revision();
        assert_eq!(put.json()["create_revision"], revision, "{key}");
        node.request("PUT", &path, &[], &value).await;
        let got = node.get(&path).await;
        assert_eq!((got.status(), got.body.as_slice()), (200, &value[..]), "{key}");
        assert_eq!(got.header("content-type"), Some("application/octet-stream"));
        assert_eq!(
            got.header("etag"),
            Some(format!("\"{}\"", revision + 1).as_str()),
            "{key}"
        );
        assert_eq!(
            got.header("x-blox-create-revision"),
            Some(revision.to_string().as_str()),
            "{key}"
        );
        assert_eq!(
            got.header("x-blox-mod-revision"),
            Some((revision + 1).to_string().as_str()),
            "{key}"
        );
        assert_eq!(got.header("x-blox-version"), Some("2"), "{key}");
        assert_eq!(
            got.header("x-blox-revision"),
            Some((revision + 1).to_string().as_str()),
            "{key}"
        );
        let deleted = node.request("DELETE", &path, &[], b"").await;
        assert_eq!(
            (deleted.status(), deleted.json()["deleted_mod_revision"].as_u64()),
            (200, Some(revision + 1)),
            "{key}"
        );
        assert_eq!(
            node.request("DELETE", &path, &[], b"").await.json()["code"],
            "key_missing",
            "{key}"
        );
    }
    let empty = node.request("PUT", "/v2/kv/empty", &[], b"").await;
    assert_eq!(empty.status(), 200);
    assert_eq!(node.get("/v2/kv/empty").await.short(), "200 ");
    assert_eq!(node.request("HEAD", "/v2/kv/empty", &[], b"").await.status(), 200);
}

/// Compare and set: a failed precondition is a 412 with the current revision, and writes nothing.
#[tokio::test]
async fn preconditions_hold_or_refuse() {
    let node = Node::start().await;
    let put = |headers: &'static [(&'static str, &'static str)], value: &'static [u8]| {
        node.request("PUT", "/v2/kv/k", headers, value)
    };
    let refused = put(&[("if-match", "\"7\"")], b"x").await;
    assert_eq!(
        (refused.status(), refused.json()["current_revision"].as_u64()),
        (412, Some(0))
    );
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(put(&[("if-match", "*")], b"x").await.status(), 412);
    assert_eq!(put(&[("if-none-match", "*")], b"1").await.status(), 200);
    let refused = put(&[("if-none-match", "*")], b"2").await;
    assert_eq!(
        (refused.status(), refused.json()["current_revision"].as_u64()),
        (412, Some(1))
    );
    assert_eq!(put(&[("if-match", "\"1\"")], b"2").await.status(), 200);
    assert_eq!(put(&[("if-match", "\"1\"")], b"3").await.status(), 412);
    assert_eq!(node.get("/v2/kv/k").await.short(), "200 2");
    let deleted = node.request("DELETE", "/v2/kv/k", &[("if-match", "\"1\"")], b"").await;
    assert_eq!(
        (deleted.status(), deleted.json()["current_revision"].as_u64()),
        (412, Some(2))
    );
    assert_eq!(
        node.request("DELETE", "/v2/kv/k", &[("if-match", "\"2\"")], b"")
            .await
            .status(),
        200
    );
    assert_eq!(put(&[("if-match", "\"0\"")], b"absent").await.status(), 200);
    for wrong in ["7", "W/\"7\"", "\"7\", \"8\"", "\"x\""] {
        let answer = node.request("PUT", "/v2/kv/k", &[("if-match", wrong)], b"x").await;
        assert_eq!(
            (answer.status(), answer.json()["code"].as_str()),
            (400, Some("invalid_header")),
            "{wrong}"
        );
    }
}

/// A retry under the same key is answered as before and writes nothing; another body, condition or path under it does not pass for one.
#[tokio::test]
async fn retries_are_recognised() {
    let node = Node::start().await;
    let key = ("idempotency-key", "retry-1");
    let first = node.request("PUT", "/v2/kv/k", &[key], b"1").await;
    let again = node.request("PUT", "/v2/kv/k", &[key], b"1").await;
    assert_eq!((again.status(), again.json()), (200, first.json()));
    assert_eq!(
        (first.header("x-blox-replayed"), again.header("x-blox-replayed")),
        (None, Some("true"))
    );
    assert_eq!(node.revision(), 1);
    let other_body = node.request("PUT", "/v2/kv/k", &[key], b"2").await;
    assert_eq!(
        (other_body.status(), other_body.json()["code"].as_str()),
        (409, Some("idempotency_conflict"))
    );
    let other_condition = node.request("PUT", "/v2/kv/k", &[key, ("if-match", "*")], b"1").await;
    assert_eq!(other_condition.status(), 409);
    let absent = [("idempotency-key", "retry-2"), ("if-none-match", "*")];
    assert_eq!(node.request("PUT", "/v2/kv/new", &absent, b"1").await.status(), 200);
    let present = [("idempotency-key", "retry-2"), ("if-match", "*")];
    let opposite = node.request("PUT", "/v2/kv/new", &present, b"1").await;
    assert_eq!(
        opposite.status(),
        409,
        "the same value in another header is another condition"
    );
    let stale = [("idempotency-key", "retry-3"), ("if-match", "\"1\"")];
    let refused = node.request("PUT", "/v2/kv/new", &stale, b"2").await;
    let refused_again = node.request("PUT", "/v2/kv/new", &stale, b"2").await;
    assert_eq!((refused.status(), refused_again.status()), (412, 412));
    assert_eq!(
        (
            refused.header("x-blox-replayed"),
            refused_again.header("x-blox-replayed")
        ),
        (None, Some("true")),
        "a refusal is an answer too"
    );
    assert_eq!(node.request("PUT", "/v2/kv/other", &[key], b"2").await.status(), 200);
    let deleted = node.request("DELETE", "/v2/kv/k", &[key], b"").await;
    assert_eq!(deleted.status(), 200);
    let deleted_again = node.request("DELETE", "/v2/kv/k", &[key], b"").await;
    assert_eq!((deleted_again.status(), deleted_again.json()), (200, deleted.json()));
    for wrong in ["", &"x".repeat(256)] {
        let answer = node
            .request("PUT", "/v2/kv/k", &[("idempotency-key", wrong)], b"1")
            .await;
        assert_eq!(answer.json()["code"], "invalid_header");
    }
}

/// Limits of keys and values, exactly.
#[tokio::test]
async fn limits_are_exact() {
    let node = Node::start().await;
    let value = vec![7; 1024 * 1024];
    assert_eq!(node.request("PUT", "/v2/kv/large", &[], &value).await.status(), 200);
    assert!(node.get("/v2/kv/large").await.body == value);
    let refused = node
        .request("PUT", "/v2/kv/large", &[], &[&value[..], b"x"].concat())
        .await;
    assert_eq!(
        (refused.status(), refused.json()["limit_bytes"].as_u64()),
        (413, Some(1024 * 1024))
    );
    assert_eq!(node.revision(), 1);
    let longest = "k".repeat(4096);
    assert_eq!(
        node.request("PUT", &format!("/v2/kv/{longest}"), &[], b"x")
            .await
            .status(),
        200
    );
    let refused = node.request("PUT", &format!("/v2/kv/{longest}k"), &[], b"x").await;
    assert_eq!(
        (refused.status(), refused.json()["code"].as_str()),
        (400, Some("invalid_path"))
    );
}

/// Bodies together are bounded too.
#[tokio::test]
async fn bodies_together_are_bounded() {
    let node = Node::start_with(ApiConfig {
        body_bytes_in_flight: 10,
        ..ApiConfig::default()
    })
    .await;
    assert_eq!(node.request("PUT", "/v2/kv/k", &[], b"0123456789").await.status(), 200);
    let refused = node.request("PUT", "/v2/kv/k", &[], b"0123456789x").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("1")));
}

/// Consistency and its failures; what was not written, and what may have been.
#[tokio::test]
async fn failures_say_what_is_known() {
    let node = Node::start().await;
    node.request("PUT", "/v2/kv/k", &[], b"1").await;
    *node.consensus.read_fails.lock().expect("no test panics under it") = Some(ReadError::NoLeader {
        waited: Duration::from_secs(5),
    });
    let refused = node.get("/v2/kv/k").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["code"], "no_leader");
    assert_eq!(
        node.get("/v2/kv/k?consistency=stale&max_stale=2s").await.short(),
        "200 1"
    );
    let behind = node.get("/v2/kv/k?consistency=stale&min_revision=99").await;
    assert_eq!((behind.status(), behind.json()["code"].as_str()), (503, Some("behind")));
    for wrong in [
        "consistency=eventual",
        "max_stale=2s",
        "min_revision=x",
        "consistency=stale&max_stale=2",
    ] {
        assert_eq!(
            node.get(&format!("/v2/kv/k?{wrong}")).await.json()["code"],
            "invalid_parameter",
            "{wrong}"
        );
    }
    let unknown = node.get("/v2/kv/k?consistancy=stale").await.json();
    assert_eq!(
        unknown["detail"],
        "The query parameter 'consistancy' is not known here. Did you mean 'consistency'?"
    );

    let before = node.consensus.proposals.load(Ordering::Relaxed);
    *node.consensus.propose_fails.lock().expect("no test panics under it") = Some(ProposeError::Unknown {
        waited: Duration::from_secs(5),
        cause: "the leader is gone".into(),
    });
    let unknown = node.request("PUT", "/v2/kv/k", &[], b"2").await;
    assert_eq!(
        (unknown.status(), unknown.json()["code"].as_str()),
        (504, Some("outcome_unknown"))
    );
    assert!(
        unknown.json()["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("same Idempotency-Key"))
    );
    assert_eq!(
        node.consensus.proposals.load(Ordering::Relaxed),
        before + 1,
        "a write is never tried twice here"
    );
}
