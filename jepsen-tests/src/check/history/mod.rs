//! `history.jsonl`: what clients did and what was done to the cluster, one JSON object a line.
//!
//! `{"process":0,"type":"invoke|ok|fail|info","f":"write","key":"k","value":"v","revision":7,"time":ns}`. On an invoke, `value` is what was
//! asked (of a `cas` `[old, new]`) and `revision` the mod revision that was expected; on an `ok`, `value` is what was answered and `revision`
//! the key's mod revision after it, 0 = absent; after a `delete` a member `deleted_at` has the deletion's own (or `revision`, where that is not 0). What
//! speaks of the whole state (a list, a stale read) has that state's revision as `at`. `fail` is surely without effect; a member `observed` says at which mod revision the key was when it was refused, 0 = absent. After `info` nothing is known, and its process says no more. An operation that is never ended counts as `info`. Lines of anyone whose `process`
//! is a word (`"nemesis"`) are events. Members not named here are kept in `more`, those of both lines together.
//!
//! Lines stand in the order of their times; that order, not the times, is what checkers go by.

mod line;
mod read;

use std::io::Write;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use line::{Line, Phase, Who};
pub use read::HistoryError;

/// A word that occurs often: kept once.
pub type Name = Arc<str>;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered well.
    Ok,
    /// Surely without effect.
    Failed,
    /// Whether it has an effect, and when, is unknown.
    Unknown,
}

/// An operation: its invocation with its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who; one operation at a time.
    pub process: u64,
    /// `read`, `write`, ...
    pub function: Name,
    /// On what; empty where the lines name none.
    pub key: Name,
    /// Who was asked, first.
    pub node: Option<Name>,
    /// The invocation's value.
    pub asked: Value,
    /// The mod revision that it demands; 0: absent.
    pub expected_revision: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's value; null of what has none.
    pub answered: Value,
    /// The answer's revision.
    pub revision: Option<u64>,
    /// Number of the invocation's line, from 1.
    pub called: usize,
    /// Number of the last line, if there is one.
    pub ended: Option<usize>,
    /// When it was called.
    pub began_ns: u64,
    /// When it ended, or was given up.
    pub ended_ns: Option<u64>,
    /// Other members of its lines.
    pub more: Map<String, Value>,
}

impl Operation {
    /// The line by which it had its effect, if it had one: without end where the outcome is unknown.
    pub fn returned(&self) -> usize {
        match self.outcome {
            Outcome::Ok | Outcome::Failed => self.ended.unwrap_or(usize::MAX),
            Outcome::Unknown => usize::MAX,
        }
    }

    /// The revision of the change that it acknowledges, or of the value that it answers; 0 = absent, and of a `delete` that there was nothing.
    pub fn revision_told(&self) -> Option<u64> {
        let told = self.number("deleted_at").or(self.revision);
        told.filter(|_| self.outcome == Outcome::Ok)
    }

    /// A revision that the state had reached when it was answered: its own, or that of the whole state.
    pub fn reached(&self) -> Option<u64> {
        self.revision_told().max(self.number("at"))
    }

    fn number(&self, member: &str) -> Option<u64> {
        self.more.get(member).and_then(Value::as_u64)
    }

    /// Of one that was refused: the mod revision at which its key was then, 0 = absent, where that was told.
    pub fn observed(&self) -> Option<u64> {
        self.number("observed").filter(|_| self.outcome == Outcome::Failed)
    }

    /// It says what was there at some time between its invocation and its end.
    pub fn is_answer(&self) -> bool {
        self.outcome == Outcome::Ok || self.observed().is_some()
    }

    /// It was over before the other began.
    pub fn precedes(&self, other: &Operation) -> bool {
        self.returned() < other.called
    }

    /// It is of this function and answered well.
    pub fn succeeded(&self, function: &str) -> bool {
        self.outcome == Outcome::Ok && *self.function == *function
    }

    /// For people: `line 7: process 3 write k "v" -> ok at revision 9 on line 12`.
    pub fn told(&self) -> String {
        let mut told = format!(
            "line {}: process {} {} {}",
            self.called, self.process, self.function, self.key
        );
        if !self.asked.is_null() {
            told += &format!(" {}", shortened(&self.asked));
        }
        if let Some(expected) = self.expected_revision {
            told += &format!(" if at revision {expected}");
        }
        let Some(ended) = self.ended else {
            return told + " -> never ended";
        };
        told += match self.outcome {
            Outcome::Ok => " -> ok",
            Outcome::Failed => " -> fail",
            Outcome::Unknown => " -> unknown",
        };
        if self.outcome == Outcome::Ok && self.answered != self.asked {
            told += &format!(" {}", shortened(&self.answered));
        }
        if let Some(revision) = self.number("deleted_at").or(self.revision) {
            told += &format!(" at revision {revision}");
        }
        if let Some(revision) = self.observed() {
            told += &format!(", the key was at revision {revision}");
        }
        told + &format!(" on line {ended}")
    }
}

