//! Tasks started, stopped and crashed from outside the API.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use rand::seq::SliceRandom;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, ControlError, answer, cluster_key, parse};
use crate::ecs::find_definition;
use crate::simulation::Simulation;
use crate::world::{InstanceKey, LaunchOrder, LaunchType, StopCode, TaskKey, World};

/// Tasks one request may start.
const TASKS_PER_ORDER_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartInput {
    region: Option<String>,
    cluster: String,
    task_definition: String,
    /// On each of these; or `count` wherever there is room.
    #[serde(default)]
    instances: Vec<String>,
    #[serde(default = "one")]
    count: usize,
    #[serde(default)]
    launch_type: LaunchType,
    group: Option<String>,
    started_by: Option<String>,
}

fn one() -> usize {
    1
}

pub(super) async fn start(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: StartInput = parse(&body)?;
    if input.count > TASKS_PER_ORDER_MAX {
        return Err(ControlError::bad(format!(
            "count is {}: at most {TASKS_PER_ORDER_MAX} at once",
            input.count
        )));
    }
    let mut world = simulation.world();
    let cluster = cluster_key(&world, input.region.as_deref(), &input.cluster)?;
    let definition = find_definition(&world, &cluster.region, &input.task_definition)
        .ok_or_else(|| ControlError::missing(format!("no task definition {}", input.task_definition)))?;
    let order = LaunchOrder {
        definition,
        launch_type: input.launch_type,
        group: input.group,
        started_by: input.started_by,
        overrides: json!({"containerOverrides": []}),
        tags: Vec::new(),
    };
    let (mut keys, mut failures) = (Vec::new(), Vec::<Value>::new());
    if input.instances.is_empty() {
        for _ in 0..input.count {
            let started = match order.launch_type {
                LaunchType::Fargate => Ok(world.start_on_fargate(&cluster, &order)),
                LaunchType::Ec2 => world.start_anywhere(&cluster, &order, |_| true),
            };
            match started {
                Ok(key) => keys.push(key),
                Err(refusal) => failures.push(json!({"reason": refusal.reason()})),
            }
        }
    }
    for reference in &input.instances {
        let id = reference.rsplit('/').next().unwrap_or(reference);
        match world.start_on(
            &InstanceKey {
                cluster: cluster.clone(),
                id: id.into(),
            },
            &order,
        ) {
            Ok(key) => keys.push(key),
            Err(refusal) => failures.push(json!({"arn": reference, "reason": refusal.reason()})),
        }
    }
    answer(&json!({"tasks": arns(&world, &keys), "failures": failures}))
}

/// Which tasks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndInput {
    region: Option<String>,
    cluster: String,
    /// ARNs or ids; without them `count` of the running ones are chosen at random, all when that is absent too.
    tasks: Option<Vec<String>>,
    count: Option<usize>,
    /// Of the running ones, only those of this group.
    group: Option<String>,
    reason: Option<String>,
    exit_code: Option<i32>,
}

pub(super) async fn stop(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: EndInput = parse(&body)?;
    let reason = input.reason.clone().unwrap_or_else(|| "Task stopped by user".into());
    end(&simulation, &input, |world, key| {
        world.stop_task(key, StopCode::UserInitiated, &reason).is_some()
    })
}

pub(super) async fn crash(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: EndInput = parse(&body)?;
    let exit_code = input.exit_code.unwrap_or(1);
    end(&simulation, &input, |world, key| {
        world.crash_task(key, exit_code).is_some()
    })
}

fn end(simulation: &Simulation, input: &EndInput, act: impl Fn(&mut World, &TaskKey) -> bool) -> Answer {
    let mut world = simulation.world();
    let mut keys = chosen(&mut world, input)?;
    keys.retain(|key| act(&mut world, key));
    answer(&json!({"tasks": arns(&world, &keys)}))
}

fn chosen(world: &mut World, input: &EndInput) -> Result<Vec<TaskKey>, ControlError> {
    let cluster_key = cluster_key(world, input.region.as_deref(), &input.cluster)?;
    let key = |id: &str| TaskKey {
        cluster: cluster_key.clone(),
        id: id.rsplit('/').next().unwrap_or(id).into(),
    };
    if let Some(references) = &input.tasks {
        return Ok(references.iter().map(|reference| key(reference)).collect());
    }
    let tasks = world
        .cluster(&cluster_key)
        .into_iter()
        .flat_map(|cluster| cluster.tasks.values());
    let running = tasks.map(|task| task.current()).filter(|task| task.is_running());
    let of_group = running.filter(|task| input.group.as_ref().is_none_or(|wanted| task.group == *wanted));
    let mut keys: Vec<TaskKey> = of_group.map(|task| key(&task.id)).collect();
    if let Some(count) = input.count {
        keys.shuffle(&mut world.random);
        keys.truncate(count);
    }
    Ok(keys)
}

fn arns(world: &World, keys: &[TaskKey]) -> Vec<String> {
    keys.iter()
        .filter_map(|key| world.task(key))
        .map(|task| task.arn.to_string())
        .collect()
}
