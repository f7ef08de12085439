//! A task's life: PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING, STOPPED.
//!
//! Each step raises the task's version and sends its event; where it moves an instance's counts or resources, the
//! instance's version rises and its event follows.

use std::sync::Arc;

use super::versioned::Versioned;
use super::{DesiredStatus, Instance, InstanceKey, Name, StopCode, Task, TaskKey, TaskStatus, Timer, World};
use crate::judge::{Pair, Subject};
use crate::settings::{Delays, Span};

/// How soon a task is looked at again whose instance has no agent connection.
const AGENT_RETRY_MS: u64 = 100;

impl World {
    /// Changes a task, raises its version and sends its event.
    pub(crate) fn change_task(&mut self, key: &TaskKey, change: impl FnOnce(&mut Task)) -> Option<Arc<Task>> {
        let (now_ms, history_ms) = (self.now_ms(), self.settings.history_ms());
        let versioned = self.cluster_mut(&key.cluster)?.tasks.get_mut(&key.id)?;
        let mut task = Task::clone(versioned.current());
        change(&mut task);
        task.version += 1;
        task.updated_ms = now_ms;
        let task = Arc::clone(versioned.replace(now_ms, task, history_ms));
        self.announce_task(key);
        Some(task)
    }

    /// Changes an instance, counts its tasks anew, raises its version and sends its event.
    pub(crate) fn change_instance(
        &mut self,
        key: &InstanceKey,
        change: impl FnOnce(&mut Instance),
    ) -> Option<Arc<Instance>> {
        let (now_ms, history_ms) = (self.now_ms(), self.settings.history_ms());
        let cluster = self.cluster_mut(&key.cluster)?;
        let ids = cluster.tasks_by_instance.get(&key.id);
        let tasks = ids
            .into_iter()
            .flatten()
            .filter_map(|id| cluster.tasks.get(id))
            .map(Versioned::current);
        let (running, pending) = tasks.fold((0, 0), |(running, pending), task| {
            (
                running + usize::from(task.is_running()),
                pending + usize::from(task.is_pending()),
            )
        });
        let versioned = cluster.instances.get_mut(&key.id)?;
        let mut instance = Instance::clone(versioned.current());
        change(&mut instance);
        (instance.running_tasks, instance.pending_tasks) = (running, pending);
        instance.version += 1;
        instance.updated_ms = now_ms;
        let instance = Arc::clone(versioned.replace(now_ms, instance, history_ms));
        self.announce_instance(key);
        Some(instance)
    }

    /// A new task: counted, announced with its instance, and on its way.
    pub(crate) fn add_task(&mut self, key: &TaskKey, task: Task) {
        let now_ms = self.now_ms();
        for pair in pairs(key, &task) {
            self.judge.started(pair, &task.arn, now_ms);
        }
        let instance = task.instance.as_ref().map(|(id, _)| id.clone());
        let definition = Arc::clone(&task.definition);
        let Some(cluster) = self.cluster_mut(&key.cluster) else {
            return;
        };
        if let Some(id) = &instance {
            cluster
                .tasks_by_instance
                .entry(Name::clone(id))
                .or_default()
                .insert(Name::clone(&key.id));
        }
        cluster.tasks.insert(Name::clone(&key.id), Versioned::new(now_ms, task));
        self.announce_task(key);
        if let Some(id) = instance {
            let instance = InstanceKey {
                cluster: key.cluster.clone(),
                id,
            };
            self.change_instance(&instance, |instance| {
                instance.cpu_remaining = instance.cpu_remaining.saturating_sub(definition.cpu);
                instance.memory_remaining = instance.memory_remaining.saturating_sub(definition.memory);
                instance.ports_used.extend(definition.host_ports());
            });
        }
        self.arm(key);
    }

    /// Wishes a task stopped; its states follow with their delays.
    pub(crate) fn stop_task(&mut self, key: &TaskKey, code: StopCode, reason: &str) -> Option<Arc<Task>> {
        let task = Arc::clone(self.task(key)?);
        if task.desired_status == DesiredStatus::Stopped {
            return Some(task);
        }
        let now_ms = self.now_ms();
        let task = self.change_task(key, |task| {
            task.desired_status = DesiredStatus::Stopped;
            task.stop_code = Some(code);
            task.stopped_reason = Some(reason.into());
            task.stopping_ms = Some(now_ms);
            task.step += 1;
        })?;
        self.touch_instance_of(key, &task);
        self.arm(key);
        Some(task)
    }

