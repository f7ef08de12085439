//! What ECS says of tasks, instances and clusters, as short as v1 allows.

use blox_store::proto::{Form, Observation, ResourceKind};
use serde_json::{Value, json};

pub const WEST: &str = "us-west-2";
pub const EAST: &str = "us-east-1";

pub fn cluster_arn(region: &str, name: &str) -> String {
    format!("arn:aws:ecs:{region}:123456789012:cluster/{name}")
}

pub fn task_arn(region: &str, cluster: &str, id: &str) -> String {
    format!("arn:aws:ecs:{region}:123456789012:task/{cluster}/{id}")
}

pub fn instance_arn(region: &str, cluster: &str, id: &str) -> String {
    format!("arn:aws:ecs:{region}:123456789012:container-instance/{cluster}/{id}")
}

/// A task with fields to its name.
pub struct Task<'a> {
    pub region: &'a str,
    pub cluster: &'a str,
    pub id: &'a str,
    pub status: &'a str,
    pub started_by: &'a str,
    pub version: i64,
    /// No container instance: v1 cannot show it.
    pub fargate: bool,
    /// Bytes of padding in a field that only /v2 shows.
    pub padding: usize,
}

impl Default for Task<'_> {
    fn default() -> Self {
        Task {
            region: WEST,
            cluster: "alpha",
            id: "t1",
            status: "RUNNING",
            started_by: "me",
            version: 1,
            fargate: false,
            padding: 0,
        }
    }
}

impl Task<'_> {
    pub fn document(&self) -> Value {
        let mut document = json!({
            "clusterArn": cluster_arn(self.region, self.cluster),
            "containerInstanceArn": instance_arn(self.region, self.cluster, "i1"),
            "containers": [{
                "containerArn": format!("arn:aws:ecs:{}:123456789012:container/c1", self.region),
                "lastStatus": self.status,
                "name": "sleep",
            }],
            "createdAt": "2026-11-22T08:39:23Z",
            "desiredStatus": "RUNNING",
            "group": "family:sleep",
            "lastStatus": self.status,
            "launchType": if self.fargate { "FARGATE" } else { "EC2" },
            "overrides": {"containerOverrides": [{"name": "sleep"}]},
            "startedBy": self.started_by,
            "taskArn": task_arn(self.region, self.cluster, self.id),
            "taskDefinitionArn": format!("arn:aws:ecs:{}:123456789012:task-definition/sleep:1", self.region),
            "version": self.version,
        });
        if let Some(object) = document.as_object_mut() {
            if self.fargate {
                object.remove("containerInstanceArn");
            }
            if self.padding > 0 {
                object.insert("padding".into(), "x".repeat(self.padding).into());
            }
        }
        document
    }

    pub fn observation(&self) -> Observation {
        let arn = task_arn(self.region, self.cluster, self.id);
        observation(
            ResourceKind::Task,
            self.region,
            self.cluster,
            arn,
            self.version,
            &self.document(),
        )
    }
}

/// An ACTIVE instance.
pub fn instance(region: &str, cluster: &str, id: &str, status: &str, version: i64) -> Observation {
    let arn = instance_arn(region, cluster, id);
    let document = json!({
        "agentConnected": true,
        "clusterArn": cluster_arn(region, cluster),
        "containerInstanceArn": arn,
        "ec2InstanceId": format!("i-{id}"),
        "registeredResources": [{"name": "CPU", "type": "INTEGER", "integerValue": 1024}],
        "remainingResources": [{"name": "CPU", "type": "INTEGER", "integerValue": 512}],
        "status": status,
        "version": version,
        "versionInfo": {"agentVersion": "1.13.0"},
    });
    observation(ResourceKind::Instance, region, cluster, arn, version, &document)
}

/// An ACTIVE cluster.
pub fn cluster(region: &str, name: &str) -> Observation {
    let arn = cluster_arn(region, name);
    let document = json!({"clusterArn": arn, "clusterName": name, "status": "ACTIVE"});
    observation(ResourceKind::Cluster, region, name, arn, 1, &document)
}

/// The source is named as its region.
fn observation(
    kind: ResourceKind,
    region: &str,
    cluster: &str,
    arn: String,
    version: i64,
    document: &Value,
) -> Observation {
    Observation {
        kind: kind.into(),
        source: region.to_owned(),
        cluster_arn: cluster_arn(region, cluster),
        arn,
        form: Form::Describe.into(),
        ecs_version: Some(version),
        observed_at_ms: 1_000 + version,
        document: document.to_string().into(),
    }
}
