//! The `entity` object of Blox 0.3, byte for byte as its Go program wrote it.
//!
//! Each structure below reads ECS's names and writes those of Blox 0.3, in the order of its fields. The rules of the original: a required
//! field that is missing means that the record cannot be shown; optional texts are left out when empty, as is an exit code of 0; lists are
//! `null` when ECS sent none; resources carry one text value; texts are escaped as Go's `encoding/json` does.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::normalise::Document;
use crate::proto::ResourceKind;

/// The entity of a task or container instance out of its shown document; empty where Blox 0.3 cannot show it: clusters, tasks on no
/// container instance (Fargate), records that lack a required field or have one of another type. `cluster_arn` is the record's own:
/// DescribeContainerInstances does not name the cluster of what it shows, events do.
pub fn v1_entity(kind: ResourceKind, cluster_arn: &str, shown: &Document) -> Vec<u8> {
    match kind {
        ResourceKind::Task => convert(shown, |_: &mut Task<'_>| {}),
        ResourceKind::Instance => convert(shown, |instance: &mut ContainerInstance<'_>| {
            instance.cluster_arn.get_or_insert_with(|| cluster_arn.to_owned());
        }),
        ResourceKind::Cluster | ResourceKind::Unspecified => None,
    }
    .unwrap_or_default()
}

fn convert<'a, Entity>(shown: &'a Document, complete: impl FnOnce(&mut Entity)) -> Option<Vec<u8>>
where
    Entity: Deserialize<'a> + Serialize,
{
    let mut entity = Entity::deserialize(shown).ok()?;
    complete(&mut entity);
    let mut bytes = Vec::new();
    entity
        .serialize(&mut Serializer::with_formatter(&mut bytes, GoFormatter))
        .ok()?;
    Some(bytes)
}

#[derive(Deserialize, Serialize)]
struct Task<'a> {
    #[serde(rename(deserialize = "clusterArn", serialize = "clusterARN"))]
    cluster_arn: &'a str,
    #[serde(rename(deserialize = "containerInstanceArn", serialize = "containerInstanceARN"))]
    container_instance_arn: &'a str,
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
    #[serde(rename = "createdAt")]
    created_at: &'a str,
    #[serde(rename = "desiredStatus")]
    desired_status: &'a str,
    #[serde(rename = "lastStatus")]
    last_status: &'a str,
    #[serde(borrow)]
    overrides: Overrides<'a>,
    #[serde(rename = "startedAt", skip_serializing_if = "is_empty")]
    started_at: Option<&'a str>,
    #[serde(rename = "startedBy", skip_serializing_if = "is_empty")]
    started_by: Option<&'a str>,
    #[serde(rename = "stoppedAt", skip_serializing_if = "is_empty")]
    stopped_at: Option<&'a str>,
    #[serde(rename = "stoppedReason", skip_serializing_if = "is_empty")]
    stopped_reason: Option<&'a str>,
    #[serde(rename(deserialize = "taskArn", serialize = "taskARN"))]
    task_arn: &'a str,
    #[serde(rename(deserialize = "taskDefinitionArn", serialize = "taskDefinitionARN"))]
    task_definition_arn: &'a str,
}

#[derive(Deserialize, Serialize)]
struct Container<'a> {
    #[serde(rename(deserialize = "containerArn", serialize = "containerARN"))]
    container_arn: Option<&'a str>,
    #[serde(rename = "exitCode", skip_serializing_if = "is_zero")]
    exit_code: Option<i64>,
    #[serde(rename = "lastStatus")]
    last_status: Option<&'a str>,
    name: Option<&'a str>,
    #[serde(rename = "networkBindings", borrow)]
    network_bindings: Option<Vec<NetworkBinding<'a>>>,
    #[serde(skip_serializing_if = "is_empty")]
    reason: Option<&'a str>,
}

