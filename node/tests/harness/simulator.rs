//! The simulated ECS as a process, and its control routes.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{DEADLINE, Port, Process, eventually};

/// Where what has no region of its own happens.
pub const REGION: &str = "us-east-1";

/// A running simulator.
pub struct SimulatorProcess {
    port: Port,
    process: Process,
    client: reqwest::Client,
}

impl SimulatorProcess {
    /// An empty one with these regions.
    pub async fn start(seed: u64, regions: &[&str], directory: &Path) -> SimulatorProcess {
        SimulatorProcess::start_at(Port::take(), seed, regions, directory).await
    }

    /// As [`SimulatorProcess::start`], at a port of the caller's choice.
    pub async fn start_at(port: Port, seed: u64, regions: &[&str], directory: &Path) -> SimulatorProcess {
        let mut arguments: Vec<String> = [
            "simulator",
            "--preset",
            "empty",
            "--seed",
            &seed.to_string(),
            "--listen",
            &port.address(),
        ]
        .map(str::to_owned)
        .into();
        for region in regions {
            arguments.extend(["--region".to_owned(), (*region).to_owned()]);
        }
        let process = Process::blox("simulator", &arguments, &[], directory);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .expect("a client without TLS can be built");
        let mut simulator = SimulatorProcess { port, process, client };
        simulator.wait_until_it_answers().await;
        simulator
    }

    async fn wait_until_it_answers(&mut self) {
        let (client, url) = (self.client.clone(), format!("{}/control/health", self.url()));
        eventually("the simulator answers", DEADLINE, || async {
            client
                .get(&url)
                .send()
                .await
                .map(|_| ())
                .map_err(|error| error.to_string())
        })
        .await;
        self.process.assert_runs();
    }

    /// What `AWS_ENDPOINT_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// A GET of a control route.
    pub async fn get(&self, path: &str) -> Value {
        let url = format!("{}/control{path}", self.url());
        answer(&url, self.client.get(&url).send().await).await
    }

    /// A POST to a control route.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/control{path}", self.url());
        answer(&url, self.client.post(&url).json(&body).send().await).await
    }

    /// A PUT to a control route.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/control{path}", self.url());
        answer(&url, self.client.put(&url).json(&body).send().await).await
    }

    /// A DELETE of a control route.
    pub async fn delete(&self, path: &str) -> Value {
        let url = format!("{}/control{path}", self.url());
        answer(&url, self.client.delete(&url).send().await).await
    }

    /// A cluster with so many instances; their ARNs.
    pub async fn cluster(&self, region: &str, name: &str, instances: usize) -> Vec<String> {
        self.post("/clusters", json!({"region": region, "cluster": name})).await;
        self.instances(region, name, instances).await
    }

    /// So many more instances; their ARNs.
    pub async fn instances(&self, region: &str, cluster: &str, count: usize) -> Vec<String> {
        if count == 0 {
            return Vec::new();
        }
        let answer = self
            .post(
                "/instances",
                json!({"region": region, "cluster": cluster, "count": count}),
            )
            .await;
        strings(&answer["instances"])
    }

    /// A new revision of a small task definition; its ARN.
    pub async fn definition(&self, region: &str, family: &str) -> String {
        let answer = self
            .post(
                "/task-definitions",
                json!({"region": region, "family": family, "cpu": 16, "memory_mib": 16}),
            )
            .await;
        answer["task_definition"]
            .as_str()
            .expect("a definition has an ARN")
            .to_owned()
    }

    /// Counts by (instance, group) of groups that begin so.
    pub async fn counts(&self, group_prefix: &str) -> Vec<Value> {
        self.get(&format!("/counts?group_prefix={group_prefix}")).await["pairs"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until every task is what it is wanted to be, so that nothing changes by itself any more.
    pub async fn wait_until_still(&self) {
        eventually("a still fleet", DEADLINE, || async {
            let state = self.get("/state").await;
            let moving = every(&state, "tasks")
                .filter(|task| task["lastStatus"] != task["desiredStatus"])
                .count();
            if moving == 0 {
                Ok(())
            } else {
                Err(format!("{moving} tasks are on their way"))
            }
        })
        .await;
    }

    /// ARN, ECS version and status of everything of a kind (`instances` or `tasks`) in a region.
    pub async fn truth(&self, region: &str, kind: &str) -> BTreeMap<String, (i64, String)> {
        let state = self.get(&format!("/state?region={region}")).await;
        let (arn, status) = if kind == "tasks" {
            ("taskArn", "lastStatus")
        } else {
            ("containerInstanceArn", "status")
        };
        every(&state, kind)
            .map(|one| {
                let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
                (
                    text(arn),
                    (one["version"].as_i64().expect("everything has a version"), text(status)),
                )
            })
            .collect()
    }
}

async fn answer(url: &str, sent: reqwest::Result<reqwest::Response>) -> Value {
    let answer = sent.unwrap_or_else(|error| panic!("{url}: {error:?}"));
    let status = answer.status();
    let text = answer.text().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
    assert!(status.is_success(), "{url} answers {status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url} answers {text:?}: {error}"))
}

/// Everything of a kind in all clusters of a state.
fn every<'a>(state: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let regions = state["regions"]
        .as_object()
        .into_iter()
        .flat_map(|regions| regions.values());
    let clusters = regions.flat_map(|region| region["clusters"].as_array().into_iter().flatten());
    clusters.flat_map(move |cluster| cluster[kind].as_array().into_iter().flatten())
}

/// An array of strings.
pub fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}
