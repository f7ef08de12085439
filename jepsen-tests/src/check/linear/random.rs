//! Random histories: clients of a true register, some of which are told lies.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::check::history::{History, Name, Operation, Outcome};

/// What a history is like; probabilities from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) processes: usize,
    pub(super) operations: usize,
    pub(super) keys: usize,
    /// Different values that are written.
    pub(super) values: u64,
    /// Outcomes that stay unknown.
    pub(super) unknown: f64,
    /// Answers that tell their revision.
    pub(super) revisions: f64,
    /// Answers that are not true.
    pub(super) lies: f64,
}

/// How many of such operations are refused with a word on what is there.
const REFUSED: f64 = 0.2;

/// A history of one key whose answers are drawn by lot: nothing in it is likely, so that every corner is met.
pub(super) fn guess(shape: Shape, random: &mut ChaCha8Rng) -> History {
    let (mut operations, mut open) = (Vec::new(), Vec::new());
    let mut idle: Vec<u64> = (0..shape.processes as u64).collect();
    let mut next_process = shape.processes as u64;
    let mut line = 0;
    while operations.len() < shape.operations || !open.is_empty() {
        line += 1;
        let may_begin = operations.len() < shape.operations && !idle.is_empty();
        if open.is_empty() || (may_begin && random.random_bool(0.6)) {
            open.push(operations.len());
            let process = idle.swap_remove(random.random_range(0..idle.len()));
            operations.push(guess_call(shape, process, line, random));
            continue;
        }
        let position: usize = open.swap_remove(random.random_range(0..open.len()));
        let operation: &mut Operation = &mut operations[position];
        (operation.ended, operation.ended_ns) = (Some(line), Some(line as u64));
        let unknown = random.random_bool(shape.unknown);
        operation.outcome = if unknown { Outcome::Unknown } else { Outcome::Ok };
        if unknown {
            idle.push(next_process);
            next_process += 1;
            continue;
        }
        idle.push(operation.process);
        if *operation.function != *"read" && random.random_bool(REFUSED) {
            operation.outcome = Outcome::Failed;
            let observed = random.random_range(0..=shape.operations as u64);
            operation.more.insert("observed".to_owned(), json!(observed));
            continue;
        }
        let reads = *operation.function == *"read";
        if reads {
            operation.answered = guess_value(shape, random);
        }
        let absent = if reads {
            operation.answered.is_null()
        } else {
            *operation.function == *"delete"
        };
        if random.random_bool(shape.revisions) {
            operation.revision = Some(if absent {
                0
            } else {
                random.random_range(1..=shape.operations as u64)
            });
        }
    }
    History {
        operations,
        events: Vec::new(),
    }
}

fn guess_value(shape: Shape, random: &mut ChaCha8Rng) -> Value {
    match random.random_range(0..=shape.values) {
        0 => Value::Null,
        value => json!(value),
    }
}

fn guess_call(shape: Shape, process: u64, called: usize, random: &mut ChaCha8Rng) -> Operation {
    let new = json!(random.random_range(1..=shape.values));
    let revision = random.random_range(0..=shape.operations as u64);
    let demanded = random.random_bool(shape.revisions / 2.0).then_some(revision);
    let (function, asked, expected_revision) = match random.random_range(0..8) {
        0..3 => ("read", Value::Null, None),
        3..5 => ("write", new, demanded.filter(|_| random.random_bool(0.3))),
        5 => ("delete", Value::Null, demanded.filter(|_| random.random_bool(0.3))),
        _ => ("cas", json!([guess_value(shape, random), new]), demanded),
    };
    Operation {
        process,
        function: function.into(),
        key: "k".into(),
        node: None,
        asked,
        expected_revision,
        outcome: Outcome::Unknown,
        answered: Value::Null,
        revision: None,
        called,
        ended: None,
        began_ns: called as u64,
        ended_ns: None,
        more: serde_json::Map::new(),
    }
}

/// A history of that shape.
pub(super) fn draw(shape: Shape, random: &mut ChaCha8Rng) -> History {
    let mut run = Run {
        shape,
        random,
        // Every state that each key was ever in.
        states: vec![vec![(Value::Null, 0)]; shape.keys],
        told: vec![0; shape.keys],
        names: (0..shape.keys).map(|key| Name::from(format!("k{key}"))).collect(),
        revision: 0,
        lines: 0,
        idle: (0..shape.processes as u64).collect(),
        next_process: shape.processes as u64,
        open: Vec::new(),
        ghosts: Vec::new(),
        operations: Vec::new(),
    };
    while run.operations.len() < shape.operations || !run.open.is_empty() {
        run.step();
    }
    History {
        operations: run.operations,
        events: Vec::new(),
    }
}

struct Open {
    position: usize,
    happened: Option<Outcome>,
}

struct Run<'a> {
    shape: Shape,
    random: &'a mut ChaCha8Rng,
    states: Vec<Vec<(Value, u64)>>,
    /// The last revision that an answer told of each key.
    told: Vec<u64>,
    names: Vec<Name>,
    revision: u64,
    lines: usize,
    idle: Vec<u64>,
    next_process: u64,
    open: Vec<Open>,
    /// Given up, and not happened yet.
    ghosts: Vec<usize>,
    operations: Vec<Operation>,
}

