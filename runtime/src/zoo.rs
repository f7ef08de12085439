//! The zoo: mistakes that systems of this kind have made, each on purpose and one a node, so that the failure tests can show that they would
//! notice. In builds with the feature `zoo` only, which no release can have.
//!
//! A bug lives where the mistake would be made, behind `#[cfg(feature = "zoo")]` and [`carries`]; what it needs beyond a line stands in a
//! `zoo.rs` beside it. Where consensus or a guard of ours would make it harmless, that guard is lifted with it.

use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(not(debug_assertions))]
compile_error!("the feature `zoo` is of deliberate bugs: no release has it");

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Any node serves a linearizable read from its own state, at once.
    StaleRead,
    /// A log write is acknowledged, by leader and follower, though nobody has synced it.
    EarlyAck,
    /// A vote is answered and never written.
    VoteNotSaved,
    /// The applied position is made durable in a batch of its own, before the data it speaks of.
    AppliedApart,
    /// A leader tells its watchers what it has only just proposed.
    EarlyDelivery,
    /// A watch that falls behind goes on further ahead, without a word.
    DroppingWatch,
    /// A watch begins one revision before the one that was asked for.
    RepeatingResume,
    /// A queue's messages are deleted when they are received.
    EarlyDelete,
    /// StartTask is called before the intent is committed.
    EarlyLaunch,
    /// Commands of ended sessions are applied, calls are made without asking whether this node leads, and duties outlive leadership.
    NoFence,
    /// A write said again under its idempotency key is applied again.
    KeyIgnored,
    /// An installed snapshot lacks the second half of its values.
    HalfSnapshot,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 12] = [
        Bug::StaleRead,
        Bug::EarlyAck,
        Bug::VoteNotSaved,
        Bug::AppliedApart,
        Bug::EarlyDelivery,
        Bug::DroppingWatch,
        Bug::RepeatingResume,
        Bug::EarlyDelete,
        Bug::EarlyLaunch,
        Bug::NoFence,
        Bug::KeyIgnored,
        Bug::HalfSnapshot,
    ];

    /// How it is asked for.
    pub fn word(self) -> &'static str {
        match self {
            Bug::StaleRead => "stale-read",
            Bug::EarlyAck => "early-ack",
            Bug::VoteNotSaved => "vote-not-saved",
            Bug::AppliedApart => "applied-apart",
            Bug::EarlyDelivery => "early-delivery",
            Bug::DroppingWatch => "dropping-watch",
            Bug::RepeatingResume => "repeating-resume",
            Bug::EarlyDelete => "early-delete",
            Bug::EarlyLaunch => "early-launch",
            Bug::NoFence => "no-fence",
            Bug::KeyIgnored => "key-ignored",
            Bug::HalfSnapshot => "half-snapshot",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Bug::StaleRead => "a stale local read passes for a linearizable one",
            Bug::EarlyAck => "acknowledged before fsync",
            Bug::VoteNotSaved => "the vote is not saved",
            Bug::AppliedApart => "the applied index stands apart from its data",
            Bug::EarlyDelivery => "delivered before it is committed",
            Bug::DroppingWatch => "a watch drops events when it lags",
            Bug::RepeatingResume => "a resumed watch repeats",
            Bug::EarlyDelete => "deleted from the queue before it is applied",
            Bug::EarlyLaunch => "launched before the intent",
            Bug::NoFence => "no fence between sessions",
            Bug::KeyIgnored => "the idempotency key is ignored",
            Bug::HalfSnapshot => "a snapshot is installed by half",
        }
    }
}

/// There is no such bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBug(String);

impl std::fmt::Display for UnknownBug {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known: Vec<&str> = Bug::ALL.map(Bug::word).to_vec();
        write!(
            formatter,
            "there is no bug {:?}; the zoo has {}",
            self.0,
            known.join(", ")
        )
    }
}

impl std::error::Error for UnknownBug {}

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(text: &str) -> Result<Bug, UnknownBug> {
        let found = Bug::ALL.into_iter().find(|bug| bug.word() == text);
        found.ok_or_else(|| UnknownBug(text.to_owned()))
    }
}

static CARRIED: OnceLock<Bug> = OnceLock::new();

/// From here on this process carries the bug; `false`: it carries one already.
pub fn let_loose(bug: Bug) -> bool {
    CARRIED.set(bug).is_ok()
}

/// The bug that this process carries.
pub fn carried() -> Option<Bug> {
    CARRIED.get().copied()
}

/// Whether this process carries that bug.
pub fn carries(bug: Bug) -> bool {
    carried() == Some(bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is found by its word, another word is refused with the known ones, and a process carries one for ever.
    #[test]
    fn words_find_their_bugs() {
        for bug in Bug::ALL {
            assert_eq!(bug.word().parse(), Ok(bug));
        }
        let refused = "early".parse::<Bug>().expect_err("no bug").to_string();
        assert!(refused.contains("early-ack, vote-not-saved"), "{refused}");
        assert!(!carries(Bug::NoFence));
        assert!(let_loose(Bug::NoFence) && !let_loose(Bug::EarlyAck));
        assert!(carries(Bug::NoFence) && !carries(Bug::EarlyAck));
    }
}
