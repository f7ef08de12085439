//! The register of one key: its operations as steps, and what a step does to its state.

use std::collections::HashMap;

use serde_json::Value;

use crate::check::history::{Operation, Outcome};

/// A value of the key, by number.
pub(super) type ValueId = u32;
/// No value.
pub(super) const ABSENT: ValueId = 0;

/// What an operation demands of the state and does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Step {
    /// The value that must be there.
    pub(super) expects: Option<ValueId>,
    /// The mod revision at which it must be there, above 0.
    pub(super) expects_revision: Option<u64>,
    /// The value that is there afterwards; `None`: it only reads.
    pub(super) sets: Option<ValueId>,
    /// The mod revision afterwards, where it is known; of a read 0 says absent.
    pub(super) revision: Option<u64>,
}

impl Step {
    /// Whether it takes some value, whichever: at the revision that it demands, or because it deletes it.
    pub(super) fn takes_any_value(self) -> bool {
        let deletes = self.sets == Some(ABSENT) && self.revision > Some(0);
        self.expects.is_none() && (self.expects_revision.is_some() || deletes)
    }
}

/// What is there. Of a value that came without a known revision, only a bound is known, until a read tells more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) value: ValueId,
    /// Its mod revision, or the least that it can be; of an absent key the least that the next value can have.
    pub(super) revision: u64,
    pub(super) exact: bool,
}

impl State {
    /// Nothing was ever there.
    pub(super) const NEW: State = State {
        value: ABSENT,
        revision: 1,
        exact: false,
    };

    /// The state after a step, if the step can happen now.
    pub(super) fn after(self, step: Step) -> Option<State> {
        if step.expects.is_some_and(|value| value != self.value) {
            return None;
        }
        let state = match step.expects_revision {
            Some(revision) => self.at(revision)?,
            None => self,
        };
        match (step.sets, step.revision) {
            (None, None) => Some(state),
            (None, Some(0)) => (state.value == ABSENT).then_some(state),
            (None, Some(revision)) => state.at(revision),
            (Some(ABSENT), revision) => state.deleted(revision.filter(|revision| *revision > 0)),
            (Some(value), None) => Some(State {
                value,
                revision: state.next(),
                exact: false,
            }),
            (Some(value), Some(revision)) => (revision >= state.next()).then_some(State {
                value,
                revision,
                exact: true,
            }),
        }
    }

    /// The same, its revision known.
    fn at(self, revision: u64) -> Option<State> {
        let fits = if self.exact {
            self.revision == revision
        } else {
            self.revision <= revision
        };
        (self.value != ABSENT && fits).then_some(State {
            revision,
            exact: true,
            ..self
        })
    }

    /// The least revision that a change can have now.
    fn next(self) -> u64 {
        if self.value == ABSENT {
            self.revision
        } else {
            self.revision + 1
        }
    }

    fn deleted(self, revision: Option<u64>) -> Option<State> {
        let next = match revision {
            // Nothing to delete, no change; and no change, no revision of its own.
            None if self.value == ABSENT => return Some(self),
            Some(_) if self.value == ABSENT => return None,
            None => self.next() + 1,
            Some(revision) if revision < self.next() => return None,
            Some(revision) => revision + 1,
        };
        Some(State {
            value: ABSENT,
            revision: next,
            exact: false,
        })
    }
}

/// A step with its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) step: Step,
    /// Line of its invocation.
    pub(super) called: usize,
    /// Line of its end; `usize::MAX`: unknown.
    pub(super) returned: usize,
    /// Position among the operations of the key.
    pub(super) operation: usize,
}

/// Whether its key holds something else than a register: other checkers judge its reads.
pub(super) fn is_of_another(operation: &Operation) -> bool {
    matches!(&*operation.function, "add" | "append" | "once")
}

/// The operations of one key.
#[derive(Debug, Default)]
pub(super) struct Register {
    /// Answered well, in the order of their calls.
    pub(super) completed: Vec<Timed>,
    /// May have happened; reads are left out.
    pub(super) unknown: Vec<Timed>,
    /// Values by number; the first stands for no value.
    pub(super) values: Vec<Value>,
}

