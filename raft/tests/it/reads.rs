//! Reading on every node.

use std::time::Duration;

use blox_raft::{Consistency, ReadError};

use crate::cluster::{Cluster, PATIENCE, local};

/// A linearizable read on any node sees what was acknowledged on any other just before.
#[tokio::test(flavor = "multi_thread")]
async fn linearizable_reads_see_acknowledged_writes_everywhere() {
    let mut cluster = Cluster::started(3).await;
    for round in 0..20 {
        let value = round.to_string();
        cluster.nodes[round % 3].put("counter", &value).await;
        for node in &cluster.nodes {
            assert_eq!(
                node.get("counter").await,
                Some(value.clone()),
                "on {}",
                node.config.name
            );
        }
    }
    cluster.stop().await;
}

/// Many reads at once are all answered, sharing their rounds.
#[tokio::test(flavor = "multi_thread")]
async fn reads_share_rounds() {
    let mut cluster = Cluster::started(3).await;
    let follower = cluster.follower().await;
    cluster.nodes[0].put("k", "v").await;
    let reads = (0..500).map(|_| {
        let consensus = cluster.nodes[follower].consensus().clone();
        tokio::spawn(async move { consensus.read_barrier(Consistency::Linearizable, 0, PATIENCE).await })
    });
    for read in futures::future::join_all(reads).await {
        assert!(read.expect("no panic").expect("confirmed").revision >= 1);
    }
    cluster.stop().await;
}

/// A minimum revision waits for it, and gives up at the deadline; a stale read says how stale it is.
#[tokio::test(flavor = "multi_thread")]
async fn revisions_and_staleness_are_kept() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].put("k", "v").await;
    let revision = cluster.nodes[leader].store().progress().borrow().revision;
    let follower = cluster.nodes[cluster.follower().await].consensus().clone();
    let stale = Consistency::Stale { max: Some(PATIENCE) };
    // The cluster may have begun without it: this waits until it has heard of the leader.
    follower
        .read_barrier(Consistency::Linearizable, 0, PATIENCE)
        .await
        .expect("confirmed");
    let point = follower
        .read_barrier(stale, revision, PATIENCE)
        .await
        .expect("it comes");
    assert!(point.revision >= revision);

    let short = Duration::from_millis(50);
    let error = follower
        .read_barrier(stale, revision + 100, short)
        .await
        .expect_err("never reached");
    assert!(
        matches!(error, ReadError::Behind { wanted, .. } if wanted == revision + 100),
        "{error:?}"
    );
    let never = Consistency::Stale {
        max: Some(Duration::ZERO),
    };
    let error = follower
        .read_barrier(never, 0, short)
        .await
        .expect_err("always older than nothing");
    assert!(matches!(error, ReadError::TooStale { age: Some(_), .. }), "{error:?}");
    cluster.stop().await;
}

/// Cut off from the others, a node refuses linearizable reads and still serves stale ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_serves_stale_reads_only() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("k", "v").await;
    let leader = cluster.leader().await;
    assert_eq!(cluster.nodes[leader].get("k").await.as_deref(), Some("v"));
    for number in (0..3).filter(|number| *number != leader).collect::<Vec<_>>() {
        cluster.nodes[number].stop().await;
    }
    let alone = &cluster.nodes[leader];
    let error = alone
        .consensus()
        .read_barrier(Consistency::Linearizable, 0, Duration::from_secs(3))
        .await
        .expect_err("no quorum");
    assert!(matches!(error, ReadError::NoLeader { .. }), "{error:?}");
    let any = Consistency::Stale { max: None };
    alone.consensus().read_barrier(any, 0, PATIENCE).await.expect("served");
    assert_eq!(local(alone.store(), "k").as_deref(), Some("v"));
    cluster.stop().await;
}
