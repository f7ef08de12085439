//! Brings what ECS sent, by event or by Describe, to one shape: the API's, with the times of events.
//!
//! The two forms differ in few ways, all of them traps: times are epoch seconds in API answers and ISO 8601 in events, and a network
//! interface is `ElasticNetworkInterface` in the one and `eni` in the other. Nothing is ever taken out: what ECS sent stays, unknown fields too.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::timestamps;

/// A JSON object in the API's shape. `serde_json` is built with sorted maps and with numbers as they were written, so equal content is equal bytes.
pub type Document = Map<String, Value>;

/// The attachment type of a network interface in events, and what the API calls it.
const EVENT_NETWORK_INTERFACE: &str = "eni";
const API_NETWORK_INTERFACE: &str = "ElasticNetworkInterface";

/// Times whose names do not end in `At`: the members of an instance's `healthStatus.details`.
const OTHER_TIME_NAMES: [&str; 3] = ["lastUpdated", "lastStatusChange", "lastStatusChangeTimestamp"];

/// Describe writes all three number fields of a resource, an event only that of its type.
const RESOURCE_NUMBER_NAMES: [&str; 3] = ["doubleValue", "integerValue", "longValue"];

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableDocument {
    /// Not JSON.
    #[error("the document is not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("the document is not a JSON object")]
    NotAnObject,
}

/// Reads a document as received, of either form, and brings it to the API's shape.
pub fn normalise(received: &[u8]) -> Result<Document, UnreadableDocument> {
    let value: Value =
        serde_json::from_slice(received).map_err(|error| UnreadableDocument::NotJson(error.to_string()))?;
    let Value::Object(mut document) = value else {
        return Err(UnreadableDocument::NotAnObject);
    };
    rewrite_times(&mut document);
    rename_network_interfaces(&mut document);
    Ok(document)
}

/// Whether what was received is a JSON object, at less cost than reading it.
pub(super) fn is_object(received: &[u8]) -> bool {
    received.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(received).is_ok()
}

/// The bytes of a document: compact, keys sorted.
pub fn to_bytes(document: &Document) -> Vec<u8> {
    serde_json::to_vec(document).expect("a JSON object with text keys can always be written")
}

/// Whether two documents say the same. Describe writes empty lists and zero amounts that events leave out, and trailing zeros of times may
/// differ: neither is a difference.
pub fn same_meaning(left: &Document, right: &Document) -> bool {
    let covered = |one: &Document, other: &Document| {
        one.iter().all(|(name, value)| match other.get(name) {
            Some(counterpart) => same_value(name, value, counterpart),
            None => says_nothing(name, value),
        })
    };
    covered(left, right) && covered(right, left)
}

fn same_value(name: &str, left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => same_meaning(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same_value(name, left, right))
        }
        (Value::String(left), Value::String(right)) if left != right && names_a_time(name) => {
            let left = timestamps::milliseconds_from_iso(left);
            left.is_some() && left == timestamps::milliseconds_from_iso(right)
        }
        _ => left == right || (says_nothing(name, left) && says_nothing(name, right)),
    }
}

fn says_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.iter().all(|(name, value)| says_nothing(name, value)),
        Value::Number(number) => RESOURCE_NUMBER_NAMES.contains(&name) && number.as_f64() == Some(0.0),
        Value::Bool(_) => false,
    }
}

fn names_a_time(name: &str) -> bool {
    name.ends_with("At") || OTHER_TIME_NAMES.contains(&name)
}

pub(super) fn rewrite_times(object: &mut Document) {
    for (name, value) in object.iter_mut() {
        match value {
            Value::Number(number) if names_a_time(name) => {
                if let Some(text) = timestamps::iso_from_epoch_seconds(number) {
                    *value = Value::String(text);
                }
            }
            Value::Object(inner) => rewrite_times(inner),
            Value::Array(items) => rewrite_times_of(items),
            _ => {}
        }
    }
}

fn rewrite_times_of(items: &mut [Value]) {
    for item in items {
        match item {
            Value::Object(inner) => rewrite_times(inner),
            Value::Array(inner) => rewrite_times_of(inner),
            _ => {}
        }
    }
}

fn rename_network_interfaces(document: &mut Document) {
    let Some(Value::Array(attachments)) = document.get_mut("attachments") else {
        return;
    };
    for attachment in attachments {
        if let Some(kind) = attachment.get_mut("type")
            && kind == EVENT_NETWORK_INTERFACE
        {
            *kind = Value::from(API_NETWORK_INTERFACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Document {
        normalise(json.as_bytes()).expect("a readable document")
    }

    #[test]
    fn both_forms_of_one_task_become_one_document() {
        let event = read(
            r#"{"attachments":[{"id":"a","type":"eni"}],"createdAt":"2025-05-12T13:11:44.98Z","version":4,"containers":[{"managedAgents":[{"lastStartedAt":"2025-05-12T13:12:06Z"}]}]}"#,
        );
        let described = read(
            r#"{"version":4,"createdAt":1.74705550498E9,"attachments":[{"type":"ElasticNetworkInterface","id":"a"}],"containers":[{"managedAgents":[{"lastStartedAt":1747055526}]}]}"#,
        );
        assert_eq!(to_bytes(&event), to_bytes(&described));
    }

    #[test]
    fn keys_are_sorted_and_numbers_are_kept_as_written() {
        let document = read(r#"{"zeta":1.50,"alpha":{"two":2,"one":12345678901234567890123},"newInstalledAt":"soon"}"#);
        assert_eq!(
            String::from_utf8(to_bytes(&document)).expect("text"),
            r#"{"alpha":{"one":12345678901234567890123,"two":2},"newInstalledAt":"soon","zeta":1.50}"#
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(normalise(b"[]"), Err(UnreadableDocument::NotAnObject));
        assert!(matches!(normalise(b"{\"a\":"), Err(UnreadableDocument::NotJson(_))));
        let deep = "[".repeat(100_000);
        assert!(matches!(
            normalise(deep.as_bytes()),
            Err(UnreadableDocument::NotJson(_))
        ));
    }

    #[test]
    fn emptiness_and_trailing_zeros_are_no_difference() {
        let event = read(
            r#"{"startedAt":"2025-05-12T13:12:06.05Z","overrides":{"containerOverrides":[{"name":"web"}]},"registeredResources":[{"name":"CPU","integerValue":1}]}"#,
        );
        let described = read(
            r#"{"startedAt":"2025-05-12T13:12:06.050Z","tags":[],"attributes":null,"overrides":{"containerOverrides":[{"name":"web"}],"inferenceAcceleratorOverrides":[]},
                "registeredResources":[{"name":"CPU","integerValue":1,"doubleValue":0.0,"longValue":0}]}"#,
        );
        assert!(same_meaning(&event, &described));
    }

    #[test]
    fn real_differences_are_seen() {
        let task = read(r#"{"agentConnected":true,"containers":[{"exitCode":0}]}"#);
        assert!(!same_meaning(
            &task,
            &read(r#"{"agentConnected":false,"containers":[{"exitCode":0}]}"#)
        ));
        assert!(!same_meaning(
            &task,
            &read(r#"{"agentConnected":true,"containers":[{}]}"#)
        ));
        assert!(!same_meaning(
            &task,
            &read(r#"{"agentConnected":true,"containers":[]}"#)
        ));
    }
}
