//! What the feed needs of a queue: SQS, or a fake of it in tests.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::CallError;

/// The most messages in one receive, delete or extension (SQS' own limit).
pub const QUEUE_BATCH_MESSAGES_MAX: usize = 10;

/// What names one delivery of a message to the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReceiptHandle(pub String);

/// One delivery of a message.
#[derive(Clone, Debug)]
pub struct Message {
    /// SQS' id of the message, the same in every delivery.
    pub id: String,
    /// Names this delivery.
    pub receipt: ReceiptHandle,
    /// The body as received.
    pub body: Bytes,
    /// When it was sent to the queue, milliseconds since the epoch, as SQS says.
    pub sent_at_ms: Option<i64>,
}

/// How a receive is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// How long to wait for a first message.
    pub wait: Duration,
    /// How long what is received stays hidden from others.
    pub visibility: Duration,
}

/// A queue that delivers at least once and hides what it delivered for a while.
pub trait Queue: Send + Sync + 'static {
    /// Up to [`QUEUE_BATCH_MESSAGES_MAX`] messages; none when the wait ended.
    fn receive(&self, options: ReceiveOptions) -> BoxFuture<'_, Result<Vec<Message>, CallError>>;

    /// Deletes up to [`QUEUE_BATCH_MESSAGES_MAX`] deliveries; the number that could not be.
    fn delete(&self, receipts: Vec<ReceiptHandle>) -> BoxFuture<'_, Result<usize, CallError>>;

    /// Hides up to [`QUEUE_BATCH_MESSAGES_MAX`] deliveries for `visibility` from now; the number that could not be.
    fn extend(&self, receipts: Vec<ReceiptHandle>, visibility: Duration) -> BoxFuture<'_, Result<usize, CallError>>;
}
