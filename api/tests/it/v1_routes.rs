//! Routing of the old contract: 404 for everything it does not know, redirects as its router made them, ping.

use crate::node::Node;

/// Whatever is no route is a 404 in plain text, wrong methods and HEAD included.
#[tokio::test]
async fn everything_unknown_is_page_not_found() {
    let node = Node::start().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v2x"),
        ("GET", "/v1/unknown"),
        ("POST", "/v1/tasks"),
        ("PUT", "/v1/environments"),
        ("DELETE", "/v1/ping"),
        ("OPTIONS", "/v1/tasks"),
        ("OPTIONS", "*"),
        ("CONNECT", "x:1"),
        ("GET", "/v1/tasks/alpha"),
        ("GET", "/v1/tasks/alpha/not-an-arn"),
        ("GET", "/v1/tasks/1alpha/arn:aws:ecs:us-west-2:123456789012:task/9e48"),
        (
            "GET",
            "/v1/tasks/alpha/arn:aws:ecs:us-west-2:123456789012:container-instance/9e48",
        ),
        (
            "GET",
            "/v1/instances/alpha/arn:aws:ecs:us-west-2:123456789012:task/9e48",
        ),
        ("GET", "/v1/tasks/alpha/arn:aws:ecs:us-west-2:123456789012:task/a/b/c"),
        ("GET", "/v1/%ff"),
        ("GET", "/v1/environments/e/deployments/d/x"),
    ] {
        let answer = node.request(method, path, &[], b"").await;
        assert_eq!(answer.short(), "404 404 page not found\n", "{method} {path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{method} {path}"
        );
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{method} {path}"
        );
    }
    let head = node.request("HEAD", "/v1/ping", &[], b"").await;
    assert_eq!(head.status(), 404);
}

/// A trailing slash and an unclean path are redirected, with the query kept.
#[tokio::test]
async fn paths_are_redirected_as_by_the_original() {
    let node = Node::start().await;
    let slash = node.get("/v1/tasks/?status=running").await;
    assert_eq!(slash.status(), 301);
    assert_eq!(slash.header("location"), Some("/v1/tasks?status=running"));
    assert_eq!(
        slash.text(),
        "<a href=\"/v1/tasks?status=running\">Moved Permanently</a>.\n\n"
    );
    assert_eq!(slash.header("content-type"), Some("text/html; charset=utf-8"));
    let unclean = node.get("/v1//tasks").await;
    assert_eq!(
        (unclean.short().as_str(), unclean.header("location")),
        ("301 ", Some("/v1/tasks"))
    );
    let posted = node.request("POST", "/v1/environments/", &[], b"").await;
    assert_eq!(
        (posted.short().as_str(), posted.header("location")),
        ("301 ", Some("/v1/environments"))
    );
    assert_eq!(node.request("POST", "/v1/tasks/", &[], b"").await.status(), 404);
}

/// The load balancer's health check: no body, said to be JSON.
#[tokio::test]
async fn ping_is_empty() {
    let node = Node::start().await;
    let answer = node.get("/v1/ping").await;
    assert_eq!(answer.short(), "200 ");
    assert_eq!(answer.header("content-type"), Some("application/json; charset=UTF-8"));
    assert_eq!(answer.header("content-length"), Some("0"));
}

/// Every answer says who gave it and how far behind it is.
#[tokio::test]
async fn every_answer_says_who_gave_it() {
    let node = Node::start().await;
    for path in [
        "/v1/ping",
        "/v1/tasks",
        "/nowhere",
        "/v2/nowhere",
        "/livez",
        "/v2/cluster",
    ] {
        let answer = node.get(path).await;
        assert_eq!(answer.header("x-blox-node"), Some("node1"), "{path}");
        assert_eq!(answer.header("x-blox-leader"), Some("node1"), "{path}");
        assert_eq!(answer.header("x-blox-term"), Some("3"), "{path}");
        assert_eq!(answer.header("x-blox-revision"), Some("0"), "{path}");
        assert_eq!(answer.header("x-blox-applied-lag"), Some("0"), "{path}");
        assert_eq!(answer.header("x-blox-leader-contact-ms"), Some("7"), "{path}");
        assert_eq!(
            answer.header("x-blox-ecs-lag-ms"),
            Some(""),
            "{path}: no source has reported yet"
        );
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{path}");
    }
    let answer = node
        .request("GET", "/v1/ping", &[("x-request-id", "mine-1")], b"")
        .await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
}
