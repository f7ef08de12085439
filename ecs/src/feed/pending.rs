//! Messages that were received and are not applied yet, and until when they are hidden.

use std::collections::BTreeMap;

use blox_runtime::time::Instant;

use super::watermark::{Poll, PollEnd, Watermark};
use crate::queue::ReceiptHandle;

/// Messages received and not yet applied.
pub(crate) struct Pending {
    next_id: u64,
    messages: BTreeMap<u64, Held>,
    watermark: Watermark,
    reported_ms: i64,
}

struct Held {
    receipt: ReceiptHandle,
    sent_at_ms: Option<i64>,
    received: Instant,
    hidden_until: Instant,
}

impl Pending {
    /// Of a session that begins now.
    pub(crate) fn new() -> Pending {
        Pending {
            next_id: 0,
            messages: BTreeMap::new(),
            watermark: Watermark::new(Instant::now()),
            reported_ms: 0,
        }
    }

    /// A message came in; the number names it from here on.
    pub(crate) fn received(&mut self, receipt: ReceiptHandle, sent_at_ms: Option<i64>, hidden_until: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.watermark.received(id, sent_at_ms);
        self.messages.insert(
            id,
            Held {
                receipt,
                sent_at_ms,
                received: Instant::now(),
                hidden_until,
            },
        );
        id
    }

    /// Everything in it is in the state: its receipt, to delete it by.
    pub(crate) fn applied(&mut self, id: u64) -> Option<ReceiptHandle> {
        let held = self.messages.remove(&id)?;
        self.watermark
            .applied(id, held.sent_at_ms, held.received, Instant::now());
        Some(held.receipt)
    }

    /// It is given up here, and comes back when its hiding ends.
    pub(crate) fn abandoned(&mut self, id: u64) {
        if let Some(held) = self.messages.remove(&id) {
            self.watermark.given_up(id, held.sent_at_ms, Instant::now());
        }
    }

    /// A long poll begins, at that wall clock in milliseconds since the epoch.
    pub(crate) fn poll_begins(&mut self, began_at_ms: i64) -> Poll {
        self.watermark.poll_begins(began_at_ms, Instant::now())
    }

    /// It ended; what it brought is noted as received already.
    pub(crate) fn poll_ends(&mut self, poll: Poll, end: PollEnd) {
        self.watermark.poll_ends(poll, end, Instant::now());
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
    pub(crate) fn moved_watermark(&mut self) -> Option<i64> {
        let watermark_ms = self.watermark.milliseconds(Instant::now());
        watermark_ms.filter(|watermark_ms| *watermark_ms > self.reported_ms)
    }

    /// The watermark is in the state.
    pub(crate) fn reported(&mut self, watermark_ms: i64) {
        self.reported_ms = self.reported_ms.max(watermark_ms);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn receipt(name: &str) -> ReceiptHandle {
        ReceiptHandle(name.into())
    }

    /// The watermark is reported once for each place it has come to.
    #[tokio::test(start_paused = true)]
    async fn the_watermark_is_given_where_it_moved() {
        let mut pending = Pending::new();
        tokio::time::sleep(Duration::from_secs(60)).await;
        for began_at_ms in [60_000, 62_000] {
            let poll = pending.poll_begins(began_at_ms);
            pending.poll_ends(poll, PollEnd::Empty);
            assert_eq!(pending.moved_watermark(), Some(began_at_ms));
            pending.reported(began_at_ms);
            assert_eq!(pending.moved_watermark(), None);
        }
    }

    /// Only what is pending and near its end is hidden anew.
    #[tokio::test(start_paused = true)]
    async fn only_what_is_pending_is_hidden_anew() {
        let mut pending = Pending::new();
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