#[derive(Deserialize, Serialize)]
struct NetworkBinding<'a> {
    #[serde(rename = "bindIP")]
    bind_ip: Option<&'a str>,
    #[serde(rename = "containerPort")]
    container_port: Option<i64>,
    #[serde(rename = "hostPort")]
    host_port: Option<i64>,
    #[serde(skip_serializing_if = "is_empty")]
    protocol: Option<&'a str>,
}

#[derive(Deserialize, Serialize)]
struct Overrides<'a> {
    /// An empty list, not `null`, when ECS sent none.
    #[serde(rename = "containerOverrides", borrow, default, deserialize_with = "list_or_empty")]
    container_overrides: Vec<ContainerOverride<'a>>,
    #[serde(rename = "taskRoleArn", skip_serializing_if = "is_empty")]
    task_role_arn: Option<&'a str>,
}

#[derive(Deserialize, Serialize)]
struct ContainerOverride<'a> {
    #[serde(borrow)]
    command: Option<Vec<&'a str>>,
    #[serde(borrow)]
    environment: Option<Vec<NameAndValue<'a>>>,
    name: Option<&'a str>,
}

#[derive(Deserialize, Serialize)]
struct NameAndValue<'a> {
    name: Option<&'a str>,
    value: Option<&'a str>,
}

#[derive(Deserialize, Serialize)]
struct ContainerInstance<'a> {
    #[serde(
        rename(deserialize = "ec2InstanceId", serialize = "EC2InstanceID"),
        skip_serializing_if = "is_empty"
    )]
    ec2_instance_id: Option<&'a str>,
    #[serde(rename = "agentConnected")]
    agent_connected: bool,
    #[serde(rename = "agentUpdateStatus", skip_serializing_if = "is_empty")]
    agent_update_status: Option<&'a str>,
    #[serde(borrow)]
    attributes: Option<Vec<NameAndValue<'a>>>,
    #[serde(rename(deserialize = "clusterArn", serialize = "clusterARN"))]
    cluster_arn: Option<String>,
    #[serde(rename(deserialize = "containerInstanceArn", serialize = "containerInstanceARN"))]
    container_instance_arn: &'a str,
    #[serde(rename = "registeredResources", deserialize_with = "resources")]
    registered_resources: Vec<Resource>,
    #[serde(rename = "remainingResources", deserialize_with = "resources")]
    remaining_resources: Vec<Resource>,
    status: &'a str,
    #[serde(rename = "versionInfo", borrow)]
    version_info: VersionInfo<'a>,
}

#[derive(Deserialize, Serialize)]
struct VersionInfo<'a> {
    #[serde(rename = "agentHash", skip_serializing_if = "is_empty")]
    agent_hash: Option<&'a str>,
    #[serde(rename = "agentVersion", skip_serializing_if = "is_empty")]
    agent_version: Option<&'a str>,
    #[serde(rename = "dockerVersion", skip_serializing_if = "is_empty")]
    docker_version: Option<&'a str>,
}

/// A resource as Blox 0.3 shows it: one text whatever the type.
#[derive(Serialize)]
struct Resource {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    value: String,
}

/// A resource as ECS sends it: the field of its type is set.
#[derive(Deserialize)]
struct EcsResource {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "doubleValue")]
    double_value: Option<f64>,
    #[serde(rename = "integerValue")]
    integer_value: Option<i64>,
    #[serde(rename = "longValue")]
    long_value: Option<i64>,
    #[serde(rename = "stringSetValue")]
    string_set_value: Option<Vec<Option<String>>>,
}

impl From<EcsResource> for Resource {
    fn from(resource: EcsResource) -> Resource {
        let value = match resource.kind.as_deref() {
            Some("DOUBLE") => resource.double_value.map(|number| format!("{number:.2}")),
            Some("INTEGER") => resource.integer_value.map(|number| number.to_string()),
            Some("LONG") => resource.long_value.map(|number| number.to_string()),
            Some("STRINGSET") => resource.string_set_value.map(|members| {
                let members: Vec<String> = members.into_iter().map(Option::unwrap_or_default).collect();
                members.join(",")
            }),
            _ => None,
        };
        Resource {
            name: resource.name,
            kind: resource.kind,
            value: value.unwrap_or_default(),
        }
    }
}

