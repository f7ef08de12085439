//! What the old contract reads from a request, as leniently as the original did.

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::V1Request;
use super::answers::PlainError;
use crate::reading::Reading;

/// The longest name of an environment, in characters.
const ENVIRONMENT_NAME_LENGTH_MAX: usize = 30;

impl V1Request<'_> {
    /// How fresh the read must be: `X-Blox-Consistency`, because unknown query keys are errors here.
    pub(super) fn reading(&self) -> Result<Reading, PlainError> {
        reading_of(self.headers)
    }
}

fn reading_of(headers: &HeaderMap) -> Result<Reading, PlainError> {
    Reading::from_header(headers).map_err(|given| {
        PlainError::bad_request(format!(
            "Invalid X-Blox-Consistency '{given}': it is 'linearizable' or 'stale'"
        ))
    })
}

/// The body of `POST /v1/environments`, valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CreateEnvironmentBody {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) task_definition: String,
}

impl CreateEnvironmentBody {
    /// Reads the first JSON value of the body. As in the original, what cannot be decoded counts as missing, a value of another type as
    /// empty, field names match in any case, and what follows the value is not looked at. `Err`: the validation's text.
    pub(super) fn parse(body: &[u8]) -> Result<CreateEnvironmentBody, String> {
        let text = String::from_utf8_lossy(body);
        let first = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
        let object = match first {
            Some(Ok(Value::Object(object))) => object,
            _ => Map::new(),
        };
        let group = field(&object, "instanceGroup");
        let name = field(&object, "name").map(text_of);
        let task_definition = field(&object, "taskDefinition").map(text_of);
        let mut failures = Vec::new();
        if group.is_none() {
            failures.push("instanceGroup in body is required");
        }
        match &name {
            None => failures.push("name in body is required"),
            Some(name) if !is_environment_name(name) => {
                failures.push("name in body should match '^[a-zA-Z0-9-_]{1,30}$'");
            }
            Some(_) => {}
        }
        if task_definition.is_none() {
            failures.push("taskDefinition in body is required");
        }
        match (group, name, task_definition) {
            (Some(group), Some(name), Some(task_definition)) if failures.is_empty() => {
                let cluster = group.as_object().and_then(|group| field(group, "cluster")).map(text_of);
                Ok(CreateEnvironmentBody {
                    name,
                    cluster: cluster.unwrap_or_default(),
                    task_definition,
                })
            }
            _ => Err(format!("validation failure list:\n{}", failures.join("\n"))),
        }
    }
}

/// `^[a-zA-Z0-9-_]{1,30}$`.
pub(crate) fn is_environment_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=ENVIRONMENT_NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// `8-4-4-4-12` lower-case hexadecimal digits.
pub(super) fn is_deployment_token(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(hexadecimal))
}

/// A field that is there and not null, its exact name first.
fn field<'value>(object: &'value Map<String, Value>, name: &str) -> Option<&'value Value> {
    let in_any_case = || {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    object.get(name).or_else(in_any_case).filter(|value| !value.is_null())
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_MISSING: &str = "validation failure list:\ninstanceGroup in body is required\nname in body is required\n\
                               taskDefinition in body is required";
    const PATTERN: &str = "validation failure list:\nname in body should match '^[a-zA-Z0-9-_]{1,30}$'";

    #[test]
    fn bodies_are_decoded_as_by_the_original() {
        let parsed = CreateEnvironmentBody::parse(
            br#"{"Name":"e_1-","instancegroup":{"cluster":"a"},"taskDefinition":"","x":1} junk"#,
        );
        let expected = CreateEnvironmentBody {
            name: "e_1-".into(),
            cluster: "a".into(),
            task_definition: "".into(),
        };
        assert_eq!(parsed, Ok(expected));
        let wrong_types = CreateEnvironmentBody::parse(br#"{"name":"e","instanceGroup":7,"taskDefinition":7}"#);
        let expected = CreateEnvironmentBody {
            name: "e".into(),
            cluster: "".into(),
            task_definition: "".into(),
        };
        assert_eq!(wrong_types, Ok(expected));
    }

    #[test]
    fn failures_are_listed_in_order() {
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"\"x\"",
            b"{\"name\":null}",
            b"\xff",
            &b"[".repeat(100_000),
        ] {
            assert_eq!(
                CreateEnvironmentBody::parse(body),
                Err(ALL_MISSING.to_owned()),
                "{:?}",
                body.get(..20)
            );
        }
        let long = "x".repeat(31);
        for name in ["\"\"", "7", "\"a b\"", "\"\u{e9}\"", &format!("\"{long}\"")] {
            let body = format!("{{\"name\":{name},\"instanceGroup\":{{}},\"taskDefinition\":\"t\"}}");
            assert_eq!(
                CreateEnvironmentBody::parse(body.as_bytes()),
                Err(PATTERN.to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn tokens_are_lower_case_uuids() {
        assert!(is_deployment_token("9bf2688c-1ede-4752-ac8a-e3079379c5ac"));
        for wrong in [
            "",
            "9BF2688C-1ede-4752-ac8a-e3079379c5ac",
            "9bf2688c1ede4752ac8ae3079379c5ac",
            "9bf2688c-1ede-4752-ac8a-e3079379c5acx",
        ] {
            assert!(!is_deployment_token(wrong), "{wrong}");
        }
    }
}