impl Run<'_> {
    fn step(&mut self) {
        let may_begin = self.operations.len() < self.shape.operations && !self.idle.is_empty();
        if self.open.is_empty() || (may_begin && self.random.random_bool(0.4)) {
            self.begin();
            return;
        }
        if !self.ghosts.is_empty() && self.random.random_bool(0.05) {
            let ghost = self.ghosts.swap_remove(self.random.random_range(0..self.ghosts.len()));
            self.happen(ghost);
            return;
        }
        let chosen = self.random.random_range(0..self.open.len());
        let position = self.open[chosen].position;
        if self.random.random_bool(self.shape.unknown / 2.0) {
            let given_up = self.open.swap_remove(chosen);
            self.end(position, Outcome::Unknown);
            if given_up.happened.is_none() {
                self.ghosts.push(position);
            }
        } else if let Some(outcome) = self.open[chosen].happened {
            self.open.swap_remove(chosen);
            self.end(position, outcome);
        } else {
            self.open[chosen].happened = Some(self.happen(position));
        }
    }

    fn line(&mut self) -> usize {
        self.lines += 1;
        self.lines
    }

    fn value(&mut self) -> Value {
        json!(self.random.random_range(0..self.shape.values))
    }

    fn begin(&mut self) {
        let process = self.idle.swap_remove(self.random.random_range(0..self.idle.len()));
        let key = self.random.random_range(0..self.shape.keys);
        let (now, _) = self.states[key].last().cloned().unwrap_or_default();
        let (new, revision) = (self.value(), self.told[key]);
        let (function, asked, expected_revision) = match self.random.random_range(0..12) {
            0..5 => ("read", Value::Null, None),
            5..8 => ("write", new, None),
            8 => ("cas", json!([now, new]), None),
            9 => ("cas", json!([self.value(), new]), None),
            10 if self.shape.revisions > 0.0 => ("cas", json!([Value::Null, new]), Some(revision)),
            10 => ("write", new, None),
            _ => ("delete", Value::Null, self.random.random_bool(0.3).then_some(revision)),
        };
        let called = self.line();
        self.open.push(Open {
            position: self.operations.len(),
            happened: None,
        });
        self.operations.push(Operation {
            process,
            function: function.into(),
            key: Name::clone(&self.names[key]),
            node: None,
            asked,
            expected_revision,
            outcome: Outcome::Unknown,
            answered: Value::Null,
            revision: None,
            called,
            ended: None,
            began_ns: called as u64,
            ended_ns: None,
            more: serde_json::Map::new(),
        });
    }

    /// The operation takes effect, and its answer is made up.
    fn happen(&mut self, position: usize) -> Outcome {
        let key = self
            .names
            .iter()
            .position(|name| *name == self.operations[position].key)
            .unwrap_or(0);
        let lie = self.random.random_bool(self.shape.lies);
        let operation = &mut self.operations[position];
        let (now, revision) = self.states[key].last().cloned().unwrap_or_default();
        let new = match (&*operation.function, &operation.asked) {
            ("read", _) => {
                let told = if lie {
                    self.states[key].choose(self.random).cloned().unwrap_or_default()
                } else {
                    (now, revision)
                };
                (operation.answered, operation.revision) = (told.0, Some(told.1));
                return Outcome::Ok;
            }
            ("cas", Value::Array(pair)) if operation.expected_revision.is_none() && pair[0] != now && !lie => {
                operation.more.insert("observed".to_owned(), json!(revision));
                return Outcome::Failed;
            }
            ("cas", Value::Array(pair)) => pair[1].clone(),
            (_, asked) => asked.clone(),
        };
        let demand_fails = operation.expected_revision.is_some_and(|expected| expected != revision);
        if demand_fails || (now.is_null() && new.is_null()) {
            let told = if lie {
                self.states[key]
                    .choose(self.random)
                    .map_or(0, |(_, revision)| *revision)
            } else {
                revision
            };
            operation.more.insert("observed".to_owned(), json!(told));
            return Outcome::Failed;
        }
        self.revision += self.random.random_range(1..3);
        operation.revision = Some(if new.is_null() && self.random.random_bool(0.5) {
            0
        } else {
            self.revision
        });
        operation.answered = operation.asked.clone();
        match (lie, self.random.random_bool(0.5)) {
            (true, true) => {
                operation.revision = Some((self.revision + 1).saturating_sub(self.random.random_range(0..4)))
            }
            (true, false) => {}
            (false, _) => {
                let revision = if new.is_null() { 0 } else { self.revision };
                self.states[key].push((new, revision));
            }
        }
        Outcome::Ok
    }

    fn end(&mut self, position: usize, outcome: Outcome) {
        let line = self.line();
        let tells = self.random.random_bool(self.shape.revisions);
        let operation = &mut self.operations[position];
        operation.outcome = outcome;
        operation.ended = Some(line);
        operation.ended_ns = Some(line as u64);
        if !tells || outcome != Outcome::Ok {
            operation.revision = None;
        }
        if outcome != Outcome::Ok {
            operation.answered = Value::Null;
        }
        if !tells || outcome != Outcome::Failed {
            operation.more.remove("observed");
        }
        if let Some(revision) = operation.revision {
            let key = self.names.iter().position(|name| *name == operation.key).unwrap_or(0);
            let deleted = *operation.function == *"delete";
            self.told[key] = if deleted { 0 } else { revision };
        }
        let process = operation.process;
        if outcome == Outcome::Unknown {
            self.idle.push(self.next_process);
            self.next_process += 1;
        } else {
            self.idle.push(process);
        }
    }
}
