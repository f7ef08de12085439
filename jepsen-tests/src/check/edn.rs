//! Histories in EDN, so that checkers of others judge them again: Knossos the register of one key, elle-cli (`--model list-append`) lists.

use std::collections::HashMap;
use std::io::Write;

use serde_json::Value;

use super::history::{History, Operation, Outcome};

/// What Knossos sees instead of no value: to it, a read of nil is a read of anything.
const ABSENT: &str = ":absent";

/// Writes the register of one key for Knossos' `cas-register`: an operation a line, first the write that makes the key absent. A delete is a write
/// of absence. A compare-and-set of a revision compares with the value that some answer says the revision has, or is a write where none says it:
/// both are weaker than what was asked, so that Knossos finds no fault where there is none. Failed operations keep their lines.
pub fn register(history: &History, key: &str, out: &mut impl Write) -> std::io::Result<()> {
    let own = |one: &&Operation| *one.key == *key && matches!(&*one.function, "read" | "write" | "cas" | "delete");
    let operations: Vec<&Operation> = history.operations.iter().filter(own).collect();
    let mut values: HashMap<u64, &Value> = HashMap::new();
    for one in operations.iter().filter(|one| one.outcome == Outcome::Ok) {
        if let (Some(revision), Some(value)) = (one.revision.filter(|revision| *revision > 0), left(one)) {
            values.insert(revision, value);
        }
    }
    let first = operations.iter().map(|one| one.process + 1).max().unwrap_or(0);
    let mut lines = Lines::default();
    lines.push(0, first, "invoke", "write", ABSENT.to_owned(), 0);
    lines.push(0, first, "ok", "write", ABSENT.to_owned(), 0);
    for one in operations {
        let (function, asked) = asked(one, &values);
        let answered = match (&*one.function, one.outcome) {
            ("read", Outcome::Ok) => present(&one.answered),
            ("read", _) => "nil".to_owned(),
            _ => asked.clone(),
        };
        lines.push(one.called, one.process, "invoke", function, asked, one.began_ns);
        lines.end(one, function, answered);
    }
    lines.write(out)
}

/// Writes all lists as transactions of one step each: `append` and `read` operations.
pub fn list_append(history: &History, out: &mut impl Write) -> std::io::Result<()> {
    let mut lines = Lines::default();
    for one in history
        .operations
        .iter()
        .filter(|one| matches!(&*one.function, "append" | "read"))
    {
        let key = quoted(&one.key);
        let (asked, answered) = match &*one.function {
            "append" => {
                let step = format!("[[:append {key} {}]]", edn(&one.asked));
                (step.clone(), step)
            }
            _ if one.outcome == Outcome::Ok => (
                format!("[[:r {key} nil]]"),
                format!("[[:r {key} {}]]", edn(&one.answered)),
            ),
            _ => (format!("[[:r {key} nil]]"), format!("[[:r {key} nil]]")),
        };
        lines.push(one.called, one.process, "invoke", "txn", asked, one.began_ns);
        lines.end(one, "txn", answered);
    }
    lines.write(out)
}

/// What is there after it.
fn left(one: &Operation) -> Option<&Value> {
    match (&*one.function, &one.asked) {
        ("read", _) => Some(&one.answered),
        ("cas", Value::Array(pair)) if pair.len() == 2 => Some(&pair[1]),
        ("delete", _) => None,
        (_, asked) => Some(asked),
    }
}

/// Knossos' function and value.
fn asked(one: &Operation, values: &HashMap<u64, &Value>) -> (&'static str, String) {
    let (old, new) = match (&*one.function, &one.asked) {
        ("read", _) => return ("read", "nil".to_owned()),
        ("delete", _) => (None, &Value::Null),
        ("cas", Value::Array(pair)) if pair.len() == 2 => (Some(&pair[0]), &pair[1]),
        (_, asked) => (None, asked),
    };
    let old = match one.expected_revision {
        None => old,
        Some(0) => Some(&Value::Null),
        Some(revision) => old
            .filter(|old| !old.is_null())
            .or_else(|| values.get(&revision).copied()),
    };
    match old {
        Some(old) => ("cas", format!("[{} {}]", present(old), present(new))),
        None => ("write", present(new)),
    }
}

#[derive(Default)]
struct Lines {
    /// Each with its number in the history.
    all: Vec<(usize, String)>,
}

impl Lines {
    fn push(&mut self, number: usize, process: u64, kind: &str, function: &str, value: String, at_ns: u64) {
        let line = format!(":process {process}, :type :{kind}, :f :{function}, :value {value}, :time {at_ns}");
        self.all.push((number, line));
    }

    fn end(&mut self, one: &Operation, function: &str, value: String) {
        let kind = match one.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "fail",
            Outcome::Unknown => "info",
        };
        if let Some(number) = one.ended {
            self.push(
                number,
                one.process,
                kind,
                function,
                value,
                one.ended_ns.unwrap_or(one.began_ns),
            );
        }
    }

    fn write(mut self, out: &mut impl Write) -> std::io::Result<()> {
        self.all.sort_by_key(|(number, _)| *number);
        for (index, (_, line)) in self.all.iter().enumerate() {
            writeln!(out, "{{:index {index}, {line}}}")?;
        }
        Ok(())
    }
}

