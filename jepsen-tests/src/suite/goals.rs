//! Counts that a campaign is to reach, how far it is, and which run serves them next. Pure: what is done stands in the state, what comes next follows
//! from it and the seed.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::fault_records::FaultRecord;
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
const HISTORY_S: f64 = 1.0 / 5_000.0;

/// What is counted. Faults only where their effect was seen, in runs that kept every promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A kind of fault, each alone and on a whole cluster, so that what it cost is its own.
    Fault(Wanted),
    /// Operations of clients.
    Operations,
    /// Leaders killed, paused or cut off during a roll-out, inside a StartTask or not.
    DaemonLeaderFaults,
    /// Those inside a StartTask.
    InsideStartTask,
    /// Damaged files of one node.
    Corruptions,
    /// Small random histories judged by the checker and by brute force.
    Histories,
}

/// A count to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Of what.
    pub counted: Counted,
    /// So many.
    pub count: u64,
}

/// Goals that the same runs serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The leader falls, one way after the other.
    Leaders,
    /// Files of one node rot.
    Corruptions,
    /// One kind of fault, by itself.
    Alone(Wanted),
    /// Any run.
    Operations,
    /// No run at all.
    Histories,
}

const WHOLE_LEADER: [Nemesis; 3] = [Nemesis::Kill, Nemesis::Pause, Nemesis::Isolate];
const DAMAGES: [Nemesis; 3] = [Nemesis::BitFlip, Nemesis::Truncate, Nemesis::Zero];

const fn wanted(nemesis: Nemesis, target: Option<Target>) -> Wanted {
    Wanted { nemesis, target }
}

/// What `--goals issue` stands for: what a release is asked to show.
pub fn issue() -> Vec<Goal> {
    let goal = |counted: Counted, count: u64| Goal { counted, count };
    let leader = |nemesis: Nemesis| Counted::Fault(wanted(nemesis, Some(Target::Leader)));
    vec![
        goal(Counted::Histories, 100_000),
        goal(Counted::Fault(wanted(Nemesis::PowerCut, Some(Target::All))), 50),
        goal(leader(Nemesis::Kill), 100),
        goal(leader(Nemesis::Pause), 50),
        goal(leader(Nemesis::Isolate), 50),
        goal(Counted::Corruptions, 60),
        goal(Counted::DaemonLeaderFaults, 200),
        // A third of all that is asked of leaders: 200 outside, so many inside.
        goal(Counted::InsideStartTask, 100),
        goal(Counted::Operations, 1_000_000),
    ]
}

impl FromStr for Goal {
    type Err = String;

    /// `kill:leader=100`, `operations=1000000`.
    fn from_str(text: &str) -> Result<Goal, String> {
        let wrong = || format!("`{text}` is no goal such as kill:leader=100 or operations=1000000");
        let (word, count) = text.split_once('=').ok_or_else(wrong)?;
        let counted = match word {
            "operations" => Counted::Operations,
            "daemon-leader-faults" => Counted::DaemonLeaderFaults,
            "inside-start-task" => Counted::InsideStartTask,
            "corruptions" => Counted::Corruptions,
            "histories" => Counted::Histories,
            word => Counted::Fault(word.parse()?),
        };
        let count = count.replace('_', "").parse().map_err(|_| wrong())?;
        Ok(Goal { counted, count })
    }
}

impl Counted {
    /// As it is named on the command line.
    pub fn word(self) -> String {
        match self {
            Counted::Fault(wanted) => wanted.word(),
            Counted::Operations => "operations".to_owned(),
            Counted::DaemonLeaderFaults => "daemon-leader-faults".to_owned(),
            Counted::InsideStartTask => "inside-start-task".to_owned(),
            Counted::Corruptions => "corruptions".to_owned(),
            Counted::Histories => "histories".to_owned(),
        }
    }

    fn family(self) -> Family {
        match self {
            Counted::Operations => Family::Operations,
            Counted::Histories => Family::Histories,
            Counted::DaemonLeaderFaults | Counted::InsideStartTask => Family::Leaders,
            Counted::Corruptions => Family::Corruptions,
            Counted::Fault(fault) => {
                let of_leader = fault.target == Some(Target::Leader) || fault.nemesis == Nemesis::Launch;
                if of_leader && (WHOLE_LEADER.contains(&fault.nemesis) || fault.nemesis == Nemesis::Launch) {
                    Family::Leaders
                } else if DAMAGES.contains(&fault.nemesis) {
                    Family::Corruptions
                } else {
                    Family::Alone(fault)
                }
            }
        }
    }

