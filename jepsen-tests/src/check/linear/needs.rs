//! Which values are still needed: an unknown operation that leaves another is not worth trying.

use super::register::{Register, Step, ValueId};

/// How many of what is still to be placed need a value.
pub(super) struct Needs {
    /// By value: completed operations that are not placed.
    completed: Vec<usize>,
    /// The same, of those that take any value.
    any: usize,
    /// By value: some unknown one needs it.
    unknown: Vec<bool>,
    unknown_any: bool,
}

impl Needs {
    pub(super) fn new(register: &Register) -> Needs {
        let count = register.values.len();
        let mut needs = Needs {
            completed: vec![0; count],
            any: 0,
            unknown: vec![false; count],
            unknown_any: false,
        };
        for one in &register.completed {
            needs.missed(one.step);
        }
        for one in &register.unknown {
            match one.step.expects {
                Some(value) => needs.unknown[value as usize] = true,
                None => needs.unknown_any |= one.step.takes_any_value(),
            }
        }
        needs
    }

    pub(super) fn met(&mut self, step: Step) {
        match step.expects {
            Some(value) => self.completed[value as usize] -= 1,
            None => self.any -= usize::from(step.takes_any_value()),
        }
    }

    pub(super) fn missed(&mut self, step: Step) {
        match step.expects {
            Some(value) => self.completed[value as usize] += 1,
            None => self.any += usize::from(step.takes_any_value()),
        }
    }

    /// Whether anything can need this value.
    pub(super) fn any(&self, value: Option<ValueId>) -> bool {
        self.any > 0
            || self.unknown_any
            || value.is_some_and(|value| self.completed[value as usize] > 0 || self.unknown[value as usize])
    }
}
