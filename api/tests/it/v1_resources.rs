//! Lists and gets of tasks and instances.

use blox_raft::ReadError;
use std::time::Duration;

use crate::documents::{EAST, Task, WEST, cluster_arn, instance, task_arn};
use crate::node::Node;

fn ids(body: &serde_json::Value, key: &str) -> Vec<String> {
    let items = body["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["entity"][key].as_str().expect("an ARN").to_owned())
        .collect()
}

/// Every 400 of both lists, in the contract's order of checks.
#[tokio::test]
async fn bad_queries_have_the_contracts_texts() {
    let node = Node::start().await;
    const UNSUPPORTED: &str = "400 At least one of the filters provided is unsupported\n";
    const REPEATED: &str = "400 At least one of the filters provided is specified multiple times\n";
    const STATUS: &str = "400 Invalid status\n";
    const CLUSTER: &str = "400 Invalid cluster ARN or name\n";
    for (path, expected) in [
        ("/v1/instances?Status=active", UNSUPPORTED),
        ("/v1/instances?startedBy=x", UNSUPPORTED),
        ("/v1/tasks?nextToken=x", UNSUPPORTED),
        ("/v1/tasks?consistency=stale", UNSUPPORTED),
        ("/v1/tasks?status=bad&status=bad&x=1", UNSUPPORTED),
        ("/v1/tasks?status=bad&status=bad", REPEATED),
        ("/v1/instances?cluster=&cluster=", REPEATED),
        ("/v1/tasks?status=active&cluster=-", STATUS),
        ("/v1/instances?status=running", STATUS),
        ("/v1/tasks?cluster=1x", CLUSTER),
        ("/v1/tasks?cluster=a%20b", CLUSTER),
        ("/v1/tasks?cluster=%ff", CLUSTER),
        ("/v1/instances?cluster=arn:aws:ecs:us-west-2:123:cluster/a", CLUSTER),
    ] {
        let answer = node.get(path).await;
        assert_eq!(answer.short(), expected, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8"),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

/// The bytes of a list and of a get, and their order by ARN.
#[tokio::test]
async fn bodies_are_the_originals() {
    let node = Node::start().await;
    assert_eq!(node.get("/v1/tasks").await.short(), "200 {\"items\":[]}\n");
    node.observe(vec![
        Task {
            id: "t2",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t1",
            status: "PENDING",
            ..Task::default()
        }
        .observation(),
        instance(WEST, "alpha", "i1", "ACTIVE", 1),
    ]);
    let task = |id: &str, status: &str, revision: u64| {
        format!(
            "{{\"entity\":{{\"clusterARN\":\"arn:aws:ecs:us-west-2:123456789012:cluster/alpha\",\
             \"containerInstanceARN\":\"arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/i1\",\
             \"containers\":[{{\"containerARN\":\"arn:aws:ecs:us-west-2:123456789012:container/c1\",\
             \"lastStatus\":\"{status}\",\"name\":\"sleep\",\"networkBindings\":null}}],\
             \"createdAt\":\"2026-11-22T08:39:23Z\",\"desiredStatus\":\"RUNNING\",\"lastStatus\":\"{status}\",\
             \"overrides\":{{\"containerOverrides\":[{{\"command\":null,\"environment\":null,\"name\":\"sleep\"}}]}},\
             \"startedBy\":\"me\",\"taskARN\":\"arn:aws:ecs:us-west-2:123456789012:task/alpha/{id}\",\
             \"taskDefinitionARN\":\"arn:aws:ecs:us-west-2:123456789012:task-definition/sleep:1\"}},\
             \"metadata\":{{\"entityVersion\":\"{revision}\"}}}}"
        )
    };
    let list = node.get("/v1/tasks").await;
    assert_eq!(
        list.text(),
        format!(
            "{{\"items\":[{},{}]}}\n",
            task("t1", "PENDING", 2),
            task("t2", "RUNNING", 1)
        )
    );
    assert_eq!(list.header("content-type"), Some("application/json; charset=UTF-8"));
    let arn = task_arn(WEST, "alpha", "t1");
    let encoded = arn.replace(':', "%3A").replace('/', "%2F");
    for arn in [arn, encoded] {
        let one = node.get(&format!("/v1/tasks/alpha/{arn}")).await;
        assert_eq!(one.text(), format!("{}\n", task("t1", "PENDING", 2)));
        assert_eq!(one.header("content-type"), Some("application/json; charset=UTF-8"));
    }
    let instances = node.get("/v1/instances").await;
    assert_eq!(
        instances.text(),
        "{\"items\":[{\"entity\":{\"EC2InstanceID\":\"i-i1\",\"agentConnected\":true,\"attributes\":null,\
         \"clusterARN\":\"arn:aws:ecs:us-west-2:123456789012:cluster/alpha\",\
         \"containerInstanceARN\":\"arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/i1\",\
         \"registeredResources\":[{\"name\":\"CPU\",\"type\":\"INTEGER\",\"value\":\"1024\"}],\
         \"remainingResources\":[{\"name\":\"CPU\",\"type\":\"INTEGER\",\"value\":\"512\"}],\"status\":\"ACTIVE\",\
         \"versionInfo\":{\"agentVersion\":\"1.13.0\"}},\"metadata\":{\"entityVersion\":\"3\"}}]}\n"
    );
}

/// What is not there is a 404 with the contract's text; a Fargate task is not there for v1, and is counted.
#[tokio::test]
async fn what_v1_cannot_show_is_left_out() {
    let node = Node::start().await;
    node.observe(vec![
        Task {
            id: "t1",
            fargate: true,
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t2",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t3",
            fargate: true,
            ..Task::default()
        }
        .observation(),
    ]);
    let missing = "arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/none";
    assert_eq!(
        node.get(&format!("/v1/instances/alpha/{missing}")).await.short(),
        "404 Instance not found\n"
    );
    let fargate = task_arn(WEST, "alpha", "t1");
    assert_eq!(
        node.get(&format!("/v1/tasks/alpha/{fargate}")).await.short(),
        "404 Task not found\n"
    );
    let elsewhere = task_arn(WEST, "alpha", "t2");
    assert_eq!(
        node.get(&format!("/v1/tasks/beta/{elsewhere}")).await.short(),
        "404 Task not found\n"
    );
    let list = node.get("/v1/tasks").await.json();
    assert_eq!(ids(&list, "taskARN"), [elsewhere]);
    let metrics = node.get("/metrics").await;
    assert!(
        metrics.text().contains("blox_v1_left_out_total{kind=\"task\"} 3"),
        "{}",
        metrics.text()
    );
}

/// Filters are ANDed; a name means every cluster of that name, an ARN is exact.
#[tokio::test]
async fn filters_mean_what_the_contract_says() {
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
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t4",
            cluster: "beta",
            ..Task::default()
        }
        .observation(),
        Task {
            id: "t5",
            status: "DEPROVISIONING",
            ..Task::default()
        }
        .observation(),
        instance(WEST, "alpha", "i1", "DRAINING", 1),
    ]);
    for (query, expected) in [
        ("", vec!["t3", "t1", "t2", "t5", "t4"]),
        ("?status=Running", vec!["t3", "t1", "t4"]),
        ("?status=deprovisioning", vec!["t5"]),
        ("?startedBy=you", vec!["t2"]),
        ("?startedBy=YOU", vec![]),
        ("?cluster=alpha", vec!["t3", "t1", "t2", "t5"]),
        (
            &format!("?cluster={}", cluster_arn(WEST, "alpha")),
            vec!["t1", "t2", "t5"],
        ),
        ("?cluster=alpha&status=stopped&startedBy=you", vec!["t2"]),
        ("?cluster=&status=&startedBy=", vec!["t3", "t1", "t2", "t5", "t4"]),
        ("?cluster=gamma", vec![]),
    ] {
        let answer = node.get(&format!("/v1/tasks{query}")).await;
        let found: Vec<String> = ids(&answer.json(), "taskARN");
        let found: Vec<&str> = found.iter().filter_map(|arn| arn.rsplit('/').next()).collect();
        assert_eq!(found, expected, "{query}");
    }
    let draining = node.get("/v1/instances?status=draining").await.json();
    assert_eq!(ids(&draining, "containerInstanceARN").len(), 1);
}

/// A list far larger than a chunk arrives whole and in order.
#[tokio::test]
async fn large_lists_arrive_whole() {
    let node = Node::start().await;
    let names: Vec<String> = (0..500).map(|number| format!("t{number:04}")).collect();
    let tasks = names
        .iter()
        .map(|id| {
            Task {
                id,
                padding: 200,
                ..Task::default()
            }
            .observation()
        })
        .collect();
    node.observe(tasks);
    let answer = node.get("/v1/tasks").await;
    assert!(answer.whole);
    let expected: Vec<String> = names.iter().map(|id| task_arn(WEST, "alpha", id)).collect();
    assert_eq!(ids(&answer.json(), "taskARN"), expected);
}

/// Without a leader reads are refused, unless staleness is accepted by the header.
#[tokio::test]
async fn consistency_is_chosen_by_header() {
    let node = Node::start().await;
    let no_leader = ReadError::NoLeader {
        waited: Duration::from_secs(5),
    };
    *node.consensus.read_fails.lock().expect("no test panics under it") = Some(no_leader);
    for path in [
        "/v1/tasks",
        "/v1/stream/tasks",
        "/v1/environments",
        "/v1/environments/e",
    ] {
        let answer = node.get(path).await;
        assert_eq!(answer.short(), "503 no leader confirmed the read within 5s\n", "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    let stale = node
        .request("GET", "/v1/tasks", &[("X-Blox-Consistency", "stale")], b"")
        .await;
    assert_eq!(stale.short(), "200 {\"items\":[]}\n");
    let wrong = node
        .request("GET", "/v1/tasks", &[("X-Blox-Consistency", "quorum")], b"")
        .await;
    assert_eq!(
        wrong.short(),
        "400 Invalid X-Blox-Consistency 'quorum': it is 'linearizable' or 'stale'\n"
    );
}
