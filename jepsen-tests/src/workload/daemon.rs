//! A daemon that is rolled out again and again while answers to StartTask are lost, late, or the calls themselves are, and ListTasks lags: one a container
//! instance.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::ecs::Ecs;
use super::lag::Lags;
use super::{Site, Work, WorkloadError};
use crate::check::daemon::{Instance, Lag, Record, Start, Task};
use crate::client::Client;
use crate::simulator::{RollOuts, SimulatorError};
use crate::suite::{Folder, FolderError};

/// Between two answers that go wrong, milliseconds.
const BETWEEN_MS: std::ops::Range<u64> = 500..4_000;
/// An answer is held so long, milliseconds: some longer than a call may take.
const HELD_MS: std::ops::Range<u64> = 200..12_000;
/// A call takes effect so late, milliseconds.
const LATE_MS: std::ops::Range<u64> = 200..15_000;
/// How long the last roll-out may take.
const ROLLED_OUT: Duration = Duration::from_secs(150);
/// What a node says whenever its counter of stopped doubles goes up: unlike that, it outlives the process.
const STOPPED: &str = "a double is stopped";
/// A double is stopped within one reconcile: the pause that compose sets, 20 s, and a pass over the fleet.
const RECONCILE_MS_MAX: u64 = 30_000;

struct Daemon {
    site: Site,
    ecs: Ecs,
    roll_outs: Option<RollOuts>,
    troubles: JoinHandle<()>,
    lags: Lags,
}

/// The first roll-out begins at once.
pub(super) async fn begin(site: &Site) -> Result<impl Work + use<>, WorkloadError> {
    let ecs = Ecs::of(&site.simulator)?;
    site.simulator.count_anew().await?;
    let client = Client::new().map_err(|error| SimulatorError::new(error.to_string()))?;
    let roll_outs = RollOuts::begin(site.simulator.clone(), Arc::clone(&site.nodes), client);
    Ok(Daemon {
        site: site.clone(),
        troubles: tokio::spawn(trouble(ecs.clone(), site.seed)),
        lags: Lags::begin(&ecs, site.seed),
        ecs,
        roll_outs: Some(roll_outs),
    })
}

impl Work for Daemon {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.troubles.abort();
            self.lags.stop();
            // Where it does not answer, the roll-out does not end in time, and that is said.
            let _ = self.ecs.behave().await;
        })
    }

    /// The last roll-out goes over all instances.
    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(async {
            let path = Folder::open(&self.site.folder).ecs_lags();
            let all = self.lags.end().await;
            let lags: Vec<Value> = all
                .iter()
                .map(|lag| json!({"from_ms": lag.from_ms, "until_ms": lag.until_ms, "by_ms": lag.by_ms}))
                .collect();
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| std::fs::write(&path, json!(lags).to_string()))
                .map_err(|source| WorkloadError::NotWritten { path, source })?;
            if let Some(roll_outs) = self.roll_outs.take() {
                roll_outs.end(ROLLED_OUT * self.site.patience).await?;
            }
            Ok(())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.troubles.abort();
    }
}

/// Sets one rule on StartTask after the other.
async fn trouble(ecs: Ecs, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xDAE);
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(BETWEEN_MS))).await;
        let rule = match random.random_range(0..4) {
            0 => json!({"operation": "StartTask", "action": "lose", "calls": 1}),
            1 => {
                json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": random.random_range(HELD_MS), "then": "drop"})
            }
            2 => {
                json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": random.random_range(HELD_MS), "then": "answer"})
            }
            _ => {
                json!({"operation": "StartTask", "action": "delay", "calls": 1, "hold_ms": random.random_range(LATE_MS)})
            }
        };
        // Too many rules stand, or it is busy: the next one will do.
        let _ = ecs.answers(&rule).await;
    }
}

/// The record of a run, from its files. `disturbed`: when the cluster had something else to suffer, milliseconds since 1970; `patience`: a reconcile may
/// take so many times as long.
pub fn record(
    folder: &Folder,
    nodes: &[String],
    disturbed: Vec<Range<u64>>,
    patience: u64,
) -> Result<Record, FolderError> {
    let path = folder.ecs();
    let ecs = folder.read_json(&path)?;
    let record = of_memory(&ecs["memory"]).map_err(|why| FolderError::Wrong { path, why })?;
    let mut counted = 0;
    for node in nodes {
        for (_, path) in folder.logs_of(node)? {
            counted += folder
                .read(&path)?
                .lines()
                .filter(|line| line.contains(STOPPED))
                .count() as u64;
        }
    }
    Ok(Record {
        lags: lags(folder)?,
        disturbed,
        counted: Some(counted),
        reconcile_ms_max: RECONCILE_MS_MAX * patience,
        ..record
    })
}

fn lags(folder: &Folder) -> Result<Vec<Lag>, FolderError> {
    let path = folder.ecs_lags();
    if !path.exists() {
        return Ok(Vec::new());
    }
    let all = folder.read_json(&path)?;
    let lag = |one: &Value| {
        Some(Lag {
            from_ms: one["from_ms"].as_u64()?,
            until_ms: one["until_ms"].as_u64()?,
            by_ms: one["by_ms"].as_u64()?,
        })
    };
    Ok(all.as_array().into_iter().flatten().filter_map(lag).collect())
}

