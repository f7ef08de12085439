//! The shown document: one form's fields, and those that only the other form ever carries.

use serde_json::Value;

use super::normalise::Document;

/// What only Describe answers carry, of tasks and instances (the Amazon ECS developer guide on events, and its API reference).
const ONLY_DESCRIBE_KNOWS: [&str; 7] = [
    "capacityProviderName",
    "fargateEphemeralStorage",
    "gpuDevices",
    "healthStatus",
    "inferenceAccelerators",
    "platformFamily",
    "tags",
];

/// What only Describe answers carry of a task's containers.
const ONLY_DESCRIBE_KNOWS_OF_CONTAINERS: [&str; 2] = ["healthStatus", "managedAgents"];

/// What only events carry.
const ONLY_EVENTS_KNOW: [&str; 2] = ["accountType", "updatedAt"];

/// An event's document with what only the Describe answer knows.
pub(super) fn event_with_describe(event: Document, describe: &Document) -> Document {
    let mut shown = event;
    add_missing(&mut shown, describe, &ONLY_DESCRIBE_KNOWS);
    for container in containers_mut(&mut shown) {
        let same = containers(describe).find(|other| arn_of(other).is_some() && arn_of(other) == arn_of(container));
        if let Some(same) = same {
            add_missing(container, same, &ONLY_DESCRIBE_KNOWS_OF_CONTAINERS);
        }
    }
    shown
}

/// A Describe answer's document with what only the event knows.
pub(super) fn describe_with_event(describe: Document, event: &Document) -> Document {
    let mut shown = describe;
    add_missing(&mut shown, event, &ONLY_EVENTS_KNOW);
    shown
}

/// All that [`event_with_describe`] could take from a Describe answer: the fields by name, those of containers under their ARNs.
pub(super) fn lent_to_events(describe: &Document) -> Document {
    let mut lent = Document::new();
    add_missing(&mut lent, describe, &ONLY_DESCRIBE_KNOWS);
    for container in containers(describe) {
        if let Some(arn) = arn_of(container) {
            let mut of_container = Document::new();
            add_missing(&mut of_container, container, &ONLY_DESCRIBE_KNOWS_OF_CONTAINERS);
            lent.insert(arn.to_owned(), Value::Object(of_container));
        }
    }
    lent
}

fn add_missing(to: &mut Document, from: &Document, names: &[&str]) {
    for name in names {
        if let (false, Some(value)) = (to.contains_key(*name), from.get(*name)) {
            to.insert((*name).to_owned(), value.clone());
        }
    }
}

fn containers(document: &Document) -> impl Iterator<Item = &Document> {
    let listed = document.get("containers").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_object)
}

fn containers_mut(document: &mut Document) -> impl Iterator<Item = &mut Document> {
    let listed = document.get_mut("containers").and_then(Value::as_array_mut);
    listed.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn arn_of(container: &Document) -> Option<&str> {
    container.get("containerArn").and_then(Value::as_str)
}