/// Whether it is one of a register, and one that may have happened, or was refused with a word on what was there.
pub(super) fn is_step(operation: &Operation) -> bool {
    let may_have_happened = operation.outcome != Outcome::Failed || operation.observed().is_some();
    matches!(&*operation.function, "read" | "write" | "cas" | "delete") && may_have_happened
}

impl Register {
    /// The history up to a line: what was called later is left out, what had not returned is unknown. Operations in the order of their calls.
    pub(super) fn of(operations: &[&Operation], until_line: usize) -> Result<Register, String> {
        let mut register = Register {
            values: vec![Value::Null],
            ..Register::default()
        };
        let mut numbers = HashMap::from([(Value::Null, ABSENT)]);
        for (position, operation) in operations
            .iter()
            .enumerate()
            .filter(|(_, one)| one.called <= until_line)
        {
            let known = operation.is_answer() && operation.returned() <= until_line;
            let mut number = |value: &Value| {
                *numbers.entry(value.clone()).or_insert_with(|| {
                    register.values.push(value.clone());
                    (register.values.len() - 1) as ValueId
                })
            };
            let mut step = match operation.observed() {
                Some(revision) => refused(revision),
                None => step_of(operation, &mut number)?,
            };
            if !known && step.sets.is_none() {
                continue;
            }
            if !known {
                step.revision = None;
            }
            let returned = if known { operation.returned() } else { usize::MAX };
            let timed = Timed {
                step,
                called: operation.called,
                returned,
                operation: position,
            };
            if known {
                register.completed.push(timed);
            } else {
                register.unknown.push(timed);
            }
        }
        register.name_values();
        Ok(register)
    }

    /// Who demands a revision demands the value that some answer says it has: whatever order there is, it holds there too.
    fn name_values(&mut self) {
        let present = |one: &Timed| {
            let value = one.step.sets.or(one.step.expects).filter(|value| *value != ABSENT);
            one.step.revision.zip(value)
        };
        let values: HashMap<u64, ValueId> = self.completed.iter().filter_map(present).collect();
        for one in self.completed.iter_mut().chain(&mut self.unknown) {
            if let (None, Some(revision)) = (one.step.expects, one.step.expects_revision) {
                one.step.expects = values.get(&revision).copied();
            }
        }
    }
}

/// A refused operation reads at which revision the key is, and not what it holds.
fn refused(revision: u64) -> Step {
    Step {
        expects: (revision == 0).then_some(ABSENT),
        expects_revision: (revision > 0).then_some(revision),
        sets: None,
        revision: Some(revision),
    }
}