/// Characters of a value that are told.
const TOLD_MAX: usize = 60;

/// A value for people: long ones show both ends.
pub fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let count = text.chars().count();
    if count <= TOLD_MAX {
        return text;
    }
    let half = TOLD_MAX / 2;
    let (head, tail): (String, String) = (
        text.chars().take(half).collect(),
        text.chars().skip(count - half).collect(),
    );
    format!("{head}...{tail}")
}

/// Something that is not an operation of a client: what was done to the cluster, as a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Number of its line.
    pub line: usize,
    /// `nemesis`.
    pub actor: Name,
    /// As it stands there.
    pub phase: Phase,
    /// What: `kill`.
    pub what: Name,
    /// To whom.
    pub value: Value,
    /// When.
    pub at_ns: u64,
    /// Other members of the line.
    pub more: Map<String, Value>,
}

/// A whole history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order of their invocations.
    pub operations: Vec<Operation>,
    /// In order.
    pub events: Vec<Event>,
}

impl History {
    /// Those operations that are wanted, with all events.
    pub fn only(&self, wanted: impl Fn(&Operation) -> bool) -> History {
        History {
            operations: self.operations.iter().filter(|one| wanted(one)).cloned().collect(),
            events: self.events.clone(),
        }
    }

    /// As lines again, each at its place; members besides the known ones stand on an operation's last line.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut lines: Vec<(usize, Line)> = Vec::new();
        for operation in &self.operations {
            lines.push((operation.called, Line::invocation(operation)));
            if let Some(ended) = operation.ended {
                lines.push((ended, Line::end(operation)));
            }
        }
        lines.extend(self.events.iter().map(|event| (event.line, Line::event(event))));
        lines.sort_by_key(|(number, _)| *number);
        for (_, line) in lines {
            writeln!(out, "{}", line.to_json())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::history;

    /// What is written is read as the same history, events and unknown members too.
    #[test]
    fn a_history_survives_its_file() {
        let text = concat!(
            r#"{"process":0,"type":"invoke","f":"cas","key":"k","value":["a","b"],"revision":7,"time":5,"node":"n1","token":"t"}"#,
            "\n\n",
            r#"{"process":"nemesis","type":"info","f":"kill","value":"n1","time":6,"effect":"gone"}"#,
            "\n",
            r#"{"process":1,"type":"invoke","f":"read","key":"k","time":6}"#,
            "\n",
            r#"{"process":0,"type":"info","f":"cas","key":"k","value":["a","b"],"time":8,"errors":["lost"]}"#,
            "\n",
            r#"{"process":1,"type":"ok","f":"read","key":"k","value":"b","revision":9,"time":9}"#,
        );
        let first = History::parse(text).expect("readable");
        assert_eq!((first.operations.len(), first.events.len()), (2, 1));
        let cas = &first.operations[0];
        assert_eq!(
            (cas.expected_revision, cas.revision, cas.returned()),
            (Some(7), None, usize::MAX)
        );
        assert_eq!((cas.more["token"].as_str(), cas.ended_ns), (Some("t"), Some(8)));
        assert_eq!(first.events[0].more["effect"], "gone");
        let mut written = Vec::new();
        first.write(&mut written).expect("memory does not fail");
        let again = History::parse(std::str::from_utf8(&written).expect("text")).expect("readable");
        assert_eq!(again.operations.len(), 2);
        let mut rewritten = Vec::new();
        again.write(&mut rewritten).expect("memory does not fail");
        assert_eq!(written, rewritten);
    }

    /// The order of lines is the order of time; what has no known end ends never.
    #[test]
    fn precedence() {
        let history = history(
            "0 invoke write k a\n0 ok write k a @1\n1 invoke write k b\n2 invoke read k -\n1 info write k b\n2 ok read k a @1",
        );
        let [first, unknown, read] = &history.operations[..] else {
            panic!("{history:?}")
        };
        assert!(first.precedes(unknown) && first.precedes(read));
        assert!(!unknown.precedes(read) && !read.precedes(unknown));
        assert_eq!(
            first.told(),
            r#"line 1: process 0 write k "a" -> ok at revision 1 on line 2"#
        );
        assert_eq!(unknown.told(), r#"line 3: process 1 write k "b" -> unknown on line 5"#);
        assert_eq!(
            read.told(),
            r#"line 4: process 2 read k -> ok "a" at revision 1 on line 6"#
        );
    }
}
