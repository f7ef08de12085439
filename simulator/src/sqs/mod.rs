//! The SQS API: AWS JSON 1.0, one function an operation. Standard queues; message attributes are not kept.

mod messages;
mod queue;
mod queues;
mod receive;
mod steps;

use serde_json::Value;

pub(crate) use queue::Queue;

use crate::simulation::Simulation;
use crate::wire::{AwsError, Call};
use crate::world::{Region, World};

type Answer = Result<Value, AwsError>;

/// Performs one call; only ReceiveMessage waits.
pub(crate) async fn call(simulation: &Simulation, call: &Call<'_>) -> Answer {
    if call.operation == "ReceiveMessage" {
        return receive::receive(simulation, call).await;
    }
    let world = &mut simulation.world();
    match call.operation {
        "CreateQueue" => queues::create(world, call),
        "DeleteQueue" => queues::delete(world, call),
        "GetQueueUrl" => queues::url(world, call),
        "ListQueues" => queues::list(world, call),
        "GetQueueAttributes" => queues::attributes(world, call),
        "SetQueueAttributes" => queues::set_attributes(world, call),
        "PurgeQueue" => queues::purge(world, call),
        "SendMessage" => messages::send(world, call),
        "SendMessageBatch" => messages::send_batch(world, call),
        "DeleteMessage" => messages::delete(world, call),
        "DeleteMessageBatch" => messages::delete_batch(world, call),
        "ChangeMessageVisibility" => messages::change_visibility(world, call),
        "ChangeMessageVisibilityBatch" => messages::change_visibility_batch(world, call),
        other => Err(AwsError::unknown_operation(other)),
    }
}

/// The query protocol's name of an error, which older clients read from a header.
pub(crate) fn legacy_code(code: &str) -> Option<&'static str> {
    match code {
        "QueueDoesNotExist" => Some("AWS.SimpleQueueService.NonExistentQueue"),
        "EmptyBatchRequest" => Some("AWS.SimpleQueueService.EmptyBatchRequest"),
        "TooManyEntriesInBatchRequest" => Some("AWS.SimpleQueueService.TooManyEntriesInBatchRequest"),
        "BatchEntryIdsNotDistinct" => Some("AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
        "MessageNotInflight" => Some("AWS.SimpleQueueService.MessageNotInflight"),
        "ReceiptHandleIsInvalid" => Some("ReceiptHandleIsInvalid"),
        _ => None,
    }
}

fn no_queue() -> AwsError {
    AwsError::new("QueueDoesNotExist", "The specified queue does not exist.")
}

/// The queue that a URL names by its last part.
fn queue_of<'a>(world: &'a mut World, call: &Call, url: &str) -> Result<&'a mut Queue, AwsError> {
    region_of(world, call)?
        .queues
        .get_mut(name_of(url))
        .ok_or_else(no_queue)
}

fn region_of<'a>(world: &'a mut World, call: &Call) -> Result<&'a mut Region, AwsError> {
    world.regions.get_mut(&call.region).ok_or_else(no_queue)
}

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}
