//! Faults, delays, liveliness, and answers that are held or lost.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, ControlError, answer, merged, parse, read};
use crate::answers::{AnswerRule, Release};
use crate::settings::{Delays, Faults, Liveliness};
use crate::simulation::Simulation;

/// The longest `GET /control/held` waits.
const HELD_WAIT_MS_MAX: u64 = 60_000;

pub(super) async fn show(State(simulation): State<Arc<Simulation>>) -> Answer {
    answer(&simulation.world().settings.faults)
}

pub(super) async fn replace(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    set_faults(&simulation, parse(&body)?)
}

pub(super) async fn merge(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let faults = merged(&simulation.world().settings.faults, &body)?;
    set_faults(&simulation, read(faults)?)
}

/// No fault any more, no rule on answers, nothing held.
pub(super) async fn clear(State(simulation): State<Arc<Simulation>>) -> Answer {
    simulation.world().answers.clear();
    simulation.held.release(None, Release::Answer);
    set_faults(&simulation, Faults::default())
}

fn set_faults(simulation: &Simulation, faults: Faults) -> Answer {
    faults.check().map_err(ControlError::bad)?;
    let mut world = simulation.world();
    if faults.throttling != world.settings.faults.throttling {
        for region in world.regions.values_mut() {
            region.buckets = Default::default();
        }
    }
    world.settings.faults = faults;
    answer(&world.settings.faults)
}

pub(super) async fn delays(State(simulation): State<Arc<Simulation>>) -> Answer {
    answer(&simulation.world().settings.delays)
}

pub(super) async fn merge_delays(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let mut world = simulation.world();
    world.settings.delays = read::<Delays>(merged(&world.settings.delays, &body)?)?;
    answer(&world.settings.delays)
}

pub(super) async fn liveliness(State(simulation): State<Arc<Simulation>>) -> Answer {
    answer(&simulation.world().settings.liveliness)
}

/// Rates that are not named become zero.
pub(super) async fn set_liveliness(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let liveliness: Liveliness = parse(&body)?;
    let mut world = simulation.world();
    world.set_liveliness(liveliness);
    answer(&world.settings.liveliness)
}

pub(super) async fn answers(State(simulation): State<Arc<Simulation>>) -> Answer {
    answer(&json!({"rules": simulation.world().answers.list()}))
}

pub(super) async fn add_answer(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let rule: AnswerRule = parse(&body)?;
    let id = simulation.world().answers.add(rule).map_err(ControlError::bad)?;
    answer(&json!({"id": id}))
}

pub(super) async fn remove_answer(State(simulation): State<Arc<Simulation>>, Path(id): Path<u64>) -> Answer {
    if simulation.world().answers.remove(id) {
        answer(&json!({"id": id}))
    } else {
        Err(ControlError::missing(format!(
            "no rule {id} stands; its calls may be used up"
        )))
    }
}

/// Rules go; what is held stays held.
pub(super) async fn clear_answers(State(simulation): State<Arc<Simulation>>) -> Answer {
    simulation.world().answers.clear();
    answer(&json!({"rules": []}))
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HeldQuery {
    operation: Option<String>,
    at_least: usize,
    wait_ms: u64,
}

/// The calls held at this moment; with `at_least` and `wait_ms` it waits for so many.
pub(super) async fn held(State(simulation): State<Arc<Simulation>>, Query(query): Query<HeldQuery>) -> Answer {
    let operation = query.operation.as_deref();
    if query.wait_ms > 0 {
        let wait = Duration::from_millis(query.wait_ms.min(HELD_WAIT_MS_MAX));
        tokio::select! {
            () = simulation.held.wait_for(operation, query.at_least, wait) => {}
            () = simulation.stopping.cancelled() => {}
        }
    }
    let (calls, ever) = simulation.held.list(operation);
    answer(&json!({"held": calls.len(), "held_ever": ever, "calls": calls}))
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct ReleaseInput {
    operation: Option<String>,
    then: Release,
}

pub(super) async fn release(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: ReleaseInput = parse(&body)?;
    answer(&json!({"released": simulation.held.release(input.operation.as_deref(), input.then)}))
}
