//! `early-delete`, one of the zoo's bugs (see `blox_runtime::zoo`).

use std::time::Duration;

use blox_runtime::zoo::{Bug, carries};

use super::{Feed, QUEUE_CALL_TIMEOUT_MS};
use crate::queue::Message;

impl Feed {
    /// Deletes what was just received. Once it is applied it is deleted a second time, which does nothing.
    pub(super) async fn delete_early(&self, messages: &[Message]) {
        if !carries(Bug::EarlyDelete) {
            return;
        }
        let receipts = messages.iter().map(|message| message.receipt.clone()).collect();
        let deadline = Duration::from_millis(QUEUE_CALL_TIMEOUT_MS);
        // One that is not deleted now is deleted later, as it should be.
        let _ = blox_runtime::time::timeout(deadline, self.queue.delete(receipts)).await;
    }
}
