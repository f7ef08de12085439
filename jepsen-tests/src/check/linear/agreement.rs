//! Whether the search and the trial of every order come to one verdict: on small random histories, good and bad.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::{Shape, draw, guess};
use super::{brute, check, revisions};
use crate::check::history::Outcome;
use crate::check::verdict::Verdict;

/// Histories on which they differ that are told.
const TOLD_MAX: usize = 5;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Histories judged by both.
    pub histories: u64,
    /// Of those, linearizable by the trial of every order.
    pub good: u64,
    /// Of those that are not, so many are refuted by their revisions alone.
    pub by_revisions: u64,
    /// With an outcome that is unknown.
    pub unknowns: u64,
    /// With a refusal that says what was there.
    pub refusals: u64,
    /// On so many the two differ.
    pub differ: u64,
    /// The first few of them: seed, shape, operations, both verdicts.
    pub told: Vec<String>,
}

impl Agreement {
    /// Both together.
    pub fn and(mut self, other: Agreement) -> Agreement {
        self.histories += other.histories;
        self.good += other.good;
        self.by_revisions += other.by_revisions;
        self.unknowns += other.unknowns;
        self.refusals += other.refusals;
        self.differ += other.differ;
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
        self
    }

    /// A part of at least one in ten is good, as much is bad, as much has unknown outcomes, as much has refusals: the question was not too easy.
    pub fn means_something(&self) -> bool {
        let enough = self.histories / 10;
        let parts = [self.good, self.histories - self.good, self.unknowns, self.refusals];
        parts.iter().all(|part| *part > enough)
    }
}

/// Judges so many histories, of 2 to 8 operations each, by both; which ones follows from the seed.
pub fn agreement(seed: u64, histories: u64) -> Agreement {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut found = Agreement::default();
    for _ in 0..histories {
        found = found.and(of_one(random.random()));
    }
    found
}

fn of_one(seed: u64) -> Agreement {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shape = small(&mut random);
    let drawn = [draw, guess][random.random_range(0..2)];
    let history = drawn(shape, &mut random);
    let expected = brute::linearizable(&history.operations);
    let (verdict, alone) = (check(&history), revisions::check(&history));
    let same = verdict.word() == if expected { "valid" } else { "invalid" };
    // What is wrong with revisions alone is wrong.
    let fits = !expected || alone == Verdict::Valid;
    let told = || {
        let operations: Vec<String> = history.operations.iter().map(|one| one.told()).collect();
        format!(
            "history seed {seed}, {shape:?}, linearizable by brute force: {expected}; {verdict}; revisions alone: {alone}\n{}",
            operations.join("\n")
        )
    };
    Agreement {
        histories: 1,
        good: u64::from(expected),
        by_revisions: u64::from(alone != Verdict::Valid),
        unknowns: u64::from(history.operations.iter().any(|one| one.outcome == Outcome::Unknown)),
        refusals: u64::from(history.operations.iter().any(|one| one.observed().is_some())),
        differ: u64::from(!(same && fits)),
        told: if same && fits { Vec::new() } else { vec![told()] },
    }
}

fn small(random: &mut ChaCha8Rng) -> Shape {
    let one_of = |random: &mut ChaCha8Rng, choices: [f64; 3]| choices[random.random_range(0..3)];
    Shape {
        processes: random.random_range(2..=4),
        operations: random.random_range(2..=8),
        keys: 1,
        values: random.random_range(1..=3),
        unknown: one_of(random, [0.0, 0.2, 0.5]),
        revisions: one_of(random, [0.0, 0.5, 1.0]),
        lies: one_of(random, [0.0, 0.3, 0.6]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed, the same histories; parts add up.
    #[test]
    fn the_seed_decides() {
        let (one, other) = (agreement(7, 50), agreement(8, 50));
        assert_eq!(one, agreement(7, 50));
        assert_ne!((one.good, one.unknowns), (other.good, other.unknowns));
        let both = one.clone().and(other.clone());
        assert_eq!((both.histories, both.good), (100, one.good + other.good));
    }
}
