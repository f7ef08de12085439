//! From lines to operations.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Read};

use serde_json::{Map, Value};

use super::{Event, History, Line, Name, Operation, Outcome, Phase, Who};

/// The longest line, bytes.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// Operations of one history: about 2 GB of memory.
pub const OPERATIONS_MAX: usize = 5_000_000;

/// A history that cannot be read. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file ends in an error.
    #[error("line {line} cannot be read: {source}")]
    Unreadable {
        /// Which.
        line: usize,
        /// Why.
        source: std::io::Error,
    },
    /// It is longer than [`LINE_BYTES_MAX`].
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    TooLong {
        /// Which.
        line: usize,
    },
    /// There are more than [`OPERATIONS_MAX`].
    #[error("line {line} begins more operations than {OPERATIONS_MAX}: check a part of the history")]
    TooMany {
        /// Which.
        line: usize,
    },
    /// It is not JSON, or not a line of a history, or does not fit to the lines before it.
    #[error("line {line}: {why}")]
    Wrong {
        /// Which.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl History {
    /// Reads to the end, a line at a time. Empty lines are passed over.
    pub fn read(mut file: impl BufRead) -> Result<History, HistoryError> {
        let mut pairing = Pairing::default();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let bounded = (&mut file).take(LINE_BYTES_MAX as u64 + 1);
            let count = read_line(bounded, &mut bytes).map_err(|source| HistoryError::Unreadable { line, source })?;
            if count == 0 {
                break;
            }
            if count > LINE_BYTES_MAX {
                return Err(HistoryError::TooLong { line });
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let wrong = |why: String| HistoryError::Wrong { line, why };
            let object: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            if pairing.history.operations.len() >= OPERATIONS_MAX {
                return Err(HistoryError::TooMany { line });
            }
            Line::of(object)
                .and_then(|parsed| pairing.take(line, parsed))
                .map_err(wrong)?;
        }
        Ok(pairing.history)
    }

    /// Of a text.
    pub fn parse(text: &str) -> Result<History, HistoryError> {
        History::read(text.as_bytes())
    }
}

fn read_line(mut bounded: impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    bounded.read_until(b'\n', bytes)
}

#[derive(Default)]
struct Pairing {
    history: History,
    names: HashSet<Name>,
    /// Positions of operations under way, by process.
    open: HashMap<u64, usize>,
    /// Processes whose last outcome is unknown.
    retired: HashSet<u64>,
    last_ns: u64,
}

impl Pairing {
    fn take(&mut self, number: usize, line: Line) -> Result<(), String> {
        if line.at_ns < self.last_ns {
            return Err(format!(
                "its time {} is before that of a line above, {}",
                line.at_ns, self.last_ns
            ));
        }
        self.last_ns = line.at_ns;
        match line.who.clone() {
            Who::Actor(actor) => self.event(number, actor, line),
            Who::Process(process) if line.phase == Phase::Invoke => self.begin(number, process, line)?,
            Who::Process(process) => self.end(number, process, line)?,
        }
        Ok(())
    }

    fn event(&mut self, number: usize, actor: String, line: Line) {
        let event = Event {
            line: number,
            actor: self.name(&actor),
            phase: line.phase,
            what: self.name(&line.function),
            value: line.value,
            at_ns: line.at_ns,
            more: line.more,
        };
        self.history.events.push(event);
    }

    fn begin(&mut self, number: usize, process: u64, line: Line) -> Result<(), String> {
        if let Some(open) = self.open.get(&process) {
            let other = &self.history.operations[*open];
            return Err(format!(
                "process {process} begins {} while its {} of line {} is under way",
                line.function, other.function, other.called
            ));
        }
        if self.retired.contains(&process) {
            return Err(format!(
                "process {process} goes on after an unknown outcome; it must get a new number"
            ));
        }
        let operation = Operation {
            process,
            function: self.name(&line.function),
            key: self.name(line.key.as_deref().unwrap_or_default()),
            node: line.node.map(|node| self.name(&node)),
            asked: line.value,
            expected_revision: line.revision,
            outcome: Outcome::Unknown,
            answered: Value::Null,
            revision: None,
            called: number,
            ended: None,
            began_ns: line.at_ns,
            ended_ns: None,
            more: line.more,
        };
        self.open.insert(process, self.history.operations.len());
        self.history.operations.push(operation);
        Ok(())
    }

