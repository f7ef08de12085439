//! The other end of the nodes: the simulated ECS by its control routes, and a roll-out of a daemon that goes on all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Client, Node, Request, innermost};
use crate::daemons::{self, Daemons};
use crate::observe::{NotInTime, eventually};

/// Where the environment is.
pub const CLUSTER: &str = "alpha";
/// Its name.
const ENVIRONMENT: &str = "failover";
/// The family of its task definitions, a new revision each roll-out.
const FAMILY: &str = "failover-daemon";
/// Instances of a roll-out that may be without their daemon.
const UNAVAILABLE: u32 = 4;
/// The last roll-out is to end soon.
const UNAVAILABLE_AT_THE_END: u32 = 1_000;
/// How often it is asked whether a roll-out is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a control route may take.
const ANSWER: Duration = Duration::from_secs(10);
/// A connection that nobody has used for so long is not used again: the simulator closes it some time, and a request that comes at that moment has no
/// answer.
const IDLE: Duration = Duration::from_secs(10);

/// A control route did not do as told.
#[derive(Debug, thiserror::Error)]
#[error("the simulator: {0}")]
pub struct SimulatorError(String);

/// The simulated ECS.
#[derive(Clone)]
pub struct Simulator {
    http: reqwest::Client,
    url: String,
}

/// Asks control routes, each of which may take so long.
pub(crate) fn control_client(answer: Duration) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder().no_proxy();
    builder.timeout(answer).pool_idle_timeout(IDLE).build()
}

impl SimulatorError {
    /// An answer that does not say what it should.
    pub fn new(why: String) -> SimulatorError {
        SimulatorError(why)
    }
}

impl Simulator {
    /// At its published port.
    pub fn new(url: String) -> Result<Simulator, reqwest::Error> {
        let http = control_client(ANSWER)?;
        Ok(Simulator { http, url })
    }

    /// `http://host:port`, where ECS is found, too.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A GET of a control route.
    pub async fn get(&self, path: &str) -> Result<Value, SimulatorError> {
        self.answer(self.http.get(format!("{}/control{path}", self.url)), path)
            .await
    }

    /// A POST to a control route.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, SimulatorError> {
        self.answer(self.http.post(format!("{}/control{path}", self.url)).json(body), path)
            .await
    }

    /// Tasks that come and go, instances that join, drain, flap and leave, in every cluster; events of all that. `patience`: so many times as slowly.
    pub async fn live(&self, patience: u32) -> Result<(), SimulatorError> {
        let rate = |usual: f64| usual / f64::from(patience);
        let rates = json!({"task_starts_per_minute": rate(120.0), "task_stops_per_minute": rate(114.0), "task_crashes_per_minute": rate(6.0),
            "flaps_per_instance_hour": rate(6.0), "joins_per_minute": rate(2.0), "leaves_per_minute": rate(2.0), "drains_per_minute": rate(1.0),
            "instances_min": 20});
        self.put("/liveliness", &rates).await
    }

    /// Nothing happens by itself any more.
    pub async fn rest(&self) -> Result<(), SimulatorError> {
        self.put("/liveliness", &json!({})).await
    }

    /// Daemons in the environment's cluster now, and doubles since the counting began.
    pub async fn daemons(&self) -> Result<Daemons, SimulatorError> {
        let state = self.get(&format!("/state?cluster={CLUSTER}")).await?;
        let counts = self
            .get(&format!("/counts?group_prefix=blox:&cluster={CLUSTER}"))
            .await?;
        daemons::count(&state, &counts).map_err(SimulatorError)
    }

    /// Waits until each eligible instance runs exactly one.
    pub async fn served(&self, within: Duration) -> Result<Daemons, NotInTime> {
        eventually("a daemon on every instance", within, || async {
            let found = self.daemons().await.map_err(|error| error.to_string())?;
            match found.served == found.eligible {
                true => Ok(found),
                false => Err(format!("ECS counts {found:?}")),
            }
        })
        .await
    }

    /// Maxima count from here.
    pub async fn count_anew(&self) -> Result<(), SimulatorError> {
        self.post("/counts/reset", &json!({})).await?;
        Ok(())
    }

    /// Events of ECS so far.
    pub async fn events(&self) -> Result<u64, SimulatorError> {
        Ok(self.get("/health").await?["events_sent"].as_u64().unwrap_or(0))
    }

    async fn put(&self, path: &str, body: &Value) -> Result<(), SimulatorError> {
        self.answer(self.http.put(format!("{}/control{path}", self.url)).json(body), path)
            .await?;
        Ok(())
    }

    async fn answer(&self, request: reqwest::RequestBuilder, path: &str) -> Result<Value, SimulatorError> {
        let failed = |why: String| SimulatorError(format!("/control{path}: {why}"));
        let answer = request.send().await.map_err(|error| failed(innermost(&error)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| failed(innermost(&error)))?;
        if !status.is_success() {
            return Err(failed(format!("{status} {text}")));
        }
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }
}

