//! What the tests of this binary look at: the queue and its journal, the cluster's counters and history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, Client, Cluster, DEADLINE, Lines, REGION, SimulatorProcess, SourceText, eventually};

/// The simulator's queue of events.
pub const QUEUE: &str = "blox-events";
/// Where it puts what was received too often.
pub const DEAD_LETTERS: &str = "dead-letters";
/// A node that answers at all answers within this; one that stands still must not hold up a test.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// A GET from one node, which must be answered soon and well.
pub async fn ask(cluster: &Cluster, position: usize, path: &str) -> Result<Answer, String> {
    let url = format!("{}{path}", cluster.nodes[position].url());
    let answer = tokio::time::timeout(ASK_WITHIN, cluster.client.get(&url))
        .await
        .map_err(|_| format!("{url}: no answer within {ASK_WITHIN:?}"))??;
    if answer.is_success() {
        Ok(answer)
    } else {
        Err(format!("{url}: {}: {}", answer.status, answer.text()))
    }
}

/// A cluster whose nodes have these crash points from their first moment: `name=action;name=action`.
pub async fn start_with_points(
    directory: TempDir,
    simulator: &SimulatorProcess,
    source: SourceText<'_>,
    points: &str,
) -> Cluster {
    let mut cluster = Cluster::prepare(directory, None, &simulator.url(), &[source], "");
    for node in &mut cluster.nodes {
        node.set_environment("FAILPOINTS", points);
    }
    cluster.begin().await;
    cluster
}

/// Position of the leader among these nodes, as it says of itself.
pub async fn leader_among(cluster: &Cluster, positions: &[usize]) -> usize {
    eventually("a leader among those that move", DEADLINE, || async {
        let mut seen = Vec::new();
        for position in positions {
            match ask(cluster, *position, "/v2/cluster").await {
                Ok(answer) => {
                    let status = answer.json();
                    let name = cluster.nodes[*position].name.as_str();
                    if status["leader"].as_str() == Some(name) || status["leader"]["name"].as_str() == Some(name) {
                        return Ok(*position);
                    }
                    seen.push(status.to_string());
                }
                Err(error) => seen.push(error),
            }
        }
        Err(seen.join("; "))
    })
    .await
}

/// The positions other than this one.
pub fn others(cluster: &Cluster, position: usize) -> Vec<usize> {
    (0..cluster.nodes.len()).filter(|other| *other != position).collect()
}

/// Sets faults, and beside them that ECS itself cannot be asked: the queue alone tells of anything. (Reconcile describes the clusters it
/// knows even where they cannot be listed.)
pub async fn only_the_queue_tells(simulator: &SimulatorProcess, events: Value, more_errors: &[(&str, f64)]) {
    let unasked = [
        "ListClusters",
        "DescribeClusters",
        "ListContainerInstances",
        "DescribeContainerInstances",
        "ListTasks",
        "DescribeTasks",
    ];
    let errors: BTreeMap<&str, f64> = unasked
        .into_iter()
        .map(|operation| (operation, 1.0))
        .chain(more_errors.iter().copied())
        .collect();
    simulator
        .put("/faults", json!({"events": events, "errors": errors}))
        .await;
}

/// A metric's value on one node, over all its labels that begin so (`name{label="value"` or just `name`).
pub async fn metric(cluster: &Cluster, position: usize, beginning: &str) -> f64 {
    let page = eventually("metrics", DEADLINE, || ask(cluster, position, "/metrics"))
        .await
        .text();
    let lines = page.lines().filter(|line| line.starts_with(beginning));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// An SQS call, as the SDK makes it.
pub async fn sqs(simulator: &SimulatorProcess, operation: &str, body: Value) -> Value {
    let scope = format!("AWS4-HMAC-SHA256 Credential=AKID/20260101/{REGION}/sqs/aws4_request, Signature=0");
    let target = format!("AmazonSQS.{operation}");
    let headers = [("x-amz-target", target.as_str()), ("authorization", scope.as_str())];
    let body = Some(body.to_string().into_bytes());
    let answer = Client::new()
        .ask(Method::POST, &simulator.url(), &headers, body)
        .await
        .expect("the simulator answers");
    assert!(answer.is_success(), "{operation}: {}", answer.text());
    answer.json()
}

/// A message that is received so often goes to the dead letters.
pub async fn give_up_after(simulator: &SimulatorProcess, receives: u32) {
    sqs(simulator, "CreateQueue", json!({"QueueName": DEAD_LETTERS})).await;
    let arn = format!("arn:aws:sqs:{REGION}:123456789012:{DEAD_LETTERS}");
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": receives}).to_string();
    let url = format!("{}/123456789012/{QUEUE}", simulator.url());
    let attributes = json!({"QueueUrl": url, "Attributes": {"RedrivePolicy": policy}});
    sqs(simulator, "SetQueueAttributes", attributes).await;
}

/// A queue, as the simulator shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    pub visible: u64,
    pub in_flight: u64,
    pub receive_calls: u64,
    pub sent: u64,
    pub received: u64,
    pub deleted: u64,
    pub dead: u64,
}

