//! What was sent and what was called, numbered from zero and bounded in memory.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::world::{EventKind, Name};

/// Events remembered with their deliveries.
pub(crate) const EVENTS_KEPT: usize = 300_000;
/// API calls remembered.
pub(crate) const CALLS_KEPT: usize = 100_000;
/// Resources of which the highest version sent is remembered.
const RESOURCES_MAX: usize = 300_000;

/// One event that ECS sent, lost or not.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventRecord {
    pub(crate) number: u64,
    pub(crate) at_ms: u64,
    pub(crate) region: Name,
    pub(crate) event_id: Name,
    pub(crate) kind: EventKind,
    pub(crate) arn: Name,
    pub(crate) version: u64,
    /// Each copy that reached a queue; none when the event was lost or is still delayed.
    pub(crate) messages: Vec<MessageRecord>,
}

/// One copy of an event in a queue.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MessageRecord {
    pub(crate) message_id: Name,
    pub(crate) sent_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_received_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_ms: Option<u64>,
}

/// One API call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CallRecord {
    pub(crate) number: u64,
    pub(crate) at_ms: u64,
    pub(crate) region: String,
    pub(crate) service: &'static str,
    pub(crate) operation: String,
    /// Of StartTask the container instances, of StopTask the task, as the caller named them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    /// `ok`, or the error's code.
    pub(crate) outcome: String,
    /// `sent`, `held` or `lost`: what was done with the answer.
    pub(crate) answer: &'static str,
}

/// The highest versions of one resource.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ResourceRecord {
    pub(crate) region: Name,
    pub(crate) kind: EventKind,
    pub(crate) events: u64,
    pub(crate) highest_version_sent: u64,
    /// Of the events that reached a queue.
    pub(crate) highest_version_queued: u64,
}

/// The simulator's memory of what went over its wire.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: Numbered<EventRecord>,
    calls: Numbered<CallRecord>,
    resources: BTreeMap<Name, ResourceRecord>,
}

impl Journal {
    pub(crate) fn event_sent(
        &mut self,
        now_ms: u64,
        region: &Name,
        event_id: &Name,
        kind: EventKind,
        arn: &Name,
        version: u64,
    ) -> u64 {
        if self.resources.len() < RESOURCES_MAX || self.resources.contains_key(arn) {
            let resource = self
                .resources
                .entry(Name::clone(arn))
                .or_insert_with(|| ResourceRecord {
                    region: Name::clone(region),
                    kind,
                    events: 0,
                    highest_version_sent: 0,
                    highest_version_queued: 0,
                });
            resource.events += 1;
            resource.highest_version_sent = resource.highest_version_sent.max(version);
        }
        let (region, event_id, arn) = (Name::clone(region), Name::clone(event_id), Name::clone(arn));
        self.events.push(EVENTS_KEPT, |number| EventRecord {
            number,
            at_ms: now_ms,
            region,
            event_id,
            kind,
            arn,
            version,
            messages: Vec::new(),
        })
    }

    /// A copy of the event reached a queue.
    pub(crate) fn event_queued(&mut self, now_ms: u64, event: u64, message_id: &Name) {
        let Some(record) = self.events.get_mut(event) else {
            return;
        };
        // Most events have one copy.
        record.messages.reserve_exact(1);
        record.messages.push(MessageRecord {
            message_id: Name::clone(message_id),
            sent_ms: now_ms,
            first_received_ms: None,
            deleted_ms: None,
        });
        if let Some(resource) = self.resources.get_mut(&record.arn) {
            resource.highest_version_queued = resource.highest_version_queued.max(record.version);
        }
    }

    pub(crate) fn event_received(&mut self, now_ms: u64, event: u64, message_id: &str) {
        if let Some(message) = self.message_mut(event, message_id) {
            message.first_received_ms.get_or_insert(now_ms);
        }
    }

    pub(crate) fn event_deleted(&mut self, now_ms: u64, event: u64, message_id: &str) {
        if let Some(message) = self.message_mut(event, message_id) {
            message.deleted_ms = Some(now_ms);
        }
    }

    fn message_mut(&mut self, event: u64, message_id: &str) -> Option<&mut MessageRecord> {
        self.events
            .get_mut(event)?
            .messages
            .iter_mut()
            .find(|message| *message.message_id == *message_id)
    }

    pub(crate) fn called(&mut self, call: CallRecord) {
        self.calls.push(CALLS_KEPT, |number| CallRecord { number, ..call });
    }

    /// Events from a number on, and the number of the next one.
    pub(crate) fn events_from(&self, from: u64, limit: usize) -> (Vec<&EventRecord>, u64) {
        self.events.from(from, limit)
    }

    /// Calls from a number on, and the number of the next one.
    pub(crate) fn calls_from(&self, from: u64, limit: usize) -> (Vec<&CallRecord>, u64) {
        self.calls.from(from, limit)
    }

    pub(crate) fn resources(&self) -> &BTreeMap<Name, ResourceRecord> {
        &self.resources
    }

    /// How many events were ever sent.
    pub(crate) fn events_sent(&self) -> u64 {
        self.events.next_number
    }
}

/// A ring whose items keep their numbers.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    items: VecDeque<T>,
    next_number: u64,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            next_number: 0,
        }
    }
}

impl<T> Numbered<T> {
    /// Adds what `make` makes of its number; beyond `kept`, the oldest goes.
    pub(crate) fn push(&mut self, kept: usize, make: impl FnOnce(u64) -> T) -> u64 {
        let number = self.next_number;
        if self.items.len() >= kept {
            self.items.pop_front();
        }
        self.items.push_back(make(number));
        self.next_number += 1;
        number
    }

    fn first_number(&self) -> u64 {
        self.next_number - self.items.len() as u64
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let position = number.checked_sub(self.first_number())?;
        self.items.get_mut(position as usize)
    }

    /// Items from a number on, and the number of the next one.
    pub(crate) fn from(&self, from: u64, limit: usize) -> (Vec<&T>, u64) {
        let skipped = from.saturating_sub(self.first_number()).min(self.items.len() as u64);
        let items: Vec<&T> = self.items.iter().skip(skipped as usize).take(limit).collect();
        let next = self.first_number() + skipped + items.len() as u64;
        (items, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers stay with their items after older ones went.
    #[test]
    fn numbers_survive_forgetting() {
        let mut ring = Numbered::default();
        for _ in 0..5 {
            ring.push(3, |number| number * 10);
        }
        assert_eq!(ring.from(0, 2), (vec![&20, &30], 4));
        assert_eq!(ring.from(4, 9), (vec![&40], 5));
        assert_eq!(ring.from(9, 9), (vec![], 5));
        assert!(ring.get_mut(1).is_none());
    }
}