fn resources<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Resource>, D::Error> {
    let resources = Vec::<EcsResource>::deserialize(deserializer)?;
    Ok(resources.into_iter().map(Resource::from).collect())
}

fn list_or_empty<'de, D, Item>(deserializer: D) -> Result<Vec<Item>, D::Error>
where
    D: serde::Deserializer<'de>,
    Item: Deserialize<'de>,
{
    Ok(Option::<Vec<Item>>::deserialize(deserializer)?.unwrap_or_default())
}

fn is_empty(text: &Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

fn is_zero(number: &Option<i64>) -> bool {
    number.is_none_or(|number| number == 0)
}

/// Compact JSON with the escapes of Go's `encoding/json`: what HTML or JavaScript could take amiss is written as `\u....`.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(position) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, from_special) = rest.split_at(position);
            let special = from_special.chars().next().expect("a character was found there");
            write!(writer, "{plain}\\u{:04x}", u32::from(special))?;
            rest = &from_special[special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::records::normalise::normalise;

    /// The cluster of the record that a document belongs to.
    const CLUSTER: &str = "arn:aws:ecs:us-west-2:123456789012:cluster/alpha";

    /// DescribeContainerInstances does not name the cluster; the record does.
    #[test]
    fn a_described_instance_gets_its_cluster_from_the_record() {
        let told = normalise(INSTANCE.as_bytes()).expect("a readable document");
        let mut described = told.clone();
        described.remove("clusterArn");
        let entity = v1_entity(ResourceKind::Instance, CLUSTER, &described);
        assert!(!entity.is_empty());
        assert_eq!(entity, v1_entity(ResourceKind::Instance, "another", &told));
    }

    fn entity(kind: ResourceKind, json: &str) -> String {
        let shown = normalise(json.as_bytes()).expect("a readable document");
        String::from_utf8(v1_entity(kind, CLUSTER, &shown)).expect("text")
    }

    const INSTANCE: &str = r#"{"agentConnected":true,"attributes":[{"name":"com.amazonaws.ecs.capability.logging-driver.syslog"},{"name":"ecs.ami-id","value":"ami-1"}],
        "clusterArn":"arn:aws:ecs:us-west-2:123456789012:cluster/alpha","containerInstanceArn":"arn:aws:ecs:us-west-2:123456789012:container-instance/9e48","ec2InstanceId":"i-cee43224",
        "registeredResources":[{"name":"CPU","type":"INTEGER","integerValue":1024},{"name":"PORTS","type":"STRINGSET","stringSetValue":["22","2376","2375","51678"]}],
        "remainingResources":[{"name":"CPU","type":"INTEGER","integerValue":1014,"doubleValue":0.0,"longValue":0}],"status":"ACTIVE","version":7,
        "versionInfo":{"agentHash":"aebcbca","agentVersion":"1.13.0","dockerVersion":"DockerVersion: 1.11.2"},"pendingTasksCount":0}"#;

    #[test]
    fn an_instance_as_the_original_wrote_it() {
        assert_eq!(
            entity(ResourceKind::Instance, INSTANCE),
            concat!(
                r#"{"EC2InstanceID":"i-cee43224","agentConnected":true,"attributes":[{"name":"com.amazonaws.ecs.capability.logging-driver.syslog","value":null},"#,
                r#"{"name":"ecs.ami-id","value":"ami-1"}],"clusterARN":"arn:aws:ecs:us-west-2:123456789012:cluster/alpha","#,
                r#""containerInstanceARN":"arn:aws:ecs:us-west-2:123456789012:container-instance/9e48","registeredResources":[{"name":"CPU","type":"INTEGER","value":"1024"},"#,
                r#"{"name":"PORTS","type":"STRINGSET","value":"22,2376,2375,51678"}],"remainingResources":[{"name":"CPU","type":"INTEGER","value":"1014"}],"status":"ACTIVE","#,
                r#""versionInfo":{"agentHash":"aebcbca","agentVersion":"1.13.0","dockerVersion":"DockerVersion: 1.11.2"}}"#
            )
        );
    }

    const PENDING_TASK: &str = r#"{"clusterArn":"c","containerInstanceArn":"i","containers":[{"containerArn":"k","lastStatus":"PENDING","name":"sleep"}],
        "createdAt":"2026-11-22T08:39:23Z","desiredStatus":"RUNNING","lastStatus":"PENDING","overrides":{"containerOverrides":[{"name":"sleep"}]},
        "startedBy":"me","taskArn":"t","taskDefinitionArn":"d","version":1,"group":"family:sleep"}"#;

    #[test]
    fn a_pending_task_as_the_original_wrote_it() {
        assert_eq!(
            entity(ResourceKind::Task, PENDING_TASK),
            concat!(
                r#"{"clusterARN":"c","containerInstanceARN":"i","containers":[{"containerARN":"k","lastStatus":"PENDING","name":"sleep","networkBindings":null}],"#,
                r#""createdAt":"2026-11-22T08:39:23Z","desiredStatus":"RUNNING","lastStatus":"PENDING","#,
                r#""overrides":{"containerOverrides":[{"command":null,"environment":null,"name":"sleep"}]},"startedBy":"me","taskARN":"t","taskDefinitionARN":"d"}"#
            )
        );
    }

    #[test]
    fn a_stopped_task_with_every_field() {
        let task = r#"{"clusterArn":"c","containerInstanceArn":"i","containers":[
            {"containerArn":"k","exitCode":137,"lastStatus":"STOPPED","name":"web","networkBindings":[{"bindIP":"0.0.0.0","containerPort":80,"hostPort":32768,"protocol":"tcp"},{"bindIP":"::","containerPort":81,"hostPort":0,"protocol":""}],"reason":"OOM"},
            {"containerArn":"l","exitCode":0,"lastStatus":"STOPPED","name":"log","networkBindings":[],"reason":""}],
            "createdAt":"1","desiredStatus":"STOPPED","lastStatus":"STOPPED",
            "overrides":{"taskRoleArn":"r","containerOverrides":[{"name":"web","command":["sh","-c"],"environment":[{"name":"A","value":"1"}],"cpu":5}]},
            "startedAt":"2","startedBy":"","stoppedAt":"3","stoppedReason":"Task stopped by user","taskArn":"t","taskDefinitionArn":"d"}"#;
        assert_eq!(
            entity(ResourceKind::Task, task),
            concat!(
                r#"{"clusterARN":"c","containerInstanceARN":"i","containers":[{"containerARN":"k","exitCode":137,"lastStatus":"STOPPED","name":"web","#,
                r#""networkBindings":[{"bindIP":"0.0.0.0","containerPort":80,"hostPort":32768,"protocol":"tcp"},{"bindIP":"::","containerPort":81,"hostPort":0}],"reason":"OOM"},"#,
                r#"{"containerARN":"l","lastStatus":"STOPPED","name":"log","networkBindings":[]}],"createdAt":"1","desiredStatus":"STOPPED","lastStatus":"STOPPED","#,
                r#""overrides":{"containerOverrides":[{"command":["sh","-c"],"environment":[{"name":"A","value":"1"}],"name":"web"}],"taskRoleArn":"r"},"#,
                r#""startedAt":"2","stoppedAt":"3","stoppedReason":"Task stopped by user","taskARN":"t","taskDefinitionARN":"d"}"#
            )
        );
    }

    #[test]
    fn what_the_original_could_not_show_is_empty() {
        for required in [
            "clusterArn",
            "containerInstanceArn",
            "containers",
            "createdAt",
            "desiredStatus",
            "lastStatus",
            "overrides",
            "taskArn",
            "taskDefinitionArn",
        ] {
            let mut shown = normalise(PENDING_TASK.as_bytes()).expect("a readable document");
            shown.remove(required);
            assert!(
                v1_entity(ResourceKind::Task, CLUSTER, &shown).is_empty(),
                "{required} missing"
            );
            shown.insert(required.into(), Value::Null);
            assert!(
                v1_entity(ResourceKind::Task, CLUSTER, &shown).is_empty(),
                "{required} null"
            );
        }
        for required in [
            "agentConnected",
            "containerInstanceArn",
            "registeredResources",
            "remainingResources",
            "status",
            "versionInfo",
        ] {
            let mut shown = normalise(INSTANCE.as_bytes()).expect("a readable document");
            shown.remove(required);
            assert!(
                v1_entity(ResourceKind::Instance, CLUSTER, &shown).is_empty(),
                "{required} missing"
            );
        }
        assert_eq!(
            entity(ResourceKind::Cluster, r#"{"clusterArn":"c","status":"ACTIVE"}"#),
            ""
        );
        assert_eq!(
            entity(ResourceKind::Task, &PENDING_TASK.replace("\"PENDING\"", "5")),
            ""
        );
    }

    #[test]
    fn lists_and_objects_that_may_be_missing() {
        let instance = r#"{"agentConnected":false,"clusterArn":"c","containerInstanceArn":"i","registeredResources":[],"remainingResources":[],"status":"INACTIVE","versionInfo":{}}"#;
        assert_eq!(
            entity(ResourceKind::Instance, instance),
            r#"{"agentConnected":false,"attributes":null,"clusterARN":"c","containerInstanceARN":"i","registeredResources":[],"remainingResources":[],"status":"INACTIVE","versionInfo":{}}"#
        );
        let task = PENDING_TASK.replace(
            r#""overrides":{"containerOverrides":[{"name":"sleep"}]}"#,
            r#""overrides":{}"#,
        );
        assert!(entity(ResourceKind::Task, &task).contains(r#""overrides":{"containerOverrides":[]}"#));
    }

    #[test]
    fn resources_of_every_type_and_lists_of_different_length() {
        let instance = r#"{"agentConnected":false,"attributes":[],"clusterArn":"c","containerInstanceArn":"i","registeredResources":[{"name":"A","type":"LONG","longValue":5}],
            "remainingResources":[{"name":"B","type":"DOUBLE","doubleValue":1.005},{"name":"C","type":"DOUBLE","doubleValue":2},{"name":"D","type":"STRINGSET","stringSetValue":[]},
            {"name":"E","type":"INTEGER"},{"name":"F","type":"NEW","integerValue":1},{"type":"INTEGER","integerValue":-3}],"status":"ACTIVE","versionInfo":{"agentVersion":""}}"#;
        assert_eq!(
            entity(ResourceKind::Instance, instance),
            concat!(
                r#"{"agentConnected":false,"attributes":[],"clusterARN":"c","containerInstanceARN":"i","registeredResources":[{"name":"A","type":"LONG","value":"5"}],"#,
                r#""remainingResources":[{"name":"B","type":"DOUBLE","value":"1.00"},{"name":"C","type":"DOUBLE","value":"2.00"},{"name":"D","type":"STRINGSET","value":""},"#,
                r#"{"name":"E","type":"INTEGER","value":""},{"name":"F","type":"NEW","value":""},{"name":null,"type":"INTEGER","value":"-3"}],"status":"ACTIVE","versionInfo":{}}"#
            )
        );
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        let mut shown = normalise(PENDING_TASK.as_bytes()).expect("a readable document");
        shown.insert(
            "startedBy".into(),
            Value::from("<a href=\"x\">&\u{2028}\u{2029}\\/\n\r\t\u{8}\u{c}\u{1}\u{7f}ü"),
        );
        let entity = String::from_utf8(v1_entity(ResourceKind::Task, CLUSTER, &shown)).expect("text");
        let expected = "\"startedBy\":\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\\u2029\\\\/\\n\\r\\t\\u0008\\u000c\\u0001\u{7f}ü\"";
        assert!(entity.contains(expected), "{entity}\nlacks\n{expected}");
    }
}
