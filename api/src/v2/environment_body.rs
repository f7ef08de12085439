//! The body of `PUT /v2/environments/{name}`.

use std::collections::BTreeMap;

use blox_store::proto::DrainPolicy;
use serde::Deserialize;
use serde_json::Value;

use crate::ENVIRONMENT_ATTRIBUTES_MAX;
use crate::problem::{Problem, ProblemKind};
use crate::query::suggestion;

/// Its keys.
const KEYS: [&str; 6] = [
    "cluster",
    "task_definition",
    "source",
    "attributes",
    "max_unavailable",
    "drain",
];

/// What an environment should be. A PUT says all of it: what is left out has its default.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct EnvironmentBody {
    /// Name or ARN.
    pub(super) cluster: String,
    /// Family, `family:revision` or ARN.
    pub(super) task_definition: String,
    /// Only needed where the cluster's name exists in more than one source.
    #[serde(default)]
    pub(super) source: Option<String>,
    /// Instances must have every one; an empty value: whatever value.
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
    /// Instances that may be without their daemon at once during a roll-out, 1 or more.
    #[serde(default = "one")]
    pub(super) max_unavailable: u32,
    /// When a DRAINING instance's daemon stops.
    #[serde(default)]
    pub(super) drain: Drain,
}

/// As users write it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Drain {
    #[default]
    Last,
    First,
    Never,
}

impl Drain {
    pub(super) fn policy(self) -> DrainPolicy {
        match self {
            Drain::Last => DrainPolicy::Last,
            Drain::First => DrainPolicy::First,
            Drain::Never => DrainPolicy::Never,
        }
    }
}

fn one() -> u32 {
    1
}

impl EnvironmentBody {
    /// Reads it; unknown keys are refused with a suggestion.
    pub(super) fn parse(body: &[u8]) -> Result<EnvironmentBody, Problem> {
        let value: Value =
            serde_json::from_slice(body).map_err(|error| wrong(format!("The body is not JSON: {error}.")))?;
        let Value::Object(object) = &value else {
            return Err(wrong("The body is not a JSON object.".to_owned()));
        };
        if let Some(unknown) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let hint = match suggestion(unknown, &KEYS) {
                Some(meant) => format!("Did you mean '{meant}'?"),
                None => format!("Known are: {}.", KEYS.join(", ")),
            };
            return Err(wrong(format!("The key '{unknown}' is not known here. {hint}")).with("key", unknown.as_str()));
        }
        // From the text again: its errors say where, those of a value do not.
        let parsed: EnvironmentBody =
            serde_json::from_slice(body).map_err(|error| wrong(format!("The body is not an environment: {error}.")))?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), Problem> {
        if self.cluster.is_empty() || self.task_definition.is_empty() {
            return Err(wrong("'cluster' and 'task_definition' must not be empty.".to_owned()));
        }
        if self.max_unavailable == 0 {
            return Err(wrong("'max_unavailable' must be 1 or more.".to_owned()));
        }
        if self.attributes.len() > ENVIRONMENT_ATTRIBUTES_MAX {
            return Err(wrong(format!(
                "There are more than {ENVIRONMENT_ATTRIBUTES_MAX} attributes."
            )));
        }
        if self.attributes.contains_key("") {
            return Err(wrong("An attribute's name must not be empty.".to_owned()));
        }
        Ok(())
    }
}

fn wrong(detail: String) -> Problem {
    Problem::new(ProblemKind::InvalidBody, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(body: &str) -> String {
        EnvironmentBody::parse(body.as_bytes())
            .expect_err("it is wrong")
            .detail()
            .to_owned()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let parsed = EnvironmentBody::parse(br#"{"cluster":"a","task_definition":"t"}"#).expect("it is whole");
        assert_eq!(parsed.max_unavailable, 1);
        assert_eq!(parsed.drain, Drain::Last);
        assert!(parsed.attributes.is_empty() && parsed.source.is_none());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(detail("{").starts_with("The body is not JSON"));
        assert_eq!(detail("[]"), "The body is not a JSON object.");
        assert_eq!(
            detail(r#"{"cluster":"a","task_definiton":"t"}"#),
            "The key 'task_definiton' is not known here. Did you mean 'task_definition'?"
        );
        assert!(detail(r#"{"cluster":"a"}"#).contains("missing field `task_definition`"));
        assert!(detail(r#"{"cluster":"a","task_definition":"t","drain":"soon"}"#).contains("unknown variant `soon`"));
        assert!(detail(r#"{"cluster":"a","task_definition":"t","max_unavailable":0}"#).contains("1 or more"));
        assert!(detail(r#"{"cluster":"","task_definition":"t"}"#).contains("must not be empty"));
        assert_eq!(
            detail("{\"cluster\":\"a\",\n\"task_definition\":7}"),
            "The body is not an environment: invalid type: integer `7`, expected a string at line 2 column 19."
        );
        assert!(detail(r#"{"cluster":"a","cluster":"b","task_definition":"t"}"#).contains("duplicate field `cluster`"));
    }
}
