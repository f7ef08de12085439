//! How faults follow each other: at times of the seed's in lanes of their own, or one by one, each on a whole cluster.

use std::time::Duration;

use clap::ValueEnum;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::schedule::{Schedule, Wanted, resolved};
use crate::nemesis::{Fault, Target};

/// Before the first fault and after the last one the cluster is left alone, seconds.
const QUIET_S: f64 = 2.0;
/// A fault is held at least so long, seconds: longer than an election takes, so that its cost does not end with its mending ...
const HOLD_LEAST_S: f64 = 1.0;
/// ... and where its kind asks for more, for no more than this at least ...
const HOLD_LEAST_MAX_S: f64 = 3.0;
/// ... and so much longer at most.
const HOLD_MORE_S: f64 = 1.5;
/// Between a whole cluster and the next fault, seconds.
const REST_S: std::ops::Range<f64> = 0.2..0.8;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Rhythm {
    /// At times of the seed's, several at once where there are lanes.
    #[default]
    Loose,
    /// One by one and without delay; each begins when every node is ready under one leader, so that what it costs is its own.
    Dense,
}

impl Rhythm {
    /// As it is named on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Rhythm::Loose => "loose",
            Rhythm::Dense => "dense",
        }
    }
}

/// Faults for a load of this length, more than there is time for: each begins as soon as it can. What is wanted several times comes so many times as
/// often.
pub fn dense(wanted: &[Wanted], time: Duration, seed: u64) -> Schedule {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut bag, mut faults) = (Vec::new(), Vec::new());
    let mut at_s = QUIET_S;
    loop {
        if bag.is_empty() {
            bag = wanted.to_vec();
            bag.shuffle(&mut random);
        }
        let Some(next) = bag.pop() else { break };
        let nemesis = resolved(next.nemesis, &mut random);
        let target = next.target.filter(|target| nemesis.targets().contains(target));
        let target = target.or_else(|| nemesis.targets().choose(&mut random).copied());
        let least_s = nemesis.lasts_s().0.clamp(HOLD_LEAST_S, HOLD_LEAST_MAX_S);
        let lasts_s = least_s + random.random_range(0.0..HOLD_MORE_S);
        if at_s + lasts_s + QUIET_S > time.as_secs_f64() {
            break;
        }
        faults.push(Fault {
            number: u32::try_from(faults.len() + 1).unwrap_or(u32::MAX),
            lane: 0,
            nemesis,
            target: target.unwrap_or(Target::One),
            at: Duration::from_secs_f64(at_s),
            lasts: Duration::from_secs_f64(lasts_s),
            seed: random.random(),
        });
        at_s += lasts_s + random.random_range(REST_S);
    }
    Schedule {
        faults,
        left_out: Vec::new(),
    }
}

/// How long the cluster rests once it is whole, before the fault of this seed.
pub fn rest(fault: &Fault) -> Duration {
    let mut random = ChaCha8Rng::seed_from_u64(fault.seed ^ 0x2E57);
    Duration::from_secs_f64(random.random_range(REST_S))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Nemesis;

    fn wanted(words: &[&str]) -> Vec<Wanted> {
        words.iter().map(|word| word.parse().expect("known")).collect()
    }

    /// The same seed plans the same; nothing overlaps, nothing is held for less than an election takes, and weights count.
    #[test]
    fn one_by_one() {
        let asked = wanted(&["kill:leader", "kill:leader", "kill:leader", "pause:leader"]);
        for seed in 0..50 {
            let time = Duration::from_secs(120);
            let schedule = dense(&asked, time, seed);
            assert_eq!(schedule, dense(&asked, time, seed));
            let mut free = Duration::ZERO;
            for (number, fault) in (1..).zip(&schedule.faults) {
                assert_eq!((fault.number, fault.lane, fault.target), (number, 0, Target::Leader));
                assert!(fault.at >= free && fault.lasts >= Duration::from_secs(1), "{fault:?}");
                free = fault.at + fault.lasts;
            }
            assert!(free < time);
            let count = |nemesis: Nemesis| schedule.faults.iter().filter(|one| one.nemesis == nemesis).count();
            let (kills, pauses) = (count(Nemesis::Kill), count(Nemesis::Pause));
            assert!(
                kills >= 3 * (pauses - 1) && kills <= 3 * (pauses + 1),
                "{kills} kills, {pauses} pauses"
            );
        }
        assert_eq!(dense(&[], Duration::from_secs(60), 1), Schedule::default());
    }
}