impl QueueState {
    pub fn is_empty(&self) -> bool {
        self.visible + self.in_flight == 0
    }
}

pub async fn queue_state(simulator: &SimulatorProcess) -> QueueState {
    let queues = simulator.get("/queues").await;
    let found = queues["queues"].as_array().into_iter().flatten();
    let shown = found
        .into_iter()
        .find(|queue| queue["queue"] == QUEUE && queue["region"] == REGION)
        .expect("every region has its queue");
    let number = |value: &Value| value.as_u64().expect("a count");
    let total = |name: &str| number(&shown["totals"][name]);
    QueueState {
        visible: number(&shown["visible"]),
        in_flight: number(&shown["in_flight"]),
        receive_calls: total("receive_calls"),
        sent: total("sent"),
        received: total("received"),
        deleted: total("deleted"),
        dead: total("dead"),
    }
}

/// Waits until nothing is in the queue, nor on its way there for so long.
pub async fn drained(simulator: &SimulatorProcess, within: Duration, longest_delay: Duration) -> QueueState {
    // What the simulator delays is in no queue yet.
    tokio::time::sleep(longest_delay).await;
    eventually("the queue is empty", within, || async {
        let state = queue_state(simulator).await;
        if state.is_empty() {
            Ok(state)
        } else {
            Err(format!("{state:?}"))
        }
    })
    .await
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    Sent,
    Received,
    Deleted,
    Dead,
}

/// One step of one message, in the one order of the queue's journal.
#[derive(Clone, Debug)]
pub struct Step {
    pub at_ms: u64,
    pub kind: StepKind,
    pub message: String,
    pub receives: u32,
}

/// The queue's journal.
pub async fn steps(simulator: &SimulatorProcess) -> Vec<Step> {
    let text = lines(simulator, &format!("/journal/queue?queue={QUEUE}")).await;
    text.lines()
        .map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            let kind = match parts[2] {
                "sent" => StepKind::Sent,
                "received" => StepKind::Received,
                "deleted" => StepKind::Deleted,
                "dead" => StepKind::Dead,
                other => panic!("no step: {other}"),
            };
            Step {
                at_ms: parts[1].parse().expect("a time"),
                kind,
                message: parts[3].to_owned(),
                receives: parts[4].parse().expect("a count"),
            }
        })
        .collect()
}

/// One event that was sent: its resource and version, and how many of its copies were queued and deleted.
#[derive(Clone, Debug)]
pub struct Sent {
    pub arn: String,
    pub version: i64,
    pub queued: u64,
    pub deleted: u64,
}

/// Every event the simulator sent, in order.
pub async fn events(simulator: &SimulatorProcess) -> Vec<Sent> {
    let text = lines(simulator, "/journal/compact").await;
    text.lines()
        .map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            Sent {
                arn: parts[3].to_owned(),
                version: parts[4].parse().expect("a version"),
                queued: parts[5].parse().expect("a count"),
                deleted: parts[7].parse().expect("a count"),
            }
        })
        .collect()
}

async fn lines(simulator: &SimulatorProcess, path: &str) -> String {
    let url = format!("{}/control{path}", simulator.url());
    let answer = Client::new().get(&url).await.expect("the simulator answers");
    assert!(answer.is_success(), "{url}: {}", answer.status);
    answer.text()
}

/// The highest version of each resource among these events.
pub fn highest<'a>(events: impl Iterator<Item = &'a Sent>) -> BTreeMap<String, i64> {
    let mut highest = BTreeMap::new();
    for event in events {
        let version: &mut i64 = highest.entry(event.arn.clone()).or_default();
        *version = event.version.max(*version);
    }
    highest
}

/// ECS version of every instance and task, as one node reads them linearizably.
pub async fn versions(cluster: &Cluster, position: usize) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for kind in ["instances", "tasks"] {
        let mut query = format!("/v2/{kind}?limit=500");
        loop {
            let page = eventually(kind, DEADLINE, || ask(cluster, position, &query))
                .await
                .json();
            for item in page["items"].as_array().expect("a list") {
                let version = item["document"]["version"].as_i64().expect("a version");
                found.insert(item["arn"].as_str().expect("an ARN").to_owned(), version);
            }
            match page["next_token"].as_str() {
                Some(token) => query = format!("/v2/{kind}?limit=500&next_token={token}"),
                None => break,
            }
        }
    }
    found
}

