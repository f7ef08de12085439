//! Events that leave nothing to propose: counted, and carried by the next command, so that the replicated counters know of them.

use blox_store::proto::{Observation, Observe};
use parking_lot::Mutex;

/// How many events were dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of types nobody here knows.
    pub(super) unknown_types: u64,
    /// The state says it already.
    pub(super) duplicates: u64,
    /// The state holds something newer.
    pub(super) stale: u64,
    /// Of clusters that are not observed.
    pub(super) filtered: u64,
}

impl Counts {
    pub(super) fn is_none(&self) -> bool {
        *self == Counts::default()
    }

    /// The command that carries them beside `observations`.
    pub(super) fn command(self, source: &str, observations: Vec<Observation>) -> Observe {
        Observe {
            observations,
            source: source.to_string(),
            unknown_types: self.unknown_types,
            duplicates: self.duplicates,
            stale: self.stale,
            filtered: self.filtered,
        }
    }
}

/// What was dropped since the last command that carried it.
#[derive(Default)]
pub(super) struct Dropped {
    counts: Mutex<Counts>,
}

impl Dropped {
    pub(super) fn add(&self, more: Counts) {
        let mut counts = self.counts.lock();
        counts.unknown_types += more.unknown_types;
        counts.duplicates += more.duplicates;
        counts.stale += more.stale;
        counts.filtered += more.filtered;
    }

    /// All of it, for a command to carry.
    pub(super) fn take(&self) -> Counts {
        std::mem::take(&mut self.counts.lock())
    }
}
