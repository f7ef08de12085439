//! StartTask and RunTask.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::definitions::find;
use super::request::{check_count, cluster_key, failure, instance_key};
use crate::wire::{AwsError, Call};
use crate::world::{
    CLIENT_TOKENS_KEPT, ClusterKey, Definition, Expression, LaunchOrder, LaunchType, Name, TaskKey, World, api_form,
};

/// Instances of one StartTask, and tasks of one RunTask, at most.
const TASKS_PER_CALL_MAX: usize = 10;
/// Characters of StartTask's `startedBy`, and of RunTask's.
const STARTED_BY_START_TASK_MAX: usize = 36;
const STARTED_BY_RUN_TASK_MAX: usize = 128;
const TAGS_MAX: usize = 50;
const CLIENT_TOKEN_MAX: usize = 64;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LaunchInput {
    cluster: Option<String>,
    container_instances: Vec<String>,
    task_definition: String,
    group: Option<String>,
    started_by: Option<String>,
    overrides: Value,
    tags: Vec<Value>,
    count: Option<usize>,
    launch_type: Option<String>,
    client_token: Option<String>,
    placement_constraints: Vec<ConstraintInput>,
}

#[derive(Deserialize)]
struct ConstraintInput {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    expression: String,
}

impl LaunchInput {
    fn order(&self, definition: Arc<Definition>, started_by_max: usize) -> Result<LaunchOrder, AwsError> {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "-_/".contains(character);
        if let Some(started_by) = &self.started_by
            && (started_by.len() > started_by_max || !started_by.chars().all(allowed))
        {
            let message =
                format!("startedBy must be at most {started_by_max} letters, digits, hyphens, underscores or slashes.");
            return Err(AwsError::invalid_parameter(message));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(AwsError::invalid_parameter("Tags can not be more than 50."));
        }
        let launch_type = match self.launch_type.as_deref() {
            None | Some("EC2") => LaunchType::Ec2,
            Some("FARGATE") => LaunchType::Fargate,
            Some(_) => return Err(AwsError::invalid_parameter("Unrecognized launch type.")),
        };
        let overrides = if self.overrides.is_null() {
            default_overrides(&definition)
        } else {
            self.overrides.clone()
        };
        Ok(LaunchOrder {
            definition,
            launch_type,
            group: self.group.clone(),
            started_by: self.started_by.clone(),
            overrides,
            tags: self.tags.clone(),
        })
    }
}

/// ECS names every container in `overrides`, changed or not.
fn default_overrides(definition: &Definition) -> Value {
    let containers: Vec<Value> = definition
        .containers
        .iter()
        .map(|one| json!({"name": one.name}))
        .collect();
    json!({"containerOverrides": containers})
}

pub(super) fn start(world: &mut World, call: &Call) -> Answer {
    let input: LaunchInput = call.input()?;
    let cluster = cluster_key(world, call, input.cluster.as_deref())?;
    check_count(
        "Container instances",
        input.container_instances.len(),
        TASKS_PER_CALL_MAX,
    )?;
    let definition = launchable(world, &call.region, &input.task_definition)?;
    let mut order = input.order(definition, STARTED_BY_START_TASK_MAX)?;
    order.launch_type = LaunchType::Ec2;
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for reference in &input.container_instances {
        match world.start_on(&instance_key(&cluster, reference), &order) {
            Ok(task) => tasks.push(task),
            Err(refusal) => {
                failures.push(failure(
                    world,
                    &cluster,
                    "container-instance",
                    reference,
                    refusal.reason(),
                ));
            }
        }
    }
    Ok(answer(world, &tasks, &failures))
}

pub(super) fn run(world: &mut World, call: &Call) -> Answer {
    let input: LaunchInput = call.input()?;
    let cluster = cluster_key(world, call, input.cluster.as_deref())?;
    let count = input.count.unwrap_or(1);
    check_count("Tasks", count, TASKS_PER_CALL_MAX)?;
    let definition = launchable(world, &call.region, &input.task_definition)?;
    let order = input.order(definition, STARTED_BY_RUN_TASK_MAX)?;
    if let Some(tasks) = remembered(world, call, input.client_token.as_deref())? {
        return Ok(answer(world, &tasks, &[]));
    }
    let (tasks, failures) = run_tasks(world, &cluster, &order, count, &input.placement_constraints)?;
    if let (Some(token), false) = (input.client_token, tasks.is_empty()) {
        let request = String::from_utf8_lossy(call.body).into_owned();
        let tokens = &mut world.open_region(&call.region).client_tokens;
        if tokens.len() >= CLIENT_TOKENS_KEPT {
            tokens.pop_first();
        }
        tokens.insert(token, (request, tasks.clone()));
    }
    Ok(answer(world, &tasks, &failures))
}

fn run_tasks(
    world: &mut World,
    cluster: &ClusterKey,
    order: &LaunchOrder,
    count: usize,
    constraints: &[ConstraintInput],
) -> Result<(Vec<TaskKey>, Vec<Value>), AwsError> {
    let mut expressions = Vec::new();
    for constraint in constraints.iter().filter(|constraint| constraint.kind == "memberOf") {
        let invalid = || AwsError::invalid_parameter("Invalid expression in placementConstraints.");
        expressions.push(Expression::parse(&constraint.expression).ok_or_else(invalid)?);
    }
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for _ in 0..count {
        if order.launch_type == LaunchType::Fargate {
            tasks.push(world.start_on_fargate(cluster, order));
            continue;
        }
        match world.start_anywhere(cluster, order, |one| {
            expressions.iter().all(|wanted| wanted.matches(one))
        }) {
            Ok(task) => tasks.push(task),
            Err(refusal) => failures.push(json!({"reason": refusal.reason()})),
        }
    }
    Ok((tasks, failures))
}

/// The tasks of an earlier call with this client token.
fn remembered(world: &World, call: &Call, token: Option<&str>) -> Result<Option<Vec<TaskKey>>, AwsError> {
    let Some(token) = token else { return Ok(None) };
    if token.len() > CLIENT_TOKEN_MAX {
        return Err(AwsError::invalid_parameter(
            "clientToken must be at most 64 characters.",
        ));
    }
    let held = world
        .regions
        .get(&call.region)
        .and_then(|region| region.client_tokens.get(token));
    match held {
        None => Ok(None),
        Some((request, tasks)) if request.as_bytes() == call.body => Ok(Some(tasks.clone())),
        Some(_) => Err(AwsError::new(
            "ConflictException",
            "The client token was used with another request.",
        )),
    }
}

fn launchable(world: &World, region: &Name, reference: &str) -> Result<Arc<Definition>, AwsError> {
    let definition = find(world, region, reference).ok_or_else(|| AwsError::client("TaskDefinition not found."))?;
    if !definition.active {
        return Err(AwsError::client("TaskDefinition is inactive"));
    }
    Ok(definition)
}

fn answer(world: &World, tasks: &[TaskKey], failures: &[Value]) -> Value {
    let shown = tasks
        .iter()
        .filter_map(|key| world.task(key))
        .map(|task| task.document(api_form(true, false)));
    json!({"tasks": shown.collect::<Vec<_>>(), "failures": failures})
}
