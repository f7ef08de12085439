//! Placing a task: what ECS checks, and the task that comes of it.

use std::sync::Arc;

use rand::Rng;
use serde_json::Value;

use super::task::{Container, Interface};
use super::{
    ClusterKey, Definition, DesiredStatus, Instance, InstanceKey, InstanceStatus, LaunchType, Name, Task, TaskKey,
    TaskStatus, World,
};

/// Why a task was not placed on an instance; its text is a failure's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    /// Deregistered, or draining: what ECS answers for the latter is not documented.
    Inactive,
    AgentDisconnected,
    Attribute,
    Cpu,
    Memory,
    Ports,
}

impl Refusal {
    /// As it stands in `failures[].reason`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Inactive => "INACTIVE",
            Self::AgentDisconnected => "AGENT",
            Self::Attribute => "ATTRIBUTE",
            Self::Cpu => "RESOURCE:CPU",
            Self::Memory => "RESOURCE:MEMORY",
            Self::Ports => "RESOURCE:PORTS",
        }
    }
}

/// What is to be started.
#[derive(Clone, Debug)]
pub(crate) struct LaunchOrder {
    pub(crate) definition: Arc<Definition>,
    pub(crate) launch_type: LaunchType,
    pub(crate) group: Option<String>,
    pub(crate) started_by: Option<String>,
    pub(crate) overrides: Value,
    pub(crate) tags: Vec<Value>,
}

impl World {
    /// Starts one task on an instance, or says why not.
    pub(crate) fn start_on(&mut self, key: &InstanceKey, order: &LaunchOrder) -> Result<TaskKey, Refusal> {
        let instance = self.instance(key).map(Arc::clone).ok_or(Refusal::Missing)?;
        fits(&instance, &order.definition)?;
        Ok(self.launch(&key.cluster, Some(&instance), order))
    }

    /// Starts one task on the instance with the most memory left among those that `wanted` lets pass.
    pub(crate) fn start_anywhere(
        &mut self,
        key: &ClusterKey,
        order: &LaunchOrder,
        wanted: impl Fn(&Instance) -> bool,
    ) -> Result<TaskKey, Refusal> {
        let mut refusal = Refusal::Missing;
        let mut best: Option<&Instance> = None;
        for instance in self
            .cluster(key)
            .into_iter()
            .flat_map(super::Cluster::present_instances)
        {
            if !wanted(instance) {
                continue;
            }
            match fits(instance, &order.definition) {
                Ok(()) if best.is_none_or(|best| instance.memory_remaining > best.memory_remaining) => {
                    best = Some(instance)
                }
                Ok(()) => {}
                Err(reason) => refusal = reason,
            }
        }
        let id = Name::clone(&best.ok_or(refusal)?.id);
        self.start_on(
            &InstanceKey {
                cluster: key.clone(),
                id,
            },
            order,
        )
    }

    /// Starts one task that needs no instance of ours.
    pub(crate) fn start_on_fargate(&mut self, key: &ClusterKey, order: &LaunchOrder) -> TaskKey {
        self.launch(key, None, order)
    }

    fn launch(&mut self, cluster: &ClusterKey, instance: Option<&Instance>, order: &LaunchOrder) -> TaskKey {
        let id = self.new_id();
        let key = TaskKey {
            cluster: cluster.clone(),
            id,
        };
        let task = self.new_task(&key, instance, order);
        self.add_task(&key, task);
        key
    }

    fn new_task(&mut self, key: &TaskKey, instance: Option<&Instance>, order: &LaunchOrder) -> Task {
        let now_ms = self.now_ms();
        let definition = Arc::clone(&order.definition);
        let fargate = instance.is_none();
        let interface = (fargate || definition.own_interface).then(|| self.new_interface());
        let zone = instance.and_then(|instance| instance.attributes.get("ecs.availability-zone").cloned().flatten());
        Task {
            id: Name::clone(&key.id),
            arn: self.resource_arn(&key.cluster, "task", &key.id),
            cluster_arn: self
                .cluster(&key.cluster)
                .map(|cluster| Name::clone(&cluster.arn))
                .unwrap_or_default(),
            version: 1,
            step: 0,
            instance: instance.map(|instance| (Name::clone(&instance.id), Name::clone(&instance.arn))),
            containers: self.new_containers(key, &definition),
            group: order
                .group
                .clone()
                .unwrap_or_else(|| format!("family:{}", definition.family)),
            definition,
            started_by: order.started_by.clone(),
            launch_type: order.launch_type,
            availability_zone: zone.unwrap_or_else(|| format!("{}a", key.cluster.region)),
            last_status: if interface.is_some() {
                TaskStatus::Provisioning
            } else {
                TaskStatus::Pending
            },
            desired_status: DesiredStatus::Running,
            created_ms: now_ms,
            pull_started_ms: None,
            pull_stopped_ms: None,
            connectivity_ms: None,
            started_ms: None,
            stopping_ms: None,
            execution_stopped_ms: None,
            stopped_ms: None,
            updated_ms: now_ms,
            stop_code: None,
            stopped_reason: None,
            exit_code: None,
            interface,
            overrides: order.overrides.clone(),
            tags: order.tags.clone(),
        }
    }

    fn new_containers(&mut self, key: &TaskKey, definition: &Definition) -> Vec<Container> {
        let account = Name::clone(&self.account);
        let mut containers = Vec::with_capacity(definition.containers.len());
        for template in &definition.containers {
            let arn = format!(
                "arn:aws:ecs:{}:{account}:container/{}/{}/{}",
                key.cluster.region,
                key.cluster.name,
                key.id,
                self.new_uuid()
            );
            let mut bindings = Vec::with_capacity(template.ports.len());
            for (container_port, host_port) in &template.ports {
                let chosen = if *host_port == 0 {
                    self.random.random_range(32_768..=60_999)
                } else {
                    *host_port
                };
                bindings.push((*container_port, chosen));
            }
            containers.push(Container {
                arn,
                name: template.name.clone(),
                image: template.image.clone(),
                image_digest: format!("sha256:{}{}", self.new_id(), self.new_id()),
                runtime_id: format!("{}-{}", key.id, self.random.random::<u32>()),
                cpu: template.cpu,
                memory: template.memory,
                bindings,
            });
        }
        containers
    }

    fn new_interface(&mut self) -> Interface {
        let number: u32 = self.random.random();
        let [_, high, middle, low] = number.to_be_bytes();
        Interface {
            attachment_id: self.new_uuid(),
            interface_id: format!("eni-{number:017x}"),
            private_address: format!("10.{high}.{middle}.{low}"),
        }
    }
}

/// What ECS checks before it places a task, in the order in which it is reported.
fn fits(instance: &Instance, definition: &Definition) -> Result<(), Refusal> {
    let has = |(name, value): &(String, Option<String>)| {
        let held = instance.attributes.get(name);
        held.is_some_and(|held| value.is_none() || held == value)
    };
    if instance.status != InstanceStatus::Active {
        Err(Refusal::Inactive)
    } else if !instance.agent_connected {
        Err(Refusal::AgentDisconnected)
    } else if !definition.required_attributes.iter().all(has) {
        Err(Refusal::Attribute)
    } else if instance.cpu_remaining < definition.cpu {
        Err(Refusal::Cpu)
    } else if instance.memory_remaining < definition.memory {
        Err(Refusal::Memory)
    } else if definition.host_ports().any(|port| instance.ports_used.contains(&port)) {
        Err(Refusal::Ports)
    } else {
        Ok(())
    }
}
