//! ReceiveMessage with long polling.

use std::time::Duration;

use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Value, json};

use super::queue::{Message, Receipt};
use super::{Answer, name_of, no_queue, queue_of};
use crate::simulation::Simulation;
use crate::wire::{AwsError, Call};
use crate::world::World;

/// Messages of one receive, seconds of one long poll, seconds of invisibility: at most.
const MESSAGES_MAX: usize = 10;
const WAIT_SECONDS_MAX: u64 = 20;
pub(super) const VISIBILITY_SECONDS_MAX: u64 = 43_200;
/// A long poll looks again at least this often.
const LOOK_AGAIN_MS: u64 = 1_000;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ReceiveInput {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<u64>,
    wait_time_seconds: Option<u64>,
    attribute_names: Vec<String>,
    message_system_attribute_names: Vec<String>,
}

impl ReceiveInput {
    fn check(&self) -> Result<(), AwsError> {
        if !(1..=MESSAGES_MAX).contains(&self.max_number_of_messages.unwrap_or(1)) {
            return Err(invalid("MaxNumberOfMessages must be between 1 and 10, if provided."));
        }
        if self.wait_time_seconds.unwrap_or(0) > WAIT_SECONDS_MAX {
            return Err(invalid("WaitTimeSeconds must be >= 0 and <= 20, if provided."));
        }
        if self.visibility_timeout.unwrap_or(0) > VISIBILITY_SECONDS_MAX {
            return Err(invalid("VisibilityTimeout must be between 0 and 43200, if provided."));
        }
        Ok(())
    }

    fn wants(&self, attribute: &str) -> bool {
        let mut names = self.attribute_names.iter().chain(&self.message_system_attribute_names);
        names.any(|name| name == attribute || name == "All")
    }
}

pub(super) fn invalid(message: &str) -> AwsError {
    AwsError::new("InvalidParameterValue", message)
}

pub(super) async fn receive(simulation: &Simulation, call: &Call<'_>) -> Answer {
    let input: ReceiveInput = call.input()?;
    input.check()?;
    let (changed, default_wait_ms) = {
        let mut world = simulation.world();
        let queue = queue_of(&mut world, call, &input.queue_url)?;
        queue.steps.receive_called();
        (queue.changed(), queue.receive_wait_ms)
    };
    let wait_ms = input
        .wait_time_seconds
        .map_or(default_wait_ms, |seconds| seconds * 1_000);
    let deadline_ms = simulation.clock.now_ms() + wait_ms;
    loop {
        let mut woken = std::pin::pin!(changed.notified());
        woken.as_mut().enable();
        let (messages, next_visible_ms) = attempt(&mut simulation.world(), call, &input)?;
        let now_ms = simulation.clock.now_ms();
        if !messages.is_empty() {
            return Ok(json!({"Messages": messages}));
        }
        if now_ms >= deadline_ms || simulation.stopping.is_cancelled() {
            return Ok(json!({}));
        }
        let look_again_ms = (now_ms + LOOK_AGAIN_MS)
            .min(deadline_ms)
            .min(next_visible_ms.unwrap_or(u64::MAX));
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(Duration::from_millis(look_again_ms.saturating_sub(now_ms))) => {}
            () = simulation.stopping.cancelled() => {}
        }
    }
}

/// One look at the queue.
fn attempt(world: &mut World, call: &Call<'_>, input: &ReceiveInput) -> Result<(Vec<Value>, Option<u64>), AwsError> {
    let now_ms = world.now_ms();
    let queue = queue_of(world, call, &input.queue_url)?;
    let visibility_ms = input
        .visibility_timeout
        .map_or(queue.visibility_ms, |seconds| seconds * 1_000);
    let (receipts, dead_letters) = queue.receive(now_ms, input.max_number_of_messages.unwrap_or(1), visibility_ms);
    let next_visible_ms = queue.next_visible_ms();
    for receipt in &receipts {
        if let Some(event) = receipt.message.event {
            world.journal.event_received(now_ms, event, &receipt.message.id);
        }
    }
    move_dead_letters(world, call, &input.queue_url, dead_letters)?;
    Ok((
        receipts.iter().map(|receipt| document(receipt, input)).collect(),
        next_visible_ms,
    ))
}

/// What was received too often goes to the dead-letter queue; it is lost when that queue does not exist.
fn move_dead_letters(world: &mut World, call: &Call<'_>, url: &str, letters: Vec<Message>) -> Result<(), AwsError> {
    if letters.is_empty() {
        return Ok(());
    }
    let now_ms = world.now_ms();
    let region = world.regions.get_mut(&call.region).ok_or_else(no_queue)?;
    let redrive = region.queues.get(name_of(url)).and_then(|queue| queue.redrive.clone());
    if let Some(target) = redrive.and_then(|redrive| region.queues.get_mut(&redrive.dead_letter_queue)) {
        for letter in letters {
            target.take_dead_letter(now_ms, letter);
        }
    }
    Ok(())
}

fn document(receipt: &Receipt, input: &ReceiveInput) -> Value {
    let message = &receipt.message;
    let attributes = [
        ("SenderId", "AIDASIMULATOR".to_owned()),
        ("SentTimestamp", message.sent_ms.to_string()),
        ("ApproximateReceiveCount", message.receives.to_string()),
        (
            "ApproximateFirstReceiveTimestamp",
            message.first_received_ms.unwrap_or_default().to_string(),
        ),
    ];
    let wanted: serde_json::Map<String, Value> = attributes
        .into_iter()
        .filter(|(name, _)| input.wants(name))
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect();
    let mut document = json!({
        "MessageId": message.id,
        "ReceiptHandle": receipt.handle,
        "MD5OfBody": md5_of(&message.body),
        "Body": message.body,
    });
    if !wanted.is_empty() {
        document["Attributes"] = Value::Object(wanted);
    }
    document
}

/// The digest that clients check.
pub(super) fn md5_of(body: &str) -> String {
    format!("{:x}", Md5::digest(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of RFC 1321's test suite.
    #[test]
    fn digest_is_md5() {
        assert_eq!(md5_of("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    }
}