    /// The essential container of a running task exits.
    pub(crate) fn crash_task(&mut self, key: &TaskKey, exit_code: i32) -> Option<Arc<Task>> {
        if self.task(key)?.last_status != TaskStatus::Running {
            return None;
        }
        let step = self
            .stop_task(
                key,
                StopCode::EssentialContainerExited,
                "Essential container in task exited",
            )?
            .step;
        let task = self.change_task(key, |task| task.exit_code = Some(exit_code))?;
        self.advance_task(key, step);
        Some(task)
    }

    /// The task's instance is gone: STOPPED at once.
    pub(crate) fn end_task(&mut self, key: &TaskKey, reason: &str) {
        let now_ms = self.now_ms();
        let Some(task) = self.task(key).filter(|task| !task.is_stopped()).map(Arc::clone) else {
            return;
        };
        let ended = self.change_task(key, |task| {
            task.desired_status = DesiredStatus::Stopped;
            task.stop_code.get_or_insert(StopCode::TerminationNotice);
            task.stopped_reason.get_or_insert_with(|| reason.into());
            task.stopping_ms.get_or_insert(now_ms);
            task.enter(TaskStatus::Stopped, now_ms);
        });
        debug_assert!(ended.is_some_and(|ended| ended.version > task.version));
        self.task_stopped(key);
    }

    /// The next step of a task's life, unless it has taken another since the timer was set.
    pub(crate) fn advance_task(&mut self, key: &TaskKey, step: u32) {
        let Some(task) = self.task(key).filter(|task| task.step == step).map(Arc::clone) else {
            return;
        };
        let Some(next) = next_status(&task) else { return };
        if let Some(instance) = self
            .instance_of(key, &task)
            .and_then(|instance| self.instance(&instance))
        {
            if instance.dead {
                return;
            }
            if !instance.agent_connected {
                let at_ms = self.now_ms() + AGENT_RETRY_MS;
                self.timers.set(
                    at_ms,
                    Timer::AdvanceTask {
                        task: key.clone(),
                        step,
                    },
                );
                return;
            }
        }
        let now_ms = self.now_ms();
        let Some(task) = self.change_task(key, |task| task.enter(next, now_ms)) else {
            return;
        };
        match next {
            TaskStatus::Stopped => self.task_stopped(key),
            TaskStatus::Running => self.touch_instance_of(key, &task),
            _ => {}
        }
        self.arm(key);
    }

    /// After STOPPED: uncounted, its resources free again, forgotten in time.
    fn task_stopped(&mut self, key: &TaskKey) {
        let now_ms = self.now_ms();
        let Some(task) = self.task(key).map(Arc::clone) else {
            return;
        };
        for pair in pairs(key, &task) {
            self.judge.stopped(&pair, &task.arn, now_ms);
        }
        if let Some(instance) = self.instance_of(key, &task) {
            self.change_instance(&instance, |instance| {
                instance.cpu_remaining = (instance.cpu_remaining + task.definition.cpu).min(instance.cpu_registered);
                instance.memory_remaining =
                    (instance.memory_remaining + task.definition.memory).min(instance.memory_registered);
                for port in task.definition.host_ports() {
                    instance.ports_used.remove(&port);
                }
            });
        }
        let forget_ms = self.settings.delays.forget.draw_ms(&mut self.random);
        self.timers
            .set(now_ms + forget_ms, Timer::ForgetTask { task: key.clone() });
        self.past_is_forgotten_after(key);
    }

    /// A state that ends now is forgotten when more than the history has passed.
    fn past_is_forgotten_after(&mut self, key: &TaskKey) {
        let at_ms = self.now_ms() + self.settings.history_ms() + 1;
        self.timers.set(at_ms, Timer::ForgetPast { task: key.clone() });
    }

    /// A STOPPED task is described for another hour, as it is then.
    pub(crate) fn forget_past(&mut self, key: &TaskKey) {
        let (now_ms, history_ms) = (self.now_ms(), self.settings.history_ms());
        let cluster = self.cluster_mut(&key.cluster);
        if let Some(task) = cluster.and_then(|cluster| cluster.tasks.get_mut(&key.id)) {
            task.forget(now_ms, history_ms);
            // Lag was switched on meanwhile.
            if task.has_past() {
                self.past_is_forgotten_after(key);
            }
        }
    }

