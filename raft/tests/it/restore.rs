//! Clusters founded from a backup.

use std::path::{Path, PathBuf};

use blox_raft::SnapshotPolicy;
use blox_store::backup::BackupOrigin;
use blox_store::{FeatureLevel, Store};

use crate::cluster::{Cluster, PATIENCE, caught_up, local};

fn save(store: &Store, directory: &Path, name: &str) -> PathBuf {
    let origin = BackupOrigin {
        cluster_id: "old".into(),
        node: "a".into(),
        version: "test".into(),
        created_at_ms: 1,
    };
    let file = directory.join(name);
    let backup = store.backup(&directory.join("outgoing"), origin).expect("a backup");
    let mut bytes = Vec::new();
    backup
        .write(|piece| {
            bytes.extend_from_slice(&piece);
            Ok(())
        })
        .expect("written");
    std::fs::write(&file, bytes).expect("written");
    file
}

/// Two backups of a cluster that is stopped then, and the id it had.
async fn saved(cluster: &mut Cluster, directory: &Path) -> (PathBuf, PathBuf, String) {
    cluster.start().await;
    cluster.nodes[0].put("kept", "1").await;
    let revision = cluster.nodes[0].store().progress().borrow().revision;
    caught_up(&cluster.nodes[1], revision).await;
    let first = save(cluster.nodes[0].store(), directory, "first");
    cluster.nodes[0].put("later", "1").await;
    let second = save(cluster.nodes[0].store(), directory, "second");
    let id = cluster.nodes[0].consensus().status().cluster_id;
    cluster.stop().await;
    (first, second, id)
}

fn restore(cluster: &mut Cluster, directory: &Path, position: usize, file: &Path) {
    let node = &mut cluster.nodes[position];
    node.config.data_directory = directory.join(&node.config.name);
    blox_raft::restore(file, &node.config.data_directory, "state", &node.config.name, |_| {}).expect("restored");
}

/// Three restored nodes found a cluster of their own: another id, the state as it was, a log that begins behind it, so that whoever comes later
/// begins with a snapshot; and they go on after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn restored_nodes_found_a_new_cluster() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut cluster = Cluster::new(3, SnapshotPolicy::default());
    let (file, _, old) = saved(&mut cluster, directory.path()).await;
    for position in 0..3 {
        restore(&mut cluster, directory.path(), position, &file);
    }
    cluster.start().await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].put("new", "1").await;
    let revision = cluster.nodes[leader].store().progress().borrow().revision;
    let mut hashes = Vec::new();
    for node in &cluster.nodes {
        caught_up(node, revision).await;
        let status = node.consensus().status();
        assert_ne!(status.cluster_id, old);
        let names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(node.get("kept").await.as_deref(), Some("1"));
        assert_eq!(local(node.store(), "later"), None);
        let restored = node.store().restored_revision().expect("read");
        assert!(restored > 1_000_000_000 && status.snapshot_index > 0, "{status:?}");
        hashes.push(node.store().fingerprint().expect("read"));
        assert_eq!(node.store().feature_level(), FeatureLevel::FIRST);
    }
    assert!(hashes.iter().all(|hash| hash == &hashes[0]), "{hashes:?}");
    cluster.stop().await;
    cluster.start().await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].put("again", "1").await;
    assert_eq!(cluster.nodes[leader].get("new").await.as_deref(), Some("1"));
    cluster.stop().await;
}

/// Initial members of which one was restored from another backup, or from none, found nothing, and say what to do.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_different_backups_found_nothing() {
    for with_another in [true, false] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Cluster::new(3, SnapshotPolicy::default());
        let (file, another, _) = saved(&mut cluster, directory.path()).await;
        for position in 0..2 {
            restore(&mut cluster, directory.path(), position, &file);
        }
        if with_another {
            restore(&mut cluster, directory.path(), 2, &another);
        } else {
            cluster.nodes[2].wipe();
        }
        for node in &mut cluster.nodes {
            node.start().await;
        }
        for node in &cluster.nodes[..2] {
            let reason = tokio::time::timeout(PATIENCE, node.consensus().stopped())
                .await
                .expect("it ends");
            assert!(reason.contains("`c` was restored from"), "{reason}");
            assert!(reason.contains("restore the same file on each of them"), "{reason}");
            assert_eq!(
                node.store().applied().expect("read").membership.len(),
                0,
                "it founded nothing"
            );
        }
        cluster.stop().await;
    }
}
