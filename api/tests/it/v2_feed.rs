//! The feed of `/v2`.

use blox_store::proto::command::Operation;
use blox_store::proto::{QuarantineMessages, QuarantinedMessage, ReconcilePass, ReportSource};
use serde_json::{Value, json};

use crate::documents::{Task, WEST, cluster_arn};
use crate::doubles::NOW_MS;
use crate::node::Node;

fn report(node: &Node, source_reconciled: bool) {
    let pass = ReconcilePass {
        cluster_arn: cluster_arn(WEST, "alpha"),
        tasks: 4,
        drift_gone: 2,
        ..ReconcilePass::default()
    };
    node.apply(Operation::ReportSource(ReportSource {
        source: WEST.into(),
        watermark_ms: NOW_MS - 1500,
        passes: vec![pass],
        source_reconciled,
    }));
}

/// What each source has done and how far behind it is, on the route, in the answer headers and on the metrics page.
#[tokio::test]
async fn a_source_says_how_it_does() {
    let node = Node::start().await;
    assert_eq!(node.get("/v2/feed").await.json()["items"], json!([]));
    let task = Task::default().observation();
    node.observe(vec![task.clone(), task]);
    report(&node, true);
    let feed = node.get("/v2/feed").await.json();
    let source = &feed["items"][0];
    assert_eq!(
        (source["source"].as_str(), source["lag_ms"].as_i64()),
        (Some(WEST), Some(1500))
    );
    assert_eq!(
        (source["applied"].as_u64(), source["duplicates"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(source["reconcile"]["clusters"][0]["tasks"], 4);
    assert_eq!(source["reconcile"]["clusters"][0]["drift"]["gone"], 2);
    assert!(
        source["reconcile"]["reconciled_at_ms"]
            .as_i64()
            .is_some_and(|at| at > 0)
    );
    let metrics = node.get("/metrics").await;
    for line in [
        "blox_events_total{source=\"us-west-2\",outcome=\"duplicate\"} 1",
        "blox_event_lag_seconds{source=\"us-west-2\"} 1.5",
        "blox_sqs_received_total{source=\"us-west-2\"} 5",
        "blox_raft_proposals_failed_total 2",
        "blox_raft_is_leader 1",
        "blox_build_info{version=\"0.1.0\",node=\"node1\"} 1",
        "blox_http_request_duration_seconds_count{route=\"/v2/feed\",method=\"GET\",code=\"200\"} 2",
    ] {
        assert!(metrics.text().contains(line), "{line} is not in\n{}", metrics.text());
    }
}

/// What could not be read is shown as received, page by page.
#[tokio::test]
async fn the_quarantine_is_paged() {
    let node = Node::start().await;
    let message = |number: usize| QuarantinedMessage {
        message_id: format!("m{number}"),
        reason: "not JSON".into(),
        body: if number == 2 {
            vec![0xff].into()
        } else {
            format!("body {number}").into()
        },
        ..QuarantinedMessage::default()
    };
    let messages = (0..5).map(message).collect();
    node.apply(Operation::QuarantineMessages(QuarantineMessages {
        source: WEST.into(),
        messages,
    }));
    let mut seen = Vec::new();
    let mut path = "/v2/feed/quarantine?limit=2".to_owned();
    loop {
        let page = node.get(&path).await.json();
        seen.extend(page["items"].as_array().expect("items").iter().cloned());
        match page["next_token"].as_str() {
            Some(token) => path = format!("/v2/feed/quarantine?limit=2&next_token={token}"),
            None => break,
        }
    }
    let ids: Vec<&str> = seen.iter().filter_map(|item| item["message_id"].as_str()).collect();
    assert_eq!(ids, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(
        (seen[1]["body"].as_str(), seen[1]["source"].as_str()),
        (Some("body 1"), Some(WEST))
    );
    assert_eq!(
        (&seen[2]["body"], seen[2]["body_base64"].as_str()),
        (&Value::Null, Some("/w=="))
    );
    assert_eq!(
        node.get("/v2/feed/quarantine?limit=2&next_token=AQ").await.status(),
        400
    );
}
