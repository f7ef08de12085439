//! Every operation, recorded when it begins and when it ends: as lines of `history.jsonl` for outside checkers, and in memory for the verdict.
//!
//! A line is `{"process":0,"type":"invoke|ok|fail|info","f":"write|read|query","key":"k","value":"v","revision":7,"time":ns}`, with the node and
//! the number of attempts besides. `fail`: surely without effect; `info`: the outcome is unknown, and its process says no more. What is done to
//! the cluster has `"process":"nemesis"`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::readiness::Refusal;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Puts a key that nobody else writes.
    Write,
    /// Reads a key that was acknowledged, linearizably.
    Read,
    /// Lists tasks or instances.
    Query,
}

impl Kind {
    /// As it stands in the history.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Write => "write",
            Kind::Read => "read",
            Kind::Query => "query",
        }
    }
}

/// How it ended, after its second attempt where it took two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered well.
    Ok,
    /// Surely without effect.
    Failed,
    /// A write whose answer was lost.
    Unknown,
}

/// An operation from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it was.
    pub kind: Kind,
    /// Position of the node that was asked first.
    pub node: usize,
    /// When it began.
    pub began_ns: u64,
    /// When its last attempt was over.
    pub ended_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Nodes asked.
    pub attempts: u8,
    /// Of the key, or of the list.
    pub revision: u64,
}

/// An operation under way.
#[derive(Debug)]
pub struct Ticket {
    kind: Kind,
    node: usize,
    process: u64,
    key: String,
    began_ns: u64,
}

/// What is said of its end.
#[derive(Clone, Debug)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// Nodes asked.
    pub attempts: u8,
    /// The node that was asked last.
    pub node: usize,
    /// Of the key, or of the list.
    pub revision: u64,
    /// What was written or read.
    pub value: Option<String>,
    /// What each attempt that was not answered well was answered.
    pub errors: Vec<String>,
}

/// Where everything is recorded. Cheap to call from many tasks.
pub struct Recorder {
    clock: Clock,
    nodes: Vec<String>,
    inner: Mutex<Inner>,
}

struct Inner {
    file: BufWriter<File>,
    /// The first failure to write the file.
    failed: Option<std::io::Error>,
    /// Processes that have nothing under way.
    idle: Vec<u64>,
    next_process: u64,
    operations: Vec<Operation>,
    refusals: Vec<Refusal>,
    stale: Vec<(u64, String)>,
    failures: Vec<(u64, String)>,
}

impl Recorder {
    /// Writes to a new file.
    pub fn create(path: &Path, clock: Clock, nodes: Vec<String>) -> std::io::Result<Recorder> {
        Ok(Recorder {
            clock,
            nodes,
            inner: Mutex::new(Inner {
                file: BufWriter::new(File::create(path)?),
                failed: None,
                idle: Vec::new(),
                next_process: 0,
                operations: Vec::new(),
                refusals: Vec::new(),
                stale: Vec::new(),
                failures: Vec::new(),
            }),
        })
    }

    /// The time that its lines carry.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// An operation begins at a node.
    pub fn begin(&self, kind: Kind, node: usize, key: &str, value: Option<&str>) -> Ticket {
        let mut inner = self.lock();
        let process = inner.idle.pop().unwrap_or_else(|| {
            inner.next_process += 1;
            inner.next_process - 1
        });
        // Under the lock: lines stand in the order of their times.
        let began_ns = self.clock.now_ns();
        let line = json!({"process": process, "type": "invoke", "f": kind.word(), "key": key, "value": value, "time": began_ns, "node": self.nodes[node]});
        inner.write(&line);
        Ticket {
            kind,
            node,
            process,
            key: key.to_owned(),
            began_ns,
        }
    }

