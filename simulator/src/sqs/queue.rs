//! One standard queue: messages, their visibility, retention and redrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::steps::{StepKind, Steps};
use crate::world::Name;

/// Bytes of bodies one queue holds at most; what comes beyond is refused.
pub(crate) const QUEUE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Messages in flight at most, as in SQS.
const IN_FLIGHT_MAX: usize = 120_000;

/// Where a message goes that was received too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redrive {
    pub(crate) dead_letter_queue: Name,
    pub(crate) receives_max: u32,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: Name,
    pub(crate) body: Name,
    pub(crate) sent_ms: u64,
    pub(crate) first_received_ms: Option<u64>,
    pub(crate) receives: u32,
    /// The journal's number of the event in it.
    pub(crate) event: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Visible,
    /// Sent with a delay that ends then.
    Delayed(u64),
    /// Received; visible again then.
    InFlight(u64),
}

/// One receipt of one message.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) handle: String,
    pub(crate) message: Message,
}

/// What became of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandleOutcome<T> {
    Done(T),
    /// The message is gone, or was received again since.
    Stale,
    /// Not one of this queue's handles.
    Invalid,
}

/// How many messages are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    pub(crate) visible: usize,
    pub(crate) in_flight: usize,
    pub(crate) delayed: usize,
    pub(crate) bytes: usize,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Name,
    pub(crate) visibility_ms: u64,
    pub(crate) retention_ms: u64,
    pub(crate) delay_ms: u64,
    pub(crate) receive_wait_ms: u64,
    pub(crate) redrive: Option<Redrive>,
    /// Attributes as given, for what has no effect here (such as `Policy`).
    pub(crate) attributes: BTreeMap<String, String>,
    /// By the order in which they were sent.
    messages: BTreeMap<u64, Message>,
    visible: VecDeque<u64>,
    /// (visible at, message) of what is delayed or in flight.
    waiting: BTreeSet<(u64, u64)>,
    in_flight: usize,
    delayed: usize,
    bytes: usize,
    sent: u64,
    pub(crate) steps: Steps,
    changed: Arc<Notify>,
}

