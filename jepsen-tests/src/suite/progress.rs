//! How far a campaign is with its goals, and which run serves them next. Pure: what is done stands in the state, what comes next follows from it.

use std::collections::BTreeMap;

use super::goals::{BLOWS, Counted, DAMAGES, Family, Goal, wanted};
use super::schedule::Wanted;
use super::state::{Run, State};
use crate::nemesis::{Nemesis, Target};

/// Kinds of faults in a run that serves goals, those that are far behind several times.
const SLOTS: usize = 8;
/// After so many runs on this machine that brought its goals nothing, a family is set aside.
const RUNS_IN_VAIN_MAX: usize = 2;
/// What one more costs until a campaign knows better, seconds.
const FAULT_S: f64 = 9.0;
const CORRUPTION_S: f64 = 15.0;
const OPERATION_S: f64 = 1.0 / 120.0;
const HISTORY_S: f64 = 1.0 / 50_000.0;

/// How far a campaign is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Each goal, and how much of it is done.
    pub goals: Vec<(Goal, u64)>,
    /// Families that are set aside, since runs on this machine bring them nothing.
    pub in_vain: Vec<Family>,
    /// How long the rest takes, by what it took until now, seconds.
    pub left_s: f64,
    /// What is served next; `None`: nothing is left, or nothing that could be served.
    pub next: Option<(Family, Vec<Wanted>)>,
}

/// How far a campaign is, and what it does next on the machine of this place.
pub fn progress(goals: &[Goal], state: &State, machine: usize) -> Progress {
    let goals: Vec<(Goal, u64)> = goals.iter().map(|goal| (*goal, goal.counted.done(state))).collect();
    let mut families: Vec<Family> = Vec::new();
    for (goal, _) in goals.iter().filter(|(goal, done)| *done < goal.count) {
        let family = goal.counted.family();
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let (in_vain, served): (Vec<Family>, Vec<Family>) = families
        .into_iter()
        .partition(|family| is_in_vain(*family, &goals, state, machine));
    let left_s = served.iter().map(|family| left_s(*family, &goals, state)).sum();
    let behind = |family: &Family| -> f64 {
        let own = || goals.iter().filter(|(goal, _)| goal.counted.family() == *family);
        let parts = own().map(|(goal, done)| (*done as f64 / goal.count as f64).min(1.0));
        parts.sum::<f64>() / own().count().max(1) as f64
    };
    // Whoever is furthest behind; operations come with everything, so they come last.
    let next = served.iter().copied().min_by(|one, other| {
        let key = |family: &Family| (*family == Family::Operations, behind(family));
        let ((one_last, one), (other_last, other)) = (key(one), key(other));
        one_last.cmp(&other_last).then(one.total_cmp(&other))
    });
    let next = next.map(|family| (family, slots(family, &goals)));
    Progress {
        goals,
        in_vain,
        left_s,
        next,
    }
}

/// The last runs that served it on this machine brought it nothing.
fn is_in_vain(family: Family, goals: &[(Goal, u64)], state: &State, machine: usize) -> bool {
    let word = family.word();
    let runs = state.runs();
    let own = runs
        .iter()
        .rev()
        .filter(|run| run.machine() == machine && run.serves() == Some(&word));
    let last: Vec<&Run<'_>> = own.take(RUNS_IN_VAIN_MAX).collect();
    let brought = |run: &Run<'_>| {
        let mut own = goals.iter().filter(|(goal, _)| goal.counted.family() == family);
        own.any(|(goal, _)| goal.counted.in_run(*run) > 0)
    };
    last.len() == RUNS_IN_VAIN_MAX && !last.into_iter().any(brought)
}

/// What is left of a family's goals; goals that the same faults serve count once.
fn left(family: Family, goals: &[(Goal, u64)]) -> u64 {
    match family {
        Family::Leaders | Family::Corruptions | Family::Alone(_) => weights(family, goals).values().sum(),
        Family::Operations | Family::Histories => {
            let own = goals.iter().filter(|(goal, _)| goal.counted.family() == family);
            own.map(|(goal, done)| goal.count.saturating_sub(*done)).sum()
        }
    }
}

fn left_s(family: Family, goals: &[(Goal, u64)], state: &State) -> f64 {
    let word = family.word();
    let runs = state.runs();
    // Operations come with any run.
    let own = runs
        .iter()
        .filter(|run| family == Family::Operations || run.serves() == Some(&word));
    let (mut took_s, mut brought) = (0.0, 0);
    for run in own {
        took_s += run.took_s();
        brought += match family {
            Family::Operations => run.operations(),
            _ => run.faults().iter().filter(|fault| fault.seen).count() as u64,
        };
    }
    let each_s = if brought > 0 {
        took_s / brought as f64
    } else {
        usual_s(family)
    };
    left(family, goals) as f64 * each_s
}

/// How many of each kind of fault a family's goals still need.
fn weights(family: Family, goals: &[(Goal, u64)]) -> BTreeMap<(Nemesis, Option<Target>), u64> {
    let mut weights: BTreeMap<(Nemesis, Option<Target>), u64> = BTreeMap::new();
    let mut add = |wanted: Wanted, count: u64| *weights.entry((wanted.nemesis, wanted.target)).or_default() += count;
    let (mut together, mut inside) = (0, 0);
    for (goal, done) in goals.iter().filter(|(goal, _)| goal.counted.family() == family) {
        let left = goal.count.saturating_sub(*done);
        match goal.counted {
            Counted::Fault(wanted) => add(wanted, left),
            Counted::InsideStartTask => inside = left,
            Counted::DaemonLeaderFaults | Counted::Corruptions => together = left,
            Counted::Operations | Counted::Histories => {}
        }
    }
    if inside > 0 {
        add(wanted(Nemesis::Launch, Some(Target::Leader)), inside);
    }
    // What the goals of single kinds do not bring is shared out.
    let alone: u64 = weights.values().sum();
    let (kinds, target) = match family {
        Family::Corruptions => (DAMAGES, None),
        _ => (BLOWS, Some(Target::Leader)),
    };
    let more = together.saturating_sub(alone);
    for (place, nemesis) in kinds.into_iter().enumerate() {
        let share = (more + place as u64) / kinds.len() as u64;
        *weights.entry((nemesis, target)).or_default() += share;
    }
    weights.retain(|_, count| *count > 0);
    weights
}

