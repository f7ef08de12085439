//! One container instance: what ECS knows of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Name;
use super::events::Form;
use crate::clock::{epoch_seconds, rfc3339};

/// Ports that the agent and the system keep for themselves.
pub(crate) const RESERVED_PORTS: [u16; 5] = [22, 2375, 2376, 51678, 51679];

/// Registration state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum InstanceStatus {
    Active,
    Draining,
    /// Deregistered or terminated, and still described.
    Inactive,
}

/// One container instance at one version.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: Name,
    pub(crate) arn: Name,
    pub(crate) cluster_arn: Name,
    pub(crate) ec2_instance_id: String,
    pub(crate) version: u64,
    pub(crate) status: InstanceStatus,
    pub(crate) agent_connected: bool,
    /// Terminated abruptly: nothing on it moves any more, whether or not ECS has noticed. Not part of any document.
    pub(crate) dead: bool,
    pub(crate) attributes: BTreeMap<String, Option<String>>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) cpu_registered: u32,
    pub(crate) cpu_remaining: u32,
    pub(crate) memory_registered: u32,
    pub(crate) memory_remaining: u32,
    pub(crate) ports_used: BTreeSet<u16>,
    pub(crate) running_tasks: usize,
    pub(crate) pending_tasks: usize,
    pub(crate) registered_ms: u64,
    pub(crate) updated_ms: u64,
}

impl Instance {
    /// The instance in the shape of the API or of an event.
    pub(crate) fn document(&self, form: Form) -> Value {
        let no_ports = BTreeSet::new();
        let reserved = BTreeSet::from(RESERVED_PORTS);
        let mut document = json!({
            "agentConnected": self.agent_connected,
            "attributes": self.attributes_document(),
            "attachments": [],
            "containerInstanceArn": self.arn,
            "ec2InstanceId": self.ec2_instance_id,
            "pendingTasksCount": self.pending_tasks,
            "registeredResources": resources(self.cpu_registered, self.memory_registered, &reserved, &no_ports),
            "remainingResources": resources(self.cpu_remaining, self.memory_remaining, &self.ports_used, &no_ports),
            "runningTasksCount": self.running_tasks,
            "status": self.status,
            "version": self.version,
            "versionInfo": {
                "agentHash": "f5fbe7f7",
                "agentVersion": "1.98.0",
                "dockerVersion": "DockerVersion: 25.0.13",
            },
        });
        match form {
            Form::Event => {
                document["clusterArn"] = json!(self.cluster_arn);
                document["registeredAt"] = json!(rfc3339(self.registered_ms));
                document["updatedAt"] = json!(rfc3339(self.updated_ms));
            }
            Form::Api { tags, health } => {
                document["registeredAt"] = json!(epoch_seconds(self.registered_ms));
                let shown: Vec<Value> = self
                    .tags
                    .iter()
                    .map(|(key, value)| json!({"key": key, "value": value}))
                    .collect();
                document["tags"] = if tags { json!(shown) } else { json!([]) };
                if health {
                    document["healthStatus"] = self.health_document();
                }
            }
        }
        document
    }

    fn attributes_document(&self) -> Vec<Value> {
        let shown = |(name, value): (&String, &Option<String>)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name}),
        };
        self.attributes.iter().map(shown).collect()
    }

    fn health_document(&self) -> Value {
        let status = if self.agent_connected { "OK" } else { "IMPAIRED" };
        let updated = epoch_seconds(self.updated_ms);
        let check = json!({"type": "AGENT_CONNECTIVITY", "status": status, "lastUpdated": updated, "lastStatusChange": updated});
        json!({"overallStatus": status, "details": [check]})
    }
}

fn resources(cpu: u32, memory_mib: u32, ports: &BTreeSet<u16>, ports_udp: &BTreeSet<u16>) -> Value {
    let integer = |name: &str, amount: u32| json!({"name": name, "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": amount});
    let set = |name: &str, ports: &BTreeSet<u16>| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        json!({"name": name, "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0, "stringSetValue": ports})
    };
    json!([
        integer("CPU", cpu),
        integer("MEMORY", memory_mib),
        set("PORTS", ports),
        set("PORTS_UDP", ports_udp)
    ])
}