/// Panics where the state has less than these versions.
pub fn assert_holds(state: &BTreeMap<String, i64>, versions: &BTreeMap<String, i64>, what: &str) {
    let missing: Vec<String> = versions
        .iter()
        .filter(|(arn, version)| state.get(*arn).is_none_or(|held| held < version))
        .map(|(arn, version)| format!("{arn}: {version}, but {:?}", state.get(arn)))
        .collect();
    assert!(
        missing.is_empty(),
        "{what}, but the state lacks {} of them: {missing:?}",
        missing.len()
    );
}

/// The replicated counters of the one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub revision: u64,
    pub applied: u64,
    pub duplicates: u64,
    pub stale: u64,
    pub gaps: u64,
    pub unknown_types: u64,
    pub quarantined: u64,
}

impl Counters {
    /// Deliveries that these count, each once.
    pub fn deliveries(&self) -> u64 {
        self.applied + self.duplicates + self.stale + self.unknown_types + self.quarantined
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Counters) -> Counters {
        Counters {
            revision: self.revision,
            applied: self.applied - earlier.applied,
            duplicates: self.duplicates - earlier.duplicates,
            stale: self.stale - earlier.stale,
            gaps: self.gaps - earlier.gaps,
            unknown_types: self.unknown_types - earlier.unknown_types,
            quarantined: self.quarantined - earlier.quarantined,
        }
    }
}

pub async fn counters(cluster: &Cluster, position: usize) -> Counters {
    let feed = eventually("the feed", DEADLINE, || ask(cluster, position, "/v2/feed"))
        .await
        .json();
    let source = &feed["items"][0];
    let number = |name: &str| source[name].as_u64().unwrap_or(0);
    Counters {
        revision: feed["revision"].as_u64().expect("a revision"),
        applied: number("applied"),
        duplicates: number("duplicates"),
        stale: number("stale"),
        gaps: number("gaps"),
        unknown_types: number("unknown_types"),
        quarantined: number("quarantined"),
    }
}

/// What a stretch of history says of instances and tasks.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Changes.
    pub changes: u64,
    /// Versions that were jumped over.
    pub gaps: u64,
    /// Last version of each resource that changed.
    pub last: BTreeMap<String, i64>,
}

/// Replays history after `from`, up to and including `until`, over what was known at `from`. Panics where a version was applied twice, or an
/// older one after a newer.
pub async fn replay(
    cluster: &Cluster,
    position: usize,
    from: u64,
    until: u64,
    known: &BTreeMap<String, i64>,
) -> Replay {
    let url = format!("{}/v2/watch?from_revision={}", cluster.nodes[position].url(), from + 1);
    let mut lines = Lines::open(&cluster.client, &url).await.expect("history is kept");
    let mut replay = Replay::default();
    let mut seen = from;
    while seen < until {
        let line = lines.next(DEADLINE).await.expect("the watch goes on");
        let line = line.expect("history up to a revision that is there");
        seen = line["revision"].as_u64().expect("every line has a revision");
        let is_observed = matches!(line["kind"].as_str(), Some("instance" | "task"));
        if !is_observed || line["type"] != "PUT" || seen > until {
            continue;
        }
        let arn = line["arn"].as_str().expect("an ARN").to_owned();
        let version = line["object"]["document"]["version"].as_i64().expect("a version");
        let before = replay.last.get(&arn).or_else(|| known.get(&arn)).copied();
        if let Some(before) = before {
            assert!(version > before, "version {version} after {before}: {line}");
            replay.gaps += (version - before - 1) as u64;
        }
        replay.changes += 1;
        replay.last.insert(arn, version);
    }
    replay
}

/// Of the journal: every message was sent, then received, then deleted, once each but for receives; how often one was received at most.
pub fn check_order(steps: &[Step]) -> u32 {
    let (mut sent, mut received, mut deleted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut receives_max = 0;
    for step in steps {
        let message = step.message.as_str();
        receives_max = receives_max.max(step.receives);
        match step.kind {
            StepKind::Sent => assert!(sent.insert(message), "{message} was sent twice"),
            StepKind::Received => {
                assert!(sent.contains(message) && !deleted.contains(message), "{step:?}");
                received.insert(message);
            }
            StepKind::Deleted => {
                assert!(received.contains(message), "{message} was deleted unseen");
                assert!(deleted.insert(message), "{message} was deleted twice");
            }
            StepKind::Dead => panic!("{message} went to the dead letters after {} receives", step.receives),
        }
    }
    assert_eq!(sent, deleted, "every message was deleted in the end");
    receives_max
}

/// An array of strings.
pub fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|one| one.as_str().map(str::to_owned)).collect()
}
