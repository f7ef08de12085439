//! What a server meets that is not a well-meaning client.

use std::time::Duration;

use blox_api::ApiConfig;

use crate::client::Connection;
use crate::node::Node;

/// Long URLs, long heads and many headers are refused, and the node serves on.
#[tokio::test]
async fn oversized_heads_are_refused() {
    let node = Node::start().await;
    let long = node.get(&format!("/v2/kv/{}", "x".repeat(17_000))).await;
    assert_eq!(
        (long.status(), long.json()["code"].as_str()),
        (414, Some("url_too_long"))
    );
    let long = node.get(&format!("/v1/tasks?{}", "x".repeat(17_000))).await;
    assert_eq!(long.short(), "414 The URL has more than 16384 bytes.\n");
    let mut large = Connection::open(node.address).await;
    large
        .send("GET", "/v1/ping", &[("x-large", &"x".repeat(100_000))], b"")
        .await;
    // The connection may be gone before the answer is read: the server does not read on.
    assert!(large.head_or_end().await.is_none_or(|head| head.status == 431));
    let many: Vec<(&str, &str)> = (0..150).map(|_| ("x-many", "x")).collect();
    assert_eq!(node.request("GET", "/v1/ping", &many, b"").await.status(), 431);
    assert_eq!(node.get("/v1/ping").await.status(), 200);
}

/// Bytes that are no HTTP, bodies without their end and paths that are no text harm nobody else.
#[tokio::test]
async fn broken_requests_harm_nobody() {
    let node = Node::start().await;
    for raw in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET\r\n\r\n",
        b"GET /v1/ping HTTP/9.9\r\n\r\n",
        b"PUT /v2/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"PUT /v2/kv/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PUT /v2/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe",
    ] {
        let mut connection = Connection::open(node.address).await;
        connection.send_raw(raw).await;
        drop(connection);
    }
    assert_eq!(node.get("/v1/tasks/%ff%fe/x").await.status(), 404);
    assert_eq!(node.get("/v2/tasks/%ff%fe").await.json()["code"], "invalid_path");
    assert_eq!(node.get("/v2/environments/%ff").await.json()["code"], "invalid_path");
    assert_eq!(node.get("/v2/%ff").await.json()["code"], "route_missing");
    assert_eq!(
        node.get("/v1/tasks?startedBy=%ff%fe").await.short(),
        "200 {\"items\":[]}\n"
    );
    assert_eq!(node.get("/v2/kv/k").await.status(), 404, "half a body is never written");
}

/// Bodies over the limit are refused, announced or not, also where the client sends on.
#[tokio::test]
async fn large_bodies_are_refused() {
    let node = Node::start().await;
    let large = vec![b'{'; 3 * 1024 * 1024];
    let environment = node.request("POST", "/v1/environments", &[], &large).await;
    assert_eq!(environment.short(), "413 Request body is larger than 262144 bytes\n");
    let mut connection = Connection::open(node.address).await;
    connection
        .send_raw(b"PUT /v2/kv/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..3 {
        connection.send_raw(b"100000\r\n").await;
        connection.send_raw(&large[..1024 * 1024]).await;
        connection.send_raw(b"\r\n").await;
    }
    connection.send_raw(b"0\r\n\r\n").await;
    assert_eq!(connection.answer("PUT").await.status(), 413);
    assert_eq!(node.revision(), 0);
}

/// A request that does not get on is ended by its deadline, and too many at once are turned away while health is still answered.
#[tokio::test]
async fn slow_requests_are_bounded() {
    let config = ApiConfig {
        request_deadline: Duration::from_millis(300),
        requests_in_flight: 1,
        ..ApiConfig::default()
    };
    let node = Node::start_with(config).await;
    let mut slow = Connection::open(node.address).await;
    slow.send_raw(b"PUT /v2/kv/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
        .await;
    loop {
        let other = node.get("/v2/cluster").await;
        if other.status() == 429 {
            assert_eq!(other.json()["code"], "overloaded");
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(
        node.get("/v1/tasks").await.short(),
        "429 Too many requests are being served; try again.\n"
    );
    assert_eq!(node.get("/readyz").await.status(), 200);
    let answer = slow.answer("PUT").await;
    assert_eq!(
        (answer.status(), answer.json()["code"].as_str()),
        (504, Some("deadline_exceeded"))
    );
    assert_eq!(node.get("/v2/cluster").await.status(), 200);
}

/// Pipelined requests on one connection are answered in order.
#[tokio::test]
async fn one_connection_serves_many_requests() {
    let node = Node::start().await;
    let mut connection = Connection::open(node.address).await;
    for number in 0..50 {
        let value = number.to_string();
        connection.send("PUT", "/v2/kv/k", &[], value.as_bytes()).await;
        connection.send("GET", "/v2/kv/k", &[], b"").await;
        assert_eq!(connection.answer("PUT").await.status(), 200);
        assert_eq!(connection.answer("GET").await.text(), value);
    }
}
