//! Daemons: exactly one task an instance in the end, and never two at once but as promised.
//!
//! The promise: never two, except where an answer was lost *and* the listing lagged, or a call reached ECS over 60 s after its deadline (a paused
//! process): then a double is stopped (the younger) within one reconcile, counted and shown.
//!
//! Who counts is the simulated ECS. Tasks and calls are its own, times are those of its clock.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::verdict::{Findings, Verdict};

/// After its deadline a call may reach ECS so late and still make no double, milliseconds.
pub const LATE_MS: u64 = 60_000;

/// A task of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// Where it runs.
    pub instance: String,
    /// `blox:` and the environment.
    pub group: String,
    /// When it came to be.
    pub created_ms: u64,
    /// When it was STOPPED; `None`: it is not.
    pub stopped_ms: Option<u64>,
}

/// A StartTask that had its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// When it took effect, or a little later.
    pub at_ms: u64,
    /// Instances that it named.
    pub instances: Vec<String>,
    /// The caller was not answered, or not before its deadline.
    pub answer_lost: bool,
    /// The caller's deadline, where it is known.
    pub deadline_ms: Option<u64>,
}

impl Start {
    /// From a call of the simulator's `/control/journal`; `None`: another operation, or one that failed. An answer that was held counts as lost.
    pub fn of(call: &Value) -> Option<Start> {
        let took_effect = call["operation"] == "StartTask" && call["outcome"] == "ok";
        let instances = call["resources"].as_array().filter(|_| took_effect)?;
        Some(Start {
            at_ms: call["at_ms"].as_u64()?,
            instances: instances.iter().filter_map(|one| one.as_str().map(id_of)).collect(),
            answer_lost: call["answer"] != "sent",
            deadline_ms: None,
        })
    }
}

/// A span in which ListTasks lagged, by ECS's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// From when on, milliseconds.
    pub from_ms: u64,
    /// Until when, milliseconds.
    pub until_ms: u64,
    /// It showed what was so long ago, milliseconds.
    pub by_ms: u64,
}

/// Less lag than this explains no double, milliseconds: that a list is empty is believed only [`LATE_MS`] after the call's deadline, and a call that
/// takes effect later than its deadline is some seconds late at most.
pub const LAG_MS_MIN: u64 = 45_000;

/// An instance that is to have a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// As tasks name it.
    pub name: String,
    /// Tasks not STOPPED in the end.
    pub current: u64,
}

/// Everything that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// All that are eligible in the end.
    pub instances: Vec<Instance>,
    /// All that ever were.
    pub tasks: Vec<Task>,
    /// All that had an effect, in order.
    pub starts: Vec<Start>,
    /// When ListTasks lagged.
    pub lags: Vec<Lag>,
    /// When other things were done to the cluster, or it recovered from them, milliseconds by ECS's clock: then nothing is owed in time.
    pub disturbed: Vec<Range<u64>>,
    /// The most at once that ECS counted, by (instance, group).
    pub maxima: BTreeMap<(String, String), u64>,
    /// Doubles that Blox says it has stopped, all its processes together; `None`: they were not asked.
    pub counted: Option<u64>,
    /// The longest that one reconcile may take, milliseconds.
    pub reconcile_ms_max: u64,
}

/// A double, and what it is put down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Double {
    /// Where.
    pub instance: String,
    /// The older and the younger.
    pub tasks: [String; 2],
    /// For how long both were there; `None`: they still are.
    pub lasted_ms: Option<u64>,
    /// Something else was done to the cluster meanwhile.
    pub disturbed: bool,
    /// Which exception of the promise explains it, for people; `None`: none.
    pub explanation: Option<String>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// All there were, in order.
    pub doubles: Vec<Double>,
    /// Of everything.
    pub verdict: Verdict,
}

