//! The search for an order: depth first, each configuration once.
//!
//! Four things keep it small, none of which loses an order:
//! - a read that fits now is placed now: it changes nothing, so it can stand nowhere better;
//! - a step is not placed while one with a lower known revision is still to come: that one could never follow;
//! - an unknown operation is placed only directly before one that needs what it left: anywhere else the order holds without it. Equal ones are
//!   placed in the order of their calls;
//! - where a configuration leads nowhere, one that differs only in having used up more unknown operations leads nowhere either.

use std::collections::BTreeMap;

use super::Limits;
use super::list::List;
use super::needs::Needs;
use super::register::{ABSENT, Register, State, Step, Timed};
use super::seen::Seen;

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// There is an order: which operations, by position; unknown ones that need not have happened are not in it.
    Linearizable(Vec<usize>),
    /// There is none. No order that was tried goes beyond the end on this line; there may be one that does and was not tried, because what comes
    /// later rules it out.
    Not {
        /// Line of an answer.
        stuck: usize,
    },
    /// Not decided within the limits.
    TooMuch,
}

/// Decides one register.
pub(super) fn decide(register: &Register, limits: Limits) -> Decision {
    let mut search = Search::new(register);
    let mut cursor = Cursor::Begin;
    let mut stuck = 0;
    while !search.list.is_empty() {
        if let Some((choice, state)) = search.find(&mut cursor) {
            search.place(choice, state);
            if matches!(choice, Choice::Forced(_)) || search.remember() {
                if search.seen.bytes > limits.memory_bytes_max {
                    return Decision::TooMuch;
                }
                cursor = Cursor::Begin;
                continue;
            }
            cursor = search.take_back().unwrap_or(cursor);
            continue;
        }
        stuck = stuck.max(search.first_end());
        // Where there was no other choice, there is none now.
        loop {
            if search.trail.is_empty() {
                return Decision::Not { stuck };
            }
            if let Some(next) = search.take_back() {
                cursor = next;
                break;
            }
        }
    }
    Decision::Linearizable(search.order())
}

/// What can be placed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// A completed read that fits.
    Forced(usize),
    /// A completed operation.
    Completed(usize),
    /// The next unknown one of a class.
    Unknown(usize),
}

/// Where the search for a choice goes on.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// Everything is still to be tried.
    Begin,
    /// From this entry of the list on.
    Entry(usize),
    /// From this class on.
    Class(usize),
}

/// Unknown operations that demand and do the same.
struct Class {
    step: Step,
    /// Line and position of each, in the order of calls.
    members: Vec<(usize, usize)>,
}

/// How to take a choice back.
struct Frame {
    choice: Choice,
    state: State,
    fresh: bool,
    pending: usize,
}

struct Search<'a> {
    register: &'a Register,
    classes: Vec<Class>,
    /// Calls and ends of what is not placed yet.
    list: List,
    placed: Vec<u64>,
    /// Of each completed operation: how many were called before it returned.
    reach: Vec<usize>,
    /// Completed operations with a revision, by revision; those before `pending` are placed.
    by_revision: Vec<(u64, usize)>,
    pending: usize,
    /// Of each class: how many are placed.
    used: Vec<usize>,
    needs: Needs,
    state: State,
    /// The last placed one was unknown: the next must need it.
    fresh: bool,
    trail: Vec<Frame>,
    seen: Seen,
}

