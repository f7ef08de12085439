//! Nodes that must not take part.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blox_raft::{Consistency, InitialMember, RaftConfig, ReadError, Role, SnapshotPolicy, StartError};

use crate::cluster::{Cluster, PATIENCE, TestNode, caught_up, free_addresses};
use crate::membership::{promoted, replaced};

async fn why_it_stopped(cluster: &Cluster, number: usize) -> String {
    stopped(&cluster.nodes[number]).await
}

/// Waits until a node's consensus has ended; why it did.
pub async fn stopped(node: &TestNode) -> String {
    tokio::time::timeout(PATIENCE, node.consensus().stopped())
        .await
        .expect("it stops")
}

/// Waits until a node says what it waits for, and that says `what`.
pub async fn waits(node: &TestNode, what: &str) -> String {
    let mut last = None;
    let asked = async {
        loop {
            last = node.consensus().status().attention;
            if let Some(attention) = last.clone().filter(|attention| attention.contains(what)) {
                return attention;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(attention) => attention,
        Err(_) => panic!("it never said {what:?}, but {last:?}"),
    }
}

/// A member that comes back with an empty disk takes no part under its old name: it waits, says what to do, answers nobody from its empty state,
/// and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_disk_under_an_old_name_waits() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    for lost in [0, 2] {
        cluster.nodes[lost].stop().await;
        cluster.nodes[lost].wipe();
        cluster.nodes[lost].start().await;
        let name = cluster.nodes[lost].config.name.clone();
        waits(&cluster.nodes[lost], &format!("blox member replace {name}")).await;
        let status = cluster.nodes[lost].consensus().status();
        assert_eq!((status.role, status.cluster_id.as_str()), (Role::Uninitialised, ""));
        let stale = cluster.nodes[lost]
            .consensus()
            .read_barrier(Consistency::Stale { max: None }, 0, PATIENCE)
            .await;
        assert!(matches!(stale, Err(ReadError::NotMember(_))), "{stale:?}");
        cluster.nodes[lost].stop().await;
        if lost == 0 {
            assert_eq!(cluster.nodes[1].get("k").await.as_deref(), Some("v"));
            // Its place is taken by what it was: the directory is gone for good, so the next node is lost beside it only once it is replaced.
            cluster.nodes[0].start().await;
            replaced(&cluster, 1, "a", None).await;
            cluster.nodes[0].put("again", "v").await;
        }
    }
    cluster.stop().await;
}

/// Two of three come back with empty disks, in every order: no second cluster is founded beside the one that the third belongs to, all three say
/// what they wait for, and given back its directory one of them makes the majority whole.
#[tokio::test(flavor = "multi_thread")]
async fn no_second_cluster_is_founded() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    let ours = cluster.nodes[2].consensus().status().cluster_id;
    cluster.stop().await;
    let kept = cluster.nodes[0].config.data_directory.with_extension("kept");
    fs::rename(&cluster.nodes[0].config.data_directory, &kept).expect("moved");
    cluster.nodes[1].wipe();
    // The lowest name, which would found, and another one, without the third: silence is no consent.
    for number in [0, 1] {
        cluster.nodes[number].start().await;
    }
    waits(&cluster.nodes[0], "in no cluster yet: c").await;
    cluster.nodes[2].start().await;
    for (number, name) in [(0, "a"), (1, "b")] {
        waits(&cluster.nodes[number], &format!("blox member replace {name}")).await;
        assert_eq!(cluster.nodes[number].consensus().status().cluster_id, "");
    }
    let third = waits(&cluster.nodes[2], "only 1 can still have its state, and 2 are needed").await;
    assert!(third.contains("`a`") && third.contains("`b`"), "{third}");
    assert_eq!(cluster.nodes[2].consensus().status().cluster_id, ours);
    // A new process of the two asks the third again, and founds nothing either.
    for number in [0, 1] {
        cluster.nodes[number].stop().await;
        cluster.nodes[number].start().await;
        waits(&cluster.nodes[number], "blox member replace").await;
    }
    cluster.nodes[0].stop().await;
    cluster.nodes[0].wipe();
    fs::rename(&kept, &cluster.nodes[0].config.data_directory).expect("moved back");
    cluster.nodes[0].start().await;
    assert_eq!(cluster.nodes[2].get("k").await.as_deref(), Some("v"));
    replaced(&cluster, 2, "b", None).await;
    assert_eq!(cluster.nodes[1].get("k").await.as_deref(), Some("v"));
    assert_eq!(cluster.nodes[1].consensus().status().cluster_id, ours);
    cluster.stop().await;
}

