//! Nodes that must not take part.

use std::fs;
use std::time::Duration;

use blox_raft::{Role, SnapshotPolicy, StartError};

use crate::cluster::{Cluster, PATIENCE};

async fn why_it_stopped(cluster: &Cluster, number: usize) -> String {
    tokio::time::timeout(PATIENCE, cluster.nodes[number].consensus().stopped())
        .await
        .expect("it stops")
}

/// A member that comes back with an empty disk is refused, told what to do, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_under_an_old_name_is_refused() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    for lost in [0, 2] {
        cluster.nodes[lost].stop().await;
        cluster.nodes[lost].wipe();
        cluster.nodes[lost].start().await;
        let reason = why_it_stopped(&cluster, lost).await;
        let name = cluster.nodes[lost].config.name.clone();
        assert!(
            reason.contains(&format!("`{name}`")) && reason.contains("give it back its data directory"),
            "{reason}"
        );
        assert_eq!(cluster.nodes[lost].consensus().status().role, Role::Uninitialised);
        cluster.nodes[lost].stop().await;
        if lost == 0 {
            assert_eq!(cluster.nodes[1].get("k").await.as_deref(), Some("v"));
        }
    }
    cluster.stop().await;
}

/// Initial members that were told different lists refuse each other, and found nothing.
#[tokio::test(flavor = "multi_thread")]
async fn different_member_lists_are_refused() {
    let mut cluster = Cluster::new(3, SnapshotPolicy::default());
    cluster.nodes[1].config.initial_members.pop();
    for number in [0, 1] {
        cluster.nodes[number].start().await;
    }
    for number in [0, 1] {
        let reason = why_it_stopped(&cluster, number).await;
        assert!(reason.contains("initial members"), "{reason}");
        assert!(cluster.nodes[number].consensus().status().cluster_id.is_empty());
    }
    cluster.stop().await;
}

/// No cluster begins before all its members agree; then it begins at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_with_all_its_members() {
    let mut cluster = Cluster::new(3, SnapshotPolicy::default());
    for number in [0, 1] {
        cluster.nodes[number].start().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in [0, 1] {
        assert!(cluster.nodes[number].consensus().status().cluster_id.is_empty());
    }
    cluster.nodes[2].start().await;
    cluster.leader().await;
    cluster.nodes[2].put("k", "v").await;
    cluster.stop().await;
}

/// A member of another cluster is not listened to, and disturbs nobody.
#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_member_is_not_heard() {
    let mut ours = Cluster::started(3).await;
    ours.nodes[0].put("k", "v").await;
    let mut theirs = Cluster::started(3).await;
    theirs.nodes[2].put("k", "theirs").await;
    ours.stop().await;
    theirs.stop().await;
    // Node c of theirs now stands where node c of ours stood: only cluster id and incarnation tell them apart.
    let stolen = theirs.nodes[2].config.data_directory.clone();
    let own = ours.nodes[2].config.data_directory.clone();
    fs::remove_dir_all(&own).expect("removed");
    fs::rename(&stolen, &own).expect("moved");
    for node in &mut ours.nodes {
        node.start().await;
    }
    let leader = ours.leader().await;
    assert_ne!(leader, 2);
    ours.nodes[leader].put("k", "still ours").await;
    assert_eq!(ours.nodes[0].get("k").await.as_deref(), Some("still ours"));
    let stranger = why_it_stopped(&ours, 2).await;
    assert!(stranger.contains("the cluster knows this node as"), "{stranger}");
    ours.stop().await;
}

/// A member without its log, and one whose identity is gone, do not start.
#[tokio::test(flavor = "multi_thread")]
async fn log_and_identity_stand_or_fall_together() {
    let mut cluster = Cluster::started(3).await;
    cluster.stop().await;
    let directory = cluster.nodes[1].config.data_directory.clone();
    fs::rename(directory.join("raft"), directory.join("elsewhere")).expect("moved");
    match cluster.nodes[1].try_start().await {
        Err(StartError::Identity(message)) => assert!(message.contains("give it back its data directory"), "{message}"),
        other => panic!("it must refuse: {other:?}"),
    }
    fs::rename(directory.join("elsewhere"), directory.join("raft")).expect("moved back");
    fs::remove_file(directory.join("identity.json")).expect("removed");
    match cluster.nodes[1].try_start().await {
        Err(StartError::Identity(message)) => assert!(message.contains("identity.json"), "{message}"),
        other => panic!("it must refuse: {other:?}"),
    }
}

/// Somebody who is neither an initial member nor anything else is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_does_not_start() {
    let mut cluster = Cluster::new(3, SnapshotPolicy::default());
    cluster.nodes[0].config.name = "stranger".into();
    assert!(matches!(
        cluster.nodes[0].try_start().await,
        Err(StartError::Configuration(_))
    ));
}
