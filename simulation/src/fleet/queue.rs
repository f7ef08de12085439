//! SQS: at least once, in no order, hidden for a while after each delivery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blox_ecs::{Message, QUEUE_BATCH_MESSAGES_MAX, ReceiptHandle, ReceiveOptions};
use blox_runtime::random::between;
use blox_runtime::simulated::spawn_outside;
use blox_runtime::time::{Instant, sleep, sleep_until};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{now_ms, short};
use crate::trace::Trace;

/// From a change to its event in the queue, milliseconds, ...
const EVENT_MS: std::ops::RangeInclusive<u64> = 1..=120;
/// ... and for one in so many ...
const LATE_EACH: u64 = 12;
/// ... so long: the next change's event overtakes it.
const LATE_EVENT_MS: std::ops::RangeInclusive<u64> = 200..=3_000;
/// In some runs one event in so many takes much longer still: what the scheduler must know until then it has to ask for.
const VERY_LATE_EACH: u64 = 3;
const VERY_LATE_EVENT_MS: std::ops::RangeInclusive<u64> = 3_000..=12_000;
/// One run in so many is like that.
const SLOW_RUNS_EACH: u64 = 3;
/// One event in so many comes twice.
const TWICE_EACH: u64 = 10;
/// One delivery in so many leaves the message visible: somebody else gets it too.
const UNHIDDEN_EACH: u64 = 25;

/// What a message says, for those who judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// A resource is at this version.
    Version {
        /// Its ARN.
        arn: String,
        /// ECS's version.
        version: i64,
    },
    /// Nothing that can be read.
    Nonsense,
}

/// A message as those who judge know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// SQS's id of it.
    pub id: String,
    /// What it says.
    pub says: Says,
}

struct Queued {
    sent: Sent,
    body: Bytes,
    sent_at_ms: i64,
    visible_at: Instant,
    deliveries: u64,
}

#[derive(Default)]
struct Messages {
    next: u64,
    /// Those that are there, by number.
    queued: BTreeMap<u64, Queued>,
    /// What every message said, deleted ones too.
    said: BTreeMap<u64, Sent>,
}

/// The queue.
pub struct SimulatedQueue {
    trace: Arc<Trace>,
    /// Whether many events are very late in this run.
    is_slow: bool,
    messages: Mutex<Messages>,
    arrived: Notify,
}

impl SimulatedQueue {
    /// An empty one.
    pub fn new(trace: Arc<Trace>) -> Arc<SimulatedQueue> {
        Arc::new(SimulatedQueue {
            trace,
            is_slow: between(1..=SLOW_RUNS_EACH) == 1,
            messages: Mutex::default(),
            arrived: Notify::new(),
        })
    }

    /// An event is on its way.
    pub(super) fn send_event(self: &Arc<Self>, body: &str, arn: &str, version: i64) {
        let copies = if between(1..=TWICE_EACH) == 1 { 2 } else { 1 };
        for _ in 0..copies {
            let range = match (self.is_slow, between(1..=LATE_EACH)) {
                (true, drawn) if drawn % VERY_LATE_EACH == 0 => VERY_LATE_EVENT_MS,
                (_, 1) => LATE_EVENT_MS,
                _ => EVENT_MS,
            };
            let says = Says::Version {
                arn: arn.to_owned(),
                version,
            };
            self.send_after(Duration::from_millis(between(range)), body, says);
        }
    }

