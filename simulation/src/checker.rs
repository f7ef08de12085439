//! Looks at every node after each step, and tells the oracles what has come about.
//!
//! A step is one poll of one task of one node: between two looks at most one task has done something, so that what holds only for a moment
//! is seen too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use blox_raft::Consensus;
use blox_raft::simulation::{Belief, Durable, take_applied, take_durable};
use blox_store::proto::{Outcome, outcome};

use crate::oracles::{self, Fact, Mirror, Mirrors, Oracle};
use crate::trace::Trace;

/// What is known of all nodes, and the rules.
pub struct Checker {
    trace: Arc<Trace>,
    mirrors: Mirrors,
    beliefs: BTreeMap<String, Belief>,
    oracles: Vec<Box<dyn Oracle + Send>>,
    violations: Vec<String>,
    steps: u64,
}

impl Checker {
    /// Knows nodes of these names, which have nothing yet.
    pub fn new(trace: Arc<Trace>, names: &[&str]) -> Checker {
        Checker {
            trace,
            mirrors: names
                .iter()
                .map(|name| ((*name).to_owned(), Mirror::default()))
                .collect(),
            beliefs: BTreeMap::new(),
            oracles: oracles::all(),
            violations: Vec::new(),
            steps: 0,
        }
    }

    /// A node starts.
    pub fn starts(&mut self, node: &str) {
        self.beliefs.remove(node);
        self.tell(&Fact::Starts(node));
    }

    /// Looks at a node after a step of its own; whether that step has applied intents, for which calls may follow.
    pub fn look(&mut self, node: &str, directory: &Path, consensus: Option<&Consensus>) -> bool {
        self.steps += 1;
        let mut intends = false;
        for change in take_durable(directory) {
            if let Some(mirror) = self.mirrors.get_mut(node) {
                mirror.change(&change);
            }
            match &change {
                Durable::Entry { position, term, .. } => {
                    self.trace
                        .say(format_args!("{node} has synced entry {position} of term {term}"));
                }
                other => self.trace.say(format_args!("{node} has synced {other:?}")),
            }
            self.tell(&Fact::Durable(node, &change));
        }
        for applied in take_applied() {
            let hash = applied.state_hash.unwrap_or_default();
            self.trace.say(format_args!(
                "{node} has applied entry {} of term {}: {hash:032x}",
                applied.position, applied.term
            ));
            intends |= applied.outcomes.iter().any(takes_intents);
            self.tell(&Fact::Applied(&applied));
        }
        let Some(consensus) = consensus else { return intends };
        let now = consensus.belief();
        let before = self.beliefs.insert(node.to_owned(), now).unwrap_or_default();
        if now == before {
            return intends;
        }
        if (now.term, now.leads) != (before.term, before.leads) {
            let role = if now.leads { "leads" } else { "follows" };
            self.trace.say(format_args!("{node} {role} in term {}", now.term));
        }
        self.tell(&Fact::Believes { node, before, now });
        intends
    }

    /// Tells every rule of a fact.
    pub fn tell(&mut self, fact: &Fact<'_>) {
        for oracle in &mut self.oracles {
            if let Err(what) = oracle.note(fact, &self.mirrors) {
                let violation = format!("{}: {what}", oracle.name());
                self.trace.say(format_args!("VIOLATION {violation}"));
                self.violations.push(violation);
            }
        }
    }

    /// Notes something that must not be and that no oracle saw.
    pub fn violated(&mut self, what: String) {
        self.trace.say(format_args!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// What was broken.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// How often it has looked.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

fn takes_intents(outcome: &Outcome) -> bool {
    matches!(&outcome.result, Some(outcome::Result::Launched(launched)) if !launched.taken.is_empty())
}
