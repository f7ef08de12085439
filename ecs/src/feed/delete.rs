//! Deleting what is applied, ten at a time. A deletion that fails does no harm: the message comes back and changes nothing.

use std::time::Duration;

use blox_runtime::time::Instant;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::{Deletion, Feed, Forever, QUEUE_CALL_TIMEOUT_MS};
use crate::queue::QUEUE_BATCH_MESSAGES_MAX;
use crate::state::DutyEnd;

/// Calls to delete at once.
const CALLS_MAX: usize = 8;
/// How long an applied message waits for others to share its call with: a call costs money, and nothing waits for it.
const GATHER_MS: u64 = 100;

impl Feed {
    /// Deletes until the session ends.
    pub(super) async fn delete_forever(&self, mut applied: mpsc::Receiver<Deletion>) -> Forever {
        let mut calls = FuturesUnordered::new();
        let mut gathered = Vec::with_capacity(QUEUE_BATCH_MESSAGES_MAX);
        let mut due_at = Instant::now();
        loop {
            let is_full = gathered.len() == QUEUE_BATCH_MESSAGES_MAX;
            let has_room = calls.len() < CALLS_MAX;
            if has_room && (is_full || !gathered.is_empty() && Instant::now() >= due_at) {
                calls.push(self.delete(std::mem::take(&mut gathered)));
                continue;
            }
            let was_empty = gathered.is_empty();
            let lacking = QUEUE_BATCH_MESSAGES_MAX - gathered.len();
            tokio::select! {
                biased;
                Some(()) = calls.next(), if !calls.is_empty() => {}
                count = applied.recv_many(&mut gathered, lacking), if !is_full => {
                    if count == 0 {
                        return Err(DutyEnd::Cancelled);
                    }
                    if was_empty {
                        due_at = Instant::now() + Duration::from_millis(GATHER_MS);
                    }
                }
                () = blox_runtime::time::sleep_until(due_at), if has_room && !was_empty => {}
            }
        }
    }

    async fn delete(&self, deletions: Vec<Deletion>) {
        let receipts = deletions.iter().map(|deletion| deletion.receipt.clone()).collect();
        fail::fail_point!("ecs::before-delete");
        let deadline = Duration::from_millis(QUEUE_CALL_TIMEOUT_MS);
        let failed = match blox_runtime::time::timeout(deadline, self.queue.delete(receipts)).await {
            Ok(Ok(failed)) => failed,
            Ok(Err(error)) => {
                self.count_error(&error);
                deletions.len()
            }
            Err(_) => deletions.len(),
        };
        fail::fail_point!("ecs::after-delete");
        self.count("blox_sqs_deleted_total", deletions.len().saturating_sub(failed));
        self.count("blox_sqs_delete_failures_total", failed);
    }
}
