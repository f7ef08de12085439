//! SendMessage, DeleteMessage, ChangeMessageVisibility, and their batches.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::HandleOutcome;
use super::receive::{VISIBILITY_SECONDS_MAX, invalid, md5_of};
use super::{Answer, queue_of};
use crate::wire::{AwsError, Call};
use crate::world::World;

/// The largest body of one message.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one batch.
const BATCH_MAX: usize = 10;
const DELAY_SECONDS_MAX: u64 = 900;

/// The fields of a single request and of a batch entry.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    id: String,
    message_body: String,
    delay_seconds: Option<u64>,
    receipt_handle: String,
    visibility_timeout: Option<u64>,
}

/// The queue's URL is read apart, since a single request carries it beside the entry's fields.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Target {
    queue_url: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Batch {
    queue_url: String,
    entries: Vec<Entry>,
}

pub(super) fn send(world: &mut World, call: &Call) -> Answer {
    let target: Target = call.input()?;
    send_one(world, call, &target.queue_url, &call.input()?)
}

pub(super) fn send_batch(world: &mut World, call: &Call) -> Answer {
    for_each(world, call, send_one)
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let target: Target = call.input()?;
    delete_one(world, call, &target.queue_url, &call.input()?)
}

pub(super) fn delete_batch(world: &mut World, call: &Call) -> Answer {
    for_each(world, call, delete_one)
}

pub(super) fn change_visibility(world: &mut World, call: &Call) -> Answer {
    let target: Target = call.input()?;
    change_visibility_one(world, call, &target.queue_url, &call.input()?)
}

pub(super) fn change_visibility_batch(world: &mut World, call: &Call) -> Answer {
    for_each(world, call, change_visibility_one)
}

fn send_one(world: &mut World, call: &Call, url: &str, entry: &Entry) -> Answer {
    if entry.message_body.is_empty() {
        return Err(AwsError::new(
            "MissingParameter",
            "The request must contain the parameter MessageBody.",
        ));
    }
    if entry.message_body.len() > BODY_BYTES_MAX {
        return Err(invalid(
            "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.",
        ));
    }
    if entry.delay_seconds.unwrap_or(0) > DELAY_SECONDS_MAX {
        return Err(invalid("DelaySeconds must be >= 0 and <= 900."));
    }
    let (now_ms, id) = (world.now_ms(), world.new_uuid());
    let queue = queue_of(world, call, url)?;
    let delay_ms = entry.delay_seconds.map_or(queue.delay_ms, |seconds| seconds * 1_000);
    if !queue.send(now_ms, &id, entry.message_body.as_str().into(), delay_ms, None) {
        return Err(AwsError::new(
            "OverLimit",
            "The queue holds as many bytes as the simulator keeps.",
        ));
    }
    Ok(json!({"Id": entry.id, "MessageId": id, "MD5OfMessageBody": md5_of(&entry.message_body)}))
}

fn delete_one(world: &mut World, call: &Call, url: &str, entry: &Entry) -> Answer {
    let now_ms = world.now_ms();
    match queue_of(world, call, url)?.delete(now_ms, &entry.receipt_handle) {
        HandleOutcome::Done(message) => {
            if let Some(event) = message.event {
                world.journal.event_deleted(now_ms, event, &message.id);
            }
            Ok(json!({"Id": entry.id}))
        }
        // SQS answers success to an old handle too.
        HandleOutcome::Stale => Ok(json!({"Id": entry.id})),
        HandleOutcome::Invalid => Err(bad_handle()),
    }
}

fn change_visibility_one(world: &mut World, call: &Call, url: &str, entry: &Entry) -> Answer {
    let seconds = entry
        .visibility_timeout
        .filter(|seconds| *seconds <= VISIBILITY_SECONDS_MAX)
        .ok_or_else(|| invalid("VisibilityTimeout must be between 0 and 43200."))?;
    let now_ms = world.now_ms();
    match queue_of(world, call, url)?.change_visibility(now_ms, &entry.receipt_handle, seconds * 1_000) {
        HandleOutcome::Done(()) => Ok(json!({"Id": entry.id})),
        HandleOutcome::Stale => Err(AwsError::new(
            "MessageNotInflight",
            "The specified message is not in flight.",
        )),
        HandleOutcome::Invalid => Err(bad_handle()),
    }
}

fn bad_handle() -> AwsError {
    AwsError::new("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
}

/// Performs a batch entry by entry: each succeeds or fails alone.
fn for_each(world: &mut World, call: &Call, run: fn(&mut World, &Call, &str, &Entry) -> Answer) -> Answer {
    let batch: Batch = call.input()?;
    check(&batch)?;
    queue_of(world, call, &batch.queue_url)?;
    let (mut successful, mut failed) = (Vec::new(), Vec::<Value>::new());
    for entry in &batch.entries {
        match run(world, call, &batch.queue_url, entry) {
            Ok(answer) => successful.push(answer),
            Err(error) => {
                failed.push(json!({"Id": entry.id, "Code": error.code, "Message": error.message, "SenderFault": true}));
            }
        }
    }
    Ok(json!({"Successful": successful, "Failed": failed}))
}

fn check(batch: &Batch) -> Result<(), AwsError> {
    let ids: BTreeSet<&str> = batch.entries.iter().map(|entry| entry.id.as_str()).collect();
    if batch.entries.is_empty() {
        Err(AwsError::new(
            "EmptyBatchRequest",
            "There should be at least one entry in the request.",
        ))
    } else if batch.entries.len() > BATCH_MAX {
        let message = "Maximum number of entries per request are 10.";
        Err(AwsError::new("TooManyEntriesInBatchRequest", message))
    } else if ids.len() < batch.entries.len() {
        Err(AwsError::new(
            "BatchEntryIdsNotDistinct",
            "Two or more batch entries have the same Id.",
        ))
    } else {
        Ok(())
    }
}
