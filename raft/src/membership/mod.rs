//! Who belongs to the cluster: members listed, replaced, removed, promoted, and what a node does that belongs to none.
//!
//! A *candidate* is a node with an empty directory that asks to be taken in ([`candidates`]). An operator's wish is carried out by the
//! leader in steps, each decided anew from what the membership and the log say at that moment ([`plan`], [`leader`]): said again, after
//! a leader change or a crash, it goes on where it stood. A newcomer is a learner until it has caught up; then one joint change makes
//! it a voter and lets the old one go. A joint change that a crash left half done is finished by the next leader ([`finish`]). A node that
//! hears of no leader asks its peers whether it still belongs to them ([`standing`]).
//!
//! Numbers are given once: initial members are 1, 2, 3, ...; everyone later gets one made from the log index of an entry committed for
//! that alone, above all initial ones.

mod candidates;
mod facade;
mod finish;
mod leader;
mod plan;
mod standing;
mod wire;

use std::time::Duration;

use crate::NodeId;
use crate::types::NodeInfo;

pub(crate) use candidates::Candidates;
pub(crate) use finish::run as finish_changes;
pub(crate) use leader::answer;
pub(crate) use standing::{check_alone, run as watch_standing};
pub(crate) use wire::{asked, reply};

/// Initial members have the numbers up to this one; those given later lie above it.
pub(crate) const INITIAL_MEMBERS_MAX: usize = 1_000;
/// A learner no more entries behind than this has caught up: the rest arrives with what is written meanwhile.
const CAUGHT_UP_ENTRIES_MAX: u64 = 100;
/// A voter more entries behind than this is not counted on.
const VOTER_ENTRIES_BEHIND_MAX: u64 = 10_000;
/// A node that a leader has not heard of for this many election time-outs is taken for gone, ...
const GONE_ELECTIONS: u32 = 2;
/// ... but not sooner than this.
const GONE_AFTER_MIN: Duration = Duration::from_secs(1);

/// An operator's wish. Members are named by their name or their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A candidate takes a voter's place.
    Replace {
        /// Whose place.
        name: String,
        /// The candidate; `None`: the one of the same name.
        with: Option<String>,
    },
    /// A member belongs to the cluster no more.
    Remove {
        /// Which.
        name: String,
    },
    /// A candidate or learner becomes a voter.
    Promote {
        /// Which.
        name: String,
    },
}

/// What the leader knows of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberList {
    /// The cluster.
    pub cluster_id: String,
    /// The leader that says so.
    pub leader: NodeId,
    /// A change of the voters is half done.
    pub changing: bool,
    /// By number.
    pub members: Vec<MemberEntry>,
    /// Nodes that ask to be taken in, by name.
    pub candidates: Vec<CandidateEntry>,
}

/// A member, as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// Its number: given once.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// `host:port` for peers.
    pub peer_address: String,
    /// `host:port` for users.
    pub http_address: String,
    /// Random, new with each empty disk.
    pub incarnation: String,
    /// Has a vote.
    pub voter: bool,
    /// Since the leader last heard of it; `None`: never.
    pub heard: Option<Duration>,
    /// Entries of the leader's log that it does not have yet; `None`: not known.
    pub entries_behind: Option<u64>,
}

/// A node that asks to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateEntry {
    /// Its name.
    pub name: String,
    /// `host:port` for peers.
    pub peer_address: String,
    /// `host:port` for users.
    pub http_address: String,
    /// Random, new with each empty disk.
    pub incarnation: String,
    /// Since it last asked.
    pub heard: Duration,
}

/// How far a change is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// Where it stands.
    pub stage: MemberStage,
    /// The member it is about; 0: none yet, or no more.
    pub id: NodeId,
    /// Entries it still has to receive; `None`: not known, or of no account.
    pub entries_behind: Option<u64>,
    /// What is done, or waited for.
    pub detail: String,
}

/// Where a change stands. Unless it is done, saying it again goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberStage {
    /// The leader waits to hear of the others: it was just elected, or one of them may be dead or alive.
    Settling,
    /// The newcomer receives the state and the log.
    CatchingUp,
    /// The voters change.
    Changing,
    /// It is done.
    Done,
}

/// Why a wish is refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRefusal {
    /// Nobody of that name.
    NoSuchMember,
    /// The candidate does not ask.
    NoCandidate,
    /// More than one could be meant.
    Ambiguous,
    /// A majority of the voters, before or after, would not answer.
    QuorumAtRisk,
    /// Its address belongs to another member.
    AddressTaken,
    /// It is a member already.
    IsMember,
}

/// Why a wish has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Refused, and nothing was changed.
    #[error("{message}")]
    Refused {
        /// Which rule.
        code: MemberRefusal,
        /// What was found, and what to do.
        message: String,
    },
    /// No leader took it in time; what it may have begun goes on when it is said again.
    #[error("no leader has answered within {waited:?} ({reason}); say it again: it goes on where it stands")]
    NoLeader {
        /// How long was waited.
        waited: Duration,
        /// What was last heard.
        reason: String,
    },
    /// This node belongs to no cluster yet.
    #[error("this node is not a member of a cluster: {0}")]
    NotMember(String),
    /// Consensus has stopped on this node.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// Why the leader did not answer a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Nobody here can do it at the moment: why.
    TryAgain(String),
    /// Refused.
    Refused { code: MemberRefusal, message: String },
}

fn refused<T>(code: MemberRefusal, message: impl Into<String>) -> Result<T, Unanswered> {
    Err(Unanswered::Refused {
        code,
        message: message.into(),
    })
}

/// A node in a sentence: name, number, place.
fn named(id: NodeId, info: &NodeInfo) -> String {
    format!("`{}` (node {id} at {})", info.name, info.peer_address)
}
