//! Which faults come when: derived from the seed alone, so that the same seed plans the same faults.

use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::nemesis::{Fault, Nemesis, Target};

/// Before the first fault and after the last one the cluster is left alone, seconds.
const QUIET_S: f64 = 2.0;
/// Between two faults of a lane, seconds.
const GAP_S: std::ops::Range<f64> = 1.0..4.0;
/// What a fault takes besides its holding, seconds: until it is seen, and until it is mended.
const OVERHEAD_S: f64 = 1.5;

/// A kind of fault as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub nemesis: Nemesis,
    /// `None`: any that it can fall on.
    pub target: Option<Target>,
}

/// What is to happen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schedule {
    /// By their times.
    pub faults: Vec<Fault>,
    /// For which there is no time.
    pub left_out: Vec<Nemesis>,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    /// `kill` or `kill:leader`.
    fn from_str(text: &str) -> Result<Wanted, String> {
        use clap::ValueEnum;
        let (word, target) = match text.split_once(':') {
            Some((word, target)) => (word, Some(Target::from_str(target, false)?)),
            None => (text, None),
        };
        let nemesis = Nemesis::from_str(word, false)
            .map_err(|_| format!("there is no fault `{word}`; `jepsen-tests list` names all"))?;
        if let Some(target) = target.filter(|target| !nemesis.targets().contains(target)) {
            let known: Vec<&str> = nemesis.targets().iter().map(|target| target.word()).collect();
            return Err(format!(
                "{word} falls on {}, not on {}",
                known.join(", "),
                target.word()
            ));
        }
        Ok(Wanted { nemesis, target })
    }
}

/// Faults for a load of this length: each kind in turn, in an order of the seed's, in so many lanes at once.
pub fn plan(wanted: &[Wanted], time: Duration, seed: u64, lanes: usize) -> Schedule {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut lanes_free_s: Vec<f64> = (0..lanes).map(|_| QUIET_S + random.random_range(GAP_S)).collect();
    let mut bag: Vec<Wanted> = Vec::new();
    let mut faults: Vec<Fault> = Vec::new();
    if wanted.is_empty() {
        return Schedule::default();
    }
    while let Some(lane) = (0..lanes).min_by(|one, other| lanes_free_s[*one].total_cmp(&lanes_free_s[*other])) {
        if bag.is_empty() {
            bag = wanted.to_vec();
            bag.shuffle(&mut random);
        }
        let Some(next) = bag.pop() else { break };
        let nemesis = resolved(next.nemesis, &mut random);
        let target = next.target.filter(|target| nemesis.targets().contains(target));
        let target = target.or_else(|| nemesis.targets().choose(&mut random).copied());
        let (least_s, most_s) = nemesis.lasts_s();
        let lasts_s = random.random_range(least_s..most_s);
        let at_s = lanes_free_s[lane];
        if at_s + lasts_s + OVERHEAD_S + QUIET_S > time.as_secs_f64() {
            break;
        }
        lanes_free_s[lane] = at_s + lasts_s + OVERHEAD_S + random.random_range(GAP_S);
        faults.push(Fault {
            number: 0,
            lane,
            nemesis,
            target: target.unwrap_or(Target::One),
            at: Duration::from_secs_f64(at_s),
            lasts: Duration::from_secs_f64(lasts_s),
            seed: random.random(),
        });
    }
    faults.sort_by_key(|fault| fault.at);
    for (number, fault) in (1..).zip(&mut faults) {
        fault.number = number;
    }
    let is_planned = |nemesis: Nemesis| faults.iter().any(|fault| is_of(fault.nemesis, nemesis));
    let left_out = wanted
        .iter()
        .map(|one| one.nemesis)
        .filter(|nemesis| !is_planned(*nemesis));
    Schedule {
        left_out: left_out.collect(),
        faults,
    }
}

/// One of its kinds, where it stands for several.
pub(super) fn resolved(nemesis: Nemesis, random: &mut ChaCha8Rng) -> Nemesis {
    match nemesis {
        Nemesis::Partition => *Nemesis::PARTITIONS.choose(random).unwrap_or(&Nemesis::Isolate),
        other => other,
    }
}

/// What was planned counts for what was asked for.
fn is_of(planned: Nemesis, asked: Nemesis) -> bool {
    planned == asked || (asked == Nemesis::Partition && Nemesis::PARTITIONS.contains(&planned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn wanted(words: &[&str]) -> Vec<Wanted> {
        words.iter().map(|word| word.parse().expect("known")).collect()
    }

    /// The same seed plans the same, another one something else.
    #[test]
    fn the_seed_decides() {
        let asked = wanted(&["kill", "pause", "partition"]);
        let first = plan(&asked, MINUTE, 7, 2);
        assert_eq!(first, plan(&asked, MINUTE, 7, 2));
        assert_ne!(first, plan(&asked, MINUTE, 8, 2));
        assert!(first.left_out.is_empty(), "{first:?}");
    }

    /// Whatever the seed: each kind is there, in order of time, within the load, one after the other in each lane, on whom it can fall.
    #[test]
    fn plans_keep_their_rules() {
        let asked = wanted(&["kill", "pause:leader", "partition", "term:one", "flap", "loss"]);
        for seed in 0..200 {
            let schedule = plan(&asked, 3 * MINUTE, seed, 3);
            assert!(schedule.left_out.is_empty(), "seed {seed}: {schedule:?}");
            let mut free = [Duration::ZERO; 3];
            for (number, fault) in (1..).zip(&schedule.faults) {
                assert_eq!(fault.number, number);
                assert!(
                    fault.nemesis.targets().contains(&fault.target),
                    "seed {seed}: {fault:?}"
                );
                assert!(fault.nemesis != Nemesis::Pause || fault.target == Target::Leader);
                assert!(fault.at >= free[fault.lane], "seed {seed}: {fault:?}");
                free[fault.lane] = fault.at + fault.lasts;
                assert!(free[fault.lane] < 3 * MINUTE);
            }
            assert!(schedule.faults.iter().all(|fault| fault.nemesis != Nemesis::Partition));
        }
    }

    /// The fixed seed of `tests/selection.rs` plans every kind that stands there.
    #[test]
    fn the_selection_has_every_kind() {
        let asked = wanted(&["kill", "pause", "isolate", "power-cut", "bit-flip", "launch"]);
        let schedule = plan(&asked, Duration::from_secs(30), 3, 2);
        assert!(schedule.left_out.is_empty(), "{schedule:?}");
    }

    /// What finds no time is said.
    #[test]
    fn what_is_left_out_is_said() {
        let schedule = plan(&wanted(&["flap", "loss"]), Duration::from_secs(17), 1, 1);
        assert_eq!(schedule.faults.len() + schedule.left_out.len(), 2, "{schedule:?}");
        assert!(!schedule.left_out.is_empty());
        assert_eq!(plan(&[], MINUTE, 1, 1), Schedule::default());
    }

    /// Unknown words are refused, and say what is known.
    #[test]
    fn words_are_read() {
        assert_eq!(
            "kill:leader".parse(),
            Ok(Wanted {
                nemesis: Nemesis::Kill,
                target: Some(Target::Leader)
            })
        );
        assert!("kil".parse::<Wanted>().is_err_and(|why| why.contains("list")));
        assert!(
            "ring:leader"
                .parse::<Wanted>()
                .is_err_and(|why| why.contains("falls on all"))
        );
        assert!("kill:nobody".parse::<Wanted>().is_err());
    }
}
