//! A queue as SQS is: at least once, hidden for a while, in no order that anyone relies on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::EPOCH_MS;
use crate::error::CallError;
use crate::queue::{Message, QUEUE_BATCH_MESSAGES_MAX, Queue, ReceiptHandle, ReceiveOptions};

struct Queued {
    id: u64,
    body: String,
    sent_at_ms: i64,
    visible_at: Instant,
    receives: u32,
}

#[derive(Default)]
struct Queues {
    messages: Vec<Queued>,
    next_id: u64,
    deleted: Vec<u64>,
    receives: u64,
    delete_failures: u32,
    missing: bool,
    extensions_at_once: usize,
    extensions_at_once_max: usize,
}

/// A queue as SQS is: at least once, hidden for a while, in no order that anyone relies on.
#[derive(Default)]
pub(crate) struct FakeQueue {
    queues: Mutex<Queues>,
}

impl FakeQueue {
    pub(crate) fn new() -> Arc<FakeQueue> {
        Arc::default()
    }

    pub(crate) fn send(&self, body: impl Into<String>) -> u64 {
        let mut queues = self.queues.lock();
        let id = queues.next_id;
        queues.next_id += 1;
        queues.messages.push(Queued {
            id,
            body: body.into(),
            sent_at_ms: EPOCH_MS,
            visible_at: Instant::now(),
            receives: 0,
        });
        id
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.lock().messages.is_empty()
    }

    pub(crate) fn deleted(&self) -> usize {
        self.queues.lock().deleted.len()
    }

    /// How often messages were asked for.
    pub(crate) fn receives(&self) -> u64 {
        self.queues.lock().receives
    }

    /// The most deliveries of one message that is still there.
    pub(crate) fn deliveries_max(&self) -> u32 {
        self.queues
            .lock()
            .messages
            .iter()
            .map(|message| message.receives)
            .max()
            .unwrap_or(0)
    }

    /// The most calls to extend that were under way at once.
    pub(crate) fn extensions_at_once_max(&self) -> usize {
        self.queues.lock().extensions_at_once_max
    }

    /// Messages that a receive would get now.
    pub(crate) fn visible(&self) -> usize {
        let now = Instant::now();
        self.queues
            .lock()
            .messages
            .iter()
            .filter(|message| message.visible_at <= now)
            .count()
    }

    /// The next so many deletions fail.
    pub(crate) fn fail_deletions(&self, count: u32) {
        self.queues.lock().delete_failures = count;
    }

    /// Whether the queue exists.
    pub(crate) fn set_missing(&self, missing: bool) {
        self.queues.lock().missing = missing;
    }

    fn take(&self, visibility: Duration) -> Vec<Message> {
        let mut queues = self.queues.lock();
        let now = Instant::now();
        let visible = queues.messages.iter_mut().filter(|message| message.visible_at <= now);
        let taken = visible.take(QUEUE_BATCH_MESSAGES_MAX).map(|message| {
            message.visible_at = now + visibility;
            message.receives += 1;
            Message {
                id: format!("message-{}", message.id),
                receipt: ReceiptHandle(message.id.to_string()),
                body: Bytes::from(message.body.clone()),
                sent_at_ms: Some(message.sent_at_ms),
            }
        });
        taken.collect()
    }
}

impl Queue for FakeQueue {
    fn receive(&self, options: ReceiveOptions) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        async move {
            let until = Instant::now() + options.wait;
            {
                let mut queues = self.queues.lock();
                queues.receives += 1;
                if queues.missing {
                    let code = "AWS.SimpleQueueService.NonExistentQueue".into();
                    return Err(CallError::Refused {
                        operation: "ReceiveMessage",
                        code,
                        message: String::new(),
                    });
                }
            }
            loop {
                let taken = self.take(options.visibility);
                if !taken.is_empty() || Instant::now() >= until {
                    return Ok(taken);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        .boxed()
    }

    fn delete(&self, receipts: Vec<ReceiptHandle>) -> BoxFuture<'_, Result<usize, CallError>> {
        async move {
            assert!(receipts.len() <= QUEUE_BATCH_MESSAGES_MAX);
            let mut queues = self.queues.lock();
            if queues.delete_failures > 0 {
                queues.delete_failures -= 1;
                return Err(CallError::Unknown {
                    operation: "DeleteMessageBatch",
                    code: None,
                    cause: "reset".into(),
                });
            }
            let ids: Vec<u64> = receipts
                .iter()
                .map(|receipt| receipt.0.parse().expect("ours"))
                .collect();
            queues.messages.retain(|message| !ids.contains(&message.id));
            queues.deleted.extend(ids);
            Ok(0)
        }
        .boxed()
    }

    fn extend(&self, receipts: Vec<ReceiptHandle>, visibility: Duration) -> BoxFuture<'_, Result<usize, CallError>> {
        async move {
            assert!(receipts.len() <= QUEUE_BATCH_MESSAGES_MAX);
            let ids: Vec<u64> = receipts
                .iter()
                .map(|receipt| receipt.0.parse().expect("ours"))
                .collect();
            {
                let mut queues = self.queues.lock();
                queues.extensions_at_once += 1;
                queues.extensions_at_once_max = queues.extensions_at_once_max.max(queues.extensions_at_once);
            }
            // A round trip, so that calls meet.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut queues = self.queues.lock();
            queues.extensions_at_once -= 1;
            for message in queues.messages.iter_mut().filter(|message| ids.contains(&message.id)) {
                message.visible_at = Instant::now() + visibility;
            }
            Ok(0)
        }
        .boxed()
    }
}
