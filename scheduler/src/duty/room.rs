//! Room for works: bounded in number, so that one source that hangs leaves room for the others, and one environment with a large fleet too;
//! and given in turn: who had some last waits longest.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{WORKS_IN_FLIGHT, WORKS_IN_FLIGHT_PER_ENVIRONMENT, WORKS_IN_FLIGHT_PER_SOURCE};
use crate::names::{EnvironmentId, SourceName};
use crate::planner::EnvironmentPlan;

/// What a piece of work takes room of.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Whose it is.
    pub(super) environment: EnvironmentId,
    /// Where it calls; `None`: it calls nobody, and hangs nowhere.
    pub(super) source: Option<SourceName>,
}

/// Who has how much room.
#[derive(Default)]
pub(super) struct Room {
    taken: usize,
    taken_by: BTreeMap<EnvironmentId, usize>,
    taken_at: BTreeMap<SourceName, usize>,
    turned_away: BTreeSet<EnvironmentId>,
    turns: u64,
    /// The turn in which an environment last had room.
    last_turn_of: BTreeMap<EnvironmentId, u64>,
}

impl Room {
    /// Whether there is any.
    pub(super) fn is_left(&self) -> bool {
        self.taken < WORKS_IN_FLIGHT
    }

    /// Takes room for a work; false: there is none for it now, and the environment is among those turned away.
    pub(super) fn take(&mut self, share: &Share) -> bool {
        if !self.is_left_for(share) {
            self.turned_away.insert(share.environment.clone());
            return false;
        }
        self.taken += 1;
        if let Some(source) = &share.source {
            *self.taken_at.entry(source.clone()).or_default() += 1;
            *self.taken_by.entry(share.environment.clone()).or_default() += 1;
            self.turns += 1;
            self.last_turn_of.insert(share.environment.clone(), self.turns);
        }
        true
    }

    fn is_left_for(&self, share: &Share) -> bool {
        let Some(source) = &share.source else {
            return self.is_left();
        };
        let taken_by = self.taken_by.get(&share.environment).copied().unwrap_or_default();
        let taken_at = self.taken_at.get(source).copied().unwrap_or_default();
        self.is_left() && taken_by < WORKS_IN_FLIGHT_PER_ENVIRONMENT && taken_at < WORKS_IN_FLIGHT_PER_SOURCE
    }

    /// A work has ended.
    pub(super) fn give_back(&mut self, share: &Share) {
        self.taken -= 1;
        if let Some(source) = &share.source {
            give_one_back(&mut self.taken_at, source);
            give_one_back(&mut self.taken_by, &share.environment);
        }
    }

    /// Who was turned away since this was last asked: to be planned again once a work has ended.
    pub(super) fn take_turned_away(&mut self) -> BTreeSet<EnvironmentId> {
        std::mem::take(&mut self.turned_away)
    }

    /// Puts those first that have had no room for longest.
    pub(super) fn put_in_turn(&self, plans: &mut [EnvironmentPlan]) {
        plans.sort_by_key(|plan| self.last_turn_of.get(&plan.environment).copied().unwrap_or_default());
    }

    /// Forgets the turns of environments that are not there any more.
    pub(super) fn forget_turns(&mut self, is_there: impl Fn(&EnvironmentId) -> bool) {
        self.last_turn_of.retain(|environment, _| is_there(environment));
    }
}

fn give_one_back<Holder: Ord>(taken: &mut BTreeMap<Holder, usize>, holder: &Holder) {
    if let Some(count) = taken.get_mut(holder) {
        *count -= 1;
        if *count == 0 {
            taken.remove(holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EnvironmentPlan, Room, Share};
    use crate::limits::{WORKS_IN_FLIGHT, WORKS_IN_FLIGHT_PER_ENVIRONMENT, WORKS_IN_FLIGHT_PER_SOURCE};
    use crate::names::EnvironmentId;

    fn share(environment: &str, source: &str) -> Share {
        Share {
            environment: environment.into(),
            source: Some(source.into()),
        }
    }

    fn take_all(room: &mut Room, share: &Share) -> usize {
        (0..=WORKS_IN_FLIGHT).take_while(|_| room.take(share)).count()
    }

    /// Proves that sources that hang, with however many environments, leave room for another source, and for works that call nobody.
    #[test]
    fn a_source_that_hangs_leaves_room() {
        let mut room = Room::default();
        for source in ["hangs", "hangs-too"] {
            let taken: usize = (0..10)
                .map(|number| take_all(&mut room, &share(&format!("{source}-{number}"), source)))
                .sum();
            assert_eq!(taken, WORKS_IN_FLIGHT_PER_SOURCE);
        }
        assert_eq!(
            take_all(&mut room, &share("other", "answers")),
            WORKS_IN_FLIGHT_PER_ENVIRONMENT
        );
        let records = Share {
            environment: "other".into(),
            source: None,
        };
        assert!(room.take(&records));
    }

    /// Proves that of environments that always want more, those without room come next, whatever the order of their ids.
    #[test]
    fn environments_have_room_in_turn() {
        let ids = ["a", "b", "c", "d", "e"];
        let mut room = Room::default();
        let mut had = [0; 5];
        for _ in 0..10 {
            let mut plans: Vec<EnvironmentPlan> = ids
                .iter()
                .map(|id| EnvironmentPlan::new(&EnvironmentId::from(*id), id))
                .collect();
            room.put_in_turn(&mut plans);
            let mut taken = Vec::new();
            for plan in &plans {
                let share = share(plan.name.as_str(), "east");
                taken.extend((0..take_all(&mut room, &share)).map(|_| share.clone()));
            }
            assert_eq!(taken.len(), WORKS_IN_FLIGHT_PER_SOURCE);
            assert!(!room.take_turned_away().is_empty());
            for share in taken {
                had[ids
                    .iter()
                    .position(|id| *id == share.environment.as_str())
                    .expect("one of them")] += 1;
                room.give_back(&share);
            }
        }
        assert_eq!(had, [10 * WORKS_IN_FLIGHT_PER_SOURCE / ids.len(); 5]);
    }
}
