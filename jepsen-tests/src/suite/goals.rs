//! Counts that a campaign is to reach, and how much of each is done by its state. Pure.

use std::str::FromStr;

use super::fault_records::FaultRecord;
use super::schedule::Wanted;
use super::state::{Run, State};
use crate::nemesis::{Nemesis, Target};

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

/// Ways in which a leader falls, beside those inside a StartTask.
pub(super) const BLOWS: [Nemesis; 3] = [Nemesis::Kill, Nemesis::Pause, Nemesis::Isolate];
/// Ways in which a file is damaged.
pub(super) const DAMAGES: [Nemesis; 3] = [Nemesis::BitFlip, Nemesis::Truncate, Nemesis::Zero];

/// A kind of fault as it is wanted.
pub(super) const fn wanted(nemesis: Nemesis, target: Option<Target>) -> Wanted {
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

    /// Which runs serve it.
    pub fn family(self) -> Family {
        match self {
            Counted::Operations => Family::Operations,
            Counted::Histories => Family::Histories,
            Counted::DaemonLeaderFaults | Counted::InsideStartTask => Family::Leaders,
            Counted::Corruptions => Family::Corruptions,
            Counted::Fault(fault) => {
                let of_leader = fault.target == Some(Target::Leader) || fault.nemesis == Nemesis::Launch;
                if of_leader && (BLOWS.contains(&fault.nemesis) || fault.nemesis == Nemesis::Launch) {
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

/// The leader was killed, paused or cut off, inside a StartTask or not.
pub(super) fn is_of_leader(fault: &FaultRecord) -> bool {
    let struck = BLOWS.iter().any(|one| fault.fault == one.word());
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
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

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
}
