//! Messages that were received and are not applied yet: until when they are hidden, and what that says of how far the feed has come.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::feed::VISIBILITY_MS;
use crate::queue::ReceiptHandle;

/// Messages received and not yet applied.
pub(crate) struct Pending {
    next_id: u64,
    messages: BTreeMap<u64, Held>,
    /// Wall clock when the session began, milliseconds since the epoch.
    began_at_ms: i64,
    empty_poll_began_at_ms: Option<i64>,
    newest_applied_sent_at_ms: Option<i64>,
    reported_ms: i64,
}

struct Held {
    receipt: ReceiptHandle,
    sent_at_ms: Option<i64>,
    hidden_until: Instant,
}

impl Pending {
    pub(crate) fn new(began_at_ms: i64) -> Pending {
        Pending {
            next_id: 0,
            messages: BTreeMap::new(),
            began_at_ms,
            empty_poll_began_at_ms: None,
            newest_applied_sent_at_ms: None,
            reported_ms: 0,
        }
    }

    /// A message came in; the number names it from here on.
    pub(crate) fn received(&mut self, receipt: ReceiptHandle, sent_at_ms: Option<i64>, hidden_until: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.messages.insert(
            id,
            Held {
                receipt,
                sent_at_ms,
                hidden_until,
            },
        );
        id
    }

    /// Everything in it is in the state: its receipt, to delete it by.
    pub(crate) fn applied(&mut self, id: u64) -> Option<ReceiptHandle> {
        let held = self.messages.remove(&id)?;
        self.newest_applied_sent_at_ms = self.newest_applied_sent_at_ms.max(held.sent_at_ms);
        Some(held.receipt)
    }

    /// It is given up here, and comes back when its hiding ends.
    pub(crate) fn abandoned(&mut self, id: u64) {
        self.messages.remove(&id);
    }

    /// A long poll that began then found nothing. In the first moments of a session a dead leader's messages are still hidden, so an empty
    /// queue proves nothing yet.
    pub(crate) fn polled_empty(&mut self, began_at_ms: i64) {
        if began_at_ms >= self.began_at_ms.saturating_add_unsigned(VISIBILITY_MS) {
            self.empty_poll_began_at_ms = self.empty_poll_began_at_ms.max(Some(began_at_ms));
        }
    }

    /// Messages whose hiding ends before `until`.
    pub(crate) fn due(&self, until: Instant) -> Vec<(u64, ReceiptHandle)> {
        let due = self.messages.iter().filter(|(_, held)| held.hidden_until < until);
        due.map(|(id, held)| (*id, held.receipt.clone())).collect()
    }

    /// These are hidden until then.
    pub(crate) fn hidden(&mut self, ids: impl Iterator<Item = u64>, until: Instant) {
        for id in ids {
            if let Some(held) = self.messages.get_mut(&id) {
                held.hidden_until = until;
            }
        }
    }

    /// Receipts of all that is pending.
    pub(crate) fn receipts(&self) -> Vec<ReceiptHandle> {
        self.messages.values().map(|held| held.receipt.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The watermark, if it is higher than what was reported.
    pub(crate) fn moved_watermark(&self) -> Option<i64> {
        self.watermark().filter(|watermark_ms| *watermark_ms > self.reported_ms)
    }

    /// The watermark is in the state.
    pub(crate) fn reported(&mut self, watermark_ms: i64) {
        self.reported_ms = self.reported_ms.max(watermark_ms);
    }

    /// Everything sent before this instant is taken to be in the state: the start of the last empty poll or the newest message applied,
    /// whichever is later, but never beyond the oldest message that is not applied.
    fn watermark(&self) -> Option<i64> {
        let reached = self.empty_poll_began_at_ms.max(self.newest_applied_sent_at_ms);
        let oldest = self.messages.values().filter_map(|held| held.sent_at_ms).min();
        match (reached, oldest) {
            (Some(reached), Some(oldest)) => Some(reached.min(oldest)),
            (reached, oldest) => reached.or(oldest),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn receipt(name: &str) -> ReceiptHandle {
        ReceiptHandle(name.into())
    }

    /// The watermark follows empty polls and applied messages, stops at the oldest unapplied message, and is reported once.
    #[tokio::test(start_paused = true)]
    async fn the_watermark_stops_at_what_is_not_applied() {
        let mut pending = Pending::new(0);
        let until = Instant::now();
        assert_eq!(pending.moved_watermark(), None);
        pending.polled_empty(50_000);
        assert_eq!(pending.moved_watermark(), Some(50_000));
        pending.reported(50_000);
        assert_eq!(pending.moved_watermark(), None);

        let first = pending.received(receipt("first"), Some(60_000), until);
        let second = pending.received(receipt("second"), Some(70_000), until);
        pending.polled_empty(80_000);
        assert_eq!(pending.moved_watermark(), Some(60_000));
        assert_eq!(pending.applied(second), Some(receipt("second")));
        assert_eq!(pending.moved_watermark(), Some(60_000));
        assert_eq!(pending.applied(first), Some(receipt("first")));
        assert_eq!(pending.moved_watermark(), Some(80_000));
    }

    /// A new leader does not take an empty queue for a proof while the messages of the one before may still be hidden.
    #[test]
    fn an_empty_queue_proves_nothing_in_the_first_moments() {
        let mut pending = Pending::new(1_000_000);
        pending.polled_empty(1_009_999);
        assert_eq!(pending.moved_watermark(), None);
        pending.polled_empty(1_010_000);
        assert_eq!(pending.moved_watermark(), Some(1_010_000));
    }

    /// Only what is pending and near its end is hidden anew.
    #[tokio::test(start_paused = true)]
    async fn only_what_is_pending_is_hidden_anew() {
        let mut pending = Pending::new(0);
        let now = Instant::now();
        let soon = pending.received(receipt("soon"), None, now + Duration::from_secs(2));
        let later = pending.received(receipt("later"), None, now + Duration::from_secs(9));
        let done = pending.received(receipt("done"), None, now + Duration::from_secs(2));
        pending.applied(done);
        assert_eq!(pending.due(now + Duration::from_secs(5)), [(soon, receipt("soon"))]);
        pending.hidden([soon].into_iter(), now + Duration::from_secs(10));
        assert!(pending.due(now + Duration::from_secs(5)).is_empty());
        pending.abandoned(later);
        assert_eq!(pending.receipts(), [receipt("soon")]);
    }
}
