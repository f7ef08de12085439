//! The shown document: one form's fields, and those that only the other form ever carries.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::normalise::{Document, UnreadableDocument, normalise, rewrite_times};

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
/// Where containers stand, and what tells one from another.
const CONTAINERS: &str = "containers";
const CONTAINER_ARN: &str = "containerArn";

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

/// Of a Describe answer as received what [`event_with_describe`] looks at, brought to the API's shape: the rest, which is most of it, is passed over.
pub(super) fn lending(received: &[u8]) -> Result<Document, UnreadableDocument> {
    match serde_json::from_slice::<Lending>(received) {
        Ok(Lending(mut lending)) => {
            rewrite_times(&mut lending);
            Ok(lending)
        }
        // Not as ECS writes it, or not to be read at all.
        Err(_) => normalise(received),
    }
}

struct Lending(Document);

struct LendingContainer(Document);

/// A name in a JSON object, as it stands there where it can.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Lending {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lending, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Lending;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a Describe answer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Lending, A::Error> {
                let mut lending = Document::new();
                while let Some(Name(name)) = members.next_key()? {
                    if name == CONTAINERS {
                        let containers: Vec<LendingContainer> = members.next_value()?;
                        let containers = containers.into_iter().map(|LendingContainer(one)| Value::Object(one));
                        lending.insert(name.into_owned(), containers.collect());
                    } else {
                        keep(name, &ONLY_DESCRIBE_KNOWS, &mut members, &mut lending)?;
                    }
                }
                Ok(Lending(lending))
            }
        }
        deserializer.deserialize_map(Whole)
    }
}

impl<'de> Deserialize<'de> for LendingContainer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LendingContainer, D::Error> {
        struct OfContainer;
        impl<'de> Visitor<'de> for OfContainer {
            type Value = LendingContainer;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a container")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<LendingContainer, A::Error> {
                let mut lending = Document::new();
                let [health, agents] = ONLY_DESCRIBE_KNOWS_OF_CONTAINERS;
                while let Some(Name(name)) = members.next_key()? {
                    keep(name, &[health, agents, CONTAINER_ARN], &mut members, &mut lending)?;
                }
                Ok(LendingContainer(lending))
            }
        }
        deserializer.deserialize_map(OfContainer)
    }
}

/// Takes over a member that is wanted.
fn keep<'de, A: MapAccess<'de>>(
    name: Cow<'_, str>,
    wanted: &[&str],
    members: &mut A,
    lending: &mut Document,
) -> Result<(), A::Error> {
    if wanted.contains(&&*name) {
        lending.insert(name.into_owned(), members.next_value()?);
    } else {
        members.next_value::<IgnoredAny>()?;
    }
    Ok(())
}

fn add_missing(to: &mut Document, from: &Document, names: &[&str]) {
    for name in names {
        if let (false, Some(value)) = (to.contains_key(*name), from.get(*name)) {
            to.insert((*name).to_owned(), value.clone());
        }
    }
}

fn containers(document: &Document) -> impl Iterator<Item = &Document> {
    let listed = document.get(CONTAINERS).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_object)
}

fn containers_mut(document: &mut Document) -> impl Iterator<Item = &mut Document> {
    let listed = document.get_mut(CONTAINERS).and_then(Value::as_array_mut);
    listed.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn arn_of(container: &Document) -> Option<&str> {
    container.get(CONTAINER_ARN).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is picked out of a Describe answer gives an event the same as all of it, in whatever form it comes; what cannot be read is refused alike.
    #[test]
    fn what_is_picked_out_is_what_is_looked_at() {
        let event = r#"{"healthStatus":"HEALTHY","containers":[{"containerArn":"a"},{"containerArn":"b","healthStatus":"UNKNOWN"},{}]}"#;
        let event = normalise(event.as_bytes()).expect("an event");
        for describe in [
            r#"{"tags":[{"key":"k","value":"v"}],"healthStatus":"UNKNOWN","gpuDevices":null,"createdAt":1747055526,"version":3}"#,
            r#"{"containers":[{"containerArn":"b","managedAgents":[{"lastStartedAt":1747055526.5,"name":"e"}],"image":"i"},
                {"managedAgents":[]},{"containerArn":"a","healthStatus":"HEALTHY","networkInterfaces":[{"x":[{}]}]}]}"#,
            r#"{"healthStatus":{"overallStatus":"OK","details":[{"lastUpdated":1747055526}]},"tags":[],"tags":[1]}"#,
            r#"{"cont\u0061iners":[{"container\u0041rn":"a","health\u0053tatus":"\u00fcber"}],"platformFamily":"Linux"}"#,
            r#"{"containers":null,"tags":["kept"]}"#,
            r#"{"containers":[null,{"containerArn":"a","healthStatus":"HEALTHY"}]}"#,
            "{}",
        ] {
            let whole = normalise(describe.as_bytes()).expect("a Describe answer");
            let picked = lending(describe.as_bytes()).expect("a Describe answer");
            assert_eq!(
                event_with_describe(event.clone(), &picked),
                event_with_describe(event.clone(), &whole),
                "{describe}"
            );
        }
        for unreadable in ["[]", r#"{"tags":"#, "", r#"{"a":1}x"#] {
            assert_eq!(
                lending(unreadable.as_bytes()),
                normalise(unreadable.as_bytes()),
                "{unreadable}"
            );
        }
    }
}
