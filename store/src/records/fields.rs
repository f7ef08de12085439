//! Draws out of a shown document what lists filter by and the scheduler decides on, so that neither parses JSON.

use serde_json::Value;

use super::normalise::Document;
use super::{arn, timestamps};
use crate::proto::{Attribute, ResourceFields, ResourceKind};

/// The group of a service's tasks is this and the service's name.
const SERVICE_GROUP_PREFIX: &str = "service:";

/// The fields of a resource out of its shown document. What ECS did not say, or said in another type, is empty.
///
/// `cluster_arn` and `own_arn` are the record's; `ecs_version` is that of the register shown.
pub fn fields(
    kind: ResourceKind,
    cluster_arn: &str,
    own_arn: &str,
    ecs_version: Option<i64>,
    shown: &Document,
) -> ResourceFields {
    let common = ResourceFields {
        cluster_name: arn::cluster_name_of(cluster_arn).to_owned(),
        ecs_version,
        attributes: attributes(shown),
        ..ResourceFields::default()
    };
    match kind {
        ResourceKind::Task => task(common, shown),
        ResourceKind::Instance => instance(common, own_arn, shown),
        ResourceKind::Cluster | ResourceKind::Unspecified => ResourceFields {
            status: text(shown, "status"),
            ..common
        },
    }
}

fn task(common: ResourceFields, shown: &Document) -> ResourceFields {
    let task_definition_arn = text(shown, "taskDefinitionArn");
    let group = text(shown, "group");
    ResourceFields {
        status: text(shown, "lastStatus"),
        desired_status: text(shown, "desiredStatus"),
        started_by: text(shown, "startedBy"),
        family: arn::family_of(&task_definition_arn).to_owned(),
        service_name: group.strip_prefix(SERVICE_GROUP_PREFIX).unwrap_or_default().to_owned(),
        task_definition_arn,
        group,
        instance_arn: text(shown, "containerInstanceArn"),
        launch_type: text(shown, "launchType"),
        created_at_ms: time(shown, "createdAt"),
        started_at_ms: time(shown, "startedAt"),
        stopped_at_ms: time(shown, "stoppedAt"),
        stop_code: text(shown, "stopCode"),
        stopped_reason: text(shown, "stoppedReason"),
        ..common
    }
}

fn instance(common: ResourceFields, own_arn: &str, shown: &Document) -> ResourceFields {
    ResourceFields {
        status: text(shown, "status"),
        instance_arn: own_arn.to_owned(),
        ec2_instance_id: text(shown, "ec2InstanceId"),
        agent_connected: shown.get("agentConnected").and_then(Value::as_bool).unwrap_or_default(),
        created_at_ms: time(shown, "registeredAt"),
        ..common
    }
}

fn text(document: &Document, name: &str) -> String {
    document
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn time(document: &Document, name: &str) -> i64 {
    document
        .get(name)
        .and_then(Value::as_str)
        .and_then(timestamps::milliseconds_from_iso)
        .unwrap_or_default()
}

fn attributes(document: &Document) -> Vec<Attribute> {
    let Some(Value::Array(listed)) = document.get("attributes") else {
        return Vec::new();
    };
    listed
        .iter()
        .filter_map(|attribute| {
            Some(Attribute {
                name: attribute.get("name")?.as_str()?.to_owned(),
                value: attribute
                    .get("value")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::normalise::normalise;

    const CLUSTER: &str = "arn:aws-cn:ecs:cn-north-1:123456789012:cluster/alpha";

    fn document(json: &str) -> Document {
        normalise(json.as_bytes()).expect("a readable document")
    }

    #[test]
    fn a_task_gives_all_that_queries_need() {
        let shown = document(
            r#"{"lastStatus":"STOPPED","desiredStatus":"STOPPED","startedBy":"ecs-svc/1","group":"service:web","launchType":"EC2",
                "taskDefinitionArn":"arn:aws-cn:ecs:cn-north-1:123456789012:task-definition/web-app:17","containerInstanceArn":"arn:aws-cn:ecs:cn-north-1:123456789012:container-instance/7",
                "createdAt":"2025-05-12T13:11:44.98Z","startedAt":1747055526.053,"stoppedAt":"2025-05-12T14:00:00+01:00","stopCode":"UserInitiated","stoppedReason":"bye","attributes":[{"name":"a","value":"b"},{"name":"c"}]}"#,
        );
        let fields = fields(ResourceKind::Task, CLUSTER, "ignored", Some(6), &shown);
        assert_eq!(fields.status, "STOPPED");
        assert_eq!(fields.family, "web-app");
        assert_eq!(fields.service_name, "web");
        assert_eq!(fields.cluster_name, "alpha");
        assert_eq!(
            fields.instance_arn,
            "arn:aws-cn:ecs:cn-north-1:123456789012:container-instance/7"
        );
        assert_eq!(fields.created_at_ms, 1_747_055_504_980);
        assert_eq!(fields.started_at_ms, 1_747_055_526_053);
        assert_eq!(fields.stopped_at_ms, 1_747_054_800_000);
        assert_eq!(fields.ecs_version, Some(6));
        assert_eq!(fields.attributes.len(), 2);
        assert_eq!(
            fields.attributes[1],
            Attribute {
                name: "c".into(),
                value: String::new()
            }
        );
    }

    #[test]
    fn an_instance_is_its_own_instance() {
        let shown =
            document(r#"{"status":"DRAINING","agentConnected":true,"ec2InstanceId":"i-1","registeredAt":1747055526}"#);
        let fields = fields(ResourceKind::Instance, "plain-name", "own", None, &shown);
        assert_eq!(
            (fields.status.as_str(), fields.instance_arn.as_str()),
            ("DRAINING", "own")
        );
        assert_eq!(fields.cluster_name, "plain-name");
        assert!(fields.agent_connected);
        assert_eq!(fields.created_at_ms, 1_747_055_526_000);
    }

    #[test]
    fn other_types_than_expected_are_empty_not_an_error() {
        let shown = document(r#"{"lastStatus":7,"startedAt":true,"attributes":{"a":1},"containers":"none"}"#);
        let fields = fields(ResourceKind::Task, CLUSTER, "own", None, &shown);
        assert_eq!(
            (fields.status.as_str(), fields.started_at_ms, fields.attributes.len()),
            ("", 0, 0)
        );
    }
}
