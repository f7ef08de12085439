//! Environments of the old contract.

use blox_api::{ApiConfig, EnvironmentSummary, FailedInstance};
use blox_raft::ProposeError;
use std::time::Duration;

use crate::documents::{WEST, cluster_arn};
use crate::node::Node;

const ENVIRONMENTS: &str = "/v1/environments";
const E1: &[u8] = br#"{"name":"e1","instanceGroup":{"cluster":"alpha"},"taskDefinition":"sleep"}"#;

async fn post(node: &Node, body: &[u8]) -> String {
    node.request("POST", ENVIRONMENTS, &[], body).await.short()
}

/// Every refusal of a creation, in the contract's order.
#[tokio::test]
async fn bad_creations_have_the_contracts_texts() {
    let config = ApiConfig {
        catalog_deadline: Duration::from_millis(20),
        ..ApiConfig::default()
    };
    let node = Node::start_with(config).await;
    const ALL: &str = "400 validation failure list:\ninstanceGroup in body is required\nname in body is required\n\
                       taskDefinition in body is required\n";
    const PATTERN: &str = "400 validation failure list:\nname in body should match '^[a-zA-Z0-9-_]{1,30}$'\n";
    for (body, expected) in [
        ("", ALL),
        ("{", ALL),
        ("[]", ALL),
        (
            "{\"name\":\"a b\",\"instanceGroup\":{\"cluster\":\"alpha\"},\"taskDefinition\":\"sleep\"}",
            PATTERN,
        ),
        (
            "{\"name\":7,\"instanceGroup\":{\"cluster\":\"alpha\"},\"taskDefinition\":\"sleep\"}",
            PATTERN,
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"gone\"},\"taskDefinition\":\"sleep\"}",
            "404 Cluster gone does not exist\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{},\"taskDefinition\":\"sleep\"}",
            "404 Cluster  does not exist\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"old\"},\"taskDefinition\":\"sleep\"}",
            "404 Cluster is inactive\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"both\"},\"taskDefinition\":\"sleep\"}",
            "400 Cluster both exists in more than one source (us-east-1, us-west-2): give its ARN\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"slow\"},\"taskDefinition\":\"sleep\"}",
            "503 Error calling DescribeClusters for cluster slow: no answer within 20ms\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"alpha\"},\"taskDefinition\":\"\"}",
            "404 Error calling DescribeTaskDefinition for taskDefinition : ClientException: Unable to describe task \
             definition.\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"alpha\"},\"taskDefinition\":\"throttled\"}",
            "503 Error calling DescribeTaskDefinition for taskDefinition throttled: ThrottlingException: Rate exceeded\n",
        ),
        (
            "{\"name\":\"e\",\"instanceGroup\":{\"cluster\":\"alpha\"},\"taskDefinition\":\"old\"}",
            "404 TaskDefinition is inactive\n",
        ),
    ] {
        assert_eq!(post(&node, body.as_bytes()).await, expected, "{body}");
    }
    *node.ecs.fails.lock().expect("no test panics under it") = Some("ThrottlingException: Rate exceeded".into());
    let throttled = node.request("POST", ENVIRONMENTS, &[], E1).await;
    let expected = "503 Error calling DescribeClusters for cluster alpha: ThrottlingException: Rate exceeded\n";
    assert_eq!(
        (throttled.short().as_str(), throttled.header("retry-after")),
        (expected, Some("1"))
    );
}

