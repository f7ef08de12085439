//! What happens later: one ordered queue of timers.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{InstanceKey, Name, TaskKey};

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Timer {
    /// The task goes to its next state, unless it has taken another step since.
    AdvanceTask {
        task: TaskKey,
        step: u32,
    },
    /// A delayed copy of an event reaches the queue.
    PutEvent {
        region: Name,
        event: u64,
        body: Name,
    },
    /// The agent of a dead instance is seen as disconnected.
    LoseAgent {
        instance: InstanceKey,
    },
    /// ECS notices that an instance is dead.
    NoticeTermination {
        instance: InstanceKey,
    },
    /// An agent that flapped comes back.
    ReturnAgent {
        instance: InstanceKey,
    },
    /// A draining instance stops what is left on it and leaves.
    LeaveAfterDrain {
        instance: InstanceKey,
    },
    /// A draining instance becomes active again.
    EndDrain {
        instance: InstanceKey,
    },
    /// Nobody is shown any more what a task was before it stopped.
    ForgetPast {
        task: TaskKey,
    },
    ForgetTask {
        task: TaskKey,
    },
    ForgetInstance {
        instance: InstanceKey,
    },
    /// The fleet's own life, drawn from time to time.
    Live,
}

/// Timers by their time, and by the order in which they were set within one millisecond.
#[derive(Debug)]
pub(crate) struct Timers {
    by_time: BTreeMap<(u64, u64), Timer>,
    set: u64,
    changed: Arc<Notify>,
}

impl Timers {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self {
            by_time: BTreeMap::new(),
            set: 0,
            changed,
        }
    }

    pub(crate) fn set(&mut self, at_ms: u64, timer: Timer) {
        let nearer = self.next_due_ms().is_none_or(|next_ms| at_ms < next_ms);
        self.by_time.insert((at_ms, self.set), timer);
        self.set += 1;
        if nearer {
            self.changed.notify_one();
        }
    }

    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<Timer> {
        let first = self.by_time.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.by_time.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }
}
