//! One task: its states and its documents.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::events::Form;
use super::{Definition, Name};
use crate::clock::{epoch_seconds, rfc3339};

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TaskStatus {
    Provisioning,
    Pending,
    Activating,
    Running,
    Deactivating,
    Stopping,
    Deprovisioning,
    Stopped,
}

/// What ECS wants of a task; it never goes back from STOPPED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DesiredStatus {
    Running,
    Stopped,
}

/// On what a task runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum LaunchType {
    #[default]
    Ec2,
    Fargate,
}

/// Why a task stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum StopCode {
    EssentialContainerExited,
    UserInitiated,
    TerminationNotice,
}

/// One container of a task.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_digest: String,
    pub(crate) runtime_id: String,
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
    /// (container port, host port) over TCP.
    pub(crate) bindings: Vec<(u16, u16)>,
}

/// The network interface of a task in `awsvpc` mode.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) attachment_id: Name,
    pub(crate) interface_id: String,
    pub(crate) private_address: String,
}

/// One task at one version.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: Name,
    pub(crate) arn: Name,
    pub(crate) cluster_arn: Name,
    pub(crate) version: u64,
    /// Counts the steps of its life, so that a timer set for an earlier step does nothing.
    pub(crate) step: u32,
    /// (id, ARN) of its instance; none on Fargate.
    pub(crate) instance: Option<(Name, Name)>,
    pub(crate) definition: Arc<Definition>,
    pub(crate) group: String,
    pub(crate) started_by: Option<String>,
    pub(crate) launch_type: LaunchType,
    pub(crate) availability_zone: String,
    pub(crate) last_status: TaskStatus,
    pub(crate) desired_status: DesiredStatus,
    pub(crate) created_ms: u64,
    pub(crate) pull_started_ms: Option<u64>,
    pub(crate) pull_stopped_ms: Option<u64>,
    pub(crate) connectivity_ms: Option<u64>,
    pub(crate) started_ms: Option<u64>,
    pub(crate) stopping_ms: Option<u64>,
    pub(crate) execution_stopped_ms: Option<u64>,
    pub(crate) stopped_ms: Option<u64>,
    pub(crate) updated_ms: u64,
    pub(crate) stop_code: Option<StopCode>,
    pub(crate) stopped_reason: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) containers: Vec<Container>,
    pub(crate) interface: Option<Interface>,
    pub(crate) overrides: Value,
    pub(crate) tags: Vec<Value>,
}

impl Task {
    pub(crate) fn is_stopped(&self) -> bool {
        self.last_status == TaskStatus::Stopped
    }

    /// Counted in an instance's and a cluster's `runningTasksCount`; a task on its way to STOPPED is in no count.
    pub(crate) fn is_running(&self) -> bool {
        self.desired_status == DesiredStatus::Running && self.last_status == TaskStatus::Running
    }

    /// Counted in `pendingTasksCount`.
    pub(crate) fn is_pending(&self) -> bool {
        let starting = matches!(
            self.last_status,
            TaskStatus::Provisioning | TaskStatus::Pending | TaskStatus::Activating
        );
        self.desired_status == DesiredStatus::Running && starting
    }

    /// The task in the shape of the API or of an event.
    pub(crate) fn document(&self, form: Form) -> Value {
        let mut document = json!({
            "attachments": self.attachments(form),
            "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
            "availabilityZone": self.availability_zone,
            "clusterArn": self.cluster_arn,
            "containers": self.containers.iter().map(|one| self.container_document(one)).collect::<Vec<_>>(),
            "cpu": self.definition.cpu.to_string(),
            "createdAt": time(form, self.created_ms),
            "desiredStatus": self.desired_status,
            "enableExecuteCommand": false,
            "group": self.group,
            "lastStatus": self.last_status,
            "launchType": self.launch_type,
            "memory": self.definition.memory.to_string(),
            "overrides": self.overrides,
            "taskArn": self.arn,
            "taskDefinitionArn": self.definition.arn,
            "version": self.version,
        });
        self.add_optional_fields(&mut document, form);
        match form {
            Form::Event => document["updatedAt"] = json!(rfc3339(self.updated_ms)),
            Form::Api { tags, .. } => {
                document["healthStatus"] = json!("UNKNOWN");
                document["tags"] = if tags { json!(self.tags) } else { json!([]) };
            }
        }
        document
    }