    fn end(&mut self, number: usize, process: u64, line: Line) -> Result<(), String> {
        let Some(position) = self.open.remove(&process) else {
            return Err(format!(
                "process {process} ends {} without having begun it",
                line.function
            ));
        };
        let operation = &mut self.history.operations[position];
        let key = line.key.as_deref().unwrap_or(&operation.key);
        if *operation.function != *line.function || *operation.key != *key {
            return Err(format!(
                "process {process} ends {} {key} but began {} {} on line {}",
                line.function, operation.function, operation.key, operation.called
            ));
        }
        operation.outcome = match line.phase {
            Phase::Ok => Outcome::Ok,
            Phase::Fail => Outcome::Failed,
            Phase::Info | Phase::Invoke => Outcome::Unknown,
        };
        if operation.outcome == Outcome::Unknown {
            self.retired.insert(process);
        }
        operation.answered = line.value;
        operation.revision = line.revision;
        operation.ended = Some(number);
        operation.ended_ns = Some(line.at_ns);
        let mut more = std::mem::replace(&mut operation.more, Map::new());
        more.extend(line.more);
        operation.more = more;
        Ok(())
    }

    fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.get(text) {
            return Name::clone(known);
        }
        let name = Name::from(text);
        self.names.insert(Name::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(lines: &[&str]) -> String {
        History::parse(&lines.join("\n"))
            .expect_err("not a history")
            .to_string()
    }

    const INVOKE: &str = r#"{"process":0,"type":"invoke","f":"read","key":"k","time":5}"#;

    /// Every way to be wrong is told with its line.
    #[test]
    fn errors_name_their_line() {
        let ok = INVOKE.replace("invoke", "ok");
        let info = INVOKE.replace("invoke", "info");
        for (lines, expected) in [
            (&[INVOKE, "{"][..], "line 2: EOF"),
            (&["", "[]"], "line 2: not an object"),
            (&[&INVOKE.replace("invoke", "begin")], "line 1: type is \"begin\""),
            (&[&INVOKE.replace(":0", ":-1")], "line 1: process is -1"),
            (&[&INVOKE.replace("\"read\"", "7")], "line 1: f is 7"),
            (&[&INVOKE.replace("\"k\"", "[]")], "line 1: key is []"),
            (&[&INVOKE.replace(":5", ":\"5\"")], "line 1: time is \"5\""),
            (&[&INVOKE.replace(",\"time\":5", "")], "line 1: time is null"),
            (
                &[&INVOKE.replace("\"time\"", "\"revision\":\"x\",\"time\"")],
                "line 1: revision is \"x\"",
            ),
            (
                &[INVOKE, INVOKE],
                "line 2: process 0 begins read while its read of line 1",
            ),
            (&[&ok], "line 1: process 0 ends read without"),
            (
                &[INVOKE, &ok.replace("read", "write")],
                "line 2: process 0 ends write k but began read k on line 1",
            ),
            (
                &[INVOKE, &ok.replace("\"k\"", "\"l\"")],
                "line 2: process 0 ends read l but began read k",
            ),
            (
                &[INVOKE, &info, INVOKE],
                "line 3: process 0 goes on after an unknown outcome",
            ),
            (&[INVOKE, &ok.replace(":5", ":4")], "line 2: its time 4 is before"),
        ] {
            let found = wrong(lines);
            assert!(found.starts_with(expected), "{found}, not {expected}");
        }
    }

    /// A line that never ends is not taken into memory.
    #[test]
    fn lines_are_bounded() {
        let endless = std::io::BufReader::new(std::io::repeat(b' '));
        let error = History::read(endless).expect_err("too long");
        assert!(matches!(error, HistoryError::TooLong { line: 1 }), "{error}");
    }

    /// What `failover` writes is read: lines without a value, of a checker, with attempts and errors.
    #[test]
    fn the_history_of_failover_is_read() {
        let path = std::env::temp_dir().join(format!("blox-check-history-{}.jsonl", std::process::id()));
        let nodes = vec!["a".to_owned(), "b".to_owned()];
        let recorder = crate::history::Recorder::create(&path, crate::clock::Clock::start(), nodes).expect("writable");
        let write = recorder.begin(crate::history::Kind::Write, 0, "k", Some("v"));
        let end = crate::history::End {
            outcome: crate::history::Outcome::Ok,
            attempts: 2,
            node: 1,
            revision: 7,
            value: Some("v".to_owned()),
            errors: vec!["a: 503".to_owned()],
        };
        recorder.end(write, &end);
        let query = recorder.begin(crate::history::Kind::Query, 1, "/v2/tasks", None);
        recorder.nemesis("kill", "a");
        recorder.stale("never".to_owned());
        drop(query);
        recorder.flush().expect("written");
        let file = std::fs::File::open(&path).expect("readable");
        let history = History::read(std::io::BufReader::new(file)).expect("a history");
        std::fs::remove_file(&path).expect("removable");
        let [write, query] = &history.operations[..] else {
            panic!("{history:?}")
        };
        assert_eq!(
            (write.revision, write.outcome, write.node.as_deref()),
            (Some(7), Outcome::Ok, Some("a"))
        );
        assert_eq!((query.ended, query.outcome), (None, Outcome::Unknown));
        let actors: Vec<&str> = history.events.iter().map(|event| &*event.actor).collect();
        assert_eq!(actors, ["nemesis", "checker"]);
    }
}
