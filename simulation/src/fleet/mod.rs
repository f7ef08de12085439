//! A simulated ECS and SQS, outside of all nodes: it goes on whichever of them dies.
//!
//! - [`resources`]: instances and tasks, each with ECS's own version;
//! - [`answers`]: what ECS says to a call; [`queue`]: SQS; [`wire`]: what lies between a node and both;
//! - [`life`]: what happens by itself.
//!
//! Every change is told by an event, at least once, in no order. Lists lag by up to [`LISTING_LAG_MS_MAX`], and Describe may show what stood
//! before a change that is not older than that.

pub mod answers;
pub mod life;
pub mod queue;
pub mod resources;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use blox_ecs::StartTasks;
use blox_runtime::time::{Instant, elapsed};
use parking_lot::Mutex;

use crate::checker::Checker;
use crate::cluster::EPOCH_MS;
use crate::oracles::Fact;
use crate::trace::Trace;
use queue::SimulatedQueue;
use resources::{Instance, Task, TaskStatus};

/// The name of the nodes' one source.
pub const SOURCE: &str = "main";
/// Its one cluster.
pub const CLUSTER: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/edge";
/// How far lists lag behind, milliseconds.
pub const LISTING_LAG_MS_MAX: u64 = 1_500;

/// ECS and SQS of one run.
pub struct Fleet {
    /// What happens.
    pub trace: Arc<Trace>,
    /// What must hold.
    pub checker: Arc<Mutex<Checker>>,
    /// The queue that carries its events.
    pub queue: Arc<SimulatedQueue>,
    /// Whether calls and answers get lost, and take long.
    pub weather: wire::CallWeather,
    inner: Mutex<Inner>,
}

/// What there is.
#[derive(Default)]
struct Inner {
    instances: BTreeMap<String, Instance>,
    tasks: BTreeMap<String, Task>,
    made: u64,
    modifying_calls: u64,
}

/// What the nodes' records must say in the end: ARN to (ECS's version, status).
pub type Truth = BTreeMap<String, (i64, String)>;

/// A daemon, as ECS itself sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Of which environment: its `group`.
    pub group: String,
    /// Where.
    pub instance: String,
    /// What.
    pub definition: String,
    /// Whether its containers run, and nobody has asked to stop it.
    pub runs: bool,
}

impl Fleet {
    /// A cluster without instances.
    pub fn new(trace: Arc<Trace>, checker: Arc<Mutex<Checker>>) -> Arc<Fleet> {
        Arc::new(Fleet {
            queue: SimulatedQueue::new(trace.clone()),
            trace,
            checker,
            weather: wire::CallWeather::default(),
            inner: Mutex::default(),
        })
    }

    fn tell(&self, fact: &Fact<'_>) {
        self.checker.lock().tell(fact);
    }

    /// Everything ECS shows, instances and tasks.
    pub fn truth(&self) -> Truth {
        let inner = self.inner.lock();
        let instances = inner.instances.iter();
        let instances = instances.map(|(arn, instance)| (arn.clone(), (instance.version, instance.status.to_owned())));
        let tasks = inner.tasks.iter();
        let tasks = tasks.map(|(arn, task)| (arn.clone(), (task.version, task.status.word().to_owned())));
        instances.chain(tasks).collect()
    }

    /// The daemons that are not STOPPED.
    pub fn daemons(&self) -> Vec<Daemon> {
        let inner = self.inner.lock();
        let live = inner.tasks.values().filter(|task| task.is_live());
        live.filter(|task| task.group.starts_with("blox:"))
            .map(|task| Daemon {
                group: task.group.clone(),
                instance: task.instance.clone(),
                definition: task.definition.clone(),
                runs: task.status == TaskStatus::Running && !task.stop_desired,
            })
            .collect()
    }

    /// The instances that take tasks, with the value of their attribute `disk`.
    pub fn eligible(&self) -> BTreeMap<String, String> {
        let inner = self.inner.lock();
        let eligible = inner.instances.iter().filter(|(_, instance)| instance.takes_tasks());
        eligible
            .map(|(arn, instance)| (arn.clone(), instance.disk.to_owned()))
            .collect()
    }

    /// How many calls have started or stopped tasks so far.
    pub fn modifying_calls(&self) -> u64 {
        self.inner.lock().modifying_calls
    }

    /// A new instance.
    pub fn join(self: &Arc<Self>, disk: &'static str) {
        let mut inner = self.inner.lock();
        inner.made += 1;
        let arn = format!(
            "arn:aws:ecs:us-east-1:123456789012:container-instance/edge/i{:03}",
            inner.made
        );
        self.trace
            .say(format_args!("ECS: instance {} joins ({disk})", short(&arn)));
        let instance = Instance::new(disk);
        self.send_event(&instance.event(&arn), &arn, instance.version);
        inner.instances.insert(arn, instance);
    }

    /// Changes an instance, if it is there and `change` says that it did.
    fn change_instance(self: &Arc<Self>, inner: &mut Inner, arn: &str, change: impl FnOnce(&mut Instance) -> bool) {
        let Some(instance) = inner.instances.get_mut(arn) else {
            return;
        };
        let before = instance.describe(arn);
        if !change(instance) {
            return;
        }
        instance.changed(before);
        self.trace.say(format_args!(
            "ECS: instance {} is {}, agent connected: {}",
            short(arn),
            instance.status,
            instance.agent_connected
        ));
        self.send_event(&instance.event(arn), arn, instance.version);
    }

    /// Changes a task that is not STOPPED, if `change` says that it did.
    fn change_task(self: &Arc<Self>, inner: &mut Inner, arn: &str, change: impl FnOnce(&mut Task) -> bool) {
        let Some(task) = inner.tasks.get_mut(arn).filter(|task| task.is_live()) else {
            return;
        };
        let before = task.describe(arn);
        if !change(task) {
            return;
        }
        task.changed(before);
        let stopping = if task.stop_desired { ", to be stopped" } else { "" };
        self.trace.say(format_args!(
            "ECS: task {} is {}{stopping}",
            short(arn),
            task.status.word()
        ));
        self.send_event(&task.event(arn), arn, task.version);
        if task.status == TaskStatus::Stopped {
            self.tell(&Fact::TaskEnded { task: arn });
        }
    }

    /// A new task, wherever it may be.
    fn make_task(self: &Arc<Self>, inner: &mut Inner, instance: &str, start: &StartTasks) -> String {
        inner.made += 1;
        let arn = format!("arn:aws:ecs:us-east-1:123456789012:task/edge/t{:03}", inner.made);
        self.trace.say(format_args!(
            "ECS: task {} of {} begins on {} ({})",
            short(&arn),
            start.group,
            short(instance),
            short(&start.task_definition),
        ));
        let task = Task::new(instance, start);
        self.send_event(&task.event(&arn), &arn, task.version);
        inner.tasks.insert(arn.clone(), task);
        self.tell(&Fact::TaskBegan {
            task: &arn,
            group: &start.group,
            instance,
        });
        arn
    }

    fn send_event(&self, body: &str, arn: &str, version: i64) {
        self.queue.send_event(body, arn, version);
    }
}

/// ECS's clock, which is right: milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    EPOCH_MS + i64::try_from(elapsed().as_millis()).expect("a short run")
}

/// How long ago, milliseconds.
fn age_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).expect("a short run")
}

/// The last part of an ARN.
pub(crate) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
