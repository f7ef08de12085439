//! The same query gives the same body on every node.

use serde_json::json;

use crate::harness::{Cluster, REGION, SimulatorProcess, seeded};

/// Lists with every kind of filter, paging and single resources: byte for byte the same on each of three nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_gives_the_same_body() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    let instances = simulator.cluster(REGION, "alpha", 4).await;
    simulator.cluster(REGION, "beta", 3).await;
    for family in ["web", "worker"] {
        simulator.definition(REGION, family).await;
        for cluster in ["alpha", "beta"] {
            let order = json!({"cluster": cluster, "task_definition": family, "count": 4, "started_by": "someone"});
            simulator.post("/tasks/start", order).await;
        }
    }
    simulator
        .post(
            "/tasks/start",
            json!({"cluster": "beta", "task_definition": "web", "count": 2, "launch_type": "FARGATE"}),
        )
        .await;
    simulator.wait_until_still().await;
    simulator
        .post("/tasks/stop", json!({"cluster": "alpha", "count": 2}))
        .await;
    simulator.wait_until_still().await;
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;

    let queries = [
        "/v1/tasks".to_owned(),
        "/v1/tasks?cluster=alpha".to_owned(),
        "/v1/tasks?status=running&cluster=beta&startedBy=someone".to_owned(),
        "/v1/tasks?status=stopped".to_owned(),
        "/v1/instances?cluster=alpha&status=active".to_owned(),
        format!("/v1/instances/alpha/{}", instances[0]),
        "/v2/clusters".to_owned(),
        "/v2/tasks?limit=5".to_owned(),
        "/v2/tasks?cluster=alpha&family=web&desired_status=RUNNING".to_owned(),
        "/v2/tasks?launch_type=FARGATE".to_owned(),
        format!("/v2/tasks?instance={}", instances[1]),
        "/v2/instances?q=i-&source=main".to_owned(),
    ];
    let mut with_items = 0;
    for query in &queries {
        let first = cluster.get(0, query).await;
        for (position, node) in cluster.nodes.iter().enumerate() {
            let answer = cluster
                .client
                .get(&format!("{}{query}", node.url()))
                .await
                .expect("every node answers");
            assert_eq!(answer.status, 200, "{query} on node {position}: {}", answer.text());
            assert_eq!(answer.header("x-blox-node"), node.name, "{query}");
            assert_eq!(
                answer.text(),
                first.text(),
                "{query}: node {position} differs from node 0"
            );
        }
        with_items += usize::from(first.text().contains("arn:aws:ecs"));
    }
    assert_eq!(with_items, queries.len(), "a query without a match compares nothing");
}