/// A daemon that is rolled out again and again.
pub struct RollOuts {
    work: Arc<Work>,
    task: JoinHandle<()>,
}

struct Work {
    simulator: Simulator,
    nodes: Arc<Vec<Node>>,
    client: Client,
    stopping: AtomicBool,
    begun: AtomicU32,
}

impl RollOuts {
    /// Begins the first one at once.
    pub fn begin(simulator: Simulator, nodes: Arc<Vec<Node>>, client: Client) -> RollOuts {
        let work = Arc::new(Work {
            simulator,
            nodes,
            client,
            stopping: AtomicBool::new(false),
            begun: AtomicU32::new(0),
        });
        let task = tokio::spawn(Arc::clone(&work).roll());
        RollOuts { work, task }
    }

    /// How many have begun.
    pub fn begun(&self) -> u32 {
        self.work.begun.load(Ordering::Relaxed)
    }

    /// No more begin; the last one goes over all instances at once. Waits until by ECS's count each eligible instance runs exactly one.
    pub async fn end(mut self, within: Duration) -> Result<Daemons, NotInTime> {
        self.work.stopping.store(true, Ordering::Relaxed);
        // It neither panics nor is it cancelled before this.
        let _ = (&mut self.task).await;
        eventually("the last roll-out begins", within, || {
            self.work.ask(UNAVAILABLE_AT_THE_END)
        })
        .await?;
        eventually("every instance runs its daemon, and one", within, || async {
            let environment = self.work.environment().await?;
            let summary = &environment["summary"];
            let done = summary["desired"].as_u64() > Some(0)
                && ["ready", "updated", "current"]
                    .iter()
                    .all(|key| summary[key] == summary["desired"]);
            let found = self.work.simulator.daemons().await.map_err(|error| error.to_string())?;
            if done
                && found.served == found.eligible
                && summary["desired"].as_u64() == u64::try_from(found.eligible).ok()
            {
                return Ok(found);
            }
            Err(format!("ECS counts {found:?}, the state says {summary}"))
        })
        .await
    }
}

impl Drop for RollOuts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Work {
    async fn roll(self: Arc<Self>) {
        while !self.stopping.load(Ordering::Relaxed) {
            if self.begin_one().await.is_ok() {
                self.begun.fetch_add(1, Ordering::Relaxed);
                while !self.stopping.load(Ordering::Relaxed) && !self.is_over().await {
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            } else {
                // No node takes it now: a moment without a majority.
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }

    async fn begin_one(&self) -> Result<(), String> {
        let definition = json!({"family": FAMILY, "cpu": 16, "memory_mib": 16});
        self.simulator
            .post("/task-definitions", &definition)
            .await
            .map_err(|error| error.to_string())?;
        self.ask(UNAVAILABLE).await
    }

    /// The newest definition on every instance; at any node that takes it.
    async fn ask(&self, max_unavailable: u32) -> Result<(), String> {
        let wanted = json!({"cluster": CLUSTER, "task_definition": FAMILY, "max_unavailable": max_unavailable});
        let key = format!("roll-out-{:016x}", rand::random::<u64>());
        let request = Request::put(format!("/v2/environments/{ENVIRONMENT}"), key, wanted.to_string());
        let mut last = String::new();
        for node in self.nodes.iter() {
            match self.client.ask(node, &request).await {
                Ok(answer) if answer.is_success() => return Ok(()),
                Ok(answer) => {
                    last = format!(
                        "{}: {} {}",
                        node.name,
                        answer.status,
                        String::from_utf8_lossy(&answer.body)
                    )
                }
                Err(error) => last = format!("{}: {error}", node.name),
            }
        }
        Err(last)
    }

    async fn is_over(&self) -> bool {
        self.environment()
            .await
            .is_ok_and(|environment| environment["deployment"]["status"] == "completed")
    }

    async fn environment(&self) -> Result<Value, String> {
        let mut last = String::new();
        for node in self.nodes.iter() {
            match self
                .client
                .get_json(node, &format!("/v2/environments/{ENVIRONMENT}"))
                .await
            {
                Ok(environment) => return Ok(environment),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
