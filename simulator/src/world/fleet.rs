//! What happens to clusters and instances: they come, drain, flap, die and leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;
use serde::Deserialize;

use super::instance::RESERVED_PORTS;
use super::versioned::Versioned;
use super::{Cluster, ClusterKey, ClusterStatus, Instance, InstanceKey, InstanceStatus, Name, TaskKey, Timer, World};

/// The largest fleet one order may add.
pub(crate) const INSTANCES_PER_ORDER_MAX: usize = 10_000;

/// Instances to be registered, all alike but for their names.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InstanceOrder {
    pub(crate) region: Option<String>,
    pub(crate) cluster: String,
    pub(crate) count: usize,
    /// CPU units.
    pub(crate) cpu: u32,
    pub(crate) memory_mib: u32,
    pub(crate) instance_type: String,
    /// Added to what every instance has; null for an attribute without a value.
    pub(crate) attributes: BTreeMap<String, Option<String>>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Default for InstanceOrder {
    fn default() -> Self {
        Self {
            region: None,
            cluster: "default".into(),
            count: 1,
            cpu: 2_048,
            memory_mib: 3_904,
            instance_type: "t3.medium".into(),
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// How an instance ceases to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// ECS is told; what runs there is stopped at once.
    Deregister,
    /// Power is cut; ECS notices later.
    Terminate,
}

impl World {
    /// The cluster of that name, made if it does not exist or was deleted.
    pub(crate) fn create_cluster(&mut self, key: &ClusterKey) -> &mut Cluster {
        let now_ms = self.now_ms();
        let arn: Name = format!("arn:aws:ecs:{}:{}:cluster/{}", key.region, self.account, key.name).into();
        let region = self.open_region(&key.region);
        let new = || Cluster::new(key.clone(), arn, now_ms);
        let cluster = region.clusters.entry(Name::clone(&key.name)).or_insert_with(new);
        cluster.status = ClusterStatus::Active;
        cluster
    }

    /// ARN of a task or instance, in the form that new resources get.
    pub(crate) fn resource_arn(&self, cluster: &ClusterKey, kind: &str, id: &str) -> Name {
        let (region, account) = (&cluster.region, &self.account);
        if self.settings.faults.short_arns {
            format!("arn:aws:ecs:{region}:{account}:{kind}/{id}").into()
        } else {
            format!("arn:aws:ecs:{region}:{account}:{kind}/{}/{id}", cluster.name).into()
        }
    }

    /// Registers instances in an existing cluster.
    pub(crate) fn add_instances(&mut self, cluster: &ClusterKey, order: &InstanceOrder) -> Vec<InstanceKey> {
        (0..order.count).map(|_| self.add_instance(cluster, order)).collect()
    }

    fn add_instance(&mut self, cluster: &ClusterKey, order: &InstanceOrder) -> InstanceKey {
        let now_ms = self.now_ms();
        let key = InstanceKey {
            cluster: cluster.clone(),
            id: self.new_id(),
        };
        let zone = ["a", "b", "c"][self.random.random_range(0..3)];
        let instance = Instance {
            id: Name::clone(&key.id),
            arn: self.resource_arn(cluster, "container-instance", &key.id),
            cluster_arn: self
                .cluster(cluster)
                .map(|cluster| Name::clone(&cluster.arn))
                .unwrap_or_default(),
            ec2_instance_id: format!("i-{:017x}", self.random.random::<u64>() >> 1),
            version: 1,
            status: InstanceStatus::Active,
            agent_connected: true,
            dead: false,
            attributes: attributes(cluster, order, zone),
            tags: order.tags.clone().into_iter().collect(),
            cpu_registered: order.cpu,
            cpu_remaining: order.cpu,
            memory_registered: order.memory_mib,
            memory_remaining: order.memory_mib,
            ports_used: BTreeSet::from(RESERVED_PORTS),
            running_tasks: 0,
            pending_tasks: 0,
            registered_ms: now_ms,
            updated_ms: now_ms,
        };
        if let Some(cluster) = self.cluster_mut(cluster) {
            cluster
                .instances
                .insert(Name::clone(&key.id), Versioned::new(now_ms, instance));
        }
        self.announce_instance(&key);
        key
    }

    /// ACTIVE to DRAINING or back; false when the instance is in neither.
    pub(crate) fn set_instance_status(&mut self, key: &InstanceKey, status: InstanceStatus) -> bool {
        match self.instance(key).map(|instance| instance.status) {
            None | Some(InstanceStatus::Inactive) => false,
            Some(held) if held == status => true,
            Some(_) => self.change_instance(key, |instance| instance.status = status).is_some(),
        }
    }

    /// The agent disconnects; with `return_after_ms` it comes back.
    pub(crate) fn disconnect_agent(&mut self, key: &InstanceKey, return_after_ms: Option<u64>) {
        if !self.instance(key).is_some_and(|instance| instance.agent_connected) {
            return;
        }
        self.change_instance(key, |instance| instance.agent_connected = false);
        if let Some(after_ms) = return_after_ms {
            let at_ms = self.now_ms() + after_ms;
            self.timers.set(at_ms, Timer::ReturnAgent { instance: key.clone() });
        }
    }

    /// The agent is back, unless its instance died meanwhile.
    pub(crate) fn agent_returned(&mut self, key: &InstanceKey) {
        let away = |one: &Arc<Instance>| !one.agent_connected && !one.dead && one.status != InstanceStatus::Inactive;
        if self.instance(key).is_some_and(away) {
            self.change_instance(key, |instance| instance.agent_connected = true);
        }
    }

    /// An instance ceases to be.
    pub(crate) fn depart(&mut self, key: &InstanceKey, departure: Departure) {
        match departure {
            Departure::Deregister => {
                self.end_instance(key, "Container instance deregistration forced by user");
            }
            Departure::Terminate => self.terminate(key),
        }
    }

    /// ECS knows nothing yet: no new version, no event.
    fn terminate(&mut self, key: &InstanceKey) {
        let (now_ms, history_ms) = (self.now_ms(), self.settings.history_ms());
        let cluster = self.cluster_mut(&key.cluster);
        let Some(versioned) = cluster.and_then(|cluster| cluster.instances.get_mut(&key.id)) else {
            return;
        };
        let instance = Instance::clone(versioned.current());
        if instance.dead || instance.status == InstanceStatus::Inactive {
            return;
        }
        versioned.replace(now_ms, Instance { dead: true, ..instance }, history_ms);
        let agent_ms = now_ms + self.settings.delays.agent_loss.draw_ms(&mut self.random);
        let notice_ms = now_ms + self.settings.delays.termination_notice.draw_ms(&mut self.random);
        self.timers.set(agent_ms, Timer::LoseAgent { instance: key.clone() });
        self.timers
            .set(notice_ms, Timer::NoticeTermination { instance: key.clone() });
    }

    pub(crate) fn agent_lost(&mut self, key: &InstanceKey) {
        self.disconnect_agent(key, None);
    }

    pub(crate) fn termination_noticed(&mut self, key: &InstanceKey) {
        let Some(instance) = self.instance(key).map(Arc::clone) else {
            return;
        };
        let reason = format!("Host EC2 (instance {}) terminated.", instance.ec2_instance_id);
        self.end_instance(key, &reason);
    }

    /// Its tasks are STOPPED, it is INACTIVE, and in time forgotten.
    fn end_instance(&mut self, key: &InstanceKey, reason: &str) {
        if self
            .instance(key)
            .is_none_or(|instance| instance.status == InstanceStatus::Inactive)
        {
            return;
        }
        for task in self.tasks_on(key) {
            self.end_task(&task, reason);
        }
        self.change_instance(key, |instance| {
            instance.status = InstanceStatus::Inactive;
            instance.agent_connected = false;
        });
        let at_ms = self.now_ms() + self.settings.delays.forget.draw_ms(&mut self.random);
        self.timers.set(at_ms, Timer::ForgetInstance { instance: key.clone() });
    }

    /// An INACTIVE instance can no longer be described.
    pub(crate) fn forget_instance(&mut self, key: &InstanceKey) {
        if let Some(cluster) = self.cluster_mut(&key.cluster) {
            cluster.instances.remove(&key.id);
        }
    }

    /// Tasks not yet STOPPED on an instance.
    pub(crate) fn tasks_on(&self, key: &InstanceKey) -> Vec<TaskKey> {
        let Some(cluster) = self.cluster(&key.cluster) else {
            return Vec::new();
        };
        let ids = cluster.tasks_by_instance.get(&key.id).into_iter().flatten();
        let live = ids.filter(|id| cluster.tasks.get(*id).is_some_and(|task| !task.current().is_stopped()));
        live.map(|id| TaskKey {
            cluster: key.cluster.clone(),
            id: Name::clone(id),
        })
        .collect()
    }
}

fn attributes(cluster: &ClusterKey, order: &InstanceOrder, zone: &str) -> BTreeMap<String, Option<String>> {
    let zone = format!("{}{zone}", cluster.region);
    let valued = [
        ("ecs.availability-zone", zone.as_str()),
        ("ecs.instance-type", &order.instance_type),
        ("ecs.os-type", "linux"),
        ("ecs.cpu-architecture", "x86_64"),
        ("ecs.ami-id", "ami-0c94855ba95c71c99"),
    ];
    let plain = [
        "com.amazonaws.ecs.capability.docker-remote-api.1.25",
        "com.amazonaws.ecs.capability.logging-driver.json-file",
        "ecs.capability.task-eni",
    ];
    let valued = valued.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let plain = plain.map(|name| (name.to_owned(), None));
    let own = order.attributes.clone();
    valued.into_iter().chain(plain).chain(own).collect()
}