/// Judges a run:
/// - each eligible instance has exactly one task in the end;
/// - each double is explained by one of the two exceptions, ended within one reconcile of undisturbed time, and it was the younger that was stopped;
/// - Blox counted all those that nothing disturbed, and ECS's count of the most at once agrees with its tasks.
pub fn check(record: &Record) -> Judged {
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    for instance in record.instances.iter().filter(|one| one.current != 1) {
        violations.note(format!("{} has {} daemons in the end", instance.name, instance.current));
    }
    if record.instances.is_empty() || record.starts.is_empty() {
        open.note("no instance was to have a daemon, or no task was started");
    }
    let mut places: BTreeMap<(&str, &str), Vec<&Task>> = BTreeMap::new();
    for task in &record.tasks {
        places.entry((&task.instance, &task.group)).or_default().push(task);
    }
    let mut doubles = Vec::new();
    for ((instance, group), tasks) in &mut places {
        tasks.sort_by_key(|task| (task.created_ms, &task.arn));
        let found = pairs(tasks);
        let counted = record
            .maxima
            .get(&((*instance).to_owned(), (*group).to_owned()))
            .copied()
            .unwrap_or(0);
        if counted > 1 && found.is_empty() {
            open.note(format!(
                "ECS counted {counted} at once on {instance}, of {group}; its tasks do not show it"
            ));
        }
        for (older, younger) in found {
            let double = judge(record, older, younger, &mut violations);
            doubles.push(double);
        }
    }
    for ((instance, group), counted) in record.maxima.iter().filter(|(_, counted)| **counted > 1) {
        if !places.contains_key(&(instance.as_str(), group.as_str())) {
            open.note(format!(
                "ECS counted {counted} at once on {instance}, of {group}; no task of it is known"
            ));
        }
    }
    let stopped = doubles
        .iter()
        .filter(|double| double.lasted_ms.is_some() && !double.disturbed);
    let stopped = stopped.count() as u64;
    if let Some(counted) = record.counted.filter(|counted| *counted < stopped) {
        violations.note(format!("Blox counted {counted} doubles, there were {stopped}"));
    }
    Judged {
        doubles,
        verdict: Verdict::of(violations, open),
    }
}

/// Tasks of one place that were there at once, the older first. Tasks in the order of their making.
fn pairs<'a>(tasks: &[&'a Task]) -> Vec<(&'a Task, &'a Task)> {
    let mut pairs = Vec::new();
    for (position, younger) in tasks.iter().enumerate() {
        let still = |older: &&&Task| {
            older
                .stopped_ms
                .is_none_or(|stopped_ms| stopped_ms > younger.created_ms)
        };
        pairs.extend(tasks[..position].iter().filter(still).map(|older| (*older, *younger)));
    }
    pairs
}

fn judge(record: &Record, older: &Task, younger: &Task, violations: &mut Findings) -> Double {
    let ended_ms = match (older.stopped_ms, younger.stopped_ms) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let lasted_ms = ended_ms.map(|ended_ms| ended_ms.saturating_sub(younger.created_ms));
    let disturbed_ms = overlap_ms(&record.disturbed, younger.created_ms..ended_ms.unwrap_or(u64::MAX));
    let explanation = explain(record, older, younger);
    let what = format!(
        "{} and {} on {}, the second made at {} ms",
        older.arn, younger.arn, younger.instance, younger.created_ms
    );
    if explanation.is_none() {
        violations.note(format!("two at once, and no exception explains it: {what}"));
    }
    match lasted_ms {
        None => violations.note(format!("two at once to the end: {what}")),
        Some(lasted_ms) if lasted_ms.saturating_sub(disturbed_ms) > record.reconcile_ms_max => {
            violations.note(format!(
                "two at once for {lasted_ms} ms, {disturbed_ms} of them disturbed, one reconcile is {}: {what}",
                record.reconcile_ms_max
            ));
        }
        Some(_) => {}
    }
    if older.stopped_ms.is_some() && (younger.stopped_ms.is_none() || older.stopped_ms < younger.stopped_ms) {
        violations.note(format!("not the younger was stopped: {what}"));
    }
    Double {
        instance: younger.instance.clone(),
        tasks: [older.arn.clone(), younger.arn.clone()],
        lasted_ms,
        disturbed: disturbed_ms > 0,
        explanation,
    }
}