    /// It has ended; when.
    pub fn end(&self, ticket: Ticket, end: &End) -> u64 {
        let mut inner = self.lock();
        let ended_ns = self.clock.now_ns();
        let kind = match end.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "fail",
            Outcome::Unknown => "info",
        };
        let mut line = json!({"process": ticket.process, "type": kind, "f": ticket.kind.word(), "key": ticket.key, "value": end.value, "time": ended_ns,
            "node": self.nodes[end.node], "attempts": end.attempts});
        if end.outcome == Outcome::Ok {
            line["revision"] = json!(end.revision);
        }
        if !end.errors.is_empty() {
            line["errors"] = json!(end.errors);
        }
        inner.write(&line);
        if end.outcome != Outcome::Ok {
            inner.failures.push((
                ticket.began_ns,
                format!(
                    "{} of {}: {}",
                    ticket.kind.word(),
                    ticket.key,
                    end.errors.join(", then ")
                ),
            ));
        }
        if end.outcome != Outcome::Unknown {
            inner.idle.push(ticket.process);
        }
        inner.operations.push(Operation {
            kind: ticket.kind,
            node: ticket.node,
            began_ns: ticket.began_ns,
            ended_ns,
            outcome: end.outcome,
            attempts: end.attempts,
            revision: end.revision,
        });
        ended_ns
    }

    /// Something was done to the cluster; when.
    pub fn nemesis(&self, what: &str, value: &str) -> u64 {
        let mut inner = self.lock();
        let time = self.clock.now_ns();
        inner.write(&json!({"process": "nemesis", "type": "info", "f": what, "value": value, "time": time}));
        time
    }

    /// A node answered 5xx.
    pub fn refused(&self, refusal: Refusal) {
        self.lock().refusals.push(refusal);
    }

    /// A read did not show what had been acknowledged before it began.
    pub fn stale(&self, sentence: String) {
        let mut inner = self.lock();
        let time = self.clock.now_ns();
        inner.write(&json!({"process": "checker", "type": "info", "f": "stale", "value": sentence, "time": time}));
        inner.stale.push((time, sentence));
    }

    /// Operations that began at or after a time.
    pub fn operations_since(&self, began_ns: u64) -> Vec<Operation> {
        let inner = self.lock();
        inner
            .operations
            .iter()
            .filter(|one| one.began_ns >= began_ns)
            .copied()
            .collect()
    }

    /// 5xx answers to attempts that began at or after a time.
    pub fn refusals_since(&self, began_ns: u64) -> Vec<Refusal> {
        let inner = self.lock();
        inner
            .refusals
            .iter()
            .filter(|one| one.began_ns >= began_ns)
            .copied()
            .collect()
    }

    /// Stale reads since a time: when, and what.
    pub fn stale_since(&self, began_ns: u64) -> Vec<(u64, String)> {
        let inner = self.lock();
        inner
            .stale
            .iter()
            .filter(|(at_ns, _)| *at_ns >= began_ns)
            .cloned()
            .collect()
    }

    /// The first operation that began between two moments and was answered by no node: what was said.
    pub fn first_failure(&self, from_ns: u64, until_ns: u64) -> Option<String> {
        let inner = self.lock();
        let first = inner
            .failures
            .iter()
            .find(|(began_ns, _)| (from_ns..until_ns).contains(began_ns));
        first.map(|(_, said)| said.clone())
    }

    /// Everything is on its way to the disk, or the first error.
    pub fn flush(&self) -> std::io::Result<()> {
        let mut inner = self.lock();
        match inner.failed.take() {
            Some(error) => Err(error),
            None => inner.file.flush(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, line: &Value) {
        if let Err(error) = writeln!(self.file, "{line}") {
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: Outcome) -> End {
        End {
            outcome,
            attempts: 2,
            node: 1,
            revision: 7,
            value: Some("v".to_owned()),
            errors: Vec::new(),
        }
    }

    /// A process has one operation under way at a time, and one whose outcome is unknown is never heard of again; lines are in order of time.
    #[test]
    fn the_history_is_well_formed() {
        let path = std::env::temp_dir().join(format!("blox-history-{}.jsonl", std::process::id()));
        let recorder = Recorder::create(&path, Clock::start(), vec!["a".to_owned(), "b".to_owned()]).expect("writable");
        let (first, second) = (
            recorder.begin(Kind::Write, 0, "k", Some("v")),
            recorder.begin(Kind::Read, 1, "k", None),
        );
        recorder.end(first, &end(Outcome::Unknown));
        recorder.end(second, &end(Outcome::Ok));
        let third = recorder.begin(Kind::Write, 0, "l", Some("v"));
        let fourth = recorder.begin(Kind::Query, 0, "q", None);
        recorder.end(third, &end(Outcome::Failed));
        recorder.end(fourth, &end(Outcome::Failed));
        recorder.nemesis("kill", "a");
        recorder.flush().expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        std::fs::remove_file(&path).expect("removable");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let shown: Vec<String> = lines
            .iter()
            .map(|line| format!("{} {} {}", line["process"], line["type"], line["revision"]))
            .collect();
        let expected = [
            "0 \"invoke\" null",
            "1 \"invoke\" null",
            "0 \"info\" null",
            "1 \"ok\" 7",
            "1 \"invoke\" null",
            "2 \"invoke\" null",
            "1 \"fail\" null",
            "2 \"fail\" null",
            "\"nemesis\" \"info\" null",
        ];
        assert_eq!(shown, expected);
        assert!(
            lines
                .windows(2)
                .all(|pair| pair[0]["time"].as_u64() <= pair[1]["time"].as_u64()),
            "{text}"
        );
        let recorded = recorder.operations_since(0);
        assert_eq!(recorded.len(), 4);
        assert_eq!(recorded[1].outcome, Outcome::Ok);
    }
}
