//! The truth: what exists in every region, and all that changes it.
//!
//! A [`World`] is a plain value behind one mutex. Nothing in it waits: what happens later is a [`Timer`].

mod cluster;
mod definition;
mod events;
mod fleet;
mod flood;
mod instance;
mod launch;
mod lifecycle;
mod liveliness;
mod placement;
mod preset;
mod task;
mod timers;
pub(crate) mod versioned;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;

pub(crate) use cluster::{Cluster, ClusterStatus};
pub(crate) use definition::{Definition, DefinitionError};
pub(crate) use events::{EventKind, api_form};
pub(crate) use fleet::{Departure, INSTANCES_PER_ORDER_MAX, InstanceOrder};
pub(crate) use flood::FloodKind;
pub(crate) use instance::{Instance, InstanceStatus};
pub(crate) use launch::LaunchOrder;
pub(crate) use placement::Expression;
pub(crate) use task::{DesiredStatus, LaunchType, StopCode, Task, TaskStatus};
pub(crate) use timers::{Timer, Timers};

use crate::answers::AnswerRules;
use crate::clock::Clock;
use crate::config::{Preset, SimulatorConfig};
use crate::journal::Journal;
use crate::judge::Judge;
use crate::settings::Settings;
use crate::sqs::Queue;
use crate::throttle::Buckets;

/// A short immutable string that is shared by many owners.
pub(crate) type Name = Arc<str>;

/// The most timers that fire under one hold of the world's lock.
const TIMERS_PER_TURN: usize = 500;
/// Client tokens of RunTask remembered per region.
pub(crate) const CLIENT_TOKENS_KEPT: usize = 10_000;

/// Which cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterKey {
    pub(crate) region: Name,
    pub(crate) name: Name,
}

/// Which container instance: the last part of its ARN, within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceKey {
    pub(crate) cluster: ClusterKey,
    pub(crate) id: Name,
}

/// Which task: the last part of its ARN, within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) cluster: ClusterKey,
    pub(crate) id: Name,
}

/// Everything that exists in one region; nothing is shared between regions.
#[derive(Debug, Default)]
pub(crate) struct Region {
    pub(crate) clusters: BTreeMap<Name, Cluster>,
    /// Family -> its revisions, the first at index 0.
    pub(crate) definitions: BTreeMap<String, Vec<Arc<Definition>>>,
    pub(crate) queues: BTreeMap<Name, Queue>,
    pub(crate) buckets: Buckets,
    /// RunTask's client token -> (request, tasks).
    pub(crate) client_tokens: BTreeMap<String, (String, Vec<TaskKey>)>,
}

/// The whole simulated world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) random: ChaCha8Rng,
    pub(crate) regions: BTreeMap<Name, Region>,
    pub(crate) timers: Timers,
    pub(crate) settings: Settings,
    pub(crate) answers: AnswerRules,
    pub(crate) journal: Journal,
    pub(crate) judge: Judge,
    pub(crate) account: Name,
    pub(crate) event_queue: Name,
    pub(crate) seed: u64,
}

impl World {
    /// A world as its configuration says; `timers_changed` is notified when the next timer moves nearer.
    pub(crate) fn new(config: &SimulatorConfig, clock: Clock, timers_changed: Arc<Notify>) -> Self {
        let mut world = Self {
            clock,
            random: ChaCha8Rng::seed_from_u64(config.seed),
            regions: BTreeMap::new(),
            timers: Timers::new(timers_changed),
            settings: Settings::default(),
            answers: AnswerRules::default(),
            journal: Journal::default(),
            judge: Judge::default(),
            account: config.account.as_str().into(),
            event_queue: config.event_queue.as_str().into(),
            seed: config.seed,
        };
        for region in &config.regions {
            world.open_region(&region.as_str().into());
        }
        if config.preset == Preset::Demo {
            world.build_demo();
        }
        world
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The region of that name; it comes into being, with its event queue, when it is first named.
    pub(crate) fn open_region(&mut self, name: &Name) -> &mut Region {
        self.regions.entry(Name::clone(name)).or_insert_with(|| {
            let mut region = Region::default();
            region
                .queues
                .insert(Name::clone(&self.event_queue), Queue::new(&self.event_queue));
            region
        })
    }

    pub(crate) fn cluster(&self, key: &ClusterKey) -> Option<&Cluster> {
        self.regions.get(&key.region)?.clusters.get(&key.name)
    }

    pub(crate) fn cluster_mut(&mut self, key: &ClusterKey) -> Option<&mut Cluster> {
        self.regions.get_mut(&key.region)?.clusters.get_mut(&key.name)
    }

    /// The instance as it is now.
    pub(crate) fn instance(&self, key: &InstanceKey) -> Option<&Arc<Instance>> {
        self.cluster(&key.cluster)?
            .instances
            .get(&key.id)
            .map(versioned::Versioned::current)
    }

    /// The task as it is now.
    pub(crate) fn task(&self, key: &TaskKey) -> Option<&Arc<Task>> {
        self.cluster(&key.cluster)?
            .tasks
            .get(&key.id)
            .map(versioned::Versioned::current)
    }

    /// Fires what is due, a bounded part at a time; when the next timer is due.
    pub(crate) fn fire_due_timers(&mut self) -> Option<u64> {
        for _ in 0..TIMERS_PER_TURN {
            let now_ms = self.now_ms();
            let Some(timer) = self.timers.take_due(now_ms) else {
                break;
            };
            self.fire(timer);
        }
        self.timers.next_due_ms()
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::AdvanceTask { task, step } => self.advance_task(&task, step),
            Timer::PutEvent { region, event, body } => self.put_event(&region, event, &body),
            Timer::LoseAgent { instance } => self.agent_lost(&instance),
            Timer::NoticeTermination { instance } => self.termination_noticed(&instance),
            Timer::ReturnAgent { instance } => self.agent_returned(&instance),
            Timer::LeaveAfterDrain { instance } => self.leave_after_drain(&instance),
            Timer::EndDrain { instance } => self.end_drain(&instance),
            Timer::ForgetPast { task } => self.forget_past(&task),
            Timer::ForgetTask { task } => self.forget_task(&task),
            Timer::ForgetInstance { instance } => self.forget_instance(&instance),
            Timer::Live => self.live(),
        }
    }

    /// Thirty-two hexadecimal digits, as ECS names tasks and instances.
    pub(crate) fn new_id(&mut self) -> Name {
        format!("{:032x}", self.random.random::<u128>()).into()
    }

    /// A version 4 UUID, as EventBridge and SQS name events and messages.
    pub(crate) fn new_uuid(&mut self) -> Name {
        new_uuid(&mut self.random)
    }
}

/// A version 4 UUID from the world's own random generator.
pub(crate) fn new_uuid(random: &mut ChaCha8Rng) -> Name {
    let bits: u128 = random.random();
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
    .into()
}
