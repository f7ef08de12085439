//! What a leader says of a peer that is gone.

use crate::harness::{Cluster, DEADLINE, eventually};

const SILENT: &str = "does not answer heartbeats";
const BACK: &str = "answers heartbeats again";
/// Where consensus would say so with each heartbeat.
const HEARTBEATS: &str = "core::heartbeat";

/// The same node leads from beginning to end.
const STEADY: &str = "[timing]\nheartbeat = \"100ms\"\nelection_min = \"3s\"\nelection_max = \"6s\"\n";

/// A peer that dies is said to be silent once, and to be back once, by its name, at the level that nodes have unless asked otherwise: an
/// operator finds both, and nothing else about heartbeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_said_once() {
    let mut cluster = Cluster::start_with(Cluster::directory(), "http://127.0.0.1:9", &[], STEADY).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let name = cluster.nodes[follower].name.clone();
    let before = cluster.nodes[leader].log().len();
    cluster.nodes[follower].kill().await;
    said(&cluster, leader, SILENT, &name).await;
    cluster.nodes[follower].start();
    cluster.ready(follower).await;
    said(&cluster, leader, BACK, &name).await;
    let log = cluster.nodes[leader].log().split_off(before);
    let lines = |wanted: &[&str]| {
        let found = log
            .lines()
            .filter(|line| wanted.iter().all(|wanted| line.contains(wanted)));
        found.count()
    };
    let about = about(&name);
    let said = (lines(&[SILENT, &about]), lines(&[BACK, &about]), lines(&[HEARTBEATS]));
    assert_eq!(said, (1, 1, 0), "{log}");
}

/// What a line about this peer holds.
fn about(peer: &str) -> String {
    format!("\"peer\":{peer:?}")
}

/// Waits until a node's log has such a line, about this peer.
async fn said(cluster: &Cluster, position: usize, what: &str, peer: &str) {
    eventually(what, DEADLINE, || async {
        let log = cluster.nodes[position].log();
        if log
            .lines()
            .any(|line| line.contains(what) && line.contains(&about(peer)))
        {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}
