//! The simulated ECS by its control routes: faults of its queue and its answers, and what it knows in the end.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::innermost;
use crate::observe::{NotInTime, eventually};
use crate::simulator::{Simulator, SimulatorError, control_client};

/// How long a control route may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Entries of the journal asked for at once, and at most in all.
const PAGE: usize = 10_000;
const PAGES_MAX: usize = 120;
/// The queue of the events.
const QUEUE: &str = "blox-events";
/// The queue must be empty for so long, without a new event.
const STILL: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone)]
pub struct Ecs {
    http: reqwest::Client,
    url: String,
}

impl Ecs {
    /// Behind the same port as the simulator.
    pub fn of(simulator: &Simulator) -> Result<Ecs, SimulatorError> {
        let http = control_client(ANSWER);
        Ok(Ecs {
            http: http.map_err(|error| SimulatorError::new(innermost(&error)))?,
            url: simulator.url().to_owned(),
        })
    }

    /// Asks a control route; its answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, SimulatorError> {
        let failed = |why: String| SimulatorError::new(format!("/control{path}: {why}"));
        let mut request = self.http.request(method, format!("{}/control{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| failed(innermost(&error)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| failed(innermost(&error)))?;
        if !status.is_success() {
            return Err(failed(format!("{status} {text}")));
        }
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// Changes those faults that are named.
    pub async fn fault(&self, faults: &Value) -> Result<(), SimulatorError> {
        self.ask(Method::PATCH, "/faults", Some(faults)).await?;
        Ok(())
    }

    /// What becomes of answers to some calls.
    pub async fn answers(&self, rule: &Value) -> Result<(), SimulatorError> {
        self.ask(Method::POST, "/answers", Some(rule)).await?;
        Ok(())
    }

    /// No fault any more, no rule on answers, nothing held.
    pub async fn behave(&self) -> Result<(), SimulatorError> {
        self.ask(Method::DELETE, "/faults", None).await?;
        Ok(())
    }

    /// Milliseconds since 1970, as ECS counts them.
    pub async fn now_ms(&self) -> Result<u64, SimulatorError> {
        let state = self.ask(Method::GET, "/state?cluster=none", None).await?;
        state["at_ms"]
            .as_u64()
            .ok_or_else(|| SimulatorError::new("it does not say what time it is".to_owned()))
    }

    /// Messages that are in the queue, whoever has them.
    pub async fn waiting(&self) -> Result<u64, SimulatorError> {
        let queues = self.ask(Method::GET, "/queues", None).await?;
        let all = queues["queues"].as_array().into_iter().flatten();
        let of = |queue: &Value| ["visible", "in_flight", "delayed"].map(|state| queue[state].as_u64().unwrap_or(0));
        Ok(all.filter(|queue| queue["queue"] == QUEUE).flat_map(of).sum())
    }

    /// Events that were sent so far.
    pub async fn sent(&self) -> Result<u64, SimulatorError> {
        let health = self.ask(Method::GET, "/health", None).await?;
        Ok(health["events_sent"].as_u64().unwrap_or(0))
    }

    /// Waits until nothing happens any more, and the queue is empty; how many events were sent. (What comes later than that may come still.)
    pub async fn still(&self, within: Duration) -> Result<u64, NotInTime> {
        let look = async || -> Result<(u64, u64), String> {
            let sent = self.sent().await.map_err(|error| error.to_string())?;
            let waiting = self.waiting().await.map_err(|error| error.to_string())?;
            Ok((waiting, sent))
        };
        eventually("an empty queue", within, || async {
            let (waiting, before) = look().await?;
            if waiting > 0 {
                return Err(format!("{waiting} messages are in it"));
            }
            tokio::time::sleep(STILL).await;
            let (waiting, after) = look().await?;
            if waiting > 0 || after > before {
                return Err(format!("{waiting} messages are in it, {} new events", after - before));
            }
            Ok(after)
        })
        .await
    }

    /// Everything it remembers: `{"events","calls","counts","state","summary","waiting"}`. Of calls only those that start and stop tasks; the state as
    /// documents of the API, and as a summary that also tells who is dead.
    pub async fn memory(&self) -> Result<Value, SimulatorError> {
        let (mut events, mut calls) = (Vec::new(), Vec::new());
        let (mut from, mut from_call) = (0, 0);
        for _ in 0..PAGES_MAX {
            let path = format!("/journal?from={from}&from_call={from_call}&limit={PAGE}");
            let mut page = self.ask(Method::GET, &path, None).await?;
            let (next, next_call) = (
                page["next"].as_u64().unwrap_or(0),
                page["next_call"].as_u64().unwrap_or(0),
            );
            if let Value::Array(more) = page["events"].take() {
                events.extend(more);
            }
            if let Value::Array(more) = page["calls"].take() {
                let kept =
                    |call: &Value| matches!(call["operation"].as_str(), Some("StartTask" | "StopTask" | "RunTask"));
                calls.extend(more.into_iter().filter(kept));
            }
            if (next, next_call) == (from, from_call) {
                break;
            }
            (from, from_call) = (next, next_call);
        }
        let counts = self.ask(Method::GET, "/counts?group_prefix=blox:", None).await?;
        let state = self.ask(Method::GET, "/state?documents=true", None).await?;
        let summary = self.ask(Method::GET, "/state", None).await?;
        let waiting = self.waiting().await?;
        Ok(
            json!({"events": events, "calls": calls, "counts": counts, "state": state, "summary": summary, "waiting": waiting}),
        )
    }
}