    fn add_optional_fields(&self, document: &mut Value, form: Form) {
        let times = [
            ("connectivityAt", self.connectivity_ms),
            ("pullStartedAt", self.pull_started_ms),
            ("pullStoppedAt", self.pull_stopped_ms),
            ("startedAt", self.started_ms),
            ("stoppingAt", self.stopping_ms),
            ("executionStoppedAt", self.execution_stopped_ms),
            ("stoppedAt", self.stopped_ms),
        ];
        for (name, at_ms) in times {
            if let Some(at_ms) = at_ms {
                document[name] = time(form, at_ms);
            }
        }
        if self.connectivity_ms.is_some() {
            document["connectivity"] = json!("CONNECTED");
        }
        if let Some((_, arn)) = &self.instance {
            document["containerInstanceArn"] = json!(arn);
        }
        if let Some(started_by) = &self.started_by {
            document["startedBy"] = json!(started_by);
        }
        if let Some(code) = self.stop_code {
            document["stopCode"] = json!(code);
        }
        if let Some(reason) = &self.stopped_reason {
            document["stoppedReason"] = json!(reason);
        }
        if self.launch_type == LaunchType::Fargate {
            document["platformVersion"] = json!("1.4.0");
            document["platformFamily"] = json!("Linux");
            document["ephemeralStorage"] = json!({"sizeInGiB": 20});
        }
    }

    /// Containers follow their task, in fewer states.
    fn container_status(&self) -> &'static str {
        match self.last_status {
            TaskStatus::Provisioning | TaskStatus::Pending => "PENDING",
            TaskStatus::Activating | TaskStatus::Running | TaskStatus::Deactivating => "RUNNING",
            TaskStatus::Stopping | TaskStatus::Deprovisioning | TaskStatus::Stopped => "STOPPED",
        }
    }

    fn container_document(&self, container: &Container) -> Value {
        let status = self.container_status();
        let mut document = json!({
            "containerArn": container.arn,
            "cpu": container.cpu.to_string(),
            "image": container.image,
            "lastStatus": status,
            "memory": container.memory.to_string(),
            "name": container.name,
            "networkInterfaces": [],
            "taskArn": self.arn,
        });
        if let Some(interface) = &self.interface {
            document["networkInterfaces"] =
                json!([{"attachmentId": interface.attachment_id, "privateIpv4Address": interface.private_address}]);
        }
        if status != "PENDING" {
            document["imageDigest"] = json!(container.image_digest);
            document["runtimeId"] = json!(container.runtime_id);
            let binding = |(container_port, host_port): &(u16, u16)| json!({"bindIP": "0.0.0.0", "containerPort": container_port, "hostPort": host_port, "protocol": "tcp"});
            document["networkBindings"] = container.bindings.iter().map(binding).collect();
        }
        if let (Some(exit_code), "STOPPED") = (self.exit_code, status) {
            document["exitCode"] = json!(exit_code);
        }
        document
    }

    /// The same attachment has another type in events than in the API.
    fn attachments(&self, form: Form) -> Value {
        let Some(interface) = &self.interface else {
            return json!([]);
        };
        let kind = if form == Form::Event {
            "eni"
        } else {
            "ElasticNetworkInterface"
        };
        let status = match self.last_status {
            TaskStatus::Provisioning => "PRECREATED",
            TaskStatus::Deprovisioning | TaskStatus::Stopped => "DELETED",
            _ => "ATTACHED",
        };
        json!([{
            "id": interface.attachment_id,
            "type": kind,
            "status": status,
            "details": [
                {"name": "subnetId", "value": "subnet-0d0eab1bb38d5ca64"},
                {"name": "networkInterfaceId", "value": interface.interface_id},
                {"name": "macAddress", "value": "0e:98:9f:33:76:27"},
                {"name": "privateIPv4Address", "value": interface.private_address},
            ],
        }])
    }
}

fn time(form: Form, at_ms: u64) -> Value {
    match form {
        Form::Event => json!(rfc3339(at_ms)),
        Form::Api { .. } => json!(epoch_seconds(at_ms)),
    }
}
