//! Paging, limits, filters, failures and exceptions of the ECS wire; regions.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::{Client, strings};

/// Pages hold at most a hundred, follow one another without gap or repetition, and a size of 101 is refused.
#[tokio::test]
async fn listings_come_in_pages() {
    let (client, instances) = Client::with_fleet(205).await;
    let mut seen = Vec::new();
    let mut token = json!(null);
    let mut sizes = Vec::new();
    loop {
        let page = client
            .ecs("ListContainerInstances", json!({"cluster": "one", "nextToken": token}))
            .await;
        let arns = strings(&page["containerInstanceArns"]);
        sizes.push(arns.len());
        seen.extend(arns);
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(sizes, [100, 100, 5]);
    assert_eq!(
        seen.iter().collect::<BTreeSet<_>>(),
        instances.iter().collect::<BTreeSet<_>>()
    );
    let too_many = json!({"cluster": "one", "maxResults": 101});
    assert_eq!(
        client.ecs_error("ListTasks", too_many).await,
        "InvalidParameterException"
    );
}

/// Ten instances a StartTask or state change, a hundred names a description; beyond is refused, not cut.
#[tokio::test]
async fn limits_are_ecs_limits() {
    let (client, instances) = Client::with_fleet(101).await;
    let start =
        |count: usize| json!({"cluster": "one", "taskDefinition": "agent", "containerInstances": instances[..count]});
    assert_eq!(
        client.ecs_error("StartTask", start(11)).await,
        "InvalidParameterException"
    );
    assert_eq!(
        client.ecs("StartTask", start(10)).await["tasks"]
            .as_array()
            .map(Vec::len),
        Some(10)
    );
    let describe = |count: usize| json!({"cluster": "one", "containerInstances": instances[..count]});
    assert_eq!(
        client.ecs_error("DescribeContainerInstances", describe(101)).await,
        "InvalidParameterException"
    );
    let described = client.ecs("DescribeContainerInstances", describe(100)).await;
    assert_eq!(described["containerInstances"].as_array().map(Vec::len), Some(100));
    let drain = json!({"cluster": "one", "containerInstances": instances[..11], "status": "DRAINING"});
    assert_eq!(
        client.ecs_error("UpdateContainerInstancesState", drain).await,
        "InvalidParameterException"
    );
    let long = json!({"cluster": "one", "taskDefinition": "agent", "containerInstances": instances[..1], "startedBy": "x".repeat(37)});
    assert_eq!(client.ecs_error("StartTask", long).await, "InvalidParameterException");
}

/// Each exception and failure reason that a scheduler must tell apart.
#[tokio::test]
async fn failures_have_their_reasons() {
    let (client, instances) = Client::with_fleet(4).await;
    let [full, draining, away, busy] = instances.as_slice() else {
        panic!("four instances")
    };
    let port = json!({"family": "port", "host_ports": [8080]});
    client.control("task-definitions", port).await;
    let huge = json!({"family": "huge", "memory_mib": 100_000});
    client.control("task-definitions", huge).await;
    let marked = json!({"family": "marked", "required_attributes": ["gpu"]});
    client.control("task-definitions", marked).await;
    let start = |definition: &str, instance: &str| json!({"cluster": "one", "taskDefinition": definition, "containerInstances": [instance]});
    let reason = async |definition: &str, instance: &str| {
        client.ecs("StartTask", start(definition, instance)).await["failures"][0]["reason"].clone()
    };
    assert_eq!(reason("port", busy).await, json!(null), "the port is free at first");
    assert_eq!(reason("port", busy).await, "RESOURCE:PORTS");
    assert_eq!(reason("huge", full).await, "RESOURCE:MEMORY");
    assert_eq!(reason("marked", full).await, "ATTRIBUTE");
    let put = json!({"cluster": "one", "attributes": [{"name": "gpu", "targetId": full}]});
    client.ecs("PutAttributes", put).await;
    assert_eq!(reason("marked", full).await, json!(null));
    client
        .control("instances/drain", json!({"cluster": "one", "instances": [draining]}))
        .await;
    assert_eq!(reason("agent", draining).await, "INACTIVE");
    client
        .control("instances/disconnect", json!({"cluster": "one", "instances": [away]}))
        .await;
    assert_eq!(reason("agent", away).await, "AGENT");
    assert_eq!(reason("agent", "0123").await, "MISSING");
    assert_eq!(
        client.ecs_error("StartTask", start("nothing", full)).await,
        "ClientException"
    );
    assert_eq!(
        client.ecs_error("ListTasks", json!({"cluster": "two"})).await,
        "ClusterNotFoundException"
    );
    assert_eq!(
        client
            .ecs_error("StopTask", json!({"cluster": "one", "task": "x"}))
            .await,
        "InvalidParameterException"
    );
    assert_eq!(
        client.ecs_error("Nonsense", json!({})).await,
        "UnknownOperationException"
    );
    let missing = client
        .ecs("DescribeTasks", json!({"cluster": "one", "tasks": ["abc"]}))
        .await;
    assert_eq!(missing["failures"][0]["reason"], "MISSING");
}

/// ListTasks shows what is wanted RUNNING unless asked otherwise, and startedBy stands alone.
#[tokio::test]
async fn task_listings_filter() {
    let (client, instances) = Client::with_fleet(2).await;
    let first = client.start_task(&instances[0], "g").await["taskArn"].clone();
    let second = client.start_task(&instances[1], "g").await["taskArn"].clone();
    client.ecs("StopTask", json!({"cluster": "one", "task": first})).await;
    let list = async |mut filter: serde_json::Value| {
        filter["cluster"] = json!("one");
        client.ecs("ListTasks", filter).await["taskArns"].clone()
    };
    assert_eq!(list(json!({})).await, json!([second]));
    assert_eq!(list(json!({"desiredStatus": "STOPPED"})).await, json!([first]));
    assert_eq!(list(json!({"containerInstance": instances[1]})).await, json!([second]));
    assert_eq!(list(json!({"containerInstance": instances[0]})).await, json!([]));
    assert_eq!(list(json!({"startedBy": "me"})).await, json!([second]));
    assert_eq!(list(json!({"startedBy": "you"})).await, json!([]));
    assert_eq!(
        list(json!({"family": "agent", "launchType": "EC2"})).await,
        json!([second])
    );
    assert_eq!(list(json!({"family": "other"})).await, json!([]));
    let both = json!({"cluster": "one", "startedBy": "me", "family": "agent"});
    assert_eq!(client.ecs_error("ListTasks", both).await, "InvalidParameterException");
}

/// A client token makes RunTask start once; another request under it is a conflict.
#[tokio::test]
async fn run_task_is_idempotent_by_token() {
    let (client, instances) = Client::with_fleet(3).await;
    let described = client
        .ecs(
            "DescribeContainerInstances",
            json!({"cluster": "one", "containerInstances": [instances[1]]}),
        )
        .await;
    let host = described["containerInstances"][0]["ec2InstanceId"]
        .as_str()
        .expect("an id")
        .to_owned();
    let request = |count: usize| {
        let constraint = json!({"type": "memberOf", "expression": format!("ec2InstanceId == {host}")});
        json!({"cluster": "one", "taskDefinition": "agent", "count": count, "clientToken": "t", "placementConstraints": [constraint]})
    };
    let first = client.ecs("RunTask", request(1)).await;
    assert_eq!(first["tasks"][0]["containerInstanceArn"], json!(instances[1]));
    let again = client.ecs("RunTask", request(1)).await;
    assert_eq!(again["tasks"][0]["taskArn"], first["tasks"][0]["taskArn"]);
    assert_eq!(client.ecs_error("RunTask", request(2)).await, "ConflictException");
}

/// The same cluster name in two regions is two clusters with two queues.
#[tokio::test]
async fn regions_share_nothing() {
    let (client, _) = Client::with_fleet(2).await;
    client
        .control("clusters", json!({"region": "eu-west-1", "cluster": "one"}))
        .await;
    client
        .control("instances", json!({"region": "eu-west-1", "cluster": "one"}))
        .await;
    let (_, there) = client
        .ecs_in("eu-west-1", "ListContainerInstances", json!({"cluster": "one"}))
        .await;
    let arns = strings(&there["containerInstanceArns"]);
    assert_eq!(arns.len(), 1);
    assert!(
        arns[0].starts_with("arn:aws:ecs:eu-west-1:123456789012:container-instance/one/"),
        "{arns:?}"
    );
    let here = client.ecs("ListContainerInstances", json!({"cluster": "one"})).await;
    assert_eq!(strings(&here["containerInstanceArns"]).len(), 2);
    let events = client.events_in("eu-west-1", |events| !events.is_empty()).await;
    assert!(events.iter().all(|event| event["region"] == "eu-west-1"), "{events:?}");
    let (_, nowhere) = client.ecs_in("ap-south-1", "ListClusters", json!({})).await;
    assert_eq!(nowhere["clusterArns"], json!([]));
}
