//! One error an operation; an unknown outcome is a variant of its own.

use std::time::Duration;

use crate::disk::FullDisks;

/// What to do about a member whose data directory is lost or damaged. (An older copy of it would break promises it gave since.)
pub(crate) const REMEDY: &str = "give it back its data directory as it last was, or start it with an empty one and say `blox member replace` \
     with its name to one of the others; until then they go on without it";

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory is not this node's, or not whole; the message says what to do.
    #[error("{0}")]
    Identity(String),
    /// The disk or the log.
    #[error("{doing}: {cause}")]
    Storage {
        /// What was tried, on what.
        doing: String,
        /// Why it failed.
        cause: String,
    },
    /// The peer interface.
    #[error("cannot listen for peers on {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// Why it failed.
        cause: String,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Configuration(String),
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// No leader is known, or it has lost its quorum: nothing was written. Safe to try again, here or on another node.
    #[error("no leader is known; try again")]
    NoLeader,
    /// This node's part of the work needs to be leader, and it is not: nothing was written.
    #[error("this node is not the leader")]
    NotLeader,
    /// Larger than one entry may be: nothing was written.
    #[error("the command has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Too much is waiting already: nothing was written.
    #[error("too many proposals are waiting; try again")]
    Overloaded,
    /// Too little room on disk, the leader's or those of so many voters that no quorum has any: nothing was written.
    #[error("{0}")]
    DiskFull(FullDisks),
    /// It was submitted, and what became of it is not known: try again with the same idempotency key.
    #[error("the outcome is not known after {waited:?}: {cause}")]
    Unknown {
        /// How long was waited.
        waited: Duration,
        /// What happened.
        cause: String,
    },
    /// Consensus has stopped on this node.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// Why a read cannot be served as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody confirmed leadership in time.
    #[error("no leader confirmed the read within {waited:?}")]
    NoLeader {
        /// How long was waited.
        waited: Duration,
    },
    /// The node has not caught up in time.
    #[error("this node is at revision {current} and did not reach {wanted} within {waited:?}")]
    Behind {
        /// This node's revision.
        current: u64,
        /// The revision asked for.
        wanted: u64,
        /// How long was waited.
        waited: Duration,
    },
    /// A stale read was asked for, but not that stale.
    #[error("{}, and no more than {limit:?} was asked for", described(.age))]
    TooStale {
        /// Time since a leader was heard of whose committed entries are all applied here; `None`: never.
        age: Option<Duration>,
        /// What was asked for.
        limit: Duration,
    },
    /// It belongs to no cluster yet, so it has nothing to answer from.
    #[error("this node is not a member of a cluster: {0}")]
    NotMember(String),
    /// Consensus has stopped on this node.
    #[error("this node has stopped: {0}")]
    Stopped(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    /// Only a leader can hand over.
    #[error("this node is not the leader")]
    NotLeader,
    /// Nobody fit to take over.
    #[error("no other voter is close enough to take over")]
    NoCandidate,
    /// It was asked to, and did not in time.
    #[error("no other node took over within {0:?}")]
    TimedOut(Duration),
}

/// How stale a node is, in words.
fn described(age: &Option<Duration>) -> String {
    match age {
        Some(age) => format!("this node has applied all that a leader had committed {age:?} ago"),
        None => "this node has not heard of a leader whose committed entries it has all applied".to_owned(),
    }
}
