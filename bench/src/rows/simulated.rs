//! A simulated ECS, and three nodes of ours that observe it: what the rows of tasks are measured on.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{RowError, Settings};
use crate::client::{CallError, HttpClient, get_once};
use crate::ports;
use crate::process::{Process, Program};
use crate::server::{BloxOptions, MEMBERS, Server, ServerError};

/// What must come comes within this.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Between two looks that list many tasks.
pub(super) const SLOW_LOOK: Duration = Duration::from_secs(1);
/// CPU units and MiB of a task.
const TASK_SIZE: usize = 16;
/// Tasks that one call starts, at most.
const TASKS_A_CALL: usize = 500;
/// Of the definition of all tasks.
const FAMILY: &str = "web";
/// How far a node is.
const APPLIED: &str = "blox_raft_applied_index";
/// Stands once in each task of a list, and nowhere else in it.
const TASK_MARK: &[u8] = br#""taskARN":""#;
/// Of an answer that is not what it must be, so much is told, characters.
const SAID_CHARACTERS_MAX: usize = 300;

/// A simulated ECS and three nodes that observe it.
#[derive(Debug)]
pub(super) struct SimulatedEcs {
    /// The nodes.
    pub server: Server,
    simulator: Process,
    /// Of the simulator, `host:port`.
    address: String,
}

impl SimulatedEcs {
    /// Without clusters yet; its data and logs are in a folder of this name.
    pub async fn start(settings: &Settings, folder: &str) -> Result<SimulatedEcs, RowError> {
        let directory = settings.directory.join(folder);
        std::fs::create_dir_all(&directory).map_err(|source| RowError::Disk {
            what: "the directory of a simulated ECS cannot be made",
            source,
        })?;
        let port = ports::free(1).map_err(ServerError::from)?[0];
        let address = format!("127.0.0.1:{port}");
        let seed = settings.seed.to_string();
        let words = ["simulator", "--preset", "empty", "--seed", &seed, "--listen", &address];
        let simulator = Process::start(Program {
            name: "simulator".to_owned(),
            path: settings.blox.clone(),
            arguments: words.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            directory: directory.clone(),
        })?;
        until("the simulator", LOOK, || async {
            let health = get_once(&address, "/control/health").await;
            health.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        let options = BloxOptions {
            ecs: Some(format!("http://{address}")),
        };
        let ecs = SimulatedEcs {
            server: Server::blox(&settings.blox, &directory, &options).await?,
            simulator,
            address,
        };
        let definition = json!({"family": FAMILY, "cpu": TASK_SIZE, "memory_mib": TASK_SIZE});
        ecs.control("task-definitions", &definition).await?;
        Ok(ecs)
    }

    /// Ends the simulator; the nodes end with this.
    pub async fn stop(mut self) -> Result<(), RowError> {
        Ok(self.simulator.kill().await?)
    }

    /// A connection to the simulator's control.
    pub async fn control_client(&self) -> Result<HttpClient, CallError> {
        HttpClient::connect(&self.address).await
    }

    /// What a route of the simulator's control answers.
    pub async fn control(&self, path: &str, body: &Value) -> Result<Bytes, RowError> {
        let path = format!("/control/{path}");
        let asked = async { self.control_client().await?.post(&path, body).await };
        let answer = timeout(PATIENCE, asked).await;
        Ok(answer.map_err(|_| late("an answer of the simulator", path.clone()))??)
    }

    /// A new cluster with so many instances, each with room for so many tasks.
    pub async fn add_cluster(&self, cluster: &str, instances: usize, tasks_an_instance: usize) -> Result<(), RowError> {
        let room = TASK_SIZE * tasks_an_instance;
        self.control("clusters", &json!({"cluster": cluster})).await?;
        let order = json!({"cluster": cluster, "count": instances, "cpu": room, "memory_mib": room});
        self.control("instances", &order).await?;
        Ok(())
    }

    /// Starts tasks in a cluster that has room for them; their ARNs.
    pub async fn start_tasks(&self, cluster: &str, count: usize) -> Result<Vec<String>, RowError> {
        let mut started = Vec::with_capacity(count);
        while started.len() < count {
            let call = (count - started.len()).min(TASKS_A_CALL);
            let order = json!({"cluster": cluster, "task_definition": FAMILY, "count": call});
            let answer = self.control("tasks/start", &order).await?;
            let tasks = arns_of(&answer).filter(|tasks| tasks.len() == call);
            started.extend(tasks.ok_or_else(|| {
                RowError::Simulator {
                    what: "the start of tasks",
                    answer: String::from_utf8_lossy(&answer)
                        .chars()
                        .take(SAID_CHARACTERS_MAX)
                        .collect(),
                }
            })?);
        }
        Ok(started)
    }

    /// Waits until a list of tasks at a node has so many.
    pub async fn until_tasks(&self, what: &'static str, path: &str, count: usize) -> Result<(), RowError> {
        let address = self.server.addresses()[0].clone();
        until(what, SLOW_LOOK, || async {
            let list = get_once(&address, path).await.map_err(|error| error.to_string())?;
            match tasks_in(&list) {
                there if there == count => Ok(()),
                others => Err(format!("{others} of {count} tasks")),
            }
        })
        .await
    }

    /// Waits until each node has applied what the leader has by now.
    pub async fn until_everywhere(&self, leader: usize) -> Result<(), RowError> {
        let server = &self.server;
        let asked = timeout(PATIENCE, server.metric(leader, APPLIED)).await;
        let applied = asked.map_err(|_| late("the leader's metrics", "no answer".to_owned()))??;
        until("what the leader has applied, on each node", LOOK, || async move {
            for member in 0..MEMBERS {
                let there = server.metric(member, APPLIED).await;
                let there = there.map_err(|error| error.to_string())?;
                if there < applied {
                    return Err(format!("{there} of {applied} applied"));
                }
            }
            Ok(())
        })
        .await
    }
}

/// Looks again and again until it is well; otherwise what was seen last is told.
pub(super) async fn until<Look: Future<Output = Result<(), String>>>(
    what: &'static str,
    pause: Duration,
    mut look: impl FnMut() -> Look,
) -> Result<(), RowError> {
    let mut last = "nothing".to_owned();
    let looks = async {
        while let Err(seen) = look().await {
            last = seen;
            sleep(pause).await;
        }
    };
    let is_well = timeout(PATIENCE, looks).await.is_ok();
    if is_well { Ok(()) } else { Err(late(what, last)) }
}

/// What did not come within [`PATIENCE`].
pub(super) fn late(what: &'static str, seen: String) -> RowError {
    RowError::Late {
        what,
        within: PATIENCE,
        seen,
    }
}

/// The ARNs of tasks that were started; `None`: the answer has none.
fn arns_of(answer: &[u8]) -> Option<Vec<String>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let tasks = answer["tasks"].as_array()?.iter();
    tasks.map(|arn| arn.as_str().map(str::to_owned)).collect()
}

/// How many tasks a list has, without taking it apart.
fn tasks_in(list: &[u8]) -> usize {
    occurrences(list, TASK_MARK)
}

fn occurrences(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text).count()
}

