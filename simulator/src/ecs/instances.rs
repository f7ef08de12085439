//! ListContainerInstances, DescribeContainerInstances, UpdateContainerInstancesState, DeregisterContainerInstance,
//! PutAttributes.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::Answer;
use super::request::{check_count, cluster_key, failure, id_of, instance_key, page};
use crate::wire::{AwsError, Call};
use crate::world::{Departure, Expression, Instance, InstanceStatus, Name, World};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListInput {
    cluster: Option<String>,
    filter: Option<String>,
    status: Option<InstanceStatus>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let input: ListInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    let filter = match input.filter.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            Some(Expression::parse(text).ok_or_else(|| AwsError::invalid_parameter("Invalid filter expression."))?)
        }
    };
    let wanted = |one: &Instance| match input.status {
        Some(status) => one.status == status,
        None => one.status != InstanceStatus::Inactive,
    };
    let seen_ms = world.now_ms().saturating_sub(world.settings.faults.lag.list_ms);
    let cluster = world.cluster(&key).ok_or_else(AwsError::cluster_not_found)?;
    let items = cluster.instances.iter().filter_map(|(id, versioned)| {
        let instance = versioned.as_of(seen_ms)?;
        let chosen = wanted(instance) && filter.as_ref().is_none_or(|filter| filter.matches(instance));
        chosen.then(|| (&**id, Name::clone(&instance.arn)))
    });
    page(
        items,
        input.max_results,
        input.next_token.as_deref(),
        "containerInstanceArns",
    )
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DescribeInput {
    cluster: Option<String>,
    container_instances: Vec<String>,
    include: Vec<String>,
}

pub(super) fn describe(world: &mut World, call: &Call) -> Answer {
    let input: DescribeInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    check_count("Container instances", input.container_instances.len(), 100)?;
    let includes = |what: &str| input.include.iter().any(|included| included == what);
    let form = crate::world::api_form(includes("TAGS"), includes("CONTAINER_INSTANCE_HEALTH"));
    let seen_ms = world.now_ms().saturating_sub(world.settings.faults.lag.describe_ms);
    let cluster = world.cluster(&key).ok_or_else(AwsError::cluster_not_found)?;
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for reference in &input.container_instances {
        match cluster
            .instances
            .get(id_of(reference))
            .and_then(|versioned| versioned.as_of(seen_ms))
        {
            Some(instance) => instances.push(instance.document(form)),
            None => failures.push(failure(world, &key, "container-instance", reference, "MISSING")),
        }
    }
    Ok(json!({"containerInstances": instances, "failures": failures}))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStateInput {
    cluster: Option<String>,
    container_instances: Vec<String>,
    status: String,
}

pub(super) fn update_state(world: &mut World, call: &Call) -> Answer {
    let input: UpdateStateInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    check_count("Container instances", input.container_instances.len(), 10)?;
    let status = match input.status.as_str() {
        "ACTIVE" => InstanceStatus::Active,
        "DRAINING" => InstanceStatus::Draining,
        _ => {
            return Err(AwsError::invalid_parameter(
                "Container instance status should be one of [ACTIVE,DRAINING].",
            ));
        }
    };
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for reference in &input.container_instances {
        let instance = instance_key(&key, reference);
        if world.set_instance_status(&instance, status) {
            instances.extend(
                world
                    .instance(&instance)
                    .map(|one| one.document(crate::world::api_form(false, false))),
            );
        } else {
            let reason = if world.instance(&instance).is_some() {
                "INACTIVE"
            } else {
                "MISSING"
            };
            failures.push(failure(world, &key, "container-instance", reference, reason));
        }
    }
    Ok(json!({"containerInstances": instances, "failures": failures}))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DeregisterInput {
    cluster: Option<String>,
    container_instance: String,
    force: bool,
}

pub(super) fn deregister(world: &mut World, call: &Call) -> Answer {
    let input: DeregisterInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    let instance = instance_key(&key, &input.container_instance);
    if world
        .instance(&instance)
        .is_none_or(|one| one.status == InstanceStatus::Inactive)
    {
        return Err(AwsError::invalid_parameter("Referenced container instance not found."));
    }
    if !input.force && !world.tasks_on(&instance).is_empty() {
        return Err(AwsError::invalid_parameter("Found running tasks on the instance."));
    }
    world.depart(&instance, Departure::Deregister);
    let shown = world
        .instance(&instance)
        .map(|one| one.document(crate::world::api_form(false, false)));
    Ok(json!({"containerInstance": shown}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PutAttributesInput {
    cluster: Option<String>,
    attributes: Vec<AttributeInput>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct AttributeInput {
    name: String,
    value: Option<String>,
    target_id: Option<String>,
}

pub(super) fn put_attributes(world: &mut World, call: &Call) -> Answer {
    let input: PutAttributesInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    check_count("Attributes", input.attributes.len(), 10)?;
    let not_found = || AwsError::new("TargetNotFoundException", "The specified target was not found.");
    for attribute in &input.attributes {
        let instance = instance_key(&key, attribute.target_id.as_deref().unwrap_or_default());
        world.instance(&instance).map(Arc::clone).ok_or_else(not_found)?;
    }
    let mut shown = Vec::new();
    for AttributeInput { name, value, target_id } in input.attributes {
        let instance = instance_key(&key, target_id.as_deref().unwrap_or_default());
        shown.push(json!({"name": name, "value": value, "targetType": "container-instance", "targetId": target_id}));
        world.change_instance(&instance, |one| {
            one.attributes.insert(name, value);
        });
    }
    Ok(json!({"attributes": shown}))
}
