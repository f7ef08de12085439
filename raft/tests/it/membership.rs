//! Members listed, replaced, removed and promoted, asked of any node.

use std::time::Duration;

use blox_raft::{MemberChange, MemberError, MemberList, MemberRefusal, MemberStage, Role, SnapshotPolicy};

use crate::cluster::{Cluster, PATIENCE, TestNode};
use crate::identity::{stopped, waits};

/// One request's share of the work.
const STEP: Duration = Duration::from_secs(5);

pub async fn members(node: &TestNode) -> MemberList {
    node.consensus().members(PATIENCE).await.expect("a leader answers")
}

/// Says it until it is done, as the command line does; the number of the member it was about.
async fn done(node: &TestNode, change: MemberChange) -> u64 {
    let said = async {
        loop {
            match node.consensus().change_members(change.clone(), STEP).await {
                Ok(progress) if progress.stage == MemberStage::Done => return progress.id,
                Ok(_) | Err(MemberError::NoLeader { .. }) => {}
                Err(refused) => panic!("{change:?}: {refused}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("it is done in time")
}

async fn refusal(node: &TestNode, change: MemberChange) -> (MemberRefusal, String) {
    let said = async {
        loop {
            match node.consensus().change_members(change.clone(), STEP).await {
                Err(MemberError::Refused { code, message }) => return (code, message),
                // A leader that was just elected waits before it refuses.
                Ok(progress) if progress.stage == MemberStage::Settling => {}
                Err(MemberError::NoLeader { .. }) => {}
                other => panic!("{change:?} is not refused: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("an answer in time")
}

fn replace(name: &str, with: Option<&str>) -> MemberChange {
    MemberChange::Replace {
        name: name.into(),
        with: with.map(str::to_owned),
    }
}

fn remove(name: &str) -> MemberChange {
    MemberChange::Remove { name: name.into() }
}

fn promote(name: &str) -> MemberChange {
    MemberChange::Promote { name: name.into() }
}

/// Waits for the candidate to be heard of, then replaces, asked of node `asked`; the new number.
pub async fn replaced(cluster: &Cluster, asked: usize, name: &str, with: Option<&str>) -> u64 {
    let asked = &cluster.nodes[asked];
    heard_of(asked, with.unwrap_or(name)).await;
    done(asked, replace(name, with)).await
}

/// Waits for the candidate to be heard of, then promotes it, asked of node `asked`; its number.
pub async fn promoted(cluster: &Cluster, asked: usize, name: &str) -> u64 {
    let asked = &cluster.nodes[asked];
    heard_of(asked, name).await;
    done(asked, promote(name)).await
}

async fn heard_of(asked: &TestNode, candidate: &str) {
    let listed = async {
        while !members(asked)
            .await
            .candidates
            .iter()
            .any(|asks| asks.name == candidate)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listed)
        .await
        .expect("the candidate is heard of");
}

fn voters(list: &MemberList) -> Vec<&str> {
    let mut names: Vec<&str> = list
        .members
        .iter()
        .filter(|member| member.voter)
        .map(|member| member.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

/// A lost node gets a new number, the state and a vote; the old directory counts for nothing any more and is told so; said again nothing
/// happens; and the new node stays what it is over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_replaced() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    let (leader, lost) = (cluster.leader().await, cluster.follower().await);
    let name = cluster.nodes[lost].config.name.clone();
    let before = members(&cluster.nodes[leader]).await;
    assert_eq!(voters(&before), ["a", "b", "c"]);
    assert!(
        before.members.iter().all(|member| member.entries_behind.is_some()),
        "{before:?}"
    );
    let old_id = cluster.nodes[lost].consensus().status().node_id;

    cluster.nodes[lost].stop().await;
    let old_directory = cluster.nodes[lost].config.data_directory.clone();
    let kept = old_directory.with_extension("kept");
    std::fs::rename(&old_directory, &kept).expect("moved");
    let (code, _) = refusal(&cluster.nodes[leader], replace(&name, None)).await;
    assert_eq!(code, MemberRefusal::NoCandidate);
    cluster.nodes[lost].start().await;
    let id = replaced(&cluster, leader, &name, None).await;
    assert!(id > 1_000, "a new number, never used before: {id}");
    assert_eq!(cluster.nodes[lost].get("k").await.as_deref(), Some("v"));
    assert_eq!(cluster.nodes[lost].consensus().status().node_id, id);
    let after = members(&cluster.nodes[lost]).await;
    assert_eq!(voters(&after), ["a", "b", "c"]);
    assert!(after.candidates.is_empty() && !after.changing, "{after:?}");
    assert!(after.members.iter().all(|member| member.id != old_id), "{after:?}");
    assert_eq!(done(&cluster.nodes[lost], replace(&name, None)).await, id, "said again");

    cluster.nodes[lost].stop().await;
    cluster.nodes[lost].start().await;
    cluster.nodes[lost].put("k", "w").await;
    cluster.nodes[lost].stop().await;
    // The old disk turns up again.
    cluster.nodes[lost].config.data_directory = kept;
    cluster.nodes[lost].start().await;
    let reason = stopped(&cluster.nodes[lost]).await;
    assert!(
        reason.contains("is no member of cluster") && reason.contains(&format!("(node {id} bears its name now)")),
        "{reason}"
    );
    cluster.nodes[lost].stop().await;
    assert_eq!(cluster.nodes[leader].get("k").await.as_deref(), Some("w"));
    cluster.stop().await;
}

/// A node that loses its disk again as soon as it was replaced comes back as another one, and is replaced once more. What it was in between
/// asked only moments ago, and is not taken in again when the wish is said again.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_lost_twice_is_replaced_twice() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    let (leader, lost) = (cluster.leader().await, cluster.follower().await);
    let name = cluster.nodes[lost].config.name.clone();
    let mut id = 0;
    for life in 1..=2 {
        cluster.nodes[lost].stop().await;
        let directory = cluster.nodes[lost].config.data_directory.clone();
        std::fs::rename(&directory, directory.with_extension(format!("life-{life}"))).expect("moved");
        cluster.nodes[lost].start().await;
        id = replaced(&cluster, leader, &name, None).await;
        assert_eq!(cluster.nodes[lost].get("k").await.as_deref(), Some("v"));
    }
    assert_eq!(
        done(&cluster.nodes[leader], replace(&name, None)).await,
        id,
        "said again"
    );
    let after = members(&cluster.nodes[leader]).await;
    assert_eq!(voters(&after), ["a", "b", "c"]);
    assert!(after.candidates.is_empty(), "{after:?}");
    cluster.stop().await;
}

/// Every member in turn, the leader among them, gives its place to a new name, while a client writes: no write fails, all are there.
#[tokio::test(flavor = "multi_thread")]
async fn every_member_is_replaced_under_other_names() {
    let mut cluster = Cluster::started(3).await;
    for (old, new) in [("a", "d"), ("b", "e"), ("c", "f")] {
        let mut newcomer = cluster.newcomer(new);
        // Only those that are still there can be asked.
        newcomer.config.initial_members = cluster
            .nodes
            .iter()
            .filter(|node| node.running.is_some())
            .map(|node| blox_raft::InitialMember {
                name: node.config.name.clone(),
                peer_address: node.config.peer_advertise.clone(),
            })
            .collect();
        newcomer.start().await;
        let writer = {
            let running = cluster
                .nodes
                .iter()
                .find(|node| node.running.is_some() && node.config.name != old);
            let consensus = running.expect("others run").consensus().clone();
            let old = old.to_owned();
            tokio::spawn(async move {
                for number in 0..50 {
                    let command = crate::cluster::put(&format!("{old}-{number}"), "v");
                    consensus.propose(command, PATIENCE).await.expect("written");
                }
            })
        };
        let asked = cluster
            .nodes
            .iter()
            .position(|node| node.running.is_some() && node.config.name != old)
            .expect("others run");
        cluster.nodes.push(newcomer);
        replaced(&cluster, asked, old, Some(new)).await;
        writer.await.expect("every write succeeded");
        let gone = cluster
            .nodes
            .iter_mut()
            .find(|node| node.config.name == old)
            .expect("it was there");
        let reason = stopped(gone).await;
        assert!(reason.contains("is no member of cluster"), "{reason}");
        gone.stop().await;
    }
    let list = members(&cluster.nodes[4]).await;
    assert_eq!(voters(&list), ["d", "e", "f"]);
    for old in ["a", "b", "c"] {
        for number in 0..50 {
            let key = format!("{old}-{number}");
            assert_eq!(cluster.nodes[5].get(&key).await.as_deref(), Some("v"), "{key}");
        }
    }
    cluster.stop().await;
}

/// Followers and the leader are removed down to one, which is refused; whoever was removed ends with a message.
#[tokio::test(flavor = "multi_thread")]
async fn members_are_removed_down_to_one() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    let leader = cluster.leader().await;
    let name = cluster.nodes[leader].config.name.clone();
    // Asked of the leader itself: it hands over, and the next one does it.
    done(&cluster.nodes[leader], remove(&name)).await;
    let reason = stopped(&cluster.nodes[leader]).await;
    assert!(reason.contains("it was removed or replaced"), "{reason}");
    cluster.nodes[leader].stop().await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let name = cluster.nodes[follower].config.name.clone();
    done(&cluster.nodes[leader], remove(&name)).await;
    assert_eq!(voters(&members(&cluster.nodes[leader]).await).len(), 1);
    let last = cluster.nodes[leader].config.name.clone();
    let (code, message) = refusal(&cluster.nodes[leader], remove(&last)).await;
    assert!(
        code == MemberRefusal::QuorumAtRisk && message.contains("last voter"),
        "{message}"
    );
    cluster.nodes[leader].put("k", "w").await;
    cluster.stop().await;
}

/// While one of three is away, taking another one away is refused in each form, and names who is missing; nothing has changed afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_the_quorum_is_refused() {
    let mut cluster = Cluster::started(3).await;
    let (leader, away) = (cluster.leader().await, cluster.follower().await);
    let other = (0..3)
        .find(|number| *number != leader && *number != away)
        .expect("three");
    let name = |number: usize| cluster.nodes[number].config.name.clone();
    let (leaders, aways, others) = (name(leader), name(away), name(other));
    cluster.nodes[away].stop().await;
    let before = members(&cluster.nodes[leader]).await.members.len();
    let gone = async {
        let recent = Duration::from_secs(2);
        while members(&cluster.nodes[leader])
            .await
            .members
            .iter()
            .any(|member| member.name == aways && member.heard.is_some_and(|heard| heard <= recent))
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is missed");
    for gone in [&others, &leaders] {
        let (code, message) = refusal(&cluster.nodes[other], remove(gone)).await;
        assert!(
            code == MemberRefusal::QuorumAtRisk && message.contains(&format!("`{aways}` (node")),
            "{message}"
        );
    }
    let (code, _) = refusal(&cluster.nodes[leader], promote("nobody")).await;
    assert_eq!(code, MemberRefusal::NoCandidate);
    let (code, _) = refusal(&cluster.nodes[leader], remove("nobody")).await;
    assert_eq!(code, MemberRefusal::NoSuchMember);
    assert_eq!(members(&cluster.nodes[leader]).await.members.len(), before);
    cluster.nodes[other].put("k", "v").await;
    // The one that is away may go.
    done(&cluster.nodes[leader], remove(&aways)).await;
    cluster.nodes[other].put("k", "w").await;
    cluster.stop().await;
}

/// A leader that its quorum has left lists nobody, and neither says that a change is done nor refuses one for good: it cannot know. Once the
/// others are back it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_quorum_says_nothing() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let name = cluster.nodes[others[0]].config.name.clone();
    assert_eq!(voters(&members(&cluster.nodes[leader]).await), ["a", "b", "c"]);
    for other in &others {
        cluster.nodes[*other].stop().await;
    }
    let left = cluster.nodes[leader].consensus().clone();
    // It still takes itself for the leader.
    assert_eq!(left.status().role, Role::Leader);
    let listed = left.members(STEP).await;
    assert!(matches!(listed, Err(MemberError::NoLeader { .. })), "{listed:?}");
    for change in [promote(&name), remove("nobody")] {
        let said = left.change_members(change, STEP).await;
        assert!(matches!(said, Err(MemberError::NoLeader { .. })), "{said:?}");
    }
    for other in &others {
        cluster.nodes[*other].start().await;
    }
    done(&cluster.nodes[leader], promote(&name)).await;
    let (code, _) = refusal(&cluster.nodes[leader], remove("nobody")).await;
    assert_eq!(code, MemberRefusal::NoSuchMember);
    cluster.stop().await;
}

/// One more node is promoted: it catches up from a snapshot, votes, and the cluster of four lives without any one of them.
#[tokio::test(flavor = "multi_thread")]
async fn one_more_node_is_promoted() {
    let policy = SnapshotPolicy {
        entries: 50,
        keep_entries: 10,
        ..SnapshotPolicy::default()
    };
    let mut cluster = Cluster::new(3, policy);
    cluster.start().await;
    for number in 0..150 {
        cluster.nodes[0].put(&format!("k{number}"), "v").await;
    }
    let mut newcomer = cluster.newcomer("d");
    newcomer.start().await;
    waits(&newcomer, "blox member promote d").await;
    let unknowing = newcomer.consensus().members(STEP).await;
    assert!(matches!(unknowing, Err(MemberError::NotMember(_))), "{unknowing:?}");
    heard_of(&cluster.nodes[1], "d").await;
    let id = done(&cluster.nodes[1], promote("d")).await;
    assert_eq!(newcomer.get("k0").await.as_deref(), Some("v"));
    let status = newcomer.consensus().status();
    assert!(status.node_id == id && status.role != Role::Learner, "{status:?}");
    assert_eq!(status.attention, None);
    cluster.nodes.push(newcomer);
    let leader = cluster.leader().await;
    cluster.nodes[leader].stop().await;
    let running = (leader + 1) % 4;
    cluster.nodes[running].put("k", "v").await;
    assert_eq!(voters(&members(&cluster.nodes[running]).await), ["a", "b", "c", "d"]);
    cluster.stop().await;
}
