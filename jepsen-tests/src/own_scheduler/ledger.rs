//! Copies as the simulated ECS recorded them: how many run, whether one launch has started two, how many there were at once. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// Every task that a group ever had. ECS forgets a stopped one after an hour; this does not.
#[derive(Debug)]
pub struct Ledger {
    group: String,
    tasks: BTreeMap<String, Recorded>,
}

/// A task as ECS showed it last.
#[derive(Debug)]
struct Recorded {
    /// Its `startedBy`.
    launch: String,
    runs: bool,
    created_ms: u64,
    /// None: it is not STOPPED.
    stopped_ms: Option<u64>,
}

/// What a ledger says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Are RUNNING.
    pub running: usize,
    /// Were ever started.
    pub started: usize,
    /// Launches that started more than one task, a sentence each.
    pub twice: Vec<String>,
    /// So many were not STOPPED at once, at most.
    pub at_once_max: usize,
}

impl Ledger {
    /// Knows nothing yet of this group.
    pub fn new(group: &str) -> Ledger {
        Ledger {
            group: group.to_owned(),
            tasks: BTreeMap::new(),
        }
    }

    /// From `/control/state?cluster=&documents=true`; an error where it does not say what is needed: silence proves nothing.
    pub fn take_in(&mut self, state: &Value) -> Result<(), String> {
        let regions = state["regions"].as_object().ok_or("/control/state shows no regions")?;
        let clusters = regions
            .values()
            .flat_map(|region| region["clusters"].as_array().into_iter().flatten());
        let tasks = clusters.flat_map(|cluster| cluster["tasks"].as_array().into_iter().flatten());
        for task in tasks.filter(|task| task["group"] == *self.group) {
            let unknown = || format!("/control/state shows a task in another form: {task}");
            let arn = task["taskArn"].as_str().ok_or_else(unknown)?;
            let stopped = task["lastStatus"] == "STOPPED";
            let recorded = Recorded {
                launch: task["startedBy"].as_str().ok_or_else(unknown)?.to_owned(),
                runs: task["lastStatus"] == "RUNNING",
                created_ms: moment_ms(&task["createdAt"]).ok_or_else(unknown)?,
                stopped_ms: if stopped {
                    Some(moment_ms(&task["stoppedAt"]).ok_or_else(unknown)?)
                } else {
                    None
                },
            };
            self.tasks.insert(arn.to_owned(), recorded);
        }
        Ok(())
    }

    /// Over everything taken in so far.
    pub fn count(&self) -> Copies {
        let mut by_launch: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (arn, task) in &self.tasks {
            by_launch.entry(&task.launch).or_default().push(arn);
        }
        let twice = by_launch.iter().filter(|(_, tasks)| tasks.len() > 1);
        Copies {
            running: self.tasks.values().filter(|task| task.runs).count(),
            started: self.tasks.len(),
            twice: twice
                .map(|(launch, tasks)| format!("launch {launch} started {}: {}", tasks.len(), tasks.join(", ")))
                .collect(),
            at_once_max: self.at_once_max(),
        }
    }

    fn at_once_max(&self) -> usize {
        // Where one ends in the millisecond in which another begins, the end comes first: it is what the beginning waited for.
        let mut steps: Vec<(u64, i64)> = Vec::new();
        for task in self.tasks.values() {
            steps.push((task.created_ms, 1));
            steps.extend(task.stopped_ms.map(|at_ms| (at_ms, -1)));
        }
        steps.sort_unstable();
        let levels = steps.iter().scan(0, |level, (_, step)| {
            *level += step;
            Some(*level)
        });
        usize::try_from(levels.max().unwrap_or(0)).unwrap_or(0)
    }
}

/// ECS's API shows moments in seconds, with milliseconds as a fraction.
fn moment_ms(seconds: &Value) -> Option<u64> {
    Some((seconds.as_f64()? * 1_000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// (ARN, launch, status, created, stopped), times in seconds.
    type Shown = (&'static str, &'static str, &'static str, f64, Option<f64>);

    fn state(tasks: &[Shown]) -> Value {
        let task = |(arn, launch, status, created, stopped): &Shown| json!({"taskArn": arn, "startedBy": launch, "group": "spread:x", "lastStatus": status, "createdAt": created, "stoppedAt": stopped});
        let mut tasks: Vec<Value> = tasks.iter().map(task).collect();
        tasks.push(json!({"taskArn": "other", "group": "family:web", "lastStatus": "RUNNING"}));
        json!({"regions": {"r": {"clusters": [{"tasks": tasks}]}}})
    }

    fn count(states: &[Value]) -> Copies {
        let mut ledger = Ledger::new("spread:x");
        for state in states {
            ledger.take_in(state).expect("readable");
        }
        ledger.count()
    }

    /// A copy that died and its successor are two launches and one copy at a time, even within one millisecond.
    #[test]
    fn a_successor_is_no_double() {
        let found = count(&[state(&[
            ("a", "1", "STOPPED", 10.0, Some(20.001)),
            ("b", "2", "RUNNING", 20.001, None),
            ("c", "3", "PENDING", 5.0, None),
        ])]);
        let expected = Copies {
            running: 1,
            started: 3,
            twice: Vec::new(),
            at_once_max: 2,
        };
        assert_eq!(found, expected);
    }

    /// Two tasks of one launch are named, also where ECS has forgotten the first of them.
    #[test]
    fn two_tasks_of_one_launch_are_found() {
        let earlier = state(&[("a", "1", "STOPPED", 10.0, Some(11.0))]);
        let found = count(&[earlier, state(&[("b", "1", "RUNNING", 20.0, None)])]);
        assert_eq!(found.twice, ["launch 1 started 2: a, b"]);
        assert_eq!((found.started, found.at_once_max), (2, 1));
    }

    /// A launch that was given up too early shows as one copy more at a time.
    #[test]
    fn one_too_many_at_a_time_is_seen() {
        let found = count(&[state(&[
            ("a", "1", "STOPPED", 10.0, Some(12.0)),
            ("b", "2", "RUNNING", 11.0, None),
        ])]);
        assert_eq!((found.twice.len(), found.at_once_max), (0, 2));
    }

    /// An answer that does not say it is an error.
    #[test]
    fn silence_proves_nothing() {
        let mut ledger = Ledger::new("spread:x");
        assert!(ledger.take_in(&json!({})).is_err());
        assert!(ledger.take_in(&state(&[("a", "1", "STOPPED", 10.0, None)])).is_err());
    }
}
