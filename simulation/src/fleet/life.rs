//! What happens in the fleet by itself: tasks begin, die and end, instances join, drain, come back and leave, agents are away for a while.

use std::sync::Arc;
use std::time::Duration;

use blox_ecs::StartTasks;
use blox_runtime::random::between;
use blox_runtime::simulated::spawn_outside;
use blox_runtime::time::{Instant, sleep};

use super::{CLUSTER, Fleet};
use crate::fleet::resources::TaskStatus;

/// Instances at the beginning, ...
const INSTANCES_AT_FIRST: usize = 4;
/// ... and at most, with those that have left.
const INSTANCES_MAX: usize = 6;
/// Between two steps of the tasks, milliseconds.
const STEP_MS: std::ops::RangeInclusive<u64> = 40..=160;
/// A task that is to take a step takes it in one of so many steps.
const STEPS_EACH: u64 = 2;
/// Between two things that happen while things go wrong, milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 150..=900;

impl Fleet {
    /// The fleet begins to live, restlessly until `until`.
    pub fn begin(self: &Arc<Self>, until: Instant) {
        for number in 0..INSTANCES_AT_FIRST {
            self.join(if number == 0 { "hdd" } else { "ssd" });
        }
        self.weather.set(true);
        let fleet = self.clone();
        spawn_outside(async move {
            loop {
                sleep(Duration::from_millis(between(STEP_MS))).await;
                fleet.step();
            }
        });
        let fleet = self.clone();
        spawn_outside(async move {
            while Instant::now() < until {
                sleep(Duration::from_millis(between(PAUSE_MS))).await;
                fleet.happen();
            }
        });
    }

    /// Calls are answered again, agents are heard again, and what belongs to nobody ends.
    pub fn mend(self: &Arc<Self>) {
        self.weather.set(false);
        let mut inner = self.inner.lock();
        for arn in inner.instances.keys().cloned().collect::<Vec<_>>() {
            self.change_instance(&mut inner, &arn, |instance| {
                let is_back = !instance.agent_connected && instance.status != "INACTIVE";
                instance.agent_connected |= is_back;
                is_back
            });
        }
        for arn in inner.tasks.keys().cloned().collect::<Vec<_>>() {
            let is_foreign = !inner.tasks[&arn].group.starts_with("blox:");
            self.change_task(&mut inner, &arn, |task| is_foreign && task.ask_stop("scaled in"));
        }
    }

    /// Tasks take a step where their agents are heard.
    fn step(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        for arn in inner.tasks.keys().cloned().collect::<Vec<_>>() {
            let instance = inner.instances.get(&inner.tasks[&arn].instance);
            let is_gone = instance.is_none_or(|instance| instance.status == "INACTIVE");
            let is_heard = instance.is_some_and(|instance| instance.agent_connected);
            self.change_task(&mut inner, &arn, |task| {
                let has_step = task.stop_desired || task.status == TaskStatus::Pending;
                let takes_step = is_gone || (has_step && is_heard && between(1..=STEPS_EACH) == 1);
                match takes_step {
                    true if is_gone => task.stop("TerminationNotice", "Container instance deregistered"),
                    true if task.stop_desired => task.stop("UserInitiated", "Task stopped by user"),
                    true => task.run(),
                    false => {}
                }
                takes_step
            });
        }
    }

    /// Something happens.
    fn happen(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        let instances: Vec<String> = inner.instances.keys().cloned().collect();
        let running: Vec<String> = inner
            .tasks
            .iter()
            .filter(|(_, task)| task.status == TaskStatus::Running)
            .map(|(arn, _)| arn.clone())
            .collect();
        let Some(instance) = any(&instances).cloned() else {
            return;
        };
        match between(0..=9) {
            0..=2 => {
                let Some(task) = any(&running) else { return };
                self.change_task(&mut inner, task, |task| {
                    task.stop("EssentialContainerExited", "Essential container in task exited");
                    true
                });
            }
            3 | 4 => self.change_instance(&mut inner, &instance, |instance| {
                let is_there = instance.status != "INACTIVE";
                instance.agent_connected = is_there && !instance.agent_connected;
                is_there
            }),
            5 => self.change_instance(&mut inner, &instance, |instance| {
                instance.status = match instance.status {
                    "ACTIVE" => "DRAINING",
                    "DRAINING" => "ACTIVE",
                    _ => return false,
                };
                true
            }),
            6 if instances.len() < INSTANCES_MAX => {
                drop(inner);
                self.join(if between(0..=3) == 0 { "hdd" } else { "ssd" });
            }
            7 => self.change_instance(&mut inner, &instance, |instance| {
                let is_there = instance.status != "INACTIVE";
                instance.status = "INACTIVE";
                instance.agent_connected = false;
                is_there
            }),
            8 => {
                if inner.instances[&instance].takes_tasks() {
                    self.make_task(&mut inner, &instance, &foreign());
                }
            }
            _ => {
                drop(inner);
                self.queue.send_nonsense();
            }
        }
    }
}

/// A task of somebody else, that holds back a drain.
fn foreign() -> StartTasks {
    StartTasks {
        cluster: CLUSTER.to_owned(),
        task_definition: "arn:aws:ecs:us-east-1:123456789012:task-definition/web:1".to_owned(),
        instances: Vec::new(),
        started_by: "ecs-svc/1".to_owned(),
        group: "service:web".to_owned(),
        send_by: Instant::now(),
    }
}

fn any<T>(of: &[T]) -> Option<&T> {
    let last = of.len().checked_sub(1)?;
    of.get(usize::try_from(between(0..=last as u64)).expect("small"))
}
