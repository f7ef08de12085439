//! What happened to the messages of one queue, step by step, in one order; and how often.

use serde::Serialize;

use crate::journal::Numbered;
use crate::world::Name;

/// Steps of one queue remembered.
const STEPS_KEPT: usize = 1_000_000;

/// What can happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    Sent,
    Received,
    Deleted,
    /// Received too often, and given up.
    Dead,
}

impl StepKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Deleted => "deleted",
            Self::Dead => "dead",
        }
    }
}

/// One step of one message.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) number: u64,
    pub(crate) at_ms: u64,
    pub(crate) kind: StepKind,
    pub(crate) message_id: Name,
    /// How often the message was received by then.
    pub(crate) receives: u32,
}

/// How often each thing has happened since the queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct QueueTotals {
    /// ReceiveMessage calls that began.
    pub(crate) receive_calls: u64,
    pub(crate) sent: u64,
    /// Deliveries: a message counts as often as it was received.
    pub(crate) received: u64,
    pub(crate) deleted: u64,
    pub(crate) dead: u64,
}

/// The steps of one queue.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    ring: Numbered<Step>,
    totals: QueueTotals,
}

impl Steps {
    pub(crate) fn receive_called(&mut self) {
        self.totals.receive_calls += 1;
    }

    pub(crate) fn note(&mut self, at_ms: u64, kind: StepKind, message_id: &Name, receives: u32) {
        let total = match kind {
            StepKind::Sent => &mut self.totals.sent,
            StepKind::Received => &mut self.totals.received,
            StepKind::Deleted => &mut self.totals.deleted,
            StepKind::Dead => &mut self.totals.dead,
        };
        *total += 1;
        self.ring.push(STEPS_KEPT, |number| Step {
            number,
            at_ms,
            kind,
            message_id: Name::clone(message_id),
            receives,
        });
    }

    pub(crate) fn totals(&self) -> QueueTotals {
        self.totals
    }

    /// Steps from a number on.
    pub(crate) fn from(&self, number: u64) -> Vec<&Step> {
        self.ring.from(number, STEPS_KEPT).0
    }
}
