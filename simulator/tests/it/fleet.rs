//! Fleets: the demo's, floods, resets.

use blox_simulator::{Preset, SimulatorConfig};
use serde_json::{Value, json};

use crate::client::{Client, strings, tasks};

/// The demo has two clusters of twenty, its definitions, and tasks that come to run.
#[tokio::test]
async fn the_demo_is_as_promised() {
    let client = Client::start_with(SimulatorConfig {
        preset: Preset::Demo,
        ..SimulatorConfig::default()
    })
    .await;
    let clusters = strings(&client.ecs("ListClusters", json!({})).await["clusterArns"]);
    let described = client.ecs("DescribeClusters", json!({"clusters": clusters})).await;
    let named: Vec<_> = described["clusters"]
        .as_array()
        .expect("clusters")
        .iter()
        .map(|one| &one["clusterName"])
        .collect();
    assert_eq!(named, ["alpha", "beta"]);
    let counts: Vec<_> = described["clusters"]
        .as_array()
        .expect("clusters")
        .iter()
        .map(|one| &one["registeredContainerInstancesCount"])
        .collect();
    assert_eq!(counts, [20, 20]);
    let definitions = client.ecs("ListTaskDefinitions", json!({})).await;
    let names: Vec<String> = strings(&definitions["taskDefinitionArns"])
        .iter()
        .map(|arn| arn.rsplit('/').next().unwrap_or_default().into())
        .collect();
    assert_eq!(names, ["agent:1", "agent:2", "web:1"]);
    client
        .wait_for("state", |state| {
            tasks(state)
                .iter()
                .filter(|task| task["lastStatus"] == "RUNNING")
                .count()
                >= 40
        })
        .await;
}

/// A flood raises versions one by one, in turn, and all its events are in the queue.
#[tokio::test]
async fn a_flood_raises_versions() {
    let (client, instances) = Client::with_fleet(10).await;
    let flood = client
        .control("flood", json!({"cluster": "one", "events": 5_000}))
        .await;
    println!("flood: {flood}");
    assert_eq!(flood["events"], 5_000);
    let resources = client.show("journal/resources").await;
    for arn in &instances {
        assert_eq!(resources["resources"][arn]["highest_version_queued"], 501, "{arn}");
    }
    let described = client
        .ecs(
            "DescribeContainerInstances",
            json!({"cluster": "one", "containerInstances": instances}),
        )
        .await;
    let versions: Vec<&Value> = described["containerInstances"]
        .as_array()
        .expect("instances")
        .iter()
        .map(|one| &one["version"])
        .collect();
    assert!(versions.iter().all(|version| **version == 501), "{versions:?}");
    assert_eq!(client.show("queues").await["queues"][0]["visible"], 5_010);
}

/// The same seed makes the same world; a reset with another seed makes another.
#[tokio::test]
async fn the_seed_decides() {
    let (client, first) = Client::with_fleet(3).await;
    let again = async |seed: u64| {
        client.control("reset", json!({"seed": seed})).await;
        client.control("clusters", json!({"cluster": "one"})).await;
        client.control("task-definitions", json!({"family": "agent"})).await;
        strings(&client.control("instances", json!({"cluster": "one", "count": 3})).await["instances"])
    };
    assert_eq!(again(1).await, first);
    assert_ne!(again(2).await, first);
}