fn step_of(operation: &Operation, number: &mut impl FnMut(&Value) -> ValueId) -> Result<Step, String> {
    let (expects, sets) = match (&*operation.function, &operation.asked) {
        ("read", _) => (Some(number(&operation.answered)), None),
        ("write", value) => (None, Some(number(value))),
        ("delete", _) => (None, Some(ABSENT)),
        (_, Value::Array(pair)) if pair.len() == 2 => {
            // With a revision, an unnamed old value is just not known.
            let unnamed = pair[0].is_null() && operation.expected_revision.is_some_and(|revision| revision > 0);
            ((!unnamed).then(|| number(&pair[0])), Some(number(&pair[1])))
        }
        (_, value) if operation.expected_revision.is_some() => (None, Some(number(value))),
        (function, value) => {
            return Err(format!(
                "the {function} of line {} asks {value}: neither [old, new] nor a value with a revision",
                operation.called
            ));
        }
    };
    let demanded = operation.expected_revision.filter(|_| sets.is_some());
    let step = Step {
        expects,
        expects_revision: demanded,
        sets,
        revision: operation.revision_told(),
    };
    Ok(match (demanded, expects) {
        (Some(0), None) => Step {
            expects: Some(ABSENT),
            expects_revision: None,
            ..step
        },
        (Some(0), Some(ABSENT)) => Step {
            expects_revision: None,
            ..step
        },
        _ => step,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(value: ValueId, revision: u64, exact: bool) -> State {
        State { value, revision, exact }
    }

    fn write(value: ValueId, revision: Option<u64>) -> Step {
        Step {
            expects: None,
            expects_revision: None,
            sets: Some(value),
            revision,
        }
    }

    fn read(value: ValueId, revision: Option<u64>) -> Step {
        Step {
            expects: Some(value),
            expects_revision: None,
            sets: None,
            revision,
        }
    }

    /// Revisions only grow, and a read pins one that was only bounded.
    #[test]
    fn revisions_bound_the_state() {
        let known = State::NEW.after(write(1, Some(5)));
        assert_eq!(known, Some(present(1, 5, true)));
        let five = present(1, 5, true);
        assert_eq!(five.after(write(2, Some(5))), None, "not the same again");
        assert_eq!(five.after(read(1, Some(6))), None);
        assert_eq!(five.after(read(1, None)), Some(five));
        assert_eq!(five.after(read(2, Some(5))), None);
        let bounded = five.after(write(2, None)).expect("it can happen");
        assert_eq!(bounded, present(2, 6, false));
        assert_eq!(bounded.after(read(2, Some(5))), None);
        assert_eq!(bounded.after(read(2, Some(9))), Some(present(2, 9, true)));
        assert_eq!(State::NEW.after(write(1, Some(0))), None, "nothing is at revision 0");
    }

    /// A delete takes a revision of its own, where there was something.
    #[test]
    fn deletes() {
        let five = present(1, 5, true);
        assert_eq!(five.after(write(ABSENT, None)), Some(present(ABSENT, 7, false)));
        assert_eq!(
            five.after(write(ABSENT, Some(0))),
            Some(present(ABSENT, 7, false)),
            "0 says absent"
        );
        assert_eq!(five.after(write(ABSENT, Some(8))), Some(present(ABSENT, 9, false)));
        assert_eq!(five.after(write(ABSENT, Some(5))), None);
        assert_eq!(State::NEW.after(write(ABSENT, None)), Some(State::NEW));
        assert_eq!(State::NEW.after(write(ABSENT, Some(0))), Some(State::NEW));
        assert_eq!(
            State::NEW.after(write(ABSENT, Some(4))),
            None,
            "nothing to delete, and a change"
        );
        let gone = present(ABSENT, 7, false);
        assert_eq!(gone.after(read(ABSENT, Some(0))), Some(gone));
        assert_eq!(gone.after(read(ABSENT, Some(7))), None);
        assert_eq!(gone.after(write(2, Some(6))), None);
        assert_eq!(gone.after(write(2, Some(7))), Some(present(2, 7, true)));
    }

    /// A refusal reads a revision: of whatever value, or of none.
    #[test]
    fn refusals() {
        assert_eq!(present(1, 5, true).after(refused(5)), Some(present(1, 5, true)));
        assert_eq!(present(1, 5, false).after(refused(6)), Some(present(1, 6, true)));
        assert_eq!(present(1, 5, true).after(refused(6)), None);
        assert_eq!(present(1, 5, true).after(refused(0)), None);
        assert_eq!(State::NEW.after(refused(0)), Some(State::NEW));
        assert_eq!(State::NEW.after(refused(5)), None);
    }

    /// A demand for a revision is one for the value that has it.
    #[test]
    fn demands() {
        let demand = |revision| Step {
            expects_revision: Some(revision),
            ..write(2, Some(9))
        };
        assert_eq!(present(1, 5, true).after(demand(5)), Some(present(2, 9, true)));
        assert_eq!(present(1, 5, true).after(demand(6)), None);
        assert_eq!(present(1, 5, false).after(demand(6)), Some(present(2, 9, true)));
        assert_eq!(
            present(1, 5, false).after(demand(9)),
            None,
            "its own revision is higher"
        );
        assert_eq!(State::NEW.after(demand(5)), None);
    }
}
