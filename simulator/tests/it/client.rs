//! A simulator of its own for each test, and calls to it.

use std::time::{Duration, Instant};

use blox_simulator::{Simulator, SimulatorConfig};
use serde_json::{Value, json};

/// Nothing here takes longer, however busy the machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const REGION: &str = "us-east-1";

pub struct Client {
    pub simulator: Simulator,
    http: reqwest::Client,
}

/// Status and body of an answer.
pub type Answered = (u16, Value);

impl Client {
    pub async fn start() -> Self {
        Self::start_with(SimulatorConfig::default()).await
    }

    pub async fn start_with(config: SimulatorConfig) -> Self {
        let config = SimulatorConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            ..config
        };
        println!("seed {}", config.seed);
        let simulator = Simulator::start(config).await.expect("a free port");
        let http = reqwest::Client::builder().timeout(DEADLINE).build().expect("a client");
        Self { simulator, http }
    }

    /// A cluster `one` with instances and a definition `agent` of 64 MiB.
    pub async fn with_fleet(instances: usize) -> (Self, Vec<String>) {
        let client = Self::start().await;
        client.control("clusters", json!({"cluster": "one"})).await;
        client
            .control("task-definitions", json!({"family": "agent", "cpu": 64}))
            .await;
        let added = client
            .control("instances", json!({"cluster": "one", "count": instances}))
            .await;
        (client, strings(&added["instances"]))
    }

    /// The request itself, for tests that expect it to fail or that give it up.
    pub fn request(&self, region: &str, target: &str, body: Value) -> reqwest::RequestBuilder {
        let scope = format!("AWS4-HMAC-SHA256 Credential=AKID/20260101/{region}/x/aws4_request, Signature=0");
        self.http
            .post(self.simulator.url())
            .header("x-amz-target", target)
            .header("authorization", scope)
            .body(body.to_string())
    }

    async fn aws(&self, region: &str, target: &str, body: Value) -> Answered {
        let response = self.request(region, target, body).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    pub async fn ecs_in(&self, region: &str, operation: &str, body: Value) -> Answered {
        self.aws(region, &ecs_target(operation), body).await
    }

    /// An ECS call that must succeed.
    pub async fn ecs(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.ecs_in(REGION, operation, body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    /// The exception of an ECS call that must fail.
    pub async fn ecs_error(&self, operation: &str, body: Value) -> String {
        let (status, answer) = self.ecs_in(REGION, operation, body).await;
        assert_ne!(status, 200, "{operation} succeeded: {answer}");
        exception(&answer)
    }

    pub async fn sqs_in(&self, region: &str, operation: &str, body: Value) -> Answered {
        self.aws(region, &format!("AmazonSQS.{operation}"), body).await
    }

    pub async fn sqs(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.sqs_in(REGION, operation, body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    pub async fn control(&self, path: &str, body: Value) -> Value {
        self.control_with(reqwest::Method::POST, path, body).await
    }

    pub async fn control_with(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let url = format!("{}/control/{path}", self.simulator.url());
        let response = self
            .http
            .request(method, url)
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        let status = response.status();
        let answer: Value = response.json().await.expect("JSON");
        assert!(status.is_success(), "{path}: {answer}");
        answer
    }

    pub async fn show(&self, path: &str) -> Value {
        self.control_with(reqwest::Method::GET, path, json!({})).await
    }

    /// What a control route that answers in lines shows.
    pub async fn text(&self, path: &str) -> String {
        let url = format!("{}/control/{path}", self.simulator.url());
        let answer = self.http.get(url).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.expect("text")
    }

    pub async fn set_faults(&self, faults: Value) {
        self.control_with(reqwest::Method::PATCH, "faults", faults).await;
    }

    pub async fn set_delay(&self, state: &str, ms: u64) {
        let delays = json!({state: {"min_ms": ms, "max_ms": ms}});
        self.control_with(reqwest::Method::PATCH, "delays", delays).await;
    }

    /// Starts one task of `agent` on an instance.
    pub async fn start_task(&self, instance: &str, group: &str) -> Value {
        let answer = self.ecs("StartTask", start_request(instance, group)).await;
        assert_eq!(answer["failures"], json!([]));
        answer["tasks"][0].clone()
    }

    pub async fn describe_task(&self, arn: &Value) -> Value {
        self.ecs("DescribeTasks", json!({"cluster": "one", "tasks": [arn]}))
            .await["tasks"][0]
            .clone()
    }

    /// Receives and deletes events of a region by long polls until `enough` says so; their envelopes.
    pub async fn events_in(&self, region: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        let begun = Instant::now();
        while !enough(&events) {
            assert!(begun.elapsed() < DEADLINE, "only these events came: {events:#?}");
            let request = json!({"QueueUrl": "x/blox-events", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1});
            let (_, answer) = self.sqs_in(region, "ReceiveMessage", request).await;
            for message in answer["Messages"].as_array().into_iter().flatten() {
                let body = message["Body"].as_str().expect("a body");
                events.push(serde_json::from_str(body).expect("an event is JSON"));
                let handle = json!({"QueueUrl": "x/blox-events", "ReceiptHandle": message["ReceiptHandle"]});
                self.sqs_in(region, "DeleteMessage", handle).await;
            }
        }
        events
    }

    /// Polls the truth until it is as wanted.
    pub async fn wait_for(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.show(path).await;
            if wanted(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < DEADLINE, "{path} stays {shown:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn ecs_target(operation: &str) -> String {
    format!("AmazonEC2ContainerServiceV20141113.{operation}")
}

pub fn start_request(instance: &str, group: &str) -> Value {
    json!({"cluster": "one", "taskDefinition": "agent", "containerInstances": [instance], "group": group, "startedBy": "me"})
}

/// The exception's name without its namespace.
pub fn exception(answer: &Value) -> String {
    let name = answer["__type"]
        .as_str()
        .unwrap_or_else(|| panic!("no exception: {answer}"));
    name.rsplit('#').next().unwrap_or(name).into()
}

pub fn strings(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

/// All tasks of all clusters of a state.
pub fn tasks(state: &Value) -> Vec<Value> {
    let regions = state["regions"].as_object().into_iter().flatten();
    let clusters = regions.flat_map(|(_, region)| region["clusters"].as_array().into_iter().flatten());
    clusters
        .flat_map(|cluster| cluster["tasks"].as_array().into_iter().flatten())
        .cloned()
        .collect()
}

/// The `detail` of each event about one resource, in the order of arrival.
pub fn details(events: &[Value], arn: &Value) -> Vec<Value> {
    events
        .iter()
        .filter(|event| event["resources"][0] == *arn)
        .map(|event| event["detail"].clone())
        .collect()
}
