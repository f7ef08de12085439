//! The metrics page as a whole.

use std::collections::HashSet;
use std::time::Duration;

use crate::node::Node;

/// The family of a sample's name: without what histograms and summaries append.
fn family_of<'name>(name: &'name str, families: &HashSet<&str>) -> &'name str {
    if families.contains(name) {
        return name;
    }
    ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// What Prometheus asks of a page: each family is announced once, its samples follow it, and no series stands there twice.
#[tokio::test]
async fn a_page_holds_each_series_once() {
    let node = Node::start().await;
    node.get("/v1/tasks").await;
    node.get("/v2/none").await;
    node.request("PUT", "/v2/kv/k", &[], b"1").await;
    let page = node.get("/metrics").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = page.text();
    let mut families = HashSet::new();
    let mut series = HashSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(helped) = line.strip_prefix("# HELP ") {
            current = helped.split(' ').next().expect("a name");
            assert!(families.insert(current), "{current} is announced twice");
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').expect("a name and a type");
            assert_eq!(name, current, "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(sample), "{sample} stands there twice");
            let name = sample.split('{').next().expect("a name");
            assert_eq!(family_of(name, &families), current, "{line}");
        }
    }
    assert!(series.contains("blox_raft_wal_fsync_duration_seconds_sum"));
    assert!(text.contains("# TYPE blox_raft_wal_fsync_duration_seconds summary\n"));
    assert!(
        text.contains("\nblox_raft_term 3\n"),
        "the status is said, not what differs from it"
    );
}

/// A leader that was not heard of for long is none: what raises the alarm must not name the last one for ever.
#[tokio::test]
async fn a_leader_not_heard_of_is_none() {
    let node = Node::start().await;
    assert!(node.get("/metrics").await.text().contains("\nblox_raft_has_leader 1\n"));
    node.consensus
        .status
        .lock()
        .expect("no test panics under it")
        .leader_contact = Some(Duration::from_secs(50));
    assert!(node.get("/metrics").await.text().contains("\nblox_raft_has_leader 0\n"));
}
