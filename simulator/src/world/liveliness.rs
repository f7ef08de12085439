//! The fleet's own life: each tick draws what happens by itself.

use std::sync::Arc;

use rand::Rng;

use super::{
    ClusterKey, ClusterStatus, Departure, Instance, InstanceKey, InstanceOrder, InstanceStatus, LaunchOrder,
    LaunchType, Name, StopCode, Task, TaskKey, TaskStatus, Timer, World,
};
use crate::settings::{Liveliness, Span, happens};

/// Time between two draws.
const TICK_MS: u64 = 250;
/// How long an instance that drains by itself stays so before it leaves or comes back.
const DRAIN: Span = Span {
    min_ms: 8_000,
    max_ms: 15_000,
};
/// Group prefix of the tasks that come and go by themselves; only these are stopped or crashed so.
const APPLICATION_GROUP: &str = "family:web";

impl World {
    /// Sets what the fleet does by itself.
    pub(crate) fn set_liveliness(&mut self, liveliness: Liveliness) {
        let was_still = self.settings.liveliness.is_still();
        self.settings.liveliness = liveliness;
        if was_still && !self.settings.liveliness.is_still() {
            let at_ms = self.now_ms() + TICK_MS;
            self.timers.set(at_ms, Timer::Live);
        }
    }

    /// One tick.
    pub(crate) fn live(&mut self) {
        if self.settings.liveliness.is_still() {
            return;
        }
        let at_ms = self.now_ms() + TICK_MS;
        self.timers.set(at_ms, Timer::Live);
        let clusters: Vec<ClusterKey> = self
            .regions
            .values()
            .flat_map(|region| region.clusters.values())
            .filter(|cluster| cluster.status == ClusterStatus::Active)
            .map(|cluster| cluster.key.clone())
            .collect();
        for cluster in clusters {
            self.live_instances(&cluster);
            self.live_tasks(&cluster);
        }
    }

    fn live_instances(&mut self, cluster: &ClusterKey) {
        let rates = self.settings.liveliness.clone();
        let present = self
            .cluster(cluster)
            .map_or(0, |cluster| cluster.present_instances().count());
        if self.occurs(rates.joins_per_minute) && present < rates.instances_min + rates.instances_min / 2 {
            let order = InstanceOrder {
                cluster: cluster.name.to_string(),
                ..InstanceOrder::default()
            };
            self.add_instances(cluster, &order);
        }
        let spare = present > rates.instances_min;
        if self.occurs(rates.leaves_per_minute) && spare {
            self.drain_one(cluster, |instance| Timer::LeaveAfterDrain { instance });
        }
        if self.occurs(rates.drains_per_minute) {
            self.drain_one(cluster, |instance| Timer::EndDrain { instance });
        }
        if self.occurs(rates.terminations_per_minute)
            && spare
            && let Some(key) = self.any_instance(cluster)
        {
            self.depart(&key, Departure::Terminate);
        }
        if self.occurs(rates.flaps_per_instance_hour * present as f64 / 60.0)
            && let Some(key) = self.any_instance(cluster)
        {
            let away_ms = self.settings.delays.flap.draw_ms(&mut self.random);
            self.disconnect_agent(&key, Some(away_ms));
        }
    }

    fn live_tasks(&mut self, cluster: &ClusterKey) {
        let rates = self.settings.liveliness.clone();
        if self.occurs(rates.task_starts_per_minute) {
            self.start_application_task(cluster);
        }
        if self.occurs(rates.task_stops_per_minute)
            && let Some(key) = self.any_application_task(cluster)
        {
            self.stop_task(&key, StopCode::UserInitiated, "Task stopped by user");
        }
        if self.occurs(rates.task_crashes_per_minute)
            && let Some(key) = self.any_application_task(cluster)
        {
            self.crash_task(&key, 1);
        }
    }

    /// Starts one task of the family `web`, where the region has it and there is room.
    pub(crate) fn start_application_task(&mut self, cluster: &ClusterKey) {
        let revisions = self
            .regions
            .get(&cluster.region)
            .and_then(|region| region.definitions.get("web"));
        let Some(definition) = revisions.and_then(|revisions| revisions.last()).map(Arc::clone) else {
            return;
        };
        let order = LaunchOrder {
            definition,
            launch_type: LaunchType::Ec2,
            group: Some(APPLICATION_GROUP.into()),
            started_by: Some("simulator".into()),
            overrides: serde_json::json!({"containerOverrides": [{"name": "web"}]}),
            tags: Vec::new(),
        };
        let random: u32 = self.random.random_range(0..3);
        // A full fleet is no error: nothing starts.
        let _ = self.start_anywhere(cluster, &order, |one| {
            one.registered_ms % 3 == u64::from(random) || one.running_tasks < 2
        });
    }

    /// After its drain an instance leaves, whatever still runs there.
    pub(crate) fn leave_after_drain(&mut self, key: &InstanceKey) {
        self.depart(key, Departure::Deregister);
    }

    /// A drain ends without a departure.
    pub(crate) fn end_drain(&mut self, key: &InstanceKey) {
        self.set_instance_status(key, InstanceStatus::Active);
    }

    fn drain_one(&mut self, cluster: &ClusterKey, then: impl FnOnce(InstanceKey) -> Timer) {
        if let Some(key) = self.any_instance(cluster) {
            self.set_instance_status(&key, InstanceStatus::Draining);
            self.move_applications_away(&key);
            let at_ms = self.now_ms() + DRAIN.draw_ms(&mut self.random);
            self.timers.set(at_ms, then(key));
        }
    }

    /// Draining leaves standalone tasks alone: it is their owner who stops them.
    fn move_applications_away(&mut self, key: &InstanceKey) {
        for task in self.tasks_on(key) {
            if self.task(&task).is_some_and(|held| held.group == APPLICATION_GROUP) {
                self.stop_task(&task, StopCode::UserInitiated, "The instance drains");
            }
        }
    }

    /// Whether something of this rate happens in this tick.
    fn occurs(&mut self, per_minute: f64) -> bool {
        happens(&mut self.random, per_minute * TICK_MS as f64 / 60_000.0)
    }

    fn any_instance(&mut self, cluster: &ClusterKey) -> Option<InstanceKey> {
        let fit = |one: &&Instance| one.status == InstanceStatus::Active && one.agent_connected && !one.dead;
        let instances = self.cluster(cluster)?.present_instances();
        let ids: Vec<Name> = instances.filter(fit).map(|one| Name::clone(&one.id)).collect();
        let id = self.any_of(ids)?;
        Some(InstanceKey {
            cluster: cluster.clone(),
            id,
        })
    }

    fn any_application_task(&mut self, cluster: &ClusterKey) -> Option<TaskKey> {
        let fit = |task: &&Arc<Task>| task.last_status == TaskStatus::Running && task.group == APPLICATION_GROUP;
        let tasks = self
            .cluster(cluster)?
            .tasks
            .values()
            .map(super::versioned::Versioned::current);
        let ids: Vec<Name> = tasks.filter(fit).map(|task| Name::clone(&task.id)).collect();
        let id = self.any_of(ids)?;
        Some(TaskKey {
            cluster: cluster.clone(),
            id,
        })
    }

    fn any_of(&mut self, mut names: Vec<Name>) -> Option<Name> {
        if names.is_empty() {
            return None;
        }
        let chosen = self.random.random_range(0..names.len());
        Some(names.swap_remove(chosen))
    }
}
