//! Judges "never two" from outside: how many tasks not yet STOPPED each instance has of one group, and of one
//! (family, started-by), at every moment and at most.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Pairs remembered; beyond it, pairs without a task that never had two are forgotten.
const PAIRS_MAX: usize = 500_000;

/// What tasks of one instance are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Group(String),
    FamilyAndStarter { family: String, started_by: String },
}

/// One counted (instance, subject).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    pub(crate) region: String,
    pub(crate) cluster: String,
    pub(crate) instance: String,
    pub(crate) subject: Subject,
}

#[derive(Debug, Default)]
struct Count {
    tasks: BTreeSet<String>,
    maximum: usize,
    tasks_at_maximum: Vec<String>,
    above_one_since_ms: Option<u64>,
    above_one_ended_ms: u64,
    above_one_longest_ms: u64,
}

/// One count as the control routes show it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CountShown {
    pub(crate) region: String,
    pub(crate) cluster: String,
    pub(crate) instance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_by: Option<String>,
    pub(crate) current: usize,
    pub(crate) maximum: usize,
    /// For how long in all more than one was not STOPPED.
    pub(crate) above_one_ms: u64,
    pub(crate) above_one_longest_ms: u64,
    pub(crate) tasks: Vec<String>,
    pub(crate) tasks_at_maximum: Vec<String>,
}

/// Counts since the start or the last reset.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    counts: BTreeMap<Pair, Count>,
}

impl Judge {
    /// A task came to be.
    pub(crate) fn started(&mut self, pair: Pair, task: &str, now_ms: u64) {
        if self.counts.len() >= PAIRS_MAX {
            self.counts
                .retain(|_, count| count.maximum > 1 || !count.tasks.is_empty());
        }
        let count = self.counts.entry(pair).or_default();
        count.tasks.insert(task.into());
        if count.tasks.len() > 1 {
            count.above_one_since_ms.get_or_insert(now_ms);
        }
        if count.tasks.len() > count.maximum {
            count.maximum = count.tasks.len();
            count.tasks_at_maximum = count.tasks.iter().cloned().collect();
        }
    }

    /// A task became STOPPED.
    pub(crate) fn stopped(&mut self, pair: &Pair, task: &str, now_ms: u64) {
        let Some(count) = self.counts.get_mut(pair) else { return };
        count.tasks.remove(task);
        if count.tasks.len() <= 1
            && let Some(since_ms) = count.above_one_since_ms.take()
        {
            let span_ms = now_ms.saturating_sub(since_ms);
            count.above_one_ended_ms += span_ms;
            count.above_one_longest_ms = count.above_one_longest_ms.max(span_ms);
        }
    }

    /// Forgets maxima and spans; what is not yet STOPPED goes on being counted.
    pub(crate) fn reset(&mut self, now_ms: u64) {
        self.counts.retain(|_, count| !count.tasks.is_empty());
        for count in self.counts.values_mut() {
            count.maximum = count.tasks.len();
            count.tasks_at_maximum = count.tasks.iter().cloned().collect();
            count.above_one_since_ms = (count.tasks.len() > 1).then_some(now_ms);
            count.above_one_ended_ms = 0;
            count.above_one_longest_ms = 0;
        }
    }

    /// The counts that `chosen` lets pass, in the order of their pairs.
    pub(crate) fn shown(&self, now_ms: u64, chosen: impl Fn(&Pair) -> bool) -> Vec<CountShown> {
        self.counts
            .iter()
            .filter(|(pair, _)| chosen(pair))
            .map(|(pair, count)| count.shown(pair, now_ms))
            .collect()
    }
}

impl Count {
    fn shown(&self, pair: &Pair, now_ms: u64) -> CountShown {
        let (group, family, started_by) = match &pair.subject {
            Subject::Group(group) => (Some(group.clone()), None, None),
            Subject::FamilyAndStarter { family, started_by } => (None, Some(family.clone()), Some(started_by.clone())),
        };
        let going_on_ms = self
            .above_one_since_ms
            .map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        CountShown {
            region: pair.region.clone(),
            cluster: pair.cluster.clone(),
            instance: pair.instance.clone(),
            group,
            family,
            started_by,
            current: self.tasks.len(),
            maximum: self.maximum,
            above_one_ms: self.above_one_ended_ms + going_on_ms,
            above_one_longest_ms: self.above_one_longest_ms.max(going_on_ms),
            tasks: self.tasks.iter().cloned().collect(),
            tasks_at_maximum: self.tasks_at_maximum.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The maximum and the time above one outlive the moment, and a reset keeps only what still runs.
    #[test]
    fn maximum_and_span_are_remembered() {
        let pair = Pair {
            region: "r".into(),
            cluster: "c".into(),
            instance: "i".into(),
            subject: Subject::Group("g".into()),
        };
        let mut judge = Judge::default();
        judge.started(pair.clone(), "a", 100);
        judge.started(pair.clone(), "b", 200);
        judge.stopped(&pair, "a", 250);
        judge.stopped(&pair, "a", 900);
        let shown = judge.shown(1_000, |_| true);
        assert_eq!((shown[0].current, shown[0].maximum, shown[0].above_one_ms), (1, 2, 50));
        assert_eq!(shown[0].tasks_at_maximum, ["a", "b"]);
        judge.reset(1_000);
        let shown = judge.shown(1_000, |_| true);
        assert_eq!(
            (shown[0].maximum, shown[0].above_one_ms, shown[0].tasks.as_slice()),
            (1, 0, ["b".to_string()].as_slice())
        );
    }
}