impl<'a> Search<'a> {
    fn new(register: &'a Register) -> Search<'a> {
        let completed = &register.completed;
        let mut classes: BTreeMap<Step, Vec<(usize, usize)>> = BTreeMap::new();
        for (position, one) in register.unknown.iter().enumerate() {
            classes.entry(one.step).or_default().push((one.called, position));
        }
        let classes: Vec<Class> = classes
            .into_iter()
            .map(|(step, members)| Class { step, members })
            .collect();
        let revision = |(position, one): (usize, &Timed)| {
            one.step
                .revision
                .filter(|revision| *revision > 0)
                .map(|revision| (revision, position))
        };
        let mut by_revision: Vec<(u64, usize)> = completed.iter().enumerate().filter_map(revision).collect();
        by_revision.sort_unstable();
        let reach = completed
            .iter()
            .map(|one| completed.partition_point(|other| other.called < one.returned));
        Search {
            needs: Needs::new(register),
            used: vec![0; classes.len()],
            classes,
            list: List::new(completed.iter().map(|one| (one.called, one.returned))),
            placed: vec![0; completed.len().div_ceil(64)],
            reach: reach.collect(),
            by_revision,
            pending: 0,
            state: State::NEW,
            fresh: false,
            trail: Vec::new(),
            seen: Seen::default(),
            register,
        }
    }

    /// What is placed, as positions among the operations of the key.
    fn order(&self) -> Vec<usize> {
        let mut used = vec![0; self.classes.len()];
        let operation = |frame: &Frame| match frame.choice {
            Choice::Forced(one) | Choice::Completed(one) => self.register.completed[one].operation,
            Choice::Unknown(class) => {
                used[class] += 1;
                let (_, position) = self.classes[class].members[used[class] - 1];
                self.register.unknown[position].operation
            }
        };
        self.trail.iter().map(operation).collect()
    }

    /// The next choice from the cursor on, which moves behind it.
    fn find(&self, cursor: &mut Cursor) -> Option<(Choice, State)> {
        if matches!(cursor, Cursor::Begin) {
            if let Some(read) = self.fitting_read() {
                return Some((Choice::Forced(read), self.state));
            }
            *cursor = Cursor::Entry(self.list.first());
        }
        if let Cursor::Entry(mut entry) = *cursor {
            while let Some(one) = self.list.call(entry) {
                let next = self.list.after(entry);
                if let Some(state) = self.fits(self.register.completed[one].step) {
                    *cursor = Cursor::Entry(next);
                    return Some((Choice::Completed(one), state));
                }
                entry = next;
            }
            *cursor = Cursor::Class(0);
        }
        let Cursor::Class(from) = *cursor else { return None };
        let first_end = self.first_end();
        for class in from..self.classes.len() {
            let Class { step, members } = &self.classes[class];
            let available = members
                .get(self.used[class])
                .is_some_and(|(called, _)| *called < first_end);
            if available
                && self.needs.any(step.sets)
                && let Some(state) = self.fits(*step)
            {
                *cursor = Cursor::Class(class + 1);
                return Some((Choice::Unknown(class), state));
            }
        }
        None
    }

    /// A read that can be placed without changing what is known.
    fn fitting_read(&self) -> Option<usize> {
        let mut entry = self.list.first();
        while let Some(one) = self.list.call(entry) {
            let step = self.register.completed[one].step;
            if step.sets.is_none() && self.state.after(step) == Some(self.state) {
                return Some(one);
            }
            entry = self.list.after(entry);
        }
        None
    }

    fn fits(&self, step: Step) -> Option<State> {
        if self.fresh && step.expects.is_none() && !step.takes_any_value() {
            return None;
        }
        let state = self.state.after(step)?;
        // What is still to come with a lower revision than this could never follow.
        let overtakes = self
            .by_revision
            .get(self.pending)
            .is_some_and(|(revision, _)| *revision < least(state, step));
        (!overtakes).then_some(state)
    }

    /// Line of the first end of what is not placed.
    fn first_end(&self) -> usize {
        let mut entry = self.list.first();
        while self.list.call(entry).is_some() {
            entry = self.list.after(entry);
        }
        self.list.line(entry)
    }

    fn place(&mut self, choice: Choice, state: State) {
        self.trail.push(Frame {
            choice,
            state: self.state,
            fresh: self.fresh,
            pending: self.pending,
        });
        self.state = state;
        self.fresh = false;
        match choice {
            Choice::Forced(one) | Choice::Completed(one) => {
                self.list.lift(one);
                self.placed[one / 64] |= 1 << (one % 64);
                self.needs.met(self.register.completed[one].step);
                while let Some((_, one)) = self.by_revision.get(self.pending)
                    && self.placed[one / 64] >> (one % 64) & 1 == 1
                {
                    self.pending += 1;
                }
            }
            Choice::Unknown(class) => {
                self.used[class] += 1;
                self.fresh = true;
            }
        }
    }

    /// Undoes the last choice; where the search goes on then, unless there was nothing else to choose. The trail is not empty.
    fn take_back(&mut self) -> Option<Cursor> {
        let frame = self.trail.pop()?;
        (self.state, self.fresh, self.pending) = (frame.state, frame.fresh, frame.pending);
        match frame.choice {
            Choice::Forced(one) | Choice::Completed(one) => {
                self.list.put_back(one);
                self.placed[one / 64] &= !(1 << (one % 64));
                self.needs.missed(self.register.completed[one].step);
            }
            Choice::Unknown(class) => self.used[class] -= 1,
        }
        match frame.choice {
            Choice::Forced(_) => None,
            Choice::Completed(one) => Some(Cursor::Entry(self.list.after(one))),
            Choice::Unknown(class) => Some(Cursor::Class(class + 1)),
        }
    }

    /// Notes the configuration; `false`: it was there already.
    fn remember(&mut self) -> bool {
        let first = self
            .list
            .call(self.list.first())
            .unwrap_or(self.register.completed.len());
        let until = self.reach.get(first).map_or(first, |reach| *reach);
        let (from_word, until_word) = (first / 64, until.div_ceil(64));
        let words = self.placed.get(from_word..until_word).unwrap_or_default();
        let length = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        let State { value, revision, exact } = self.state;
        let mut key = vec![
            u64::from(value) << 2 | u64::from(exact) << 1 | u64::from(self.fresh),
            revision,
            (first as u64) << 32 | length as u64,
        ];
        key.extend(&words[..length]);
        if length > 0 {
            // All before the first are placed.
            key[3] &= u64::MAX << (first % 64);
        }
        // What nothing to come needs is not used any more, whatever is left of it.
        let counts = |class: &usize| self.used[*class] > 0 && self.needs.any(self.classes[*class].step.sets);
        let used = (0..self.used.len())
            .filter(counts)
            .map(|class| (class as u32, self.used[class] as u32));
        let used = used.collect();
        self.seen.note(key, used)
    }
}

/// The least revision that a step has that leaves this state.
fn least(state: State, step: Step) -> u64 {
    step.revision
        .filter(|revision| *revision > 0)
        .unwrap_or(match state.value {
            ABSENT => 0,
            _ => state.revision,
        })
}
