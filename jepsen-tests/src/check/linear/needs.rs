//! Which values are still needed: an unknown operation that leaves another is not worth trying.

use super::register::{Register, Step, ValueId};

/// How many of what is still to be placed need a value.
pub(super) struct Needs {
    /// By value: completed operations that are not placed.
    completed: Vec<usize>,
    /// The same, of those that demand only a revision: any value may have it.
    revisions: usize,
    /// By value: some unknown one needs it.
    unknown: Vec<bool>,
    unknown_revisions: bool,
}

impl Needs {
    pub(super) fn new(register: &Register) -> Needs {
        let count = register.values.len();
        let mut needs = Needs {
            completed: vec![0; count],
            revisions: 0,
            unknown: vec![false; count],
            unknown_revisions: false,
        };
        for one in &register.completed {
            needs.missed(one.step);
        }
        for one in &register.unknown {
            match (one.step.expects, one.step.expects_revision) {
                (Some(value), _) => needs.unknown[value as usize] = true,
                (None, Some(_)) => needs.unknown_revisions = true,
                (None, None) => {}
            }
        }
        needs
    }

    pub(super) fn met(&mut self, step: Step) {
        match (step.expects, step.expects_revision) {
            (Some(value), _) => self.completed[value as usize] -= 1,
            (None, Some(_)) => self.revisions -= 1,
            (None, None) => {}
        }
    }

    pub(super) fn missed(&mut self, step: Step) {
        match (step.expects, step.expects_revision) {
            (Some(value), _) => self.completed[value as usize] += 1,
            (None, Some(_)) => self.revisions += 1,
            (None, None) => {}
        }
    }

    /// Whether anything can need this value.
    pub(super) fn any(&self, value: Option<ValueId>) -> bool {
        self.revisions > 0
            || self.unknown_revisions
            || value.is_some_and(|value| self.completed[value as usize] > 0 || self.unknown[value as usize])
    }
}