/// The kinds of faults of the next run, as often as they are behind.
fn slots(family: Family, goals: &[(Goal, u64)]) -> Vec<Wanted> {
    let weights = weights(family, goals);
    let all: u64 = weights.values().sum();
    let mut slots = Vec::new();
    for ((nemesis, target), count) in &weights {
        let part = (*count as f64 * SLOTS as f64 / all as f64).round() as usize;
        slots.extend(std::iter::repeat_n(wanted(*nemesis, *target), part.max(1)));
    }
    // One kind by itself needs no weight.
    if weights.len() == 1 {
        slots.truncate(1);
    }
    slots
}

/// What one more costs until it is known, seconds.
fn usual_s(family: Family) -> f64 {
    match family {
        Family::Leaders | Family::Alone(_) => FAULT_S,
        Family::Corruptions => CORRUPTION_S,
        Family::Operations => OPERATION_S,
        Family::Histories => HISTORY_S,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::suite::goals::issue;

    fn goals(words: &[&str]) -> Vec<Goal> {
        words.iter().map(|word| word.parse().expect("a goal")).collect()
    }

    fn fault(name: &str, target: &str) -> Value {
        json!({"fault": name, "target": target, "seen": true, "alone": true, "rolling": true})
    }

    fn state(runs: &[(&str, &str, Vec<Value>)]) -> State {
        let mut state = State::new(Path::new("x.json"), json!({"seed": 7}));
        for (serves, verdict, faults) in runs {
            state.add_run(
                json!({"serves": serves, "verdict": verdict, "faults": faults, "took_s": 100.0, "machine": 0,
                "figures": {"operations": 20_000}}),
            );
        }
        state
    }

    /// Whoever is furthest behind is served next, in the proportion of what is left; nothing is left in the end.
    #[test]
    fn the_next_run_serves_what_is_behind() {
        let asked = goals(&[
            "power-cut:all=2",
            "kill:leader=6",
            "pause:leader=2",
            "corruptions=3",
            "operations=50000",
        ]);
        let cut = ("power-cut:all", "valid", vec![fault("power-cut", "all")]);
        let begun = progress(&asked, &state(std::slice::from_ref(&cut)), 0);
        let (family, slots) = begun.next.clone().expect("much is left");
        assert_eq!(family, Family::Leaders);
        let words: Vec<String> = slots.iter().map(|one| one.word()).collect();
        assert_eq!(
            words.iter().filter(|word| *word == "kill:leader").count(),
            6,
            "{words:?}"
        );
        assert_eq!(
            words.iter().filter(|word| *word == "pause:leader").count(),
            2,
            "{words:?}"
        );
        // One power cut of 100 s, eight faults of leaders, three corruptions, 30,000 operations at 100 s for 20,000.
        let expected_s = 100.0 + 8.0 * FAULT_S + 3.0 * CORRUPTION_S + 150.0;
        assert!((begun.left_s - expected_s).abs() < 1e-6, "{begun:?}");
        let leaders: Vec<Value> = (0..6)
            .map(|_| fault("kill", "leader"))
            .chain((0..2).map(|_| fault("pause", "leader")))
            .collect();
        let damages = ["zero", "zero", "truncate"].map(|name| fault(name, "one")).to_vec();
        let all = state(&[
            cut.clone(),
            cut,
            ("leader faults", "valid", leaders),
            ("corruptions", "valid", damages),
        ]);
        let ended = progress(&asked, &all, 0);
        assert_eq!((ended.next, ended.left_s), (None, 0.0));
    }

    /// What a machine cannot do is set aside after two runs in vain; another machine tries again.
    #[test]
    fn what_is_in_vain_is_set_aside() {
        let asked = goals(&["power-cut:all=2"]);
        let none = ("power-cut:all", "valid", Vec::new());
        let tried = state(&[none.clone(), none]);
        let here = progress(&asked, &tried, 0);
        assert_eq!(here.next, None);
        assert_eq!(here.in_vain.len(), 1);
        assert!(progress(&asked, &tried, 1).next.is_some());
    }

    /// The goals of the issue fit into runs of at most a slot more than there are, each kind at least once.
    #[test]
    fn the_issue_is_served() {
        let begun = progress(&issue(), &state(&[]), 0);
        assert_eq!(begun.next.as_ref().map(|(family, _)| *family), Some(Family::Histories));
        let (of_leaders, of_files) = (
            slots(Family::Leaders, &begun.goals),
            slots(Family::Corruptions, &begun.goals),
        );
        let kinds = |slots: &[Wanted]| {
            let mut words: Vec<String> = slots.iter().map(|one| one.word()).collect();
            words.dedup();
            words
        };
        assert_eq!(
            kinds(&of_leaders),
            ["kill:leader", "pause:leader", "isolate:leader", "launch:leader"]
        );
        assert!(of_leaders.len() <= SLOTS + 1, "{of_leaders:?}");
        assert_eq!(kinds(&of_files), ["bit-flip", "truncate", "zero"]);
        assert_eq!(left(Family::Leaders, &begun.goals), 300);
    }
}
