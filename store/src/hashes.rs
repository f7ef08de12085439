//! The chained state hash at fixed log indexes, in memory, bounded: what nodes compare with one another.
//!
//! Nothing of it outlives the process: each hash covers the one before, so states that differed once differ at every later index too.

use std::collections::VecDeque;

/// A hash is kept for every log index that this divides, so that nodes keep those of the same indexes.
pub const HASH_INTERVAL_ENTRIES: u64 = 16;
/// So many are kept, the newest: 16,384 entries of log, farther than a node that takes part lags.
pub(crate) const HASHES_MAX: usize = 1_024;

/// The chained state hash once an entry was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashPoint {
    /// The entry's index in the log.
    pub index: u64,
    /// Equal on all nodes at the same index.
    pub hash: u128,
}

/// The newest points, oldest first.
#[derive(Debug, Default)]
pub(crate) struct HashRing {
    points: VecDeque<HashPoint>,
}

impl HashRing {
    /// Keeps points that were just applied, in order.
    pub fn extend(&mut self, points: Vec<HashPoint>) {
        let surplus = (self.points.len() + points.len()).saturating_sub(HASHES_MAX);
        self.points.drain(..surplus.min(self.points.len()));
        self.points.extend(points);
    }

    /// The state was replaced: what stood here before says nothing of it.
    pub fn clear(&mut self) {
        self.points.clear();
    }

    /// Oldest first.
    pub fn points(&self) -> Vec<HashPoint> {
        self.points.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest are kept, in order, and never more than the bound.
    #[test]
    fn the_newest_are_kept() {
        let mut ring = HashRing::default();
        let point = |number: u64| HashPoint {
            index: number * HASH_INTERVAL_ENTRIES,
            hash: u128::from(number),
        };
        for batch in (0..3_000).collect::<Vec<u64>>().chunks(7) {
            ring.extend(batch.iter().map(|number| point(*number)).collect());
            assert!(ring.points().len() <= HASHES_MAX);
        }
        let expected: Vec<HashPoint> = (3_000 - HASHES_MAX as u64..3_000).map(point).collect();
        assert_eq!(ring.points(), expected);
        ring.clear();
        assert_eq!(ring.points(), []);
    }
}
