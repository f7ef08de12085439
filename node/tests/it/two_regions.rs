//! Two sources with a cluster of the same name.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Cluster, DEADLINE, SimulatorProcess, eventually, seeded};

const EAST: &str = "us-east-1";
const WEST: &str = "eu-west-1";

/// A cluster of one name in two regions is two clusters in every answer, and a deployment must say which it means.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_in_two_regions_is_two_clusters() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[EAST, WEST], directory.path()).await;
    for (region, instances) in [(EAST, 2), (WEST, 3)] {
        simulator.cluster(region, "prod", instances).await;
        simulator.definition(region, "agent").await;
        simulator
            .post(
                "/tasks/start",
                json!({"region": region, "cluster": "prod", "task_definition": "agent", "count": 2}),
            )
            .await;
    }
    let sources = [
        SimulatorProcess::source("east", EAST),
        SimulatorProcess::source("west", WEST),
    ];
    let cluster = Cluster::start(directory, &simulator.url(), &sources).await;
    cluster.reconciled().await;

    let clusters = cluster.get(1, "/v2/clusters?q=prod").await.json();
    let arns: BTreeSet<&str> = clusters["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["arn"].as_str())
        .collect();
    assert_eq!(arns.len(), 2, "{clusters}");
    assert!(
        arns.iter().any(|arn| arn.contains(EAST)) && arns.iter().any(|arn| arn.contains(WEST)),
        "{arns:?}"
    );

    for (position, _) in cluster.nodes.iter().enumerate() {
        let count = async |query: String| {
            cluster.get(position, &query).await.json()["items"]
                .as_array()
                .expect("a list")
                .len()
        };
        assert_eq!(count("/v1/instances?cluster=prod".to_owned()).await, 5);
        assert_eq!(count("/v2/instances?cluster=prod".to_owned()).await, 5);
        assert_eq!(count("/v2/instances?cluster=prod&source=west".to_owned()).await, 3);
        for arn in &arns {
            let expected = if arn.contains(EAST) { 2 } else { 3 };
            assert_eq!(count(format!("/v1/instances?cluster={arn}")).await, expected, "{arn}");
            assert_eq!(count(format!("/v2/instances?cluster={arn}")).await, expected, "{arn}");
        }
    }

    let url = format!("{}/v2/environments/agent", cluster.nodes[0].url());
    let ambiguous = cluster
        .client
        .put_json(&url, &json!({"cluster": "prod", "task_definition": "agent"}))
        .await
        .expect("an answer");
    assert!(
        (400..500).contains(&ambiguous.status),
        "a name that means two clusters is refused: {}",
        ambiguous.text()
    );
    assert!(
        ambiguous.text().contains("east") && ambiguous.text().contains("west"),
        "it says which: {}",
        ambiguous.text()
    );
    cluster
        .put(
            "/v2/environments/agent",
            &json!({"cluster": "prod", "source": "west", "task_definition": "agent"}),
        )
        .await;
    eventually(
        "a daemon on each instance of the one that was meant",
        DEADLINE,
        || async {
            let environment = cluster.get(2, "/v2/environments/agent").await.json();
            if environment["summary"]["ready"] == 3 {
                Ok(())
            } else {
                Err(environment.to_string())
            }
        },
    )
    .await;
    let counts = simulator.counts("blox:").await;
    assert!(
        counts.iter().all(|pair| pair["region"] == WEST),
        "nothing was started in the other: {counts:?}"
    );
}
