//! Whose state differs, from the hashes that nodes hold: a pure function.

use blox_store::HashPoint;

use crate::NodeId;

/// What one node holds, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub id: NodeId,
    pub points: Vec<HashPoint>,
}

/// A node whose state differs from the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub id: NodeId,
    /// The newest log index at which both hashes are known.
    pub index: u64,
    pub hash: u128,
    /// The others' hash there.
    pub expected: u128,
}

/// What a round has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Nodes whose state could be compared.
    pub compared: Vec<NodeId>,
    pub differing: Vec<Difference>,
    /// A majority of all voters agrees, so that those that differ from it are wrong. Without it somebody is, and nobody knows who.
    pub majority: bool,
}

/// Compares the leader's state with its peers'. Nodes without an index in common with the leader are left out: they are far behind, or
/// have just started.
pub(super) fn verdict(leader: &Held, peers: &[Held], voters: &[NodeId]) -> Verdict {
    // States that agree; the leader's first.
    let mut groups: Vec<Vec<&Held>> = vec![vec![leader]];
    for peer in peers.iter().filter(|peer| newest_common(leader, peer).is_some()) {
        let agrees = |group: &&mut Vec<&Held>| newest_common(group[0], peer).is_some_and(|(one, other)| one == other);
        match groups.iter_mut().find(agrees) {
            Some(group) => group.push(peer),
            None => groups.push(vec![peer]),
        }
    }
    let votes = |group: &[&Held]| group.iter().filter(|held| voters.contains(&held.id)).count();
    let majority = groups.iter().position(|group| votes(group) * 2 > voters.len());
    let right = majority.unwrap_or(0);
    let difference = |held: &&Held| {
        let (expected, own) = groups[right].iter().find_map(|one| newest_common(one, held))?;
        Some(Difference {
            id: held.id,
            index: own.index,
            hash: own.hash,
            expected: expected.hash,
        })
    };
    let others = groups.iter().enumerate().filter(|(number, _)| *number != right);
    Verdict {
        compared: groups.iter().flatten().map(|held| held.id).collect(),
        differing: others.flat_map(|(_, group)| group).filter_map(difference).collect(),
        majority: majority.is_some(),
    }
}

/// Both nodes' hashes at the newest index that both have.
fn newest_common(one: &Held, other: &Held) -> Option<(HashPoint, HashPoint)> {
    one.points.iter().rev().find_map(|point| {
        let found = other.points.binary_search_by_key(&point.index, |point| point.index);
        found.ok().map(|position| (*point, other.points[position]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes at indexes 16, 32, ...: the index itself, plus `offset` from `wrong_from` on.
    fn held(id: NodeId, indexes: std::ops::RangeInclusive<u64>, wrong_from: u64, offset: u128) -> Held {
        let point = |number: u64| HashPoint {
            index: number * 16,
            hash: u128::from(number) + if number >= wrong_from { offset } else { 0 },
        };
        Held {
            id,
            points: indexes.map(point).collect(),
        }
    }

    fn right(id: NodeId, indexes: std::ops::RangeInclusive<u64>) -> Held {
        held(id, indexes, u64::MAX, 0)
    }

    fn ids(verdict: &Verdict) -> Vec<NodeId> {
        verdict.differing.iter().map(|difference| difference.id).collect()
    }

    /// Equal states differ nowhere, however far behind or freshly started some are.
    #[test]
    fn equal_states_never_differ() {
        let fresh = Held {
            id: 5,
            points: Vec::new(),
        };
        let peers = [right(2, 3..=7), right(3, 9..=30), right(4, 40..=50), fresh];
        let found = verdict(&right(1, 1..=20), &peers, &[1, 2, 3, 4, 5]);
        assert_eq!((ids(&found), found.compared), (vec![], vec![1, 2, 3]));
    }

    /// The one against two is named, with the newest index both have, whoever leads.
    #[test]
    fn the_minority_is_named() {
        let found = verdict(
            &right(1, 1..=20),
            &[right(2, 1..=20), held(3, 1..=18, 5, 100)],
            &[1, 2, 3],
        );
        let named = Difference {
            id: 3,
            index: 18 * 16,
            hash: 118,
            expected: 18,
        };
        assert_eq!((found.differing, found.majority), (vec![named], true));
        let found = verdict(
            &held(1, 1..=20, 5, 100),
            &[right(2, 1..=20), right(3, 1..=20)],
            &[1, 2, 3],
        );
        assert_eq!((ids(&found), found.majority), (vec![1], true));
    }

    /// One against one, or each its own: somebody is wrong, and nobody knows who.
    #[test]
    fn without_a_majority_nobody_is_condemned() {
        let found = verdict(&right(1, 1..=20), &[held(2, 1..=20, 5, 100)], &[1, 2, 3]);
        assert_eq!((ids(&found), found.majority), (vec![2], false));
        let peers = [held(2, 1..=20, 5, 100), held(3, 1..=20, 5, 200)];
        let found = verdict(&right(1, 1..=20), &peers, &[1, 2, 3]);
        assert_eq!((ids(&found), found.majority), (vec![2, 3], false));
    }

    /// A learner has no say, and can be wrong.
    #[test]
    fn learners_do_not_vote() {
        let peers = [held(2, 1..=20, 5, 100), held(3, 1..=20, 5, 100)];
        let found = verdict(&right(1, 1..=20), &peers, &[1, 4]);
        assert_eq!((ids(&found), found.majority), (vec![2, 3], false));
        let found = verdict(&right(1, 1..=20), &peers, &[1]);
        assert_eq!((ids(&found), found.majority), (vec![2, 3], true));
    }
}
