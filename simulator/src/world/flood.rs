//! Many events fast: versions rise by one with each, nothing else changes.

use serde::Deserialize;

use super::{ClusterKey, InstanceKey, InstanceStatus, Name, TaskKey, World};

/// What is touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FloodKind {
    #[default]
    Instances,
    Tasks,
}

/// A resource that a flood touches.
#[derive(Clone, Debug)]
pub(crate) enum FloodTarget {
    Instance(InstanceKey),
    Task(TaskKey),
}

impl World {
    /// What a flood over a cluster touches, in turn.
    pub(crate) fn flood_targets(&self, key: &ClusterKey, kind: FloodKind) -> Vec<FloodTarget> {
        let Some(cluster) = self.cluster(key) else {
            return Vec::new();
        };
        match kind {
            FloodKind::Instances => {
                let present = cluster
                    .instances
                    .iter()
                    .filter(|(_, one)| one.current().status != InstanceStatus::Inactive);
                let target = |id: &Name| {
                    FloodTarget::Instance(InstanceKey {
                        cluster: key.clone(),
                        id: Name::clone(id),
                    })
                };
                present.map(|(id, _)| target(id)).collect()
            }
            FloodKind::Tasks => {
                let live = cluster.tasks.iter().filter(|(_, task)| !task.current().is_stopped());
                let target = |id: &Name| {
                    FloodTarget::Task(TaskKey {
                        cluster: key.clone(),
                        id: Name::clone(id),
                    })
                };
                live.map(|(id, _)| target(id)).collect()
            }
        }
    }

    /// One more version of a resource, and its event.
    pub(crate) fn touch(&mut self, target: &FloodTarget) {
        match target {
            FloodTarget::Instance(key) => {
                self.change_instance(key, |_| {});
            }
            FloodTarget::Task(key) => {
                self.change_task(key, |_| {});
            }
        }
    }
}