/// A cluster that began with one node, whose list names only that node itself, and has grown since: the first one loses its disk and comes back
/// as it was configured. It has nobody to ask, and founds nothing all the same; told of the others, it is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_knows_only_itself_founds_no_second_cluster() {
    let mut cluster = Cluster::started(1).await;
    cluster.nodes[0].put("k", "v").await;
    let ours = cluster.nodes[0].consensus().status().cluster_id;
    for name in ["b", "c"] {
        let mut newcomer = cluster.newcomer(name);
        newcomer.start().await;
        cluster.nodes.push(newcomer);
        promoted(&cluster, 0, name).await;
    }
    cluster.nodes[0].stop().await;
    cluster.nodes[0].wipe();
    cluster.nodes[0].start().await;
    waits(&cluster.nodes[0], &format!("of cluster {ours} calls this node")).await;
    assert_eq!(cluster.nodes[0].consensus().status().cluster_id, "");
    cluster.nodes[1].put("k", "w").await;
    // Also where nobody leads the others.
    cluster.nodes[0].stop().await;
    cluster.nodes[1].stop().await;
    cluster.nodes[0].start().await;
    waits(&cluster.nodes[0], &format!("of cluster {ours} calls this node")).await;
    cluster.nodes[1].start().await;

    cluster.nodes[0].stop().await;
    let others = cluster.nodes[1..].iter().map(|node| InitialMember {
        name: node.config.name.clone(),
        peer_address: node.config.peer_advertise.clone(),
    });
    let others: Vec<InitialMember> = others.collect();
    cluster.nodes[0].config.initial_members.extend(others);
    cluster.nodes[0].start().await;
    waits(&cluster.nodes[0], "blox member replace a").await;
    replaced(&cluster, 1, "a", None).await;
    assert_eq!(cluster.nodes[0].get("k").await.as_deref(), Some("w"));
    assert_eq!(cluster.nodes[0].consensus().status().cluster_id, ours);
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

/// A directory of another cluster under our names and addresses: its node is refused by ours and ends with what to do; ours go on.
#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_directory_is_refused() {
    let mut ours = Cluster::started(3).await;
    ours.nodes[0].put("k", "ours").await;
    ours.stop().await;
    // The same nodes, founding another cluster in other directories.
    let own: Vec<PathBuf> = ours
        .nodes
        .iter()
        .map(|node| node.config.data_directory.clone())
        .collect();
    for node in &mut ours.nodes {
        node.config.data_directory.set_extension("theirs");
    }
    ours.start().await;
    ours.nodes[2].put("k", "theirs").await;
    ours.stop().await;
    for (node, own) in ours.nodes.iter_mut().zip(own).take(2) {
        node.config.data_directory = own;
    }
    ours.start().await;
    let reason = why_it_stopped(&ours, 2).await;
    assert!(
        reason.contains("belong to another cluster") && reason.contains("blox member replace c"),
        "{reason}"
    );
    assert_eq!(ours.nodes[0].get("k").await.as_deref(), Some("ours"));
    ours.stop().await;
}