/// Whether a text stands among bytes.
pub(super) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list's tasks are counted, whatever else in it has an ARN.
    #[test]
    fn tasks_of_a_list_are_counted() {
        let task = r#"{"entity":{"clusterARN":"c","containers":[{"containerARN":"x"}],"taskARN":"t","taskDefinitionARN":"d"},"metadata":{}}"#;
        let list = format!(r#"{{"items":[{task},{task}]}}"#);
        assert_eq!(tasks_in(list.as_bytes()), 2);
        assert_eq!((tasks_in(br#"{"items":[]}"#), tasks_in(b"")), (0, 0));
        assert!(contains(list.as_bytes(), "containerARN") && !contains(list.as_bytes(), "instanceARN"));
    }

    /// ARNs are taken out of the simulator's answer; anything else is none.
    #[test]
    fn started_tasks_have_arns() {
        let answer = br#"{"tasks":["arn:a","arn:b"],"failures":[]}"#;
        assert_eq!(arns_of(answer), Some(vec!["arn:a".to_owned(), "arn:b".to_owned()]));
        assert_eq!(arns_of(br#"{"tasks":[1]}"#), None);
        assert_eq!(arns_of(br#"{"error":"no"}"#), None);
    }

    /// A look that is well ends it, one that never is ends with what was seen last.
    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let mut looks = 0;
        let well = until("x", LOOK, || {
            looks += 1;
            let is_well = looks == 3;
            async move { if is_well { Ok(()) } else { Err("no".to_owned()) } }
        });
        assert!(well.await.is_ok());
        assert_eq!(looks, 3);
        let error = until("x", LOOK, || async { Err("still no".to_owned()) }).await;
        assert!(error.is_err_and(|error| error.to_string().contains("still no")));
    }
}