    /// Somebody sends what is no event.
    pub(super) fn send_nonsense(self: &Arc<Self>) {
        self.send_after(Duration::ZERO, r#"{"detail-type": 7"#, Says::Nonsense);
    }

    fn send_after(self: &Arc<Self>, delay: Duration, body: &str, says: Says) {
        let (queue, body) = (self.clone(), Bytes::from(body.to_owned()));
        let sent_at_ms = now_ms();
        spawn_outside(async move {
            sleep(delay).await;
            queue.put(body, says, sent_at_ms);
        });
    }

    fn put(&self, body: Bytes, says: Says, sent_at_ms: i64) {
        let mut messages = self.messages.lock();
        messages.next += 1;
        let number = messages.next;
        let sent = Sent {
            id: format!("m{number}"),
            says,
        };
        messages.said.insert(number, sent.clone());
        messages.queued.insert(
            number,
            Queued {
                sent,
                body,
                sent_at_ms,
                visible_at: Instant::now(),
                deliveries: 0,
            },
        );
        drop(messages);
        self.arrived.notify_waiters();
    }

    /// What can be delivered now, hidden from now on; and when there may be more.
    fn take(&self, visibility: Duration) -> (Vec<Message>, Option<Instant>) {
        let mut messages = self.messages.lock();
        let now = Instant::now();
        let mut visible: Vec<u64> = messages
            .queued
            .iter()
            .filter(|(_, queued)| queued.visible_at <= now)
            .map(|(number, _)| *number)
            .collect();
        let wanted = between(1..=QUEUE_BATCH_MESSAGES_MAX as u64);
        let mut taken = Vec::new();
        while let Some(last) = visible.len().checked_sub(1) {
            if taken.len() as u64 == wanted {
                break;
            }
            let number = visible.swap_remove(usize::try_from(between(0..=last as u64)).expect("small"));
            let queued = messages.queued.get_mut(&number).expect("it was there");
            queued.deliveries += 1;
            if between(1..=UNHIDDEN_EACH) != 1 {
                queued.visible_at = now + visibility;
            }
            taken.push(Message {
                id: queued.sent.id.clone(),
                receipt: ReceiptHandle(format!("{number}/{}", queued.deliveries)),
                body: queued.body.clone(),
                sent_at_ms: Some(queued.sent_at_ms),
            });
        }
        let next = messages.queued.values().map(|queued| queued.visible_at).min();
        (taken, next)
    }

    /// Waits for messages as long as was asked, while somebody listens (`is_heard`).
    pub(super) async fn receive(&self, options: ReceiveOptions, is_heard: impl Fn() -> bool) -> Vec<Message> {
        let until = Instant::now() + options.wait;
        loop {
            let arrived = self.arrived.notified();
            if !is_heard() {
                return Vec::new();
            }
            let (taken, next) = self.take(options.visibility);
            if !taken.is_empty() || Instant::now() >= until {
                return taken;
            }
            let look_at = next.map_or(until, |next| next.min(until));
            tokio::select! {
                biased;
                () = arrived => {}
                () = sleep_until(look_at) => {}
            }
        }
    }

    /// What the messages of these deliveries say.
    pub(super) fn named(&self, receipts: &[ReceiptHandle]) -> Vec<Sent> {
        let messages = self.messages.lock();
        receipts
            .iter()
            .map(|receipt| messages.said[&number_of(receipt)].clone())
            .collect()
    }

    /// Deletes them: they never come back.
    pub(super) fn delete(&self, receipts: &[ReceiptHandle]) {
        let mut messages = self.messages.lock();
        for receipt in receipts {
            if let Some(queued) = messages.queued.remove(&number_of(receipt)) {
                let what = match &queued.sent.says {
                    Says::Version { arn, version } => format!("{} at version {version}", short(arn)),
                    Says::Nonsense => "nonsense".to_owned(),
                };
                self.trace
                    .say(format_args!("SQS: {} is deleted ({what})", queued.sent.id));
            }
        }
    }

    /// Hides them for so long from now on.
    pub(super) fn extend(&self, receipts: &[ReceiptHandle], visibility: Duration) {
        let mut messages = self.messages.lock();
        for receipt in receipts {
            if let Some(queued) = messages.queued.get_mut(&number_of(receipt)) {
                queued.visible_at = Instant::now() + visibility;
            }
        }
        drop(messages);
        self.arrived.notify_waiters();
    }

    /// The ids of all that could never be read.
    pub fn nonsense(&self) -> Vec<String> {
        let messages = self.messages.lock();
        let nonsense = messages.said.values().filter(|sent| sent.says == Says::Nonsense);
        nonsense.map(|sent| sent.id.clone()).collect()
    }

    /// How many messages are there, hidden ones too.
    pub fn len(&self) -> usize {
        self.messages.lock().queued.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn number_of(receipt: &ReceiptHandle) -> u64 {
    let number = receipt.0.split('/').next().and_then(|number| number.parse().ok());
    number.expect("a receipt of this queue")
}