/// For how long one of these spans, which may overlap each other, lies within another.
fn overlap_ms(spans: &[Range<u64>], within: Range<u64>) -> u64 {
    let mut spans = spans.to_vec();
    spans.sort_by_key(|span| span.start);
    let (mut sum_ms, mut from_ms) = (0, within.start);
    for span in spans {
        let (start, end) = (span.start.max(from_ms), span.end.min(within.end));
        sum_ms += end.saturating_sub(start);
        from_ms = from_ms.max(end);
    }
    sum_ms
}

/// The exception under which a double falls.
fn explain(record: &Record, older: &Task, younger: &Task) -> Option<String> {
    let (first, second) = (made_by(record, older), made_by(record, younger));
    for start in [first, second].into_iter().flatten() {
        if let Some(deadline_ms) = start
            .deadline_ms
            .filter(|deadline_ms| start.at_ms > deadline_ms + LATE_MS)
        {
            return Some(format!(
                "a call reached ECS {} ms after its deadline",
                start.at_ms - deadline_ms
            ));
        }
    }
    let lost = first.filter(|start| start.answer_lost)?;
    let hides =
        |lag: &&Lag| lag.by_ms >= LAG_MS_MIN && lag.from_ms < younger.created_ms && lag.until_ms > older.created_ms;
    let lag = record.lags.iter().find(hides)?;
    Some(format!(
        "the answer of {} ms was lost, and ListTasks lagged by {} ms from {} to {} ms",
        lost.at_ms, lag.by_ms, lag.from_ms, lag.until_ms
    ))
}

/// The call that made a task: the first one on its instance that is noted when the task was there.
fn made_by<'a>(record: &'a Record, task: &Task) -> Option<&'a Start> {
    let instance = id_of(&task.instance);
    record
        .starts
        .iter()
        .find(|start| start.at_ms >= task.created_ms && start.instances.iter().any(|one| id_of(one) == instance))
}

