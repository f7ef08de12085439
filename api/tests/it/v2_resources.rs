//! Tasks, instances and clusters of `/v2`.

use serde_json::Value;

use crate::documents::{EAST, Task, WEST, cluster, cluster_arn, instance, instance_arn, task_arn};
use crate::node::Node;

fn short_ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items").iter();
    items
        .map(|item| {
            item["arn"]
                .as_str()
                .and_then(|arn| arn.rsplit('/').next())
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// Every field that ECS sent, Fargate tasks too, in one envelope for all kinds.
#[tokio::test]
async fn documents_are_whole() {
    let node = Node::start().await;
    let task = Task {
        fargate: true,
        padding: 10,
        ..Task::default()
    };
    node.observe(vec![task.observation(), cluster(WEST, "alpha")]);
    let arn = task_arn(WEST, "alpha", "t1");
    let list = node.get("/v2/tasks").await;
    assert_eq!(list.header("content-type"), Some("application/json"));
    let item = list.json()["items"][0].clone();
    assert_eq!(item["kind"], "task");
    assert_eq!(item["source"], WEST);
    assert_eq!(item["cluster_arn"], cluster_arn(WEST, "alpha"));
    assert_eq!(item["arn"], arn.as_str());
    assert_eq!(
        (item["revision"].as_u64(), item["create_revision"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(item["document"], task.document());
    assert_eq!(
        (list.json()["revision"].as_u64(), &list.json()["next_token"]),
        (Some(2), &Value::Null)
    );
    for arn in [arn.clone(), arn.replace(':', "%3A").replace('/', "%2F")] {
        let one = node.get(&format!("/v2/tasks/{arn}")).await;
        assert_eq!((one.json(), one.header("etag")), (item.clone(), Some("\"1\"")));
    }
    let cluster = node
        .get(&format!("/v2/clusters/{}", cluster_arn(WEST, "alpha")))
        .await
        .json();
    assert_eq!(
        (cluster["kind"].as_str(), cluster.get("cluster_arn")),
        (Some("cluster"), None)
    );
    let missing = node.get("/v2/tasks/arn:none").await;
    assert_eq!(
        (missing.status(), missing.json()["code"].as_str()),
        (404, Some("resource_missing"))
    );
    assert_eq!(missing.json()["request_id"].as_str(), missing.header("x-request-id"));
}

/// Each filter, and what is not one.
#[tokio::test]
async fn filters_find_what_they_say() {
    let node = Node::start().await;
    node.observe(vec![
        Task {
            id: "t1",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t2",
            status: "STOPPED",
            started_by: "you",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t3",
            region: EAST,
            fargate: true,
            ..Task::default()
        }
        .observation(),
        instance(WEST, "alpha", "i1", "ACTIVE", 1),
        instance(WEST, "beta", "i2", "DRAINING", 1),
    ]);
    let own = instance_arn(WEST, "alpha", "i1");
    for (path, expected) in [
        ("/v2/tasks?status=stopped", vec!["t2"]),
        ("/v2/tasks?source=us-east-1", vec!["t3"]),
        ("/v2/tasks?cluster=alpha&status=RUNNING", vec!["t3", "t1"]),
        ("/v2/tasks?launch_type=fargate", vec!["t3"]),
        ("/v2/tasks?family=sleep&started_by=you", vec!["t2"]),
        (
            "/v2/tasks?group=family:sleep&desired_status=running&q=TASK/ALPHA/T1",
            vec!["t1"],
        ),
        (&format!("/v2/tasks?instance={own}"), vec!["t1", "t2"]),
        ("/v2/tasks?q=nothing", vec![]),
        ("/v2/instances?status=draining", vec!["i2"]),
        (&format!("/v2/instances?instance={own}"), vec!["i1"]),
    ] {
        assert_eq!(short_ids(&node.get(path).await.json()), expected, "{path}");
    }
    for (path, code) in [
        ("/v2/instances?family=x", "unknown_parameter"),
        ("/v2/tasks?statsu=x", "unknown_parameter"),
        ("/v2/tasks?status=a&status=b", "invalid_parameter"),
        ("/v2/tasks?limit=0", "invalid_parameter"),
        ("/v2/tasks?limit=1001", "invalid_parameter"),
        ("/v2/tasks?limit=x", "invalid_parameter"),
        ("/v2/tasks?cluster=-", "invalid_parameter"),
        ("/v2/tasks?q=%ff", "invalid_parameter"),
        ("/v2/tasks?next_token=x", "invalid_parameter"),
        ("/v2/tasks/arn?status=x", "unknown_parameter"),
    ] {
        let answer = node.get(path).await;
        assert_eq!(
            (answer.status(), answer.json()["code"].as_str()),
            (400, Some(code)),
            "{path}"
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{path}"
        );
    }
}

/// A cluster of the same name in two sources is two clusters in every answer.
#[tokio::test]
async fn two_sources_with_one_name_are_two_clusters() {
    let node = Node::start().await;
    node.observe(vec![
        cluster(WEST, "alpha"),
        cluster(EAST, "alpha"),
        Task {
            id: "t1",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t1",
            region: EAST,
            ..Task::default()
        }
        .observation(),
    ]);
    let clusters = node.get("/v2/clusters?cluster=alpha").await.json();
    let sources: Vec<&str> = clusters["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["source"].as_str())
        .collect();
    assert_eq!(sources, [EAST, WEST]);
    assert_eq!(
        node.get("/v2/tasks?cluster=alpha").await.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(
        node.get("/v2/clusters?source=us-east-1").await.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let exact = node
        .get(&format!("/v2/tasks?cluster={}", cluster_arn(EAST, "alpha")))
        .await
        .json();
    assert_eq!(exact["items"][0]["source"], EAST);
    assert_eq!(
        node.get("/v1/tasks?cluster=alpha").await.json()["items"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    for region in [WEST, EAST] {
        let one = node
            .get(&format!("/v1/tasks/alpha/{}", task_arn(region, "alpha", "t1")))
            .await;
        assert_eq!(one.json()["entity"]["clusterARN"], cluster_arn(region, "alpha"));
    }
}

/// Pages show one revision while writes go on: nothing twice, nothing missing, nothing new.
#[tokio::test]
async fn pages_are_one_cut() {
    let node = Node::start().await;
    let names: Vec<String> = (0..50).map(|number| format!("t{number:03}")).collect();
    node.observe(
        names
            .iter()
            .map(|id| Task { id, ..Task::default() }.observation())
            .collect(),
    );
    let mut seen = Vec::new();
    let mut path = "/v2/tasks?limit=7&status=running".to_owned();
    let mut version = 2;
    loop {
        let answer = node.get(&path).await;
        assert_eq!(answer.header("x-blox-revision"), Some("50"));
        let page = answer.json();
        assert_eq!(page["revision"], 50);
        seen.extend(short_ids(&page));
        let changed = names.iter().map(|id| {
            Task {
                id,
                version,
                status: "STOPPED",
                ..Task::default()
            }
            .observation()
        });
        node.observe(
            changed
                .chain([Task {
                    id: "t0005",
                    version,
                    ..Task::default()
                }
                .observation()])
                .collect(),
        );
        version += 1;
        match page["next_token"].as_str() {
            Some(token) => path = format!("/v2/tasks?limit=7&status=running&next_token={token}"),
            None => break,
        }
    }
    assert_eq!(seen, names);
    assert_eq!(
        node.get("/v2/tasks?limit=50&status=stopped").await.json()["next_token"],
        Value::Null
    );

    let first = node.get("/v2/tasks?limit=7").await.json();
    let token = first["next_token"].as_str().expect("there is more").to_owned();
    let other = node
        .get(&format!("/v2/tasks?limit=7&status=running&next_token={token}"))
        .await;
    assert_eq!(other.json()["parameter"], "next_token", "a token of another query");
    let unknown = node
        .get(&format!("/v2/tasks?limit=7&next_token={token}&consistency=x"))
        .await;
    assert_eq!(
        unknown.json()["parameter"],
        "consistency",
        "later pages are checked as the first"
    );
    node.observe(vec![
        Task {
            id: "t000",
            version,
            ..Task::default()
        }
        .observation(),
    ]);
    node.compact(node.revision());
    let gone = node.get(&format!("/v2/tasks?limit=7&next_token={token}")).await;
    assert_eq!((gone.status(), gone.json()["code"].as_str()), (410, Some("compacted")));
    assert_eq!(gone.json()["oldest_revision"], node.revision());
}
