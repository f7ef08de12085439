//! A node that was away for longer than the log reaches back.

use std::time::Duration;

use blox_raft::SnapshotPolicy;

use crate::cluster::{Cluster, PATIENCE, caught_up, local};

const SMALL: SnapshotPolicy = SnapshotPolicy {
    entries: 20,
    bytes: 1 << 30,
    keep_entries: 5,
    keep_bytes: 1 << 30,
};

fn metric(cluster: &Cluster, number: usize, wanted: &str) -> f64 {
    let metrics = cluster.nodes[number].consensus().metrics();
    let found = metrics.iter().find(|(name, _)| *name == wanted);
    found.map_or(0.0, |(_, value)| *value)
}

/// It gets a snapshot over the wire, then the rest of the log, and survives a restart with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_away_past_the_purge_gets_a_snapshot() {
    let mut cluster = Cluster::new(3, SMALL);
    cluster.start().await;
    let away = cluster.follower().await;
    let held = cluster.nodes[away].consensus().status().last_log_index;
    cluster.nodes[away].stop().await;
    let leader = cluster.leader().await;
    for number in 0..100 {
        cluster.nodes[leader]
            .put(&format!("k{number}"), &format!("v{number}"))
            .await;
    }
    // Snapshots are built beside the writes, and may end after them; the log goes only then, and once no stream to a peer needs it.
    let purged = async {
        while metric(&cluster, leader, "blox_raft_purged_index") <= held as f64 + 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, purged).await.expect("the log is purged");
    let revision = cluster.nodes[leader].store().progress().borrow().revision;

    cluster.nodes[away].start().await;
    caught_up(&cluster.nodes[away], revision).await;
    // Readers are told of the new state a moment before it is counted.
    let counted = async {
        while metric(&cluster, away, "blox_raft_snapshot_installed_total") < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted)
        .await
        .expect("it came as a snapshot");
    assert!(metric(&cluster, away, "blox_raft_snapshot_received_bytes_total") > 0.0);
    for number in [0, 50, 99] {
        assert_eq!(
            cluster.nodes[away].get(&format!("k{number}")).await,
            Some(format!("v{number}"))
        );
    }
    let leader_hash = cluster.nodes[leader].store().state_hash().expect("readable");
    assert_eq!(cluster.nodes[away].store().state_hash().expect("readable"), leader_hash);

    cluster.nodes[away].stop().await;
    cluster.nodes[away].start().await;
    assert_eq!(local(cluster.nodes[away].store(), "k99").as_deref(), Some("v99"));
    cluster.nodes[leader].put("last", "1").await;
    assert_eq!(cluster.nodes[away].get("last").await.as_deref(), Some("1"));
    cluster.stop().await;
}

/// The policy counts bytes too: few large entries bring a snapshot as many small ones do.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_log_bring_a_snapshot() {
    let policy = SnapshotPolicy {
        entries: 1_000_000,
        bytes: 4 << 20,
        keep_entries: 1_000_000,
        keep_bytes: 2 << 20,
    };
    let mut cluster = Cluster::new(1, policy);
    cluster.start().await;
    let value = "x".repeat(1 << 20);
    for number in 0..8 {
        cluster.nodes[0].put(&format!("k{number}"), &value).await;
    }
    let consensus = cluster.nodes[0].consensus().clone();
    let snapshot = async {
        while consensus.status().snapshot_index == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, snapshot)
        .await
        .expect("a snapshot is taken");
    cluster.stop().await;
}