/// An environment's life: created (200, not 201), read, listed, deleted as often as one likes.
#[tokio::test]
async fn an_environment_lives() {
    let node = Node::start().await;
    assert_eq!(node.get(ENVIRONMENTS).await.short(), "200 {\"items\":[]}\n");
    let created = node.request("POST", ENVIRONMENTS, &[], E1).await;
    let token = created.json()["deploymentToken"].as_str().expect("a token").to_owned();
    let expected = format!(
        "{{\"deploymentToken\":\"{token}\",\"health\":\"healthy\",\"instanceGroup\":{{\"cluster\":\
         \"arn:aws:ecs:us-west-2:123456789012:cluster/alpha\"}},\"name\":\"e1\",\
         \"taskDefinition\":\"arn:aws:ecs:us-west-2:123456789012:task-definition/sleep:1\"}}"
    );
    assert_eq!(created.short(), format!("200 {expected}\n"));
    assert_eq!(created.header("content-type"), Some("application/json; charset=UTF-8"));
    assert_eq!(
        node.get("/v1/environments/e1?any=1").await.short(),
        format!("200 {expected}\n")
    );
    assert_eq!(
        node.get(ENVIRONMENTS).await.short(),
        format!("200 {{\"items\":[{expected}]}}\n")
    );
    assert_eq!(
        post(&node, E1).await,
        "400 Error saving environment e1 to store: An environment with name e1 already exists\n"
    );
    for _ in 0..2 {
        let deleted = node.request("DELETE", "/v1/environments/e1", &[], b"").await;
        assert_eq!(
            (deleted.short().as_str(), deleted.header("content-type")),
            ("200 ", None)
        );
    }
    assert_eq!(
        node.get("/v1/environments/e1").await.short(),
        "404 Environment e1 does not exist\n"
    );
}

/// A failed instance makes the environment unhealthy.
#[tokio::test]
async fn failures_make_it_unhealthy() {
    let node = Node::start().await;
    post(&node, E1).await;
    let failed = FailedInstance {
        instance_arn: "arn".into(),
        reason: "RESOURCE:MEMORY".into(),
        retry_at_ms: None,
    };
    *node.summaries.summary.lock().expect("no test panics under it") = EnvironmentSummary {
        failed: vec![failed],
        ..EnvironmentSummary::default()
    };
    assert_eq!(node.get("/v1/environments/e1").await.json()["health"], "unhealthy");
    assert_eq!(node.get(ENVIRONMENTS).await.json()["items"][0]["health"], "unhealthy");
}

/// The list's filter: by name or ARN of the cluster, anything else refused.
#[tokio::test]
async fn the_list_is_filtered_by_cluster() {
    let node = Node::start().await;
    for (path, expected) in [
        (
            "?nextToken=x",
            "400 At least one of the filters provided is not supported\n",
        ),
        (
            "?Cluster=x",
            "400 At least one of the filters provided is not supported\n",
        ),
        (
            "?cluster=a&cluster=a",
            "400 At least one of the filters provided is specified multiple times\n",
        ),
        ("?cluster=-", "400 Invalid cluster ARN or name\n"),
    ] {
        assert_eq!(
            node.get(&format!("{ENVIRONMENTS}{path}")).await.short(),
            expected,
            "{path}"
        );
    }
    post(&node, E1).await;
    post(
        &node,
        br#"{"name":"e2","instanceGroup":{"cluster":"beta"},"taskDefinition":"sleep"}"#,
    )
    .await;
    for (query, expected) in [
        ("?cluster=alpha".to_owned(), vec!["e1"]),
        (format!("?cluster={}", cluster_arn(WEST, "beta")), vec!["e2"]),
        ("?cluster=lpha".to_owned(), vec![]),
        ("?cluster=".to_owned(), vec!["e1", "e2"]),
    ] {
        let list = node.get(&format!("{ENVIRONMENTS}{query}")).await.json();
        let names: Vec<&str> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|item| item["name"].as_str())
            .collect();
        assert_eq!(names, expected, "{query}");
    }
}

/// Writes that fail: nothing written is a 503 or 429, an unknown outcome a 504, never a 500.
#[tokio::test]
async fn failed_writes_say_what_is_known() {
    let node = Node::start().await;
    for (error, status) in [
        (ProposeError::NoLeader, 503),
        (ProposeError::Overloaded, 429),
        (ProposeError::Stopped("fsync failed".into()), 503),
        (
            ProposeError::Unknown {
                waited: Duration::from_secs(5),
                cause: "no answer".into(),
            },
            504,
        ),
    ] {
        *node.consensus.propose_fails.lock().expect("no test panics under it") = Some(error);
        for (method, path) in [("POST", ENVIRONMENTS), ("DELETE", "/v1/environments/e1")] {
            let body = if method == "POST" { E1 } else { b"" };
            let answer = node.request(method, path, &[], body).await;
            assert_eq!(answer.status(), status, "{method}: {answer:?}");
            assert_eq!(
                answer.header("retry-after").is_some(),
                status != 504,
                "{method}: {answer:?}"
            );
        }
    }
}
