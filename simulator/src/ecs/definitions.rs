//! RegisterTaskDefinition, DeregisterTaskDefinition, DescribeTaskDefinition, ListTaskDefinitions and their families.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::request::{id_of, page};
use crate::wire::{AwsError, Call};
use crate::world::{Definition, Name, World};

pub(super) fn register(world: &mut World, call: &Call) -> Answer {
    let request: Value = call.input()?;
    let definition = world
        .register_definition(&call.region, &request)
        .map_err(|error| AwsError::client(error.to_string()))?;
    Ok(json!({"taskDefinition": definition.document(), "tags": []}))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReferenceInput {
    task_definition: String,
}

pub(super) fn describe(world: &mut World, call: &Call) -> Answer {
    let input: ReferenceInput = call.input()?;
    let definition = find(world, &call.region, &input.task_definition)
        .ok_or_else(|| AwsError::client("Unable to describe task definition."))?;
    Ok(json!({"taskDefinition": definition.document(), "tags": []}))
}

pub(super) fn deregister(world: &mut World, call: &Call) -> Answer {
    let input: ReferenceInput = call.input()?;
    let unknown = || AwsError::client("The specified task definition does not exist.");
    if !input.task_definition.contains(':') {
        return Err(AwsError::client("The revision must be given."));
    }
    let held = find(world, &call.region, &input.task_definition).ok_or_else(unknown)?;
    let definition = Arc::new(held.deactivated());
    let revisions = world
        .open_region(&call.region)
        .definitions
        .get_mut(&held.family)
        .ok_or_else(unknown)?;
    revisions[held.revision as usize - 1] = Arc::clone(&definition);
    Ok(json!({"taskDefinition": definition.document()}))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListInput {
    family_prefix: Option<String>,
    status: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let input: ListInput = call.input()?;
    let active = match input.status.as_deref() {
        None | Some("ACTIVE") => true,
        Some("INACTIVE") => false,
        Some(_) => return Err(AwsError::invalid_parameter("Unrecognized status.")),
    };
    let families = world
        .regions
        .get(&call.region)
        .into_iter()
        .flat_map(|region| &region.definitions);
    let chosen = families.filter(|(family, _)| input.family_prefix.as_ref().is_none_or(|wanted| *family == wanted));
    let revisions = chosen
        .flat_map(|(_, revisions)| revisions)
        .filter(|one| one.active == active);
    // Revision 10 sorts after revision 9.
    let mut items: Vec<(String, Name)> = revisions
        .map(|one| (format!("{}:{:010}", one.family, one.revision), Name::clone(&one.arn)))
        .collect();
    items.sort();
    let items = items.iter().map(|(key, arn)| (key.as_str(), Name::clone(arn)));
    page(
        items,
        input.max_results,
        input.next_token.as_deref(),
        "taskDefinitionArns",
    )
}

pub(super) fn families(world: &mut World, call: &Call) -> Answer {
    let input: ListInput = call.input()?;
    let families = world
        .regions
        .get(&call.region)
        .into_iter()
        .flat_map(|region| region.definitions.keys());
    let prefix = input.family_prefix.unwrap_or_default();
    let items = families
        .filter(|family| family.starts_with(&prefix))
        .map(|family| (family.as_str(), family.as_str().into()));
    page(items, input.max_results, input.next_token.as_deref(), "families")
}

/// `family`, `family:revision` or an ARN; a family alone is its latest active revision.
pub(crate) fn find(world: &World, region: &Name, reference: &str) -> Option<Arc<Definition>> {
    let name = id_of(reference);
    let definitions = &world.regions.get(region)?.definitions;
    match name.split_once(':') {
        Some((family, revision)) => {
            let revision: usize = revision.parse().ok()?;
            definitions.get(family)?.get(revision.checked_sub(1)?).map(Arc::clone)
        }
        None => definitions
            .get(name)?
            .iter()
            .rev()
            .find(|one| one.active)
            .map(Arc::clone),
    }
}