fn present(value: &Value) -> String {
    if value.is_null() { ABSENT.to_owned() } else { edn(value) }
}

fn edn(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(edn).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| format!("{} {}", quoted(name), edn(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other if other.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::history;

    fn text(written: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
        let mut bytes = Vec::new();
        written(&mut bytes).expect("memory does not fail");
        String::from_utf8(bytes).expect("text")
    }

    /// Exactly what Knossos reads: another key's lines are left out, absence is a value of its own, a revision stands for its value.
    #[test]
    fn a_register_for_knossos() {
        let history = history(
            "0 invoke read k -\n0 ok read k - @0\n1 invoke write k a\n2 invoke write l z\n1 ok write k a @3\n0 invoke cas k [null,\"b\"] @3\n0 ok cas k [null,\"b\"] @4\n\
             1 invoke cas k c @9\n1 fail cas k c\n2 ok write l z @5\n0 invoke delete k -\n1 invoke read k -\n0 info delete k -\n1 ok read k b @4\n2 invoke cas k [\"b\",7]",
        );
        let expected = "\
{:index 0, :process 3, :type :invoke, :f :write, :value :absent, :time 0}
{:index 1, :process 3, :type :ok, :f :write, :value :absent, :time 0}
{:index 2, :process 0, :type :invoke, :f :read, :value nil, :time 1000000}
{:index 3, :process 0, :type :ok, :f :read, :value :absent, :time 2000000}
{:index 4, :process 1, :type :invoke, :f :write, :value \"a\", :time 3000000}
{:index 5, :process 1, :type :ok, :f :write, :value \"a\", :time 5000000}
{:index 6, :process 0, :type :invoke, :f :cas, :value [\"a\" \"b\"], :time 6000000}
{:index 7, :process 0, :type :ok, :f :cas, :value [\"a\" \"b\"], :time 7000000}
{:index 8, :process 1, :type :invoke, :f :write, :value \"c\", :time 8000000}
{:index 9, :process 1, :type :fail, :f :write, :value \"c\", :time 9000000}
{:index 10, :process 0, :type :invoke, :f :write, :value :absent, :time 11000000}
{:index 11, :process 1, :type :invoke, :f :read, :value nil, :time 12000000}
{:index 12, :process 0, :type :info, :f :write, :value :absent, :time 13000000}
{:index 13, :process 1, :type :ok, :f :read, :value \"b\", :time 14000000}
{:index 14, :process 2, :type :invoke, :f :cas, :value [\"b\" 7], :time 15000000}
";
        assert_eq!(text(|out| register(&history, "k", out)), expected);
    }

    /// Exactly what elle-cli reads.
    #[test]
    fn lists_for_elle() {
        let history = history(
            "0 invoke append l 1\n1 invoke read l -\n0 ok append l 1 @3\n1 ok read l [1] @3\n0 invoke append m \"x\\\"y\"\n0 info append m -\n1 invoke read m -\n1 ok read m -\n1 invoke read m -\n1 fail read m -",
        );
        let expected = "\
{:index 0, :process 0, :type :invoke, :f :txn, :value [[:append \"l\" 1]], :time 1000000}
{:index 1, :process 1, :type :invoke, :f :txn, :value [[:r \"l\" nil]], :time 2000000}
{:index 2, :process 0, :type :ok, :f :txn, :value [[:append \"l\" 1]], :time 3000000}
{:index 3, :process 1, :type :ok, :f :txn, :value [[:r \"l\" [1]]], :time 4000000}
{:index 4, :process 0, :type :invoke, :f :txn, :value [[:append \"m\" \"x\\\"y\"]], :time 5000000}
{:index 5, :process 0, :type :info, :f :txn, :value [[:append \"m\" \"x\\\"y\"]], :time 6000000}
{:index 6, :process 1, :type :invoke, :f :txn, :value [[:r \"m\" nil]], :time 7000000}
{:index 7, :process 1, :type :ok, :f :txn, :value [[:r \"m\" nil]], :time 8000000}
{:index 8, :process 1, :type :invoke, :f :txn, :value [[:r \"m\" nil]], :time 9000000}
{:index 9, :process 1, :type :fail, :f :txn, :value [[:r \"m\" nil]], :time 10000000}
";
        assert_eq!(text(|out| list_append(&history, out)), expected);
    }

    /// Every kind of value.
    #[test]
    fn values_in_edn() {
        let value: Value = serde_json::from_str(r#"[null,true,-1.5,"a\\b\n\u0001é",{"k":[]}]"#).expect("JSON");
        assert_eq!(edn(&value), "[nil true -1.5 \"a\\\\b\\n\\u0001é\" {\"k\" []}]");
    }
}