/// Callers name an instance by ARN or by id.
fn id_of(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::testing::{refuted, undecided};

    fn task(arn: &str, created_ms: u64, stopped_ms: Option<u64>) -> Task {
        Task {
            arn: arn.to_owned(),
            instance: "arn:x/c/i".to_owned(),
            group: "blox:e".to_owned(),
            created_ms,
            stopped_ms,
        }
    }

    fn start(at_ms: u64, answer_lost: bool, deadline_ms: Option<u64>) -> Start {
        Start {
            at_ms,
            instances: vec!["i".to_owned()],
            answer_lost,
            deadline_ms,
        }
    }

    fn lag(from_ms: u64) -> Vec<Lag> {
        vec![Lag {
            from_ms,
            until_ms: 95_000,
            by_ms: 80_000,
        }]
    }

    fn record(tasks: Vec<Task>, starts: Vec<Start>, lags: Vec<Lag>) -> Record {
        Record {
            instances: vec![Instance {
                name: "i".to_owned(),
                current: 1,
            }],
            tasks,
            starts,
            lags,
            disturbed: Vec::new(),
            maxima: BTreeMap::new(),
            counted: None,
            reconcile_ms_max: 10_000,
        }
    }

    /// One after the other, on one instance: a roll-out.
    #[test]
    fn one_at_a_time() {
        let record = record(
            vec![task("a", 100, Some(500)), task("b", 500, None)],
            vec![start(100, false, None), start(501, true, None)],
            Vec::new(),
        );
        assert_eq!(
            check(&record),
            Judged {
                doubles: Vec::new(),
                verdict: Verdict::Valid
            }
        );
    }

    /// A double that falls under an exception, was mended and counted.
    fn lost() -> Record {
        Record {
            counted: Some(1),
            maxima: BTreeMap::from([(("arn:x/c/i".to_owned(), "blox:e".to_owned()), 2)]),
            ..record(
                vec![task("a", 100, None), task("b", 90_000, Some(92_000))],
                vec![start(100, true, None), start(90_001, false, None)],
                lag(50),
            )
        }
    }

    #[test]
    fn both_exceptions() {
        let judged = check(&lost());
        assert_eq!(judged.verdict, Verdict::Valid);
        assert_eq!(judged.doubles[0].lasted_ms, Some(2_000));
        assert_eq!(
            judged.doubles[0].explanation.as_deref(),
            Some("the answer of 100 ms was lost, and ListTasks lagged by 80000 ms from 50 to 95000 ms")
        );
        let late = record(
            vec![task("a", 100, None), task("b", 90_000, Some(92_000))],
            vec![start(100, false, None), start(90_001, false, Some(30_000))],
            Vec::new(),
        );
        let judged = check(&late);
        assert_eq!(judged.verdict, Verdict::Valid);
        assert_eq!(
            judged.doubles[0].explanation.as_deref(),
            Some("a call reached ECS 60001 ms after its deadline")
        );
    }

    /// While something else is done to the cluster, neither time nor counts are owed.
    #[test]
    fn disturbances_excuse() {
        let mut record = lost();
        record.tasks[1].stopped_ms = Some(103_000);
        record.disturbed = vec![0..1, 91_000..95_000];
        record.counted = Some(0);
        assert_eq!(check(&record).verdict, Verdict::Valid);
        record.disturbed.clear();
        refuted(&check(&record).verdict, "two at once for 13000 ms");
        refuted(&check(&record).verdict, "Blox counted 0 doubles, there were 1");
    }

    /// Half an exception is none; and a double is to be mended and counted even so.
    #[test]
    fn what_is_not_promised() {
        let with = |change: fn(&mut Record)| {
            let mut record = lost();
            change(&mut record);
            check(&record).verdict
        };
        let unexplained = "no exception explains it: a and b on arn:x/c/i";
        refuted(&with(|one| one.lags.clear()), unexplained);
        refuted(&with(|one| one.starts[0].answer_lost = false), unexplained);
        refuted(&with(|one| one.lags = lag(91_000)), unexplained);
        // It lagged by less than is waited for.
        refuted(&with(|one| one.lags[0].by_ms = 30_000), unexplained);
        refuted(
            &with(|one| (one.starts[1].deadline_ms, one.lags) = (Some(30_001), Vec::new())),
            unexplained,
        );
        refuted(
            &with(|one| one.tasks[1].stopped_ms = Some(100_001)),
            "two at once for 10001 ms, 0 of them disturbed, one reconcile is 10000",
        );
        let disturbed = |one: &mut Record| {
            one.tasks[1].stopped_ms = Some(106_000);
            one.disturbed = vec![89_000..93_000, 92_000..94_000, 105_999..200_000];
        };
        refuted(&with(disturbed), "two at once for 16000 ms, 4001 of them disturbed");
        refuted(&with(|one| one.tasks[1].stopped_ms = None), "two at once to the end");
        refuted(
            &with(|one| (one.tasks[0].stopped_ms, one.tasks[1].stopped_ms) = (Some(92_000), None)),
            "not the younger was stopped",
        );
        refuted(
            &with(|one| one.counted = Some(0)),
            "Blox counted 0 doubles, there were 1",
        );
        refuted(&with(|one| one.instances[0].current = 0), "i has 0 daemons in the end");
        refuted(&with(|one| one.instances[0].current = 2), "i has 2 daemons in the end");
    }

    /// Nothing started, and counts that the tasks do not bear out.
    #[test]
    fn what_proves_nothing() {
        undecided(&check(&Record::default()).verdict, "no task was started");
        let mut record = lost();
        record.tasks[1].created_ms = 92_000;
        record.tasks[0].stopped_ms = Some(92_000);
        undecided(&check(&record).verdict, "its tasks do not show it");
        record.tasks.clear();
        undecided(&check(&record).verdict, "no task of it is known");
    }

    /// The journal's own form.
    #[test]
    fn the_journal_is_read() {
        let call = |operation: &str, outcome: &str, answer: &str| json!({"at_ms": 7, "operation": operation, "resources": ["arn:x/c/i"], "outcome": outcome, "answer": answer});
        assert_eq!(Start::of(&call("StartTask", "ok", "lost")), Some(start(7, true, None)));
        assert_eq!(Start::of(&call("StartTask", "ok", "sent")), Some(start(7, false, None)));
        assert_eq!(Start::of(&call("StopTask", "ok", "sent")), None);
        assert_eq!(Start::of(&call("StartTask", "ThrottlingException", "sent")), None);
    }
}
