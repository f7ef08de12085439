//! A third party's AWS: moto's server, which knows nothing of Blox.

use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, Moto, SourceText, eventually, seeded};

const QUEUE: &str = "ecs-events";

/// Bootstrap sees what is there, an event that came through a rule to the queue shows, a deployment starts a task on every instance, and
/// reconcile sees what no event told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blox_works_on_somebody_elses_aws() {
    seeded();
    let directory = Cluster::directory();
    let moto = Moto::start(directory.path()).await;
    let cluster_arn = moto.ecs("CreateCluster", json!({"clusterName": "third"})).await["cluster"]["clusterArn"].clone();
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(moto.instance("third").await);
    }
    for family in ["agent", "web"] {
        let container = json!({"name": family, "image": "busybox", "cpu": 10, "memory": 64, "essential": true});
        moto.ecs(
            "RegisterTaskDefinition",
            json!({"family": family, "containerDefinitions": [container]}),
        )
        .await;
    }
    moto.call("sqs", "AmazonSQS.CreateQueue", json!({"QueueName": QUEUE}))
        .await;
    let pattern = json!({"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"]}).to_string();
    moto.call(
        "events",
        "AWSEvents.PutRule",
        json!({"Name": "ecs", "EventPattern": pattern}),
    )
    .await;
    let target = json!([{"Id": "1", "Arn": format!("arn:aws:sqs:us-east-1:123456789012:{QUEUE}")}]);
    moto.call(
        "events",
        "AWSEvents.PutTargets",
        json!({"Rule": "ecs", "Targets": target}),
    )
    .await;

    let source = SourceText {
        name: "moto",
        region: "us-east-1",
        queue: QUEUE,
        reconcile_pause: "2s",
    };
    let cluster = Cluster::start(directory, &moto.url(), &[source]).await;
    cluster.reconciled().await;
    let shown = cluster.get(0, "/v1/instances?cluster=third").await.json();
    let mut arns: Vec<&str> = shown["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["entity"]["containerInstanceARN"].as_str())
        .collect();
    arns.sort_unstable();
    instances.sort_unstable();
    assert_eq!(arns, instances, "bootstrap sees the instances");

    let told = format!(
        "arn:aws:ecs:us-east-1:123456789012:task/third/{}",
        "0123456789abcdef".repeat(2)
    );
    let detail = task_detail(&told, cluster_arn.as_str().expect("an ARN"), &instances[0]);
    let entry = json!({"Source": "aws.ecs", "DetailType": "ECS Task State Change", "Resources": [told], "Detail": detail.to_string()});
    moto.call("events", "AWSEvents.PutEvents", json!({"Entries": [entry]}))
        .await;
    eventually("the event shows", DEADLINE, || async {
        let tasks = cluster.get(1, "/v1/tasks?cluster=third").await.text();
        if tasks.contains(&told) { Ok(()) } else { Err(tasks) }
    })
    .await;

    cluster
        .put(
            "/v2/environments/agent",
            &json!({"cluster": "third", "task_definition": "agent"}),
        )
        .await;
    eventually("a daemon on every instance", DEADLINE, || async {
        let environment = cluster.get(2, "/v2/environments/agent").await.json();
        if environment["summary"]["current"] == instances.len() {
            Ok(())
        } else {
            Err(environment.to_string())
        }
    })
    .await;
    for instance in &instances {
        let listed = moto
            .ecs(
                "ListTasks",
                json!({"cluster": "third", "containerInstance": instance, "family": "agent"}),
            )
            .await;
        assert_eq!(
            listed["taskArns"].as_array().map(Vec::len),
            Some(1),
            "one on {instance}: {listed}"
        );
    }

    let started = moto
        .ecs(
            "StartTask",
            json!({"cluster": "third", "taskDefinition": "web", "containerInstances": [instances[1]]}),
        )
        .await;
    let untold = started["tasks"][0]["taskArn"].as_str().expect("it starts").to_owned();
    // By /v2: moto's tasks have no createdAt, and /v1 leaves out what it cannot show whole.
    eventually("reconcile sees what no event told", DEADLINE, || async {
        let tasks = cluster.get(0, "/v2/tasks?cluster=third&limit=100").await.text();
        if tasks.contains(&untold) { Ok(()) } else { Err(tasks) }
    })
    .await;
}

fn task_detail(arn: &str, cluster_arn: &str, instance: &str) -> Value {
    json!({
        "taskArn": arn, "clusterArn": cluster_arn, "containerInstanceArn": instance, "lastStatus": "RUNNING", "desiredStatus": "RUNNING",
        "taskDefinitionArn": "arn:aws:ecs:us-east-1:123456789012:task-definition/web:1", "group": "family:web", "launchType": "EC2",
        "createdAt": "2026-11-22T15:00:00.000Z", "startedAt": "2026-11-22T15:00:05.000Z", "updatedAt": "2026-11-22T15:00:05.000Z",
        "containers": [{"containerArn": "arn:aws:ecs:us-east-1:123456789012:container/1", "name": "web", "lastStatus": "RUNNING", "taskArn": arn}],
        "overrides": {"containerOverrides": [{"name": "web"}]}, "version": 3,
    })
}
