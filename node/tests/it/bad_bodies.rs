//! Bodies on the queue that are no events of ours.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, eventually, seeded};

/// SQS's own limit on a message.
const LARGEST_BYTES: usize = 256 * 1024;

/// What cannot be read is counted and put aside, what is of an unknown type is counted and dropped, and the queue goes on: an event behind
/// them arrives, and nothing stays in the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_do_not_hold_up_the_queue() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", 2).await;
    simulator.definition(REGION, "web").await;
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;

    let event = |kind: &str, detail: Value| {
        json!({"version": "0", "id": "1", "detail-type": kind, "source": "aws.ecs", "account": "123456789012",
               "time": "2026-11-22T15:00:00Z", "region": REGION, "resources": [], "detail": detail})
    };
    let poison = [
        "this is no JSON".to_owned(),
        "{\"detail-type\":".to_owned(),
        "[]".to_owned(),
        event("ECS Task State Change", json!({"lastStatus": "RUNNING"})).to_string(),
        event("ECS Container Instance State Change", json!("text")).to_string(),
        "x".repeat(LARGEST_BYTES),
    ];
    let ignored = [
        event("ECS Service Action", json!({})),
        event("Something of the Future", json!({"taskArn": "x"})),
    ];
    for body in &poison {
        simulator.post("/messages", json!({"body": body})).await;
    }
    for body in &ignored {
        simulator.post("/messages", json!({"body": body})).await;
    }
    let started = simulator
        .post(
            "/tasks/start",
            json!({"cluster": "alpha", "task_definition": "web", "count": 1}),
        )
        .await;
    let arn = started["tasks"][0].as_str().expect("it starts").to_owned();

    eventually("the event behind them arrives", DEADLINE, || async {
        let tasks = cluster.get(1, "/v1/tasks?status=running").await.text();
        if tasks.contains(&arn) { Ok(()) } else { Err(tasks) }
    })
    .await;
    eventually("all are counted", DEADLINE, || async {
        let feed = cluster.get(2, "/v2/feed").await.json();
        let main = &feed["items"][0];
        let unknown = main["unknown_types"].as_u64().unwrap_or(0);
        let quarantined = main["quarantined"].as_u64().unwrap_or(0);
        // An empty Pipes array holds nothing that could be wrong: it may be either.
        let all = unknown + quarantined >= (poison.len() - 1 + ignored.len()) as u64;
        if all && unknown >= ignored.len() as u64 {
            Ok(())
        } else {
            Err(feed.to_string())
        }
    })
    .await;
    eventually("nothing stays in the queue", DEADLINE, || async {
        let queues = simulator.get("/queues").await;
        let left: u64 = ["visible", "in_flight"]
            .iter()
            .map(|key| queues["queues"][0][key].as_u64().unwrap_or(0))
            .sum();
        if left == 0 { Ok(()) } else { Err(queues.to_string()) }
    })
    .await;
    let kept = cluster.get(0, "/v2/feed/quarantine?limit=100").await.json();
    let bodies: Vec<Vec<u8>> = kept["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| {
            STANDARD
                .decode(item["body_base64"].as_str().expect("a body"))
                .expect("base64")
        })
        .collect();
    for body in [&poison[0], &poison[1], &poison[5]] {
        assert!(
            bodies.iter().any(|kept| kept == body.as_bytes()),
            "{} bytes are not kept as received",
            body.len()
        );
    }
}