    /// A STOPPED task can no longer be described.
    pub(crate) fn forget_task(&mut self, key: &TaskKey) {
        let Some(cluster) = self.cluster_mut(&key.cluster) else {
            return;
        };
        let Some(task) = cluster.tasks.remove(&key.id) else {
            return;
        };
        if let Some((instance, _)) = &task.current().instance
            && let Some(ids) = cluster.tasks_by_instance.get_mut(instance)
        {
            ids.remove(&key.id);
        }
    }

    fn touch_instance_of(&mut self, key: &TaskKey, task: &Task) {
        if let Some(instance) = self.instance_of(key, task) {
            self.change_instance(&instance, |_| {});
        }
    }

    fn instance_of(&self, key: &TaskKey, task: &Task) -> Option<InstanceKey> {
        let (id, _) = task.instance.as_ref()?;
        Some(InstanceKey {
            cluster: key.cluster.clone(),
            id: Name::clone(id),
        })
    }

    /// Sets the timer of the task's next step, if it has one.
    fn arm(&mut self, key: &TaskKey) {
        let Some(task) = self.task(key).map(Arc::clone) else {
            return;
        };
        let Some(delay) = delay_of(&task, &self.settings.delays) else {
            return;
        };
        let at_ms = self.now_ms() + delay.draw_ms(&mut self.random);
        self.timers.set(
            at_ms,
            Timer::AdvanceTask {
                task: key.clone(),
                step: task.step,
            },
        );
    }
}

impl Task {
    fn enter(&mut self, status: TaskStatus, now_ms: u64) {
        self.step += 1;
        self.last_status = status;
        match status {
            TaskStatus::Activating => {
                self.pull_started_ms = Some(self.created_ms);
                self.pull_stopped_ms = Some(now_ms);
                self.connectivity_ms = Some(now_ms);
            }
            TaskStatus::Running => self.started_ms = Some(now_ms),
            TaskStatus::Stopping => self.execution_stopped_ms = Some(now_ms),
            TaskStatus::Stopped => {
                self.execution_stopped_ms.get_or_insert(now_ms);
                self.stopped_ms = Some(now_ms);
                if self.started_ms.is_some() {
                    self.exit_code.get_or_insert(0);
                }
            }
            _ => {}
        }
    }
}

fn next_status(task: &Task) -> Option<TaskStatus> {
    use TaskStatus::{Activating, Deactivating, Deprovisioning, Pending, Provisioning, Running, Stopped, Stopping};
    match (task.last_status, task.desired_status) {
        (Provisioning, DesiredStatus::Running) => Some(Pending),
        (Pending, DesiredStatus::Running) => Some(Activating),
        (Activating, DesiredStatus::Running) => Some(Running),
        (Running, DesiredStatus::Running) | (Stopped, _) => None,
        (Provisioning | Pending, DesiredStatus::Stopped) => Some(Stopped),
        (Activating | Running, DesiredStatus::Stopped) => Some(Deactivating),
        (Deactivating, _) => Some(Stopping),
        (Stopping, _) if task.interface.is_some() => Some(Deprovisioning),
        (Stopping | Deprovisioning, _) => Some(Stopped),
    }
}

/// How long the task stays in its present state; for ever when nothing follows.
fn delay_of(task: &Task, delays: &Delays) -> Option<Span> {
    match (task.last_status, task.desired_status) {
        (TaskStatus::Provisioning, DesiredStatus::Running) => Some(delays.provisioning),
        (TaskStatus::Pending, DesiredStatus::Running) => Some(delays.pending),
        (TaskStatus::Activating, DesiredStatus::Running) => Some(delays.activating),
        (TaskStatus::Running, DesiredStatus::Running) | (TaskStatus::Stopped, _) => None,
        (TaskStatus::Deactivating, _) => Some(delays.deactivating),
        (TaskStatus::Stopping, _) => Some(delays.stopping),
        (TaskStatus::Deprovisioning, _) => Some(delays.deprovisioning),
        (_, DesiredStatus::Stopped) => Some(delays.stop_wish),
    }
}

/// The two counts a task on an instance belongs to; none on Fargate.
fn pairs(key: &TaskKey, task: &Task) -> Vec<Pair> {
    let Some((_, instance)) = &task.instance else {
        return Vec::new();
    };
    let family = task.definition.family.clone();
    let started_by = task.started_by.clone().unwrap_or_default();
    let pair = |subject| Pair {
        region: key.cluster.region.to_string(),
        cluster: key.cluster.name.to_string(),
        instance: instance.to_string(),
        subject,
    };
    vec![
        pair(Subject::Group(task.group.clone())),
        pair(Subject::FamilyAndStarter { family, started_by }),
    ]
}
