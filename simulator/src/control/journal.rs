//! What was sent and called.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Response, header};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, ControlError, DEFAULT_REGION, answer};
use crate::journal::EventRecord;
use crate::simulation::Simulation;

/// Entries of one answer unless asked otherwise, and at most.
const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;
/// Lines of one compact answer at most.
const LINES_MAX: usize = 1_000_000;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PageQuery {
    from: u64,
    from_call: u64,
    limit: Option<usize>,
}

/// Events from `from` and calls from `from_call` on.
pub(super) async fn page(State(simulation): State<Arc<Simulation>>, Query(query): Query<PageQuery>) -> Answer {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
    let world = simulation.world();
    let (events, next) = world.journal.events_from(query.from, limit);
    let (calls, next_call) = world.journal.calls_from(query.from_call, limit);
    answer(&json!({"events": events, "next": next, "calls": calls, "next_call": next_call}))
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CompactQuery {
    from: u64,
    region: Option<String>,
}

/// One line an event: number, time, region, ARN, version, copies queued, copies received, copies deleted.
pub(super) async fn compact(State(simulation): State<Arc<Simulation>>, Query(query): Query<CompactQuery>) -> Answer {
    let mut lines = String::new();
    {
        let world = simulation.world();
        for event in world.journal.events_from(query.from, LINES_MAX).0 {
            if query.region.as_ref().is_none_or(|wanted| **wanted == *event.region) {
                append(&mut lines, event);
            }
        }
    }
    Ok(plain(lines))
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct QueueQuery {
    from: u64,
    region: Option<String>,
    queue: Option<String>,
}

/// One line a step of a message of one queue, in the order in which they happened: number, time, what, message id, receives by then.
pub(super) async fn queue(State(simulation): State<Arc<Simulation>>, Query(query): Query<QueueQuery>) -> Answer {
    let mut lines = String::new();
    {
        let world = simulation.world();
        let (region, name) = (
            query.region.as_deref().unwrap_or(DEFAULT_REGION),
            query.queue.as_deref().unwrap_or(&world.event_queue),
        );
        let queue = world.regions.get(region).and_then(|region| region.queues.get(name));
        let queue = queue.ok_or_else(|| ControlError::missing(format!("no queue {name} in {region}")))?;
        for step in queue.steps.from(query.from) {
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "{} {} {} {} {}",
                step.number,
                step.at_ms,
                step.kind.name(),
                step.message_id,
                step.receives
            );
        }
    }
    Ok(plain(lines))
}

fn plain(lines: String) -> Response<Body> {
    let mut response = Response::new(Body::from(lines));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

fn append(lines: &mut String, event: &EventRecord) {
    let received = event
        .messages
        .iter()
        .filter(|message| message.first_received_ms.is_some())
        .count();
    let deleted = event
        .messages
        .iter()
        .filter(|message| message.deleted_ms.is_some())
        .count();
    let EventRecord {
        number,
        at_ms,
        region,
        arn,
        version,
        messages,
        ..
    } = event;
    // Writing to a string cannot fail.
    let _ = writeln!(
        lines,
        "{number} {at_ms} {region} {arn} {version} {} {received} {deleted}",
        messages.len()
    );
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ResourcesQuery {
    region: Option<String>,
}

/// The highest version sent, and queued, of each resource that ever had an event.
pub(super) async fn resources(
    State(simulation): State<Arc<Simulation>>,
    Query(query): Query<ResourcesQuery>,
) -> Answer {
    let world = simulation.world();
    let all = world.journal.resources().iter();
    let chosen = all.filter(|(_, one)| query.region.as_ref().is_none_or(|wanted| **wanted == *one.region));
    let shown: serde_json::Map<String, serde_json::Value> =
        chosen.map(|(arn, one)| (arn.to_string(), json!(one))).collect();
    answer(&json!({"resources": shown}))
}