fn of_memory(memory: &Value) -> Result<Record, String> {
    let pairs = memory["counts"]["pairs"].as_array().ok_or("ECS counts nothing")?;
    let (mut current, mut maxima) = (BTreeMap::new(), BTreeMap::new());
    let mut clusters_with_daemons = Vec::new();
    for pair in pairs {
        let instance = id_of(&pair["instance"]);
        *current.entry(instance.clone()).or_insert(0) += pair["current"].as_u64().unwrap_or(0);
        let group = pair["group"].as_str().unwrap_or_default().to_owned();
        maxima.insert((instance, group), pair["maximum"].as_u64().unwrap_or(0));
        clusters_with_daemons.push(pair["cluster"].as_str().unwrap_or_default().to_owned());
    }
    let mut instances = Vec::new();
    for cluster in clusters_of(&memory["summary"])? {
        let name = cluster["cluster"]["clusterName"].as_str().unwrap_or_default();
        if !clusters_with_daemons.iter().any(|one| one == name) {
            continue;
        }
        for instance in cluster["instances"].as_array().into_iter().flatten() {
            if instance["status"] == "ACTIVE" && instance["agentConnected"] == true && instance["dead"] != true {
                let name = id_of(&instance["containerInstanceArn"]);
                let current = current.get(&name).copied().unwrap_or(0);
                instances.push(Instance { name, current });
            }
        }
    }
    let clusters = clusters_of(&memory["state"])?.into_iter();
    let tasks = clusters.flat_map(|cluster| cluster["tasks"].as_array().into_iter().flatten());
    let calls = memory["calls"].as_array().into_iter().flatten();
    Ok(Record {
        instances,
        tasks: tasks.filter_map(task_of).collect(),
        starts: calls.filter_map(Start::of).collect(),
        maxima,
        ..Record::default()
    })
}

fn clusters_of(state: &Value) -> Result<Vec<&Value>, String> {
    let regions = state["regions"].as_object().ok_or("ECS shows no regions")?;
    let clusters = regions
        .values()
        .map(|region| region["clusters"].as_array().into_iter().flatten());
    Ok(clusters.flatten().collect())
}

/// A task of the daemon; `None`: another's.
fn task_of(task: &Value) -> Option<Task> {
    let group = task["group"].as_str().filter(|group| group.starts_with("blox:"))?;
    let ms = |name: &str| task[name].as_f64().map(|seconds| (seconds * 1_000.0).round() as u64);
    Some(Task {
        arn: task["taskArn"].as_str()?.to_owned(),
        instance: id_of(&task["containerInstanceArn"]),
        group: group.to_owned(),
        created_ms: ms("createdAt")?,
        stopped_ms: ms("stoppedAt"),
    })
}

fn id_of(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lags and counts of doubles are found in the folder, those of every life of a node.
    #[test]
    fn the_folder_is_read() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-daemon-{}", std::process::id())));
        let state = json!({"regions": {}});
        let ecs = json!({"memory": {"counts": {"pairs": []}, "state": state, "summary": state, "calls": []}});
        folder.write(&folder.ecs(), ecs.to_string()).expect("writable");
        let lags = json!([{"from_ms": 5, "until_ms": 9, "by_ms": 70_000}]);
        folder.write(&folder.ecs_lags(), lags.to_string()).expect("writable");
        for (log, times) in [("n-abc.log", 2), ("n-def.log", 1), ("other-abc.log", 5)] {
            let line = "WARN n blox_scheduler::executor::stop: a double is stopped environment=e instance=i task=t\n";
            folder
                .write(&folder.logs().join(log), line.repeat(times))
                .expect("writable");
        }
        let record = record(&folder, &["n".to_owned()], vec![1..2, 5..9], 3).expect("readable");
        std::fs::remove_dir_all(folder.path()).expect("removable");
        let lag = Lag {
            from_ms: 5,
            until_ms: 9,
            by_ms: 70_000,
        };
        assert_eq!((&record.lags[..], record.counted), (&[lag][..], Some(3)));
        assert_eq!(
            (record.reconcile_ms_max, &record.disturbed[..]),
            (90_000, &[1..2, 5..9][..])
        );
    }

    /// Tasks of others, instances that are not eligible, and clusters without daemons do not count.
    #[test]
    fn ecs_memory_is_read() {
        let task = |group: &str, stopped: Value| json!({"taskArn": "arn:task/t", "containerInstanceArn": "arn:i/c/a", "group": group, "createdAt": 1.5, "stoppedAt": stopped});
        let instance = |id: &str, status: &str| json!({"containerInstanceArn": format!("arn:i/c/{id}"), "status": status, "agentConnected": true});
        let cluster = json!({"cluster": {"clusterName": "c"}, "instances": [instance("a", "ACTIVE"), instance("b", "DRAINING"), instance("d", "ACTIVE")],
            "tasks": [task("blox:e", json!(2.0)), task("family:web", Value::Null), task("blox:e", Value::Null)]});
        let other = json!({"cluster": {"clusterName": "o"}, "instances": [instance("z", "ACTIVE")], "tasks": []});
        let state = json!({"regions": {"r": {"clusters": [cluster, other]}}});
        let memory = json!({
            "counts": {"pairs": [{"instance": "arn:i/c/a", "group": "blox:e", "cluster": "c", "current": 1, "maximum": 2}]},
            "state": state, "summary": state,
            "calls": [{"operation": "StartTask", "outcome": "ok", "resources": ["arn:i/c/a"], "at_ms": 1600, "answer": "lost"}],
        });
        let record = of_memory(&memory).expect("readable");
        let instances: Vec<(&str, u64)> = record.instances.iter().map(|one| (&*one.name, one.current)).collect();
        assert_eq!(instances, [("a", 1), ("d", 0)]);
        let times: Vec<(u64, Option<u64>)> = record
            .tasks
            .iter()
            .map(|task| (task.created_ms, task.stopped_ms))
            .collect();
        assert_eq!(times, [(1_500, Some(2_000)), (1_500, None)]);
        assert_eq!(record.maxima[&("a".to_owned(), "blox:e".to_owned())], 2);
        assert!(record.starts[0].answer_lost);
        assert!(of_memory(&json!({})).is_err());
    }
}