    /// How much of it there is in one run.
    pub fn in_run(self, run: Run<'_>) -> u64 {
        if !run.is_valid() {
            return 0;
        }
        let faults = || run.faults().into_iter().filter(|fault| fault.seen);
        let count = |is_it: &dyn Fn(&FaultRecord) -> bool| faults().filter(|fault| is_it(fault)).count() as u64;
        match self {
            Counted::Fault(wanted) => count(&|fault| fault.alone && wanted.is(fault)),
            Counted::Operations => run.operations(),
            Counted::DaemonLeaderFaults => count(&|fault| fault.rolling && is_of_leader(fault)),
            Counted::InsideStartTask => count(&|fault| fault.rolling && fault.fault == Nemesis::Launch.word()),
            Counted::Corruptions => count(&|fault| DAMAGES.iter().any(|one| fault.fault == one.word())),
            Counted::Histories => 0,
        }
    }

    /// How much of it there is in a campaign.
    pub fn done(self, state: &State) -> u64 {
        match self {
            Counted::Histories => {
                let all = state.value()["agreement"].as_array().into_iter().flatten();
                all.filter_map(|one| one["histories"].as_u64()).sum()
            }
            other => state.runs().into_iter().map(|run| other.in_run(run)).sum(),
        }
    }
}

fn is_of_leader(fault: &FaultRecord) -> bool {
    let struck = WHOLE_LEADER.iter().any(|one| fault.fault == one.word());
    (struck && fault.target == Target::Leader.word()) || fault.fault == Nemesis::Launch.word()
}

impl Wanted {
    /// `kill:leader`, or `kill` on anybody.
    pub fn word(self) -> String {
        match self.target {
            Some(target) => format!("{}:{}", self.nemesis.word(), target.word()),
            None => self.nemesis.word().to_owned(),
        }
    }

    fn is(self, fault: &FaultRecord) -> bool {
        fault.fault == self.nemesis.word() && self.target.is_none_or(|target| fault.target == target.word())
    }
}

impl Family {
    /// As it stands in the state, and for people.
    pub fn word(self) -> String {
        match self {
            Family::Leaders => "leader faults".to_owned(),
            Family::Corruptions => "corruptions".to_owned(),
            Family::Alone(wanted) => wanted.word(),
            Family::Operations => "operations".to_owned(),
            Family::Histories => "histories".to_owned(),
        }
    }

    /// What one more costs until it is known, seconds.
    fn usual_s(self) -> f64 {
        match self {
            Family::Leaders | Family::Alone(_) => FAULT_S,
            Family::Corruptions => CORRUPTION_S,
            Family::Operations => OPERATION_S,
            Family::Histories => HISTORY_S,
        }
    }
}

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
        family.usual_s()
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
        _ => (WHOLE_LEADER, Some(Target::Leader)),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

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

    /// Words of the command line; each goal of the issue can be said in them.
    #[test]
    fn goals_are_read() {
        for goal in issue() {
            let text = format!("{}={}", goal.counted.word(), goal.count);
            assert_eq!(text.parse(), Ok(goal));
        }
        assert_eq!("operations=1_000".parse::<Goal>().map(|goal| goal.count), Ok(1_000));
        assert!(
            "kill:leader"
                .parse::<Goal>()
                .is_err_and(|why| why.contains("kill:leader=100"))
        );
        assert!("kil=3".parse::<Goal>().is_err_and(|why| why.contains("list")));
        assert!("ring:leader=3".parse::<Goal>().is_err());
    }

    /// Only what was seen, alone, in a run that kept every promise counts for a kind of fault; roll-outs count wherever they were.
    #[test]
    fn only_effects_count() {
        let unseen = json!({"fault": "kill", "target": "leader", "seen": false, "alone": true});
        let mixed = json!({"fault": "kill", "target": "leader", "seen": true, "rolling": true});
        let good = vec![
            fault("kill", "leader"),
            fault("kill", "one"),
            unseen,
            mixed,
            fault("launch", "leader"),
            fault("zero", "one"),
        ];
        let state = state(&[
            ("leader faults", "valid", good),
            ("leader faults", "invalid", vec![fault("kill", "leader")]),
        ]);
        let done = |word: &str| word.parse::<Goal>().expect("a goal").counted.done(&state);
        assert_eq!(done("kill:leader=1"), 1);
        assert_eq!(done("kill=1"), 2);
        assert_eq!((done("daemon-leader-faults=1"), done("inside-start-task=1")), (3, 1));
        assert_eq!((done("corruptions=1"), done("operations=1")), (1, 20_000));
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
