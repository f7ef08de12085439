//! Losing and handing over leadership.

use std::time::Duration;

use blox_raft::{Leadership, TransferError};

use crate::cluster::{Cluster, PATIENCE, put};

async fn follows(leadership: &mut tokio::sync::watch::Receiver<Leadership>) {
    let waited = leadership.wait_for(|leadership| *leadership == Leadership::Follower);
    drop(
        tokio::time::timeout(PATIENCE, waited)
            .await
            .expect("in time")
            .expect("told before it is gone"),
    );
}

/// When the leader goes, it is told so; another leads in a higher term; a write in between waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn another_leads_when_the_leader_goes() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("before", "1").await;
    let old = cluster.leader().await;
    let mut leadership = cluster.nodes[old].consensus().leadership();
    let Leadership::Leader { term: old_term } = *leadership.borrow() else {
        panic!("it leads")
    };
    let survivor = cluster.follower().await;
    cluster.nodes[old].stop().await;
    follows(&mut leadership).await;

    cluster.nodes[survivor].put("after", "2").await;
    let new = cluster.leader().await;
    let Leadership::Leader { term } = *cluster.nodes[new].consensus().leadership().borrow() else {
        panic!("it leads")
    };
    assert!(term > old_term);
    assert_eq!(cluster.nodes[survivor].get("before").await.as_deref(), Some("1"));

    cluster.nodes[old].start().await;
    assert_eq!(cluster.nodes[old].get("after").await.as_deref(), Some("2"));
    cluster.stop().await;
}

/// Leadership is handed over without a lost write, and only a leader can.
#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let mut cluster = Cluster::started(3).await;
    let old = cluster.leader().await;
    let follower = cluster.follower().await;
    assert!(matches!(
        cluster.nodes[follower].consensus().transfer_leadership(PATIENCE).await,
        Err(TransferError::NotLeader)
    ));
    cluster.nodes[old].put("k", "v").await;
    let mut leadership = cluster.nodes[old].consensus().leadership();
    let writer = {
        let consensus = cluster.nodes[follower].consensus().clone();
        tokio::spawn(async move {
            for number in 0..50 {
                consensus
                    .propose(put(&format!("k{number}"), "v"), PATIENCE)
                    .await
                    .expect("written");
            }
        })
    };
    cluster.nodes[old]
        .consensus()
        .transfer_leadership(PATIENCE)
        .await
        .expect("another took over");
    follows(&mut leadership).await;
    writer.await.expect("every write succeeded");
    assert_ne!(cluster.leader().await, old);
    cluster.stop().await;
}

/// Nobody to hand over to.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_cannot_hand_over() {
    let mut cluster = Cluster::started(1).await;
    assert!(matches!(
        cluster.nodes[0]
            .consensus()
            .transfer_leadership(Duration::from_secs(1))
            .await,
        Err(TransferError::NoCandidate)
    ));
    assert_eq!(cluster.nodes[0].get("nothing").await, None);
    let consensus = cluster.nodes[0].consensus().clone();
    cluster.stop().await;
    assert_eq!(consensus.stopped().await, "it was shut down");
    assert_eq!(*consensus.leadership().borrow(), Leadership::Follower);
    assert!(
        consensus
            .metrics()
            .iter()
            .any(|(name, value)| *name == "blox_raft_wal_entries_total" && *value > 0.0)
    );
}
