//! CreateQueue, DeleteQueue, GetQueueUrl, ListQueues, GetQueueAttributes, SetQueueAttributes, PurgeQueue.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::{Queue, Redrive};
use super::receive::invalid;
use super::{Answer, name_of, no_queue, queue_of, region_of};
use crate::wire::{AwsError, Call};
use crate::world::{Name, World};

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct QueueInput {
    queue_name: String,
    queue_url: String,
    queue_name_prefix: Option<String>,
    attributes: BTreeMap<String, String>,
    attribute_names: Vec<String>,
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
    if input.queue_name.is_empty() || input.queue_name.len() > 80 || !input.queue_name.chars().all(allowed) {
        return Err(invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ));
    }
    let mut queue = Queue::new(&input.queue_name);
    apply(&mut queue, &input.attributes)?;
    let url = url_of(world, call, &input.queue_name);
    let queues = &mut region_of(world, call)?.queues;
    queues.entry(input.queue_name.as_str().into()).or_insert(queue);
    Ok(json!({"QueueUrl": url}))
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    let queue = region_of(world, call)?
        .queues
        .remove(name_of(&input.queue_url))
        .ok_or_else(no_queue)?;
    queue.wake();
    Ok(json!({}))
}

pub(super) fn url(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    queue_of(world, call, &input.queue_name)?;
    Ok(json!({"QueueUrl": url_of(world, call, &input.queue_name)}))
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    let prefix = input.queue_name_prefix.unwrap_or_default();
    let names: Vec<Name> = region_of(world, call)?.queues.keys().cloned().collect();
    let shown = names.iter().filter(|name| name.starts_with(&prefix));
    Ok(json!({"QueueUrls": shown.map(|name| url_of(world, call, name)).collect::<Vec<_>>()}))
}

pub(super) fn attributes(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    let (now_ms, account) = (world.now_ms(), Name::clone(&world.account));
    let queue = queue_of(world, call, &input.queue_url)?;
    let counts = queue.counts(now_ms);
    let arn = format!("arn:aws:sqs:{}:{account}:{}", call.region, queue.name);
    let known = [
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("QueueArn", arn),
        ("VisibilityTimeout", (queue.visibility_ms / 1_000).to_string()),
        ("MessageRetentionPeriod", (queue.retention_ms / 1_000).to_string()),
        ("DelaySeconds", (queue.delay_ms / 1_000).to_string()),
        (
            "ReceiveMessageWaitTimeSeconds",
            (queue.receive_wait_ms / 1_000).to_string(),
        ),
        ("MaximumMessageSize", super::messages::BODY_BYTES_MAX.to_string()),
    ];
    let mut all: BTreeMap<String, String> = queue.attributes.clone();
    all.extend(known.map(|(name, value)| (name.to_owned(), value)));
    let wanted = |name: &String| {
        input
            .attribute_names
            .iter()
            .any(|asked| asked == name || asked == "All")
    };
    all.retain(|name, _| wanted(name));
    Ok(json!({"Attributes": all}))
}

pub(super) fn set_attributes(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    apply(queue_of(world, call, &input.queue_url)?, &input.attributes)?;
    Ok(json!({}))
}

pub(super) fn purge(world: &mut World, call: &Call) -> Answer {
    let input: QueueInput = call.input()?;
    queue_of(world, call, &input.queue_url)?.purge();
    Ok(json!({}))
}

fn url_of(world: &World, call: &Call, name: &str) -> String {
    format!("{}/{}/{name}", call.endpoint, world.account)
}

/// Sets attributes; all are checked before the first is set.
fn apply(queue: &mut Queue, attributes: &BTreeMap<String, String>) -> Result<(), AwsError> {
    let seconds = |name: &str, least: u64, most: u64| match attributes.get(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(seconds) if (least..=most).contains(&seconds) => Ok(Some(seconds * 1_000)),
            _ => Err(AwsError::new(
                "InvalidAttributeValue",
                format!("Invalid value for the parameter {name}."),
            )),
        },
    };
    let visibility_ms = seconds("VisibilityTimeout", 0, 43_200)?;
    let retention_ms = seconds("MessageRetentionPeriod", 60, 1_209_600)?;
    let delay_ms = seconds("DelaySeconds", 0, 900)?;
    let receive_wait_ms = seconds("ReceiveMessageWaitTimeSeconds", 0, 20)?;
    if let Some(policy) = attributes.get("RedrivePolicy") {
        queue.redrive = redrive(policy)?;
    }
    queue.visibility_ms = visibility_ms.unwrap_or(queue.visibility_ms);
    queue.retention_ms = retention_ms.unwrap_or(queue.retention_ms);
    queue.delay_ms = delay_ms.unwrap_or(queue.delay_ms);
    queue.receive_wait_ms = receive_wait_ms.unwrap_or(queue.receive_wait_ms);
    queue.attributes.extend(attributes.clone());
    Ok(())
}

/// `{"deadLetterTargetArn": ..., "maxReceiveCount": ...}`, the count as a number or as digits; empty removes it.
fn redrive(policy: &str) -> Result<Option<Redrive>, AwsError> {
    if policy.is_empty() {
        return Ok(None);
    }
    let bad = || {
        AwsError::new(
            "InvalidAttributeValue",
            "Invalid value for the parameter RedrivePolicy.",
        )
    };
    let policy: Value = serde_json::from_str(policy).map_err(|_| bad())?;
    let count = &policy["maxReceiveCount"];
    let receives_max = count
        .as_u64()
        .or_else(|| count.as_str()?.parse().ok())
        .ok_or_else(bad)?;
    let arn = policy["deadLetterTargetArn"].as_str().ok_or_else(bad)?;
    let name = arn.rsplit(':').next().unwrap_or_default();
    let receives_max = u32::try_from(receives_max)
        .ok()
        .filter(|count| (1..=1_000).contains(count))
        .ok_or_else(bad)?;
    Ok(Some(Redrive {
        dead_letter_queue: name.into(),
        receives_max,
    }))
}
