//! SQS through the SDK.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageSystemAttributeName,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::aws::capture::Capture;
use crate::aws::failure::call_error;
use crate::error::CallError;
use crate::queue::{Message, QUEUE_BATCH_MESSAGES_MAX, Queue, ReceiptHandle, ReceiveOptions};

/// A queue by name or URL. The URL of a name is asked for once, and again after the queue was missing.
pub(crate) struct AwsQueue {
    client: Client,
    name_or_url: String,
    url: Mutex<Option<String>>,
}

/// Sends a fluent builder and sorts its error.
macro_rules! send {
    ($operation:expr, $builder:expr) => {{
        let capture = Capture::default();
        let sent = $builder.customize().interceptor(capture.clone()).send().await;
        sent.map_err(|error| call_error($operation, error, capture.transmitted()))
    }};
}

impl AwsQueue {
    pub(crate) fn new(client: Client, name_or_url: String) -> AwsQueue {
        let url = name_or_url.contains("://").then(|| name_or_url.clone());
        AwsQueue {
            client,
            name_or_url,
            url: Mutex::new(url),
        }
    }

    async fn url(&self) -> Result<String, CallError> {
        if let Some(url) = self.url.lock().clone() {
            return Ok(url);
        }
        let answer = send!("GetQueueUrl", self.client.get_queue_url().queue_name(&self.name_or_url))?;
        let url = answer.queue_url().ok_or_else(|| CallError::Unknown {
            operation: "GetQueueUrl",
            code: None,
            cause: format!("the answer for queue {:?} holds no URL", self.name_or_url),
        })?;
        *self.url.lock() = Some(url.to_string());
        Ok(url.to_string())
    }

    /// A queue that was deleted and made again may have another URL.
    fn forget_url_if_missing(&self, error: CallError) -> CallError {
        if error.is_queue_missing() && !self.name_or_url.contains("://") {
            *self.url.lock() = None;
        }
        error
    }

    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Message>, CallError> {
        let request = self
            .client
            .receive_message()
            .queue_url(self.url().await?)
            .max_number_of_messages(QUEUE_BATCH_MESSAGES_MAX as i32)
            .wait_time_seconds(whole_seconds(options.wait))
            .visibility_timeout(whole_seconds(options.visibility))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let answer = send!("ReceiveMessage", request).map_err(|error| self.forget_url_if_missing(error))?;
        Ok(answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(message)
            .collect())
    }

    async fn delete(&self, receipts: Vec<ReceiptHandle>) -> Result<usize, CallError> {
        let entries = receipts.into_iter().enumerate().map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt.0)
                .build()
        });
        let entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuilt("DeleteMessageBatch", &error))?;
        let request = self
            .client
            .delete_message_batch()
            .queue_url(self.url().await?)
            .set_entries(Some(entries));
        Ok(send!("DeleteMessageBatch", request)?.failed.len())
    }

    async fn extend(&self, receipts: Vec<ReceiptHandle>, visibility: Duration) -> Result<usize, CallError> {
        let entries = receipts.into_iter().enumerate().map(|(index, receipt)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt.0)
                .visibility_timeout(whole_seconds(visibility))
                .build()
        });
        let entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unbuilt("ChangeMessageVisibilityBatch", &error))?;
        let request = self
            .client
            .change_message_visibility_batch()
            .queue_url(self.url().await?)
            .set_entries(Some(entries));
        Ok(send!("ChangeMessageVisibilityBatch", request)?.failed.len())
    }
}

impl Queue for AwsQueue {
    fn receive(&self, options: ReceiveOptions) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        self.receive(options).boxed()
    }

    fn delete(&self, receipts: Vec<ReceiptHandle>) -> BoxFuture<'_, Result<usize, CallError>> {
        self.delete(receipts).boxed()
    }

    fn extend(&self, receipts: Vec<ReceiptHandle>, visibility: Duration) -> BoxFuture<'_, Result<usize, CallError>> {
        self.extend(receipts, visibility).boxed()
    }
}

/// A delivery without a receipt could never be deleted: it is left to come back.
fn message(message: aws_sdk_sqs::types::Message) -> Option<Message> {
    let sent_at_ms = message
        .attributes
        .as_ref()
        .and_then(|attributes| attributes.get(&MessageSystemAttributeName::SentTimestamp))
        .and_then(|text| text.parse().ok());
    Some(Message {
        receipt: ReceiptHandle(message.receipt_handle?),
        id: message.message_id.unwrap_or_default(),
        body: Bytes::from(message.body.unwrap_or_default()),
        sent_at_ms,
    })
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn unbuilt(operation: &'static str, error: &dyn std::error::Error) -> CallError {
    CallError::NotSent {
        operation,
        cause: error.to_string(),
    }
}
