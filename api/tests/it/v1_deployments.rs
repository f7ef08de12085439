//! Deployments of the old contract.

use blox_api::{EnvironmentSummary, FailedInstance};
use blox_store::proto::command::Operation;
use blox_store::proto::{DeploymentStatus, UpdateDeployment, UpdateEnvironment};

use crate::node::Node;

const E1: &[u8] = br#"{"name":"e1","instanceGroup":{"cluster":"alpha"},"taskDefinition":"sleep"}"#;
const DEPLOYMENTS: &str = "/v1/environments/e1/deployments";
const OTHER_TOKEN: &str = "9bf2688c-1ede-4752-ac8a-e3079379c5ac";

async fn with_environment() -> (Node, String) {
    let node = Node::start().await;
    let created = node.request("POST", "/v1/environments", &[], E1).await.json();
    let token = created["deploymentToken"].as_str().expect("a token").to_owned();
    (node, token)
}

async fn deploy(node: &Node, token: &str) -> crate::client::Answer {
    node.request("POST", &format!("{DEPLOYMENTS}?deploymentToken={token}"), &[], b"")
        .await
}

fn complete(node: &Node, id: &str, next_token: &str) {
    let update = UpdateDeployment {
        environment_name: "e1".into(),
        deployment_id: id.into(),
        status: DeploymentStatus::Completed.into(),
        next_deployment_token: next_token.into(),
    };
    node.apply(Operation::UpdateDeployment(update));
}

/// Tokens: malformed, of no environment, outdated, used.
#[tokio::test]
async fn bad_tokens_have_the_contracts_texts() {
    let (node, token) = with_environment().await;
    for given in ["", "x", "9BF2688C-1EDE-4752-AC8A-E3079379C5AC"] {
        let expected = format!("400 Token '{given}' is not a valid deployment token\n");
        assert_eq!(deploy(&node, given).await.short(), expected);
    }
    let none = node.request("POST", DEPLOYMENTS, &[], b"").await;
    assert_eq!(none.short(), "400 Token '' is not a valid deployment token\n");
    let path = format!("/v1/environments/none/deployments?deploymentToken={OTHER_TOKEN}");
    let missing = node.request("POST", &path, &[], b"").await;
    assert_eq!(missing.short(), "404 Environment with name 'none' does not exist\n");
    let outdated = format!("400 Token '{OTHER_TOKEN}' is outdated and does not match the environment token\n");
    assert_eq!(deploy(&node, OTHER_TOKEN).await.short(), outdated);
    assert_eq!(deploy(&node, &token).await.status(), 200);
    let used = format!("400 Deployment with token '{token}' already exists\n");
    assert_eq!(deploy(&node, &token).await.short(), used);
}

/// A deployment's life, the next one with the next token, and the order of the list.
#[tokio::test]
async fn deployments_follow_each_other() {
    let (node, token) = with_environment().await;
    assert_eq!(node.get(DEPLOYMENTS).await.short(), "200 {\"items\":[]}\n");
    let created = deploy(&node, &token).await;
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let model = |status: &str, failed: &str| {
        format!(
            "{{\"environmentName\":\"e1\",\"failedInstances\":[{failed}],\"id\":\"{id}\",\"status\":\"{status}\",\
             \"taskDefinition\":\"arn:aws:ecs:us-west-2:123456789012:task-definition/sleep:1\"}}"
        )
    };
    assert_eq!(created.short(), format!("200 {}\n", model("pending", "")));
    let failed = FailedInstance {
        instance_arn: "arn:i1".into(),
        reason: "AGENT".into(),
        retry_at_ms: Some(1),
    };
    *node.summaries.summary.lock().expect("no test panics under it") = EnvironmentSummary {
        failed: vec![failed],
        ..EnvironmentSummary::default()
    };
    let one = node.get(&format!("{DEPLOYMENTS}/{id}?any=1")).await;
    assert_eq!(one.short(), format!("200 {}\n", model("pending", "\"arn:i1\"")));
    *node.summaries.summary.lock().expect("no test panics under it") = EnvironmentSummary::default();

    complete(&node, &id, OTHER_TOKEN);
    let environment = node.get("/v1/environments/e1").await.json();
    assert_eq!(environment["deploymentToken"], OTHER_TOKEN);
    let outdated = format!("400 Token '{token}' is outdated and does not match the environment token\n");
    assert_eq!(deploy(&node, &token).await.short(), outdated, "also one that was used");
    let second = deploy(&node, OTHER_TOKEN).await.json();
    let list = node.get(&format!("{DEPLOYMENTS}?nextToken=ignored")).await.json();
    assert_eq!(list["items"][0]["id"], second["id"]);
    assert_eq!(list["items"][1]["status"], "completed");
}

/// A roll-out by /v2 is in progress: v1 cannot start another, and what it superseded has no word in v1.
#[tokio::test]
async fn a_running_and_a_superseded_deployment() {
    let (node, token) = with_environment().await;
    let first = deploy(&node, &token).await.json()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let environment = node
        .store
        .view()
        .and_then(|view| view.environment("e1"))
        .expect("a view")
        .expect("it exists");
    let mut spec = environment.spec.expect("a specification");
    spec.task_definition_arn = "arn:aws:ecs:us-west-2:123456789012:task-definition/sleep:2".into();
    node.apply(Operation::UpdateEnvironment(UpdateEnvironment {
        name: "e1".into(),
        spec: Some(spec),
        deployment_id: "d2".into(),
        deployment_token: OTHER_TOKEN.into(),
        mod_revision: 0,
    }));
    let refused = deploy(&node, OTHER_TOKEN).await;
    assert_eq!(refused.short(), "400 There is already a deployment in progress: d2\n");
    let superseded = node.get(&format!("{DEPLOYMENTS}/{first}")).await.json();
    assert_eq!(superseded["status"], "unknown");
}

/// What is not there.
#[tokio::test]
async fn missing_ones_have_the_contracts_texts() {
    let (node, _) = with_environment().await;
    let none = "/v1/environments/none/deployments";
    assert_eq!(node.get(none).await.short(), "404 Environment none does not exist\n");
    assert_eq!(
        node.get(&format!("{none}/d")).await.short(),
        "404 Environment none does not exist\n"
    );
    assert_eq!(
        node.get(&format!("{DEPLOYMENTS}/d")).await.short(),
        "404 Deployment d does not exist for environment e1\n"
    );
}
