//! One cluster: its instances and its tasks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::versioned::Versioned;
use super::{ClusterKey, Instance, InstanceStatus, Name, Task};

/// Whether a cluster can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ClusterStatus {
    Active,
    /// Deleted, and still described.
    Inactive,
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) key: ClusterKey,
    pub(crate) arn: Name,
    pub(crate) status: ClusterStatus,
    pub(crate) created_ms: u64,
    pub(crate) instances: BTreeMap<Name, Versioned<Instance>>,
    pub(crate) tasks: BTreeMap<Name, Versioned<Task>>,
    /// Tasks by the instance they were placed on, stopped ones too until they are forgotten.
    pub(crate) tasks_by_instance: BTreeMap<Name, BTreeSet<Name>>,
}

impl Cluster {
    pub(crate) fn new(key: ClusterKey, arn: Name, now_ms: u64) -> Self {
        Self {
            key,
            arn,
            status: ClusterStatus::Active,
            created_ms: now_ms,
            instances: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tasks_by_instance: BTreeMap::new(),
        }
    }

    /// Instances that are not INACTIVE, as they are now.
    pub(crate) fn present_instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances
            .values()
            .map(|one| &**one.current())
            .filter(|one| one.status != InstanceStatus::Inactive)
    }

    /// The cluster as DescribeClusters shows it at a moment.
    pub(crate) fn document(&self, at_ms: u64) -> Value {
        let tasks = || self.tasks.values().filter_map(|task| task.as_of(at_ms));
        let instances = self.instances.values().filter_map(|instance| instance.as_of(at_ms));
        json!({
            "clusterArn": self.arn,
            "clusterName": self.key.name,
            "status": self.status,
            "registeredContainerInstancesCount":
                instances.filter(|instance| instance.status != InstanceStatus::Inactive).count(),
            "runningTasksCount": tasks().filter(|task| task.is_running()).count(),
            "pendingTasksCount": tasks().filter(|task| task.is_pending()).count(),
            "activeServicesCount": 0,
            "statistics": [],
            "tags": [],
            "settings": [],
            "capacityProviders": [],
            "defaultCapacityProviderStrategy": [],
        })
    }
}