impl Queue {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            visibility_ms: 30_000,
            retention_ms: 4 * 24 * 3_600_000,
            delay_ms: 0,
            receive_wait_ms: 0,
            redrive: None,
            attributes: BTreeMap::new(),
            messages: BTreeMap::new(),
            visible: VecDeque::new(),
            waiting: BTreeSet::new(),
            in_flight: 0,
            delayed: 0,
            bytes: 0,
            sent: 0,
            steps: Steps::default(),
            changed: Arc::new(Notify::new()),
        }
    }

    /// Adds a message; false when the queue is full.
    pub(crate) fn send(&mut self, now_ms: u64, id: &Name, body: Name, delay_ms: u64, event: Option<u64>) -> bool {
        let message = Message {
            id: Name::clone(id),
            body,
            sent_ms: now_ms,
            first_received_ms: None,
            receives: 0,
            event,
            state: State::Visible,
        };
        self.put(now_ms, message, delay_ms)
    }

    /// Takes a message that another queue gave up.
    pub(crate) fn take_dead_letter(&mut self, now_ms: u64, mut message: Message) -> bool {
        message.receives = 0;
        message.state = State::Visible;
        self.put(now_ms, message, 0)
    }

    fn put(&mut self, now_ms: u64, mut message: Message, delay_ms: u64) -> bool {
        if self.bytes + message.body.len() > QUEUE_BYTES_MAX {
            return false;
        }
        let number = self.sent;
        self.sent += 1;
        self.bytes += message.body.len();
        self.steps.note(now_ms, StepKind::Sent, &message.id, 0);
        if delay_ms == 0 {
            self.visible.push_back(number);
        } else {
            message.state = State::Delayed(now_ms + delay_ms);
            self.waiting.insert((now_ms + delay_ms, number));
            self.delayed += 1;
        }
        self.messages.insert(number, message);
        self.wake();
        true
    }

    /// Receives up to `count` messages; those received too often are moved to the second list instead.
    pub(crate) fn receive(&mut self, now_ms: u64, count: usize, visibility_ms: u64) -> (Vec<Receipt>, Vec<Message>) {
        self.settle(now_ms);
        let (mut receipts, mut dead_letters) = (Vec::new(), Vec::new());
        while receipts.len() < count
            && self.in_flight < IN_FLIGHT_MAX
            && let Some(number) = self.visible.pop_front()
        {
            // Deleted or expired while it stood here.
            let Some(message) = self.messages.get_mut(&number) else {
                continue;
            };
            if self
                .redrive
                .as_ref()
                .is_some_and(|redrive| message.receives >= redrive.receives_max)
            {
                self.steps.note(now_ms, StepKind::Dead, &message.id, message.receives);
                dead_letters.extend(self.remove(number));
                continue;
            }
            message.receives += 1;
            message.first_received_ms.get_or_insert(now_ms);
            self.steps
                .note(now_ms, StepKind::Received, &message.id, message.receives);
            message.state = State::InFlight(now_ms + visibility_ms);
            self.waiting.insert((now_ms + visibility_ms, number));
            self.in_flight += 1;
            receipts.push(Receipt {
                handle: format!("simulator:{number}:{}", message.receives),
                message: message.clone(),
            });
        }
        (receipts, dead_letters)
    }

    /// Deletes the message of a receipt.
    pub(crate) fn delete(&mut self, now_ms: u64, handle: &str) -> HandleOutcome<Message> {
        let number = match self.find(handle) {
            Ok(Some(number)) => number,
            Ok(None) => return HandleOutcome::Stale,
            Err(()) => return HandleOutcome::Invalid,
        };
        let Some(message) = self.remove(number) else {
            return HandleOutcome::Stale;
        };
        self.steps
            .note(now_ms, StepKind::Deleted, &message.id, message.receives);
        HandleOutcome::Done(message)
    }

    /// Makes a message in flight visible again after another time from now.
    pub(crate) fn change_visibility(&mut self, now_ms: u64, handle: &str, visibility_ms: u64) -> HandleOutcome<()> {
        self.settle(now_ms);
        let number = match self.find(handle) {
            Ok(Some(number)) => number,
            Ok(None) => return HandleOutcome::Stale,
            Err(()) => return HandleOutcome::Invalid,
        };
        let Some(message) = self.messages.get_mut(&number) else {
            return HandleOutcome::Stale;
        };
        let State::InFlight(until_ms) = message.state else {
            return HandleOutcome::Stale;
        };
        self.waiting.remove(&(until_ms, number));
        message.state = State::InFlight(now_ms + visibility_ms);
        self.waiting.insert((now_ms + visibility_ms, number));
        self.wake();
        HandleOutcome::Done(())
    }

    pub(crate) fn purge(&mut self) {
        self.messages.clear();
        self.visible.clear();
        self.waiting.clear();
        (self.in_flight, self.delayed, self.bytes) = (0, 0, 0);
    }

    pub(crate) fn counts(&mut self, now_ms: u64) -> QueueCounts {
        self.settle(now_ms);
        QueueCounts {
            visible: self.messages.len() - self.in_flight - self.delayed,
            in_flight: self.in_flight,
            delayed: self.delayed,
            bytes: self.bytes,
        }
    }

    /// When the next waiting message becomes visible.
    pub(crate) fn next_visible_ms(&self) -> Option<u64> {
        self.waiting.first().map(|(at_ms, _)| *at_ms)
    }

    /// Notified whenever a message may have become available.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Lets long polls look again.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Makes visible what is due and forgets what is too old.
    fn settle(&mut self, now_ms: u64) {
        while let Some((at_ms, number)) = self.waiting.first().copied()
            && at_ms <= now_ms
        {
            self.waiting.pop_first();
            if let Some(message) = self.messages.get_mut(&number) {
                match std::mem::replace(&mut message.state, State::Visible) {
                    State::InFlight(_) => self.in_flight -= 1,
                    State::Delayed(_) => self.delayed -= 1,
                    State::Visible => {}
                }
                self.visible.push_back(number);
            }
        }
        while let Some((&number, message)) = self.messages.first_key_value()
            && message.sent_ms + self.retention_ms < now_ms
        {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Message> {
        let message = self.messages.remove(&number)?;
        self.bytes -= message.body.len();
        match message.state {
            State::Visible => {}
            State::Delayed(at_ms) => {
                self.delayed -= 1;
                self.waiting.remove(&(at_ms, number));
            }
            State::InFlight(at_ms) => {
                self.in_flight -= 1;
                self.waiting.remove(&(at_ms, number));
            }
        }
        Some(message)
    }

    /// The message a handle was given for, unless it was received again since.
    fn find(&self, handle: &str) -> Result<Option<u64>, ()> {
        let parts = || {
            let (number, receives) = handle.strip_prefix("simulator:")?.split_once(':')?;
            Some((number.parse::<u64>().ok()?, receives.parse::<u32>().ok()?))
        };
        let (number, receives) = parts().ok_or(())?;
        Ok(self
            .messages
            .get(&number)
            .filter(|message| message.receives == receives)
            .map(|_| number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_with(bodies: &[&str]) -> Queue {
        let mut queue = Queue::new("q");
        for body in bodies {
            assert!(queue.send(0, &"id".into(), (*body).into(), 0, None));
        }
        queue
    }

    /// An old receipt deletes nothing once the message was received again, and counts follow each state.
    #[test]
    fn only_the_latest_receipt_deletes() {
        let mut queue = queue_with(&["a", "b"]);
        let first = queue.receive(0, 1, 100).0.remove(0);
        assert_eq!(
            queue.counts(99),
            QueueCounts {
                visible: 1,
                in_flight: 1,
                delayed: 0,
                bytes: 2
            }
        );
        assert_eq!(queue.counts(100).visible, 2);
        let again = queue.receive(100, 10, 100).0;
        assert_eq!(
            again.iter().map(|one| &*one.message.body).collect::<Vec<_>>(),
            ["b", "a"]
        );
        assert!(matches!(queue.delete(100, &first.handle), HandleOutcome::Stale));
        assert!(matches!(queue.delete(100, &again[1].handle), HandleOutcome::Done(_)));
        assert!(matches!(queue.delete(100, "x"), HandleOutcome::Invalid));
        assert_eq!(
            queue.counts(100),
            QueueCounts {
                visible: 0,
                in_flight: 1,
                delayed: 0,
                bytes: 1
            }
        );
    }

    /// A message received as often as allowed is given up at the next receive.
    #[test]
    fn redrive_after_the_last_receive() {
        let mut queue = queue_with(&["a"]);
        queue.redrive = Some(Redrive {
            dead_letter_queue: "dead".into(),
            receives_max: 2,
        });
        assert_eq!(queue.receive(0, 1, 10).0.len(), 1);
        assert_eq!(queue.receive(10, 1, 10).0.len(), 1);
        let (receipts, dead_letters) = queue.receive(20, 1, 10);
        assert_eq!((receipts.len(), dead_letters.len(), queue.counts(20).bytes), (0, 1, 0));
        let steps: Vec<_> = queue
            .steps
            .from(0)
            .iter()
            .map(|step| (step.at_ms, step.kind, step.receives))
            .collect();
        assert_eq!(
            steps,
            [
                (0, StepKind::Sent, 0),
                (0, StepKind::Received, 1),
                (10, StepKind::Received, 2),
                (20, StepKind::Dead, 2)
            ]
        );
    }

    /// Retention removes what was sent too long ago, in whatever state.
    #[test]
    fn retention_forgets() {
        let mut queue = queue_with(&["a", "b"]);
        queue.retention_ms = 1_000;
        queue.receive(500, 1, 60_000);
        assert_eq!(queue.counts(1_001), QueueCounts::default());
        assert!(queue.receive(1_001, 1, 10).0.is_empty());
    }
}
