//! Environments of `/v2`.

use blox_api::{EnvironmentSummary, FailedInstance};
use serde_json::{Value, json};

use crate::client::Answer;
use crate::documents::{EAST, WEST, cluster_arn};
use crate::node::Node;

const E1: &str = "/v2/environments/e1";

async fn put(node: &Node, headers: &[(&str, &str)], body: Value) -> Answer {
    node.request("PUT", E1, headers, body.to_string().as_bytes()).await
}

/// Created (201), unchanged (nothing written), changed (a new revision that rolls out), with everything said of it.
#[tokio::test]
async fn a_put_creates_and_changes_and_rolls_out() {
    let node = Node::start().await;
    let wanted =
        json!({"cluster": "alpha", "task_definition": "sleep", "attributes": {"stack": "prod"}, "drain": "first"});
    let created = put(&node, &[], wanted.clone()).await;
    assert_eq!(created.status(), 201, "{created:?}");
    let environment = created.json();
    assert_eq!(environment["cluster_arn"], cluster_arn(WEST, "alpha"));
    assert_eq!(
        environment["task_definition_arn"],
        "arn:aws:ecs:us-west-2:123456789012:task-definition/sleep:1"
    );
    assert_eq!(
        (environment["source"].as_str(), environment["drain"].as_str()),
        (Some(WEST), Some("first"))
    );
    assert_eq!(
        (
            environment["attributes"]["stack"].as_str(),
            environment["max_unavailable"].as_u64()
        ),
        (Some("prod"), Some(1))
    );
    assert_eq!(environment["deployment"]["status"], "pending");
    assert_eq!(environment["deployment"]["id"], environment["deployment_id"]);
    let revision = node.revision();

    let unchanged = put(&node, &[], wanted).await;
    assert_eq!(
        (unchanged.status(), unchanged.json(), node.revision()),
        (200, environment.clone(), revision)
    );

    let changed = put(
        &node,
        &[],
        json!({"cluster": "alpha", "task_definition": "sleep:2", "max_unavailable": 3}),
    )
    .await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    let changed = changed.json();
    assert_eq!(
        (
            changed["environment_revision"].as_u64(),
            changed["max_unavailable"].as_u64()
        ),
        (Some(2), Some(3))
    );
    assert_eq!(
        (changed["drain"].as_str(), changed["attributes"].clone()),
        (Some("last"), json!({})),
        "a PUT says all of it"
    );
    assert_ne!(changed["deployment_id"], environment["deployment_id"]);

    let failed = FailedInstance {
        instance_arn: "arn:i1".into(),
        reason: "AGENT".into(),
        retry_at_ms: Some(5),
    };
    *node.summaries.summary.lock().expect("no test panics under it") = EnvironmentSummary {
        desired: 3,
        current: 2,
        ready: 1,
        failed: vec![failed],
        ..EnvironmentSummary::default()
    };
    let one = node.get(E1).await;
    assert_eq!(
        one.header("etag"),
        Some(format!("\"{}\"", changed["revision"]).as_str())
    );
    assert_eq!(one.json()["summary"]["desired"], 3);
    assert_eq!(
        one.json()["summary"]["failed"][0],
        json!({"instance_arn": "arn:i1", "reason": "AGENT", "retry_at_ms": 5})
    );
    assert_eq!(node.get("/v2/environments").await.json()["items"], json!([one.json()]));
    let deployments = node.get(&format!("{E1}/deployments")).await.json();
    let statuses: Vec<&str> = deployments["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["status"].as_str())
        .collect();
    assert_eq!(statuses, ["pending", "superseded"]);
}

/// An environment made by v1 waits for a deployment; asking by v2 for the same rolls it out.
#[tokio::test]
async fn a_put_rolls_out_what_v1_made() {
    let node = Node::start().await;
    let body = br#"{"name":"e1","instanceGroup":{"cluster":"alpha"},"taskDefinition":"sleep"}"#;
    node.request("POST", "/v1/environments", &[], body).await;
    let waiting = node.get(E1).await.json();
    assert_eq!(
        (&waiting["deployment_id"], waiting.get("deployment")),
        (&Value::Null, Some(&Value::Null)),
        "what is not there yet is null, not left out"
    );
    let rolled = put(&node, &[], json!({"cluster": "alpha", "task_definition": "sleep"})).await;
    assert_eq!(
        (rolled.status(), rolled.json()["deployment"]["status"].as_str()),
        (200, Some("pending"))
    );
    assert_eq!(rolled.json()["environment_revision"], 1);
}

/// Preconditions and idempotency.
#[tokio::test]
async fn writes_are_guarded() {
    let node = Node::start().await;
    let wanted = |definition: &str| json!({"cluster": "alpha", "task_definition": definition});
    assert_eq!(put(&node, &[("if-match", "*")], wanted("sleep")).await.status(), 412);
    let key = ("idempotency-key", "k-1");
    let created = put(&node, &[key, ("if-none-match", "*")], wanted("sleep")).await;
    assert_eq!(created.status(), 201, "{created:?}");
    let replayed = put(&node, &[key, ("if-none-match", "*")], wanted("sleep")).await;
    assert_eq!(
        (replayed.status(), replayed.header("x-blox-replayed")),
        (200, Some("true")),
        "{replayed:?}"
    );
    assert_eq!(replayed.json()["deployment_id"], created.json()["deployment_id"]);
    assert_eq!(
        put(&node, &[key], wanted("sleep:2")).await.json()["code"],
        "idempotency_conflict"
    );
    assert_eq!(
        put(&node, &[("if-none-match", "*")], wanted("sleep:2")).await.status(),
        412
    );
    let revision = created.json()["revision"].as_u64().expect("a revision");
    let refused = put(
        &node,
        &[("if-match", &format!("\"{}\"", revision + 1))],
        wanted("sleep:2"),
    )
    .await;
    assert_eq!(
        (refused.status(), refused.json()["current_revision"].as_u64()),
        (412, Some(revision))
    );
    assert_eq!(
        put(&node, &[("if-match", &format!("\"{revision}\""))], wanted("sleep:2"))
            .await
            .status(),
        200
    );
}

/// An idempotency key does not weaken a precondition: what does not hold is refused, and nothing is made.
#[tokio::test]
async fn preconditions_hold_under_an_idempotency_key() {
    let node = Node::start().await;
    let wanted = |definition: &str| json!({"cluster": "alpha", "task_definition": definition});
    for (number, condition) in ["\"5\"", "*"].into_iter().enumerate() {
        let key = format!("absent-{number}");
        let refused = put(
            &node,
            &[("idempotency-key", &key), ("if-match", condition)],
            wanted("sleep"),
        )
        .await;
        assert_eq!(
            (refused.status(), refused.json()["current_revision"].as_u64()),
            (412, Some(0)),
            "{condition}"
        );
    }
    assert_eq!(node.get(E1).await.status(), 404);
    let refused = node
        .request("DELETE", &format!("{E1}?stop_tasks=true"), &[("if-match", "*")], b"")
        .await;
    assert_eq!(refused.status(), 412);

    let v1 = br#"{"name":"e1","instanceGroup":{"cluster":"alpha"},"taskDefinition":"sleep"}"#;
    node.request("POST", "/v1/environments", &[], v1).await;
    let revision = node.get(E1).await.json()["revision"].as_u64().expect("a revision");
    let other = format!("\"{}\"", revision + 7);
    for (key, condition, definition) in [
        ("present-1", ("if-none-match", "*"), "sleep:2"),
        ("present-2", ("if-match", other.as_str()), "sleep:2"),
        ("present-3", ("if-match", other.as_str()), "sleep"),
    ] {
        let refused = put(&node, &[("idempotency-key", key), condition], wanted(definition)).await;
        assert_eq!(
            (refused.status(), refused.json()["current_revision"].as_u64()),
            (412, Some(revision)),
            "{condition:?} {definition}"
        );
    }
    let present = node.get(E1).await.json();
    assert_eq!(
        (present["revision"].as_u64(), &present["deployment_id"]),
        (Some(revision), &Value::Null),
        "nothing was rolled out"
    );
}

/// Whether tasks are stopped must be said; then the environment goes at once, or with its last task.
#[tokio::test]
async fn a_delete_says_what_becomes_of_the_tasks() {
    let node = Node::start().await;
    put(&node, &[], json!({"cluster": "alpha", "task_definition": "sleep"})).await;
    for query in ["", "?stop_tasks=", "?stop_tasks=yes"] {
        let refused = node.request("DELETE", &format!("{E1}{query}"), &[], b"").await;
        assert_eq!(
            (refused.status(), refused.json()["parameter"].as_str()),
            (400, Some("stop_tasks")),
            "{query}"
        );
    }
    let stopping = node.request("DELETE", &format!("{E1}?stop_tasks=true"), &[], b"").await;
    assert_eq!(
        (stopping.status(), stopping.json()["deleting"].as_bool()),
        (202, Some(true))
    );
    assert_eq!(node.get(E1).await.json()["deleting"], true);
    let refused = put(&node, &[], json!({"cluster": "alpha", "task_definition": "sleep"})).await;
    assert_eq!(
        (refused.status(), refused.json()["code"].as_str()),
        (409, Some("environment_deleting"))
    );
    let gone = node
        .request("DELETE", &format!("{E1}?stop_tasks=false"), &[], b"")
        .await;
    assert_eq!((gone.status(), gone.json()["deleting"].as_bool()), (200, Some(false)));
    let missing = node
        .request("DELETE", &format!("{E1}?stop_tasks=false"), &[], b"")
        .await;
    assert_eq!(
        (missing.status(), missing.json()["code"].as_str()),
        (404, Some("environment_missing"))
    );
    assert_eq!(node.get(E1).await.json()["code"], "environment_missing");
    assert_eq!(node.get(&format!("{E1}/deployments")).await.status(), 404);
}

/// A name that exists in two sources needs one of them said.
#[tokio::test]
async fn a_source_tells_two_clusters_apart() {
    let node = Node::start().await;
    let ambiguous = put(&node, &[], json!({"cluster": "both", "task_definition": "sleep"})).await;
    assert_eq!(
        (ambiguous.status(), ambiguous.json()["sources"].clone()),
        (422, json!([EAST, WEST]))
    );
    let east = put(
        &node,
        &[],
        json!({"cluster": "both", "source": EAST, "task_definition": "sleep"}),
    )
    .await;
    assert_eq!(
        (east.status(), east.json()["cluster_arn"].as_str()),
        (201, Some(cluster_arn(EAST, "both").as_str()))
    );
    let moved = put(
        &node,
        &[],
        json!({"cluster": "both", "source": WEST, "task_definition": "sleep"}),
    )
    .await;
    assert_eq!((moved.status(), moved.json()["code"].as_str()), (422, Some("refused")));
}

/// What is wrong with a request is said, with a suggestion where a name is nearly right.
#[tokio::test]
async fn bad_requests_are_problems() {
    let node = Node::start().await;
    for (body, status, code) in [
        ("{", 400, "invalid_body"),
        ("{\"cluster\":\"alpha\"}", 400, "invalid_body"),
        (
            "{\"cluster\":\"alpha\",\"task_definition\":\"sleep\",\"max_unavailable\":0}",
            400,
            "invalid_body",
        ),
        (
            "{\"cluster\":\"alpha\",\"task_definition\":\"sleep\",\"max_unavailible\":1}",
            400,
            "invalid_body",
        ),
        (
            "{\"cluster\":\"gone\",\"task_definition\":\"sleep\"}",
            422,
            "cluster_refused",
        ),
        (
            "{\"cluster\":\"old\",\"task_definition\":\"sleep\"}",
            422,
            "cluster_refused",
        ),
        (
            "{\"cluster\":\"alpha\",\"task_definition\":\"gone\"}",
            422,
            "task_definition_refused",
        ),
        (
            "{\"cluster\":\"alpha\",\"task_definition\":\"throttled\"}",
            503,
            "ecs_unavailable",
        ),
    ] {
        let answer = node.request("PUT", E1, &[], body.as_bytes()).await;
        assert_eq!(
            (answer.status(), answer.json()["code"].as_str()),
            (status, Some(code)),
            "{body}"
        );
    }
    for name in ["a%20b", &"x".repeat(31), "%ff"] {
        let answer = node
            .request("PUT", &format!("/v2/environments/{name}"), &[], b"{}")
            .await;
        assert_eq!(answer.json()["code"], "invalid_path", "{name}");
    }
    let method = node.request("POST", E1, &[], b"").await;
    assert_eq!(
        (method.status(), method.json()["code"].as_str()),
        (405, Some("method_not_allowed"))
    );
    assert_eq!(node.get("/v2/nowhere").await.json()["code"], "route_missing");
}
