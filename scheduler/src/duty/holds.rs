//! What works hold: nothing is planned on a slot from the moment its work begins until the mirror shows what the work did. A plan made of an
//! older state would repeat it: a launch that is bound and closed meanwhile does not refuse the next one.

use std::collections::{BTreeMap, BTreeSet};

use blox_store::Revision;

use crate::names::{EnvironmentId, SlotKey};

/// What a piece of work holds while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// One slot.
    Slot(SlotKey),
    /// The records of an environment that are no slot's.
    Records(EnvironmentId),
}

impl Hold {
    pub(super) fn environment(&self) -> &EnvironmentId {
        match self {
            Hold::Slot(key) => &key.environment,
            Hold::Records(environment) => environment,
        }
    }
}

/// How long something is held.
#[derive(Clone, Debug)]
enum Until {
    /// The work runs.
    Ended,
    /// It has ended: until the mirror shows the revision, and not before the time.
    Shown {
        revision: Revision,
        not_before_elapsed_ms: u64,
    },
}

/// Everything that is held.
#[derive(Default)]
pub(super) struct Holds {
    held: BTreeMap<Hold, Until>,
}

impl Holds {
    pub(super) fn contains(&self, hold: &Hold) -> bool {
        self.held.contains_key(hold)
    }

    pub(super) fn slots(&self) -> BTreeSet<SlotKey> {
        let slots = self.held.keys().filter_map(|hold| match hold {
            Hold::Slot(key) => Some(key.clone()),
            Hold::Records(_) => None,
        });
        slots.collect()
    }

    /// A work begins.
    pub(super) fn take(&mut self, holds: &[Hold]) {
        self.held.extend(holds.iter().map(|hold| (hold.clone(), Until::Ended)));
    }

    /// A work has ended: what it held stays held until the mirror shows the revision, and until the time (0: none).
    pub(super) fn settle(&mut self, holds: Vec<Hold>, revision: Revision, not_before_elapsed_ms: u64) {
        let until = Until::Shown {
            revision,
            not_before_elapsed_ms,
        };
        self.held.extend(holds.into_iter().map(|hold| (hold, until.clone())));
    }

    /// Lets go of what may be planned again; whose it was.
    pub(super) fn release(&mut self, shown: Revision, now_elapsed_ms: u64) -> BTreeSet<EnvironmentId> {
        let mut released = BTreeSet::new();
        self.held.retain(|hold, until| {
            let is_over = matches!(until, Until::Shown { revision, not_before_elapsed_ms }
                if *revision <= shown && *not_before_elapsed_ms <= now_elapsed_ms);
            if is_over {
                released.insert(hold.environment().clone());
            }
            !is_over
        });
        released
    }

    /// When something held for a while may next be let go, on the replicated clock.
    pub(super) fn next_release(&self) -> Option<u64> {
        let times = self.held.values().filter_map(|until| match until {
            Until::Shown {
                not_before_elapsed_ms, ..
            } if *not_before_elapsed_ms > 0 => Some(*not_before_elapsed_ms),
            _ => None,
        });
        times.min()
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, Holds};
    use crate::names::SlotKey;

    /// Proves that a slot stays held until the mirror shows its work, and after a failure for its time as well.
    #[test]
    fn a_slot_is_held_until_its_work_shows() {
        let slot = |instance: &str| SlotKey {
            environment: "e".into(),
            instance: instance.into(),
        };
        let (done, failed) = (Hold::Slot(slot("i-1")), Hold::Slot(slot("i-2")));
        let mut holds = Holds::default();
        holds.take(&[done.clone(), failed.clone()]);
        assert!(holds.release(u64::MAX, u64::MAX).is_empty(), "works that run hold");
        holds.settle(vec![done], 10, 0);
        holds.settle(vec![failed], 8, 5_000);
        assert!(holds.release(9, 4_999).is_empty());
        assert_eq!(holds.next_release(), Some(5_000));
        assert_eq!(holds.release(10, 4_999).len(), 1);
        assert_eq!(holds.slots(), [slot("i-2")].into());
        assert_eq!(holds.release(10, 5_000).len(), 1);
        assert!(holds.slots().is_empty());
    }
}
