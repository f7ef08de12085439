//! One line.

use serde_json::{Map, Value, json};

use super::{Event, Operation, Outcome};

/// What a line says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It begins.
    Invoke,
    /// It was answered well.
    Ok,
    /// It surely had no effect.
    Fail,
    /// Nothing is known of its effect; of events: something happened.
    Info,
}

impl Phase {
    /// As it stands in the file.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Invoke => "invoke",
            Phase::Ok => "ok",
            Phase::Fail => "fail",
            Phase::Info => "info",
        }
    }

    fn parse(word: &str) -> Option<Phase> {
        [Phase::Invoke, Phase::Ok, Phase::Fail, Phase::Info]
            .into_iter()
            .find(|phase| phase.word() == word)
    }
}

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client's.
    Process(u64),
    /// Another's: the nemesis, a checker.
    Actor(String),
}

/// A line, its members apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// `process`.
    pub who: Who,
    /// `type`.
    pub phase: Phase,
    /// `f`.
    pub function: String,
    /// `key`; a number stands for its digits.
    pub key: Option<String>,
    /// `value`.
    pub value: Value,
    /// `revision`.
    pub revision: Option<u64>,
    /// `time`.
    pub at_ns: u64,
    /// `node`.
    pub node: Option<String>,
    /// All others.
    pub more: Map<String, Value>,
}

impl Line {
    /// Takes an object apart; an error says which member is wrong.
    pub fn of(object: Value) -> Result<Line, String> {
        let Value::Object(mut members) = object else {
            return Err(format!("not an object: {object}"));
        };
        let mut take = |name: &str| members.remove(name).unwrap_or_default();
        let who = match take("process") {
            Value::String(actor) => Who::Actor(actor),
            number => Who::Process(number.as_u64().ok_or_else(|| format!("process is {number}"))?),
        };
        let phase = take("type");
        let phase = phase
            .as_str()
            .and_then(Phase::parse)
            .ok_or_else(|| format!("type is {phase}"))?;
        let function = match take("f") {
            Value::String(function) => function,
            other => return Err(format!("f is {other}")),
        };
        let key = match take("key") {
            Value::Null => None,
            Value::String(key) => Some(key),
            Value::Number(key) => Some(key.to_string()),
            other => return Err(format!("key is {other}")),
        };
        let node = match take("node") {
            Value::Null => None,
            Value::String(node) => Some(node),
            other => return Err(format!("node is {other}")),
        };
        let value = take("value");
        let revision = match take("revision") {
            Value::Null => None,
            number => Some(number.as_u64().ok_or_else(|| format!("revision is {number}"))?),
        };
        let time = take("time");
        let at_ns = time.as_u64().ok_or_else(|| format!("time is {time}"))?;
        Ok(Line {
            who,
            phase,
            function,
            key,
            value,
            revision,
            at_ns,
            node,
            more: members,
        })
    }

    /// As an object; what it does not say is left out, but for `value`.
    pub fn to_json(&self) -> Value {
        let mut members = self.more.clone();
        let mut put = |name: &str, value: Value| {
            members.insert(name.to_owned(), value);
        };
        put(
            "process",
            match &self.who {
                Who::Process(number) => json!(number),
                Who::Actor(name) => json!(name),
            },
        );
        put("type", json!(self.phase.word()));
        put("f", json!(self.function));
        put("value", self.value.clone());
        put("time", json!(self.at_ns));
        if let Some(key) = &self.key {
            put("key", json!(key));
        }
        if let Some(revision) = self.revision {
            put("revision", json!(revision));
        }
        if let Some(node) = &self.node {
            put("node", json!(node));
        }
        Value::Object(members)
    }

    pub(super) fn invocation(operation: &Operation) -> Line {
        let more = match operation.ended {
            Some(_) => Map::new(),
            None => operation.more.clone(),
        };
        Line {
            who: Who::Process(operation.process),
            phase: Phase::Invoke,
            function: operation.function.to_string(),
            key: (!operation.key.is_empty()).then(|| operation.key.to_string()),
            value: operation.asked.clone(),
            revision: operation.expected_revision,
            at_ns: operation.began_ns,
            node: operation.node.as_ref().map(ToString::to_string),
            more,
        }
    }

    pub(super) fn end(operation: &Operation) -> Line {
        Line {
            phase: match operation.outcome {
                Outcome::Ok => Phase::Ok,
                Outcome::Failed => Phase::Fail,
                Outcome::Unknown => Phase::Info,
            },
            value: operation.answered.clone(),
            revision: operation.revision,
            at_ns: operation.ended_ns.unwrap_or(operation.began_ns),
            more: operation.more.clone(),
            ..Line::invocation(operation)
        }
    }

    pub(super) fn event(event: &Event) -> Line {
        Line {
            who: Who::Actor(event.actor.to_string()),
            phase: event.phase,
            function: event.what.to_string(),
            key: None,
            value: event.value.clone(),
            revision: None,
            at_ns: event.at_ns,
            node: None,
            more: event.more.clone(),
        }
    }
}