/// A copy of a node's directory: under another name, at another place with the original running or gone, and beside the running original where
/// its peers look for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_nodes_disk_is_refused() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    cluster.nodes[0].stop().await;
    let original = cluster.nodes[0].config.clone();
    let copied = |name: &str| {
        let target = original.data_directory.with_extension(name);
        copy_directory(&original.data_directory, &target);
        target
    };
    let (first, second, third) = (copied("first"), copied("second"), copied("third"));

    let mut as_another = TestNode::new(RaftConfig {
        data_directory: first,
        ..cluster.nodes[1].config.clone()
    });
    match as_another.try_start().await {
        Err(StartError::Identity(message)) => assert!(message.contains("belongs to node `a`, not to `b`"), "{message}"),
        other => panic!("it must refuse: {other:?}"),
    }
    let elsewhere = free_addresses(1).remove(0);
    for original_runs in [false, true] {
        if original_runs {
            cluster.nodes[0].start().await;
            cluster.nodes[0].put("k", "w").await;
        }
        let mut moved = TestNode::new(RaftConfig {
            data_directory: second.clone(),
            peer_listen: elsewhere.parse().expect("an address"),
            peer_advertise: elsewhere.clone(),
            ..original.clone()
        });
        moved.start().await;
        let reason = stopped(&moved).await;
        assert!(reason.contains("the cluster knows this node as"), "{reason}");
        moved.stop().await;
    }
    let mut beside = TestNode::new(RaftConfig {
        data_directory: third,
        peer_listen: elsewhere.parse().expect("an address"),
        ..original
    });
    beside.start().await;
    let reason = stopped(&beside).await;
    assert!(
        reason.contains("another process with the identity of this node"),
        "{reason}"
    );
    beside.stop().await;
    assert_eq!(
        cluster.nodes[0].get("k").await.as_deref(),
        Some("w"),
        "the original goes on"
    );
    cluster.stop().await;
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("readable").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Every part of a member's directory that is not all of it: refused with what to do, unless what is left is enough to rebuild the rest; then the
/// node has everything again.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_directory_is_refused_or_rebuilt() {
    let mut cluster = Cluster::new(
        3,
        SnapshotPolicy {
            entries: 20,
            keep_entries: 1,
            ..SnapshotPolicy::default()
        },
    );
    cluster.start().await;
    for number in 0..60 {
        cluster.nodes[0].put(&format!("k{number}"), "v").await;
    }
    let revision = cluster.nodes[0].store().progress().borrow().revision;
    caught_up(&cluster.nodes[2], revision).await;
    has_purged(&cluster.nodes[2]).await;
    cluster.nodes[2].stop().await;
    let whole = cluster.nodes[2].config.data_directory.clone();
    let parts = ["identity.json", "raft", "state", "snapshots"];
    for kept in 1..15_u32 {
        let half = whole.with_extension(format!("{kept}"));
        copy_directory(&whole, &half);
        let mut names = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let path = half.join(part);
            match (kept >> number) & 1 {
                1 => names.push(*part),
                _ if path.is_dir() => fs::remove_dir_all(path).expect("removed"),
                _ => fs::remove_file(path).expect("removed"),
            }
        }
        let has = |part: &str| names.contains(&part);
        let mut node = TestNode::new(RaftConfig {
            data_directory: half,
            ..cluster.nodes[2].config.clone()
        });
        // The state comes from the snapshot, or from a peer's.
        let enough = has("identity.json") && has("raft");
        let refusal = match node.try_start().await {
            Err(StartError::Identity(message)) => Some(message),
            Err(other) => panic!("with only {names:?}: {other}"),
            Ok(()) if enough => None,
            Ok(()) => Some(stopped(&node).await),
        };
        match refusal {
            Some(message) => assert!(
                !enough && message.contains("blox member replace"),
                "with only {names:?}: {message}"
            ),
            None => assert_eq!(node.get("k59").await.as_deref(), Some("v"), "with only {names:?}"),
        }
        if node.running.is_some() {
            node.stop().await;
        }
    }
    cluster.stop().await;
}

/// Waits until a node has let go of the log behind its snapshot.
async fn has_purged(node: &TestNode) {
    let snapshot = || node.consensus().status().snapshot_index;
    let waited = tokio::time::timeout(PATIENCE, async {
        while snapshot() < 40 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("it takes snapshots");
}

/// A member without its log, and one whose identity is gone, do not start.
#[tokio::test(flavor = "multi_thread")]
async fn log_and_identity_stand_or_fall_together() {
    let mut cluster = Cluster::started(3).await;
    cluster.stop().await;
    let directory = cluster.nodes[1].config.data_directory.clone();
    fs::rename(directory.join("raft"), directory.join("elsewhere")).expect("moved");
    match cluster.nodes[1].try_start().await {
        Err(StartError::Identity(message)) => assert!(message.contains("blox member replace"), "{message}"),
        other => panic!("it must refuse: {other:?}"),
    }
    fs::rename(directory.join("elsewhere"), directory.join("raft")).expect("moved back");
    fs::remove_file(directory.join("identity.json")).expect("removed");
    match cluster.nodes[1].try_start().await {
        Err(StartError::Identity(message)) => assert!(message.contains("identity.json"), "{message}"),
        other => panic!("it must refuse: {other:?}"),
    }
}

/// A node that is not among the initial members founds nothing: it asks them, and waits to be taken in.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_waits_to_be_taken_in() {
    let mut cluster = Cluster::new(3, SnapshotPolicy::default());
    let mut stranger = cluster.newcomer("d");
    stranger.start().await;
    waits(&stranger, "in no cluster yet: a, b, c").await;
    cluster.start().await;
    waits(&stranger, "blox member promote d").await;
    assert_eq!(stranger.consensus().status().role, Role::Uninitialised);
    stranger.stop().await;
    cluster.stop().await;
}
