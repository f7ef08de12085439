//! What must hold, one file each, with where the rule comes from. The oracles of this module are told of every fact as it comes about, after
//! the step of whichever task brought it; those over whole histories ([`linearizable`], [`acknowledged`]) and over what has become of the fleet
//! ([`nothing_lost`], [`converged`]) judge at the end.

pub mod acknowledged;
mod committed_on_quorum;
pub mod converged;
mod delete_after_apply;
mod election_safety;
mod intent_first;
mod leader_completeness;
pub mod linearizable;
mod log_matching;
mod no_regression;
pub mod nothing_lost;
mod one_daemon;
mod session_fencing;
mod state_hash;
mod state_machine_safety;
mod votes;

use std::collections::BTreeMap;

use blox_ecs::StartTasks;
use blox_raft::simulation::{Applied, Belief, Durable};

use crate::fleet::queue::Sent;

/// Something that has come about.
#[derive(Clone, Debug)]
pub enum Fact<'a> {
    /// A node starts, for the first time or again.
    Starts(&'a str),
    /// Something is durable in a node's log; its mirror shows it already.
    Durable(&'a str, &'a Durable),
    /// What a node believes has changed.
    Believes {
        /// Which node.
        node: &'a str,
        /// Until now.
        before: Belief,
        /// From now on.
        now: Belief,
    },
    /// A node has applied an entry.
    Applied(&'a Applied),
    /// A StartTask leaves a node: the last moment at which it looks at the clock.
    StartLeaves {
        /// Which node.
        node: &'a str,
        /// The call.
        start: &'a StartTasks,
    },
    /// A StartTask takes effect, some time after it left.
    StartArrives(&'a StartTasks),
    /// A StopTask takes effect.
    StopArrives {
        /// Which task is to stop.
        task: &'a str,
    },
    /// A task begins, PENDING.
    TaskBegan {
        /// Its ARN.
        task: &'a str,
        /// Whose it is.
        group: &'a str,
        /// Where.
        instance: &'a str,
    },
    /// A task is STOPPED.
    TaskEnded {
        /// Its ARN.
        task: &'a str,
    },
    /// A node asks the queue to delete messages.
    DeleteLeaves {
        /// Which node.
        node: &'a str,
        /// What they said.
        messages: &'a [Sent],
    },
}

/// The durable log of one node.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Position to (term, hash).
    pub entries: BTreeMap<u64, (u64, u64)>,
    /// Everything up to here is in a snapshot.
    pub purged: u64,
    /// Term, candidate, won.
    pub vote: (u64, u64, bool),
}

impl Mirror {
    /// Shows a change.
    pub fn change(&mut self, change: &Durable) {
        match change {
            Durable::Entry { position, term, hash } => {
                self.entries.insert(*position, (*term, *hash));
            }
            Durable::Vote { term, candidate, won } => self.vote = (*term, *candidate, *won),
            Durable::Purged(position) => self.purged = *position,
            Durable::Removed(from, until) => self.entries.retain(|position, _| position < from || position >= until),
        }
    }

    /// Whether it holds this entry, as such or in a snapshot.
    pub fn holds(&self, position: u64, entry: (u64, u64)) -> bool {
        position <= self.purged || self.entries.get(&position) == Some(&entry)
    }
}

/// The durable logs of all nodes, by name.
pub type Mirrors = BTreeMap<String, Mirror>;

/// A rule.
pub trait Oracle {
    /// What is broken if it is.
    fn name(&self) -> &'static str;

    /// Takes a fact; an error: the rule is broken, and how.
    fn note(&mut self, fact: &Fact<'_>, mirrors: &Mirrors) -> Result<(), String>;
}

/// Every rule that is checked after each step.
pub fn all() -> Vec<Box<dyn Oracle + Send>> {
    vec![
        Box::<election_safety::ElectionSafety>::default(),
        Box::<log_matching::LogMatching>::default(),
        Box::<leader_completeness::LeaderCompleteness>::default(),
        Box::<state_machine_safety::StateMachineSafety>::default(),
        Box::<committed_on_quorum::CommittedOnQuorum>::default(),
        Box::<votes::Votes>::default(),
        Box::<no_regression::NoRegression>::default(),
        Box::<state_hash::StateHash>::default(),
        Box::<session_fencing::SessionFencing>::default(),
        Box::<one_daemon::OneDaemon>::default(),
        Box::<intent_first::IntentFirst>::default(),
        Box::<delete_after_apply::DeleteAfterApply>::default(),
    ]
}
