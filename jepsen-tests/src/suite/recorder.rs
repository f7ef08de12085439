//! Who writes `history.jsonl` while a run goes on: any kind of operation, as [`crate::check::history`] reads it back.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::check::history::{Line, Phase, Who};
use crate::clock::Clock;

/// A thread of operations: one at a time. After an unknown outcome it goes on under another number.
#[derive(Debug, PartialEq, Eq)]
pub struct Process {
    number: u64,
}

/// What begins.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `read`, `write` and so on.
    pub function: &'static str,
    /// On what.
    pub key: String,
    /// What is asked.
    pub value: Value,
    /// The mod revision that is demanded; 0: absent.
    pub revision: Option<u64>,
    /// Who is asked.
    pub node: String,
    /// Further members of the line.
    pub more: Map<String, Value>,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct End {
    /// `Ok`, `Fail` (surely without effect) or `Info` (unknown).
    pub phase: Phase,
    /// What was answered; of a failure, what was asked.
    pub value: Value,
    /// Of an answer: the key's mod revision afterwards, 0 = absent.
    pub revision: Option<u64>,
    /// Further members of the line.
    pub more: Map<String, Value>,
}

/// Cheap to call from many tasks. Lines stand in the order of their times.
pub struct Recorder {
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    file: BufWriter<File>,
    failed: Option<std::io::Error>,
    next_process: u64,
    tally: Tally,
}

/// What has ended so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered well.
    pub ok: u64,
    /// Surely without effect.
    pub failed: u64,
    /// Of unknown outcome.
    pub unknown: u64,
}

impl Tally {
    /// All that have ended.
    pub fn total(&self) -> u64 {
        self.ok + self.failed + self.unknown
    }
}

impl Recorder {
    /// Writes to a new file.
    pub fn create(path: &Path, clock: Clock) -> std::io::Result<Recorder> {
        Ok(Recorder {
            clock,
            inner: Mutex::new(Inner {
                file: BufWriter::new(File::create(path)?),
                failed: None,
                next_process: 0,
                tally: Tally::default(),
            }),
        })
    }

    /// The time that its lines carry.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A new thread of operations.
    pub fn process(&self) -> Process {
        self.lock().process()
    }

    /// An operation begins; when.
    pub fn invoke(&self, process: &Process, call: &Call) -> u64 {
        let mut inner = self.lock();
        // Under the lock, so that lines stand in the order of their times.
        let at_ns = self.clock.now_ns();
        inner.write(&Line {
            who: Who::Process(process.number),
            phase: Phase::Invoke,
            function: call.function.to_owned(),
            key: (!call.key.is_empty()).then(|| call.key.clone()),
            value: call.value.clone(),
            revision: call.revision,
            at_ns,
            node: (!call.node.is_empty()).then(|| call.node.clone()),
            more: call.more.clone(),
        });
        at_ns
    }

    /// It has ended; when.
    pub fn end(&self, process: &mut Process, call: &Call, end: End) -> u64 {
        let mut inner = self.lock();
        let at_ns = self.clock.now_ns();
        let tally = &mut inner.tally;
        match end.phase {
            Phase::Ok => tally.ok += 1,
            Phase::Fail => tally.failed += 1,
            Phase::Info | Phase::Invoke => tally.unknown += 1,
        }
        let retired = end.phase == Phase::Info;
        inner.write(&Line {
            who: Who::Process(process.number),
            phase: end.phase,
            function: call.function.to_owned(),
            key: (!call.key.is_empty()).then(|| call.key.clone()),
            value: end.value,
            revision: end.revision,
            at_ns,
            node: (!call.node.is_empty()).then(|| call.node.clone()),
            more: end.more,
        });
        if retired {
            *process = inner.process();
        }
        at_ns
    }

    /// Something that is no operation of a client: a phase of the run; when.
    pub fn event(&self, actor: &str, what: &str, value: Value) -> u64 {
        self.event_of(actor, Phase::Info, what, value, Map::new())
    }

    /// The same with a phase of its own and further members: a fault, as [`crate::check::faults`] reads it.
    pub fn event_of(&self, actor: &str, phase: Phase, what: &str, value: Value, more: Map<String, Value>) -> u64 {
        let mut inner = self.lock();
        let at_ns = self.clock.now_ns();
        inner.write(&Line {
            who: Who::Actor(actor.to_owned()),
            phase,
            function: what.to_owned(),
            key: None,
            value,
            revision: None,
            at_ns,
            node: None,
            more,
        });
        at_ns
    }

    /// How many operations have ended, and how.
    pub fn tally(&self) -> Tally {
        self.lock().tally
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
    fn process(&mut self) -> Process {
        self.next_process += 1;
        Process {
            number: self.next_process - 1,
        }
    }

    fn write(&mut self, line: &Line) {
        if let Err(error) = writeln!(self.file, "{}", line.to_json()) {
            self.failed.get_or_insert(error);
        }
    }
}

impl End {
    /// Answered well, about the whole state at a revision: what has no mod revision of one key.
    pub fn of_state(value: Value, at: u64) -> End {
        let mut end = End::ok(value, None);
        end.more.insert("at".to_owned(), Value::from(at));
        end
    }

    /// Answered well.
    pub fn ok(value: Value, revision: Option<u64>) -> End {
        End {
            phase: Phase::Ok,
            value,
            revision,
            more: Map::new(),
        }
    }

    /// Surely without effect, or unknown: with what was said.
    pub fn not_ok(phase: Phase, call: &Call, why: String) -> End {
        let mut more = Map::new();
        more.insert("error".to_owned(), Value::String(why));
        End {
            phase,
            value: call.value.clone(),
            revision: None,
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::history::{History, Outcome};

    /// What is recorded is a history: one operation at a time for a process, and none after an unknown outcome.
    #[test]
    fn what_is_recorded_can_be_read() {
        let path = std::env::temp_dir().join(format!("blox-suite-recorder-{}.jsonl", std::process::id()));
        let recorder = Recorder::create(&path, Clock::start()).expect("writable");
        let mut process = recorder.process();
        let call = Call {
            function: "write",
            key: "k".to_owned(),
            value: json!("a"),
            node: "node-1".to_owned(),
            ..Call::default()
        };
        recorder.invoke(&process, &call);
        recorder.end(&mut process, &call, End::not_ok(Phase::Info, &call, "lost".to_owned()));
        recorder.event("nemesis", "load", Value::Null);
        recorder.invoke(&process, &call);
        recorder.end(&mut process, &call, End::ok(json!("a"), Some(7)));
        recorder.flush().expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        std::fs::remove_file(&path).expect("removable");
        let history = History::parse(&text).expect("a history");
        let [unknown, well] = &history.operations[..] else {
            panic!("{text}")
        };
        assert_eq!(
            (unknown.outcome, &unknown.more["error"]),
            (Outcome::Unknown, &json!("lost"))
        );
        assert_eq!((well.outcome, well.revision), (Outcome::Ok, Some(7)));
        assert_ne!(unknown.process, well.process);
        assert_eq!(history.events.len(), 1);
        assert_eq!((recorder.tally().ok, recorder.tally().total()), (1, 2));
    }
}
