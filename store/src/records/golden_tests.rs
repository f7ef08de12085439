//! The sample events of the Amazon ECS documentation decode with every field kept.

use serde_json::Value;

use super::merge::merge;
use super::timestamps;
use crate::proto::{Form, Observation, ResourceKind, ResourceRecord};

fn record_of(envelope: &str, kind: ResourceKind, arn_field: &str) -> (Value, ResourceRecord) {
    let envelope: Value = serde_json::from_str(envelope).expect("the sample is JSON");
    let detail = envelope["detail"].clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let observation = Observation {
        kind: kind as i32,
        source: "east".into(),
        cluster_arn: text(&detail["clusterArn"]),
        arn: text(&detail[arn_field]),
        form: Form::Event as i32,
        ecs_version: detail["version"].as_i64(),
        observed_at_ms: timestamps::milliseconds_from_iso(&text(&envelope["time"])).expect("a time"),
        document: serde_json::to_vec(&detail).expect("it was JSON").into(),
    };
    (
        detail,
        merge(None, &observation).expect("a readable observation").record,
    )
}

fn shown(record: &ResourceRecord) -> Value {
    serde_json::from_slice(&record.shown).expect("what is shown is JSON")
}

#[test]
fn a_running_task_on_ec2() {
    let (mut detail, record) = record_of(
        include_str!("testdata/task-running-ec2.json"),
        ResourceKind::Task,
        "taskArn",
    );
    detail["attachments"][0]["type"] = "ElasticNetworkInterface".into();
    assert_eq!(shown(&record), detail);
    let fields = record.fields.expect("fields");
    assert_eq!(
        (fields.status.as_str(), fields.desired_status.as_str()),
        ("RUNNING", "RUNNING")
    );
    assert_eq!(
        (
            fields.family.as_str(),
            fields.cluster_name.as_str(),
            fields.launch_type.as_str()
        ),
        ("webserver", "example", "EC2")
    );
    assert_eq!(fields.group, "family:webserver");
    assert_eq!(fields.ecs_version, Some(4));
    assert_eq!(fields.started_at_ms, 1_747_055_526_053);
    assert!(
        record.v1_entity.starts_with(
            br#"{"clusterARN":"arn:aws:ecs:us-east-1:123456789012:cluster/example","containerInstanceARN":"#
        )
    );
}

#[test]
fn a_running_task_on_fargate_which_blox_0_3_cannot_show() {
    let (mut detail, record) = record_of(
        include_str!("testdata/task-running-fargate.json"),
        ResourceKind::Task,
        "taskArn",
    );
    detail["attachments"][0]["type"] = "ElasticNetworkInterface".into();
    assert_eq!(shown(&record), detail);
    assert!(record.v1_entity.is_empty());
    assert_eq!(record.fields.expect("fields").launch_type, "FARGATE");
}

#[test]
fn a_stopped_task_of_a_service() {
    let (detail, record) = record_of(
        include_str!("testdata/task-stopped.json"),
        ResourceKind::Task,
        "taskArn",
    );
    assert_eq!(shown(&record), detail);
    let fields = record.fields.expect("fields");
    assert_eq!(
        (fields.stop_code.as_str(), fields.stopped_reason.as_str()),
        ("UserInitiated", "Task stopped by user")
    );
    assert_eq!(
        (fields.service_name.as_str(), fields.started_by.as_str()),
        ("frontend", "ecs-svc/0068978569384120015")
    );
    let entity: Value = serde_json::from_slice(&record.v1_entity).expect("an entity");
    assert_eq!(entity["stoppedReason"], "Task stopped by user");
    assert_eq!(entity["containers"][0]["exitCode"], 137);
}

#[test]
fn a_container_instance() {
    let (detail, record) = record_of(
        include_str!("testdata/container-instance.json"),
        ResourceKind::Instance,
        "containerInstanceArn",
    );
    assert_eq!(shown(&record), detail);
    let fields = record.fields.expect("fields");
    assert_eq!(
        (fields.status.as_str(), fields.ec2_instance_id.as_str()),
        ("ACTIVE", "i-f3a8506b")
    );
    assert!(fields.agent_connected);
    assert_eq!(fields.ecs_version, Some(14_801));
    let entity: Value = serde_json::from_slice(&record.v1_entity).expect("an entity");
    assert_eq!(entity["remainingResources"][2]["value"], "22,2376,2375,51678,51679");
    assert_eq!(entity["registeredResources"][3]["value"], "");
}
