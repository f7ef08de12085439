//! Messages put on a queue from outside, and floods of events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Answer, ControlError, DEFAULT_REGION, answer, cluster_key, parse};
use crate::simulation::Simulation;
use crate::world::{FloodKind, Name};

/// Copies of one message that one request may send.
const COPIES_MAX: usize = 100_000;
/// Events of one flood.
const FLOOD_EVENTS_MAX: u64 = 10_000_000;
/// Events of a flood made under one hold of the world's lock.
const FLOOD_EVENTS_PER_TURN: u64 = 200;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct SendInput {
    region: Option<String>,
    queue: Option<String>,
    /// A string is sent as it is, anything else as its JSON text.
    body: Value,
    count: Option<usize>,
}

pub(super) async fn send(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: SendInput = parse(&body)?;
    let text = match &input.body {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    put(
        &simulation,
        input.region.as_deref(),
        input.queue.as_deref(),
        text,
        input.count.unwrap_or(1),
    )
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTarget {
    region: Option<String>,
    queue: Option<String>,
    count: Option<usize>,
}

/// The request's body is the message; bytes that are no UTF-8 are replaced, as SQS carries only text.
pub(super) async fn send_raw(
    State(simulation): State<Arc<Simulation>>,
    Query(target): Query<RawTarget>,
    body: Bytes,
) -> Answer {
    let text = String::from_utf8_lossy(&body).into_owned();
    put(
        &simulation,
        target.region.as_deref(),
        target.queue.as_deref(),
        text,
        target.count.unwrap_or(1),
    )
}

fn put(simulation: &Simulation, region: Option<&str>, queue: Option<&str>, text: String, count: usize) -> Answer {
    if count > COPIES_MAX {
        return Err(ControlError::bad(format!(
            "count is {count}: at most {COPIES_MAX} at once"
        )));
    }
    let mut world = simulation.world();
    let world = &mut *world;
    let region: Name = region.unwrap_or(DEFAULT_REGION).into();
    let queue_name = queue.map_or_else(|| Name::clone(&world.event_queue), Name::from);
    let now_ms = world.now_ms();
    world.open_region(&region);
    let (body, mut ids): (Name, Vec<Name>) = (text.into(), Vec::with_capacity(count));
    for _ in 0..count {
        let id = world.new_uuid();
        let queue = world.open_region(&region).queues.get_mut(&queue_name);
        let queue = queue.ok_or_else(|| ControlError::missing(format!("no queue {queue_name} in {region}")))?;
        if !queue.send(now_ms, &id, Name::clone(&body), 0, None) {
            return Err(ControlError::bad(format!(
                "the queue is full after {} of {count} messages",
                ids.len()
            )));
        }
        ids.push(id);
    }
    answer(&json!({"messages": ids}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FloodInput {
    region: Option<String>,
    cluster: String,
    events: u64,
    #[serde(default)]
    kind: FloodKind,
    /// Paced evenly when given; as fast as possible otherwise.
    per_second: Option<u64>,
}

/// Raises versions of a cluster's resources in turn, one event each; answers when all are sent.
pub(super) async fn flood(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: FloodInput = parse(&body)?;
    if input.events > FLOOD_EVENTS_MAX || input.per_second == Some(0) {
        return Err(ControlError::bad(format!(
            "events are at most {FLOOD_EVENTS_MAX}, per_second is not 0"
        )));
    }
    let targets = {
        let world = simulation.world();
        let cluster = cluster_key(&world, input.region.as_deref(), &input.cluster)?;
        world.flood_targets(&cluster, input.kind)
    };
    if targets.is_empty() {
        return Err(ControlError::bad(format!(
            "{} has nothing to touch: add instances or tasks first",
            input.cluster
        )));
    }
    let started = Instant::now();
    let mut sent = 0;
    let mut turn = targets.iter().cycle();
    while sent < input.events && !simulation.stopping.is_cancelled() {
        let due = match input.per_second {
            None => input.events,
            Some(rate) => (started.elapsed().as_secs_f64() * rate as f64) as u64 + 1,
        };
        let batch = due.min(input.events).saturating_sub(sent).min(FLOOD_EVENTS_PER_TURN);
        if batch == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        {
            let mut world = simulation.world();
            for target in turn.by_ref().take(batch as usize) {
                world.touch(target);
            }
        }
        sent += batch;
        tokio::task::yield_now().await;
    }
    answer(&json!({"events": sent, "duration_ms": started.elapsed().as_millis() as u64}))
}
