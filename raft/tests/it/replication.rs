//! Writing through every node, over restarts and losses.

use std::time::Duration;

use blox_raft::{Glance, Leadership, ProposeError, Role};
use blox_store::proto::outcome;

use crate::cluster::{Cluster, PATIENCE, caught_up, local, put};

/// Three new nodes become one cluster with one founder; each takes writes; each has all of them.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_takes_writes() {
    let mut cluster = Cluster::started(3).await;
    for round in 0..5 {
        for node in &cluster.nodes {
            node.put(&format!("{}{round}", node.config.name), "written").await;
        }
    }
    for node in &cluster.nodes {
        for round in 0..5 {
            for name in ["a", "b", "c"] {
                assert_eq!(node.get(&format!("{name}{round}")).await.as_deref(), Some("written"));
            }
        }
    }
    let statuses: Vec<_> = cluster.nodes.iter().map(|node| node.consensus().status()).collect();
    assert!(
        statuses
            .iter()
            .all(|status| status.cluster_id == statuses[0].cluster_id)
    );
    assert_eq!(
        statuses.iter().map(|status| status.node_id).collect::<Vec<_>>(),
        vec![1, 2, 3]
    );
    assert_eq!(statuses.iter().filter(|status| status.role == Role::Leader).count(), 1);
    for status in &statuses {
        assert_eq!(status.members.len(), 3);
        assert!(
            status
                .members
                .iter()
                .all(|member| member.voter && member.http_address.ends_with(".example:2000"))
        );
        assert!(status.leader.is_some() && status.applied_index > 0 && status.leader_contact.is_some());
    }
    // Once nothing goes on any more, what each answer says at a glance is what the whole status does.
    let said = |glance: Glance| (glance.leader, glance.term, glance.commit_index, glance.applied_index);
    for node in &cluster.nodes {
        let same = async {
            while said(node.consensus().glance()) != said(node.consensus().status().into()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, same).await.expect("the same");
        assert!(node.consensus().glance().leader_contact.is_some());
    }
    cluster.stop().await;
}

/// Many writes at once share entries and syncs, and each gets its own outcome.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_entries() {
    const WRITES: usize = 400;
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let before = cluster.nodes[leader].store().progress().borrow().clone();
    let writes = (0..WRITES).map(|number| {
        let consensus = cluster.nodes[number % 3].consensus().clone();
        tokio::spawn(async move { consensus.propose(put(&format!("k{number}"), "v"), PATIENCE).await })
    });
    let mut revisions = Vec::new();
    for write in futures::future::join_all(writes).await {
        let outcome = write.expect("no panic").expect("written");
        assert!(
            matches!(outcome.result, Some(outcome::Result::KeyWritten(_))),
            "{outcome:?}"
        );
        revisions.push(outcome.revision);
    }
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), WRITES, "each write has a revision of its own");
    let after = cluster.nodes[leader].store().progress().borrow().clone();
    assert!(
        after.applied_index - before.applied_index < WRITES as u64,
        "writes share entries"
    );
    assert!(after.elapsed_ms >= before.elapsed_ms);
    cluster.stop().await;
}

/// A stopped follower comes back with its log and gets what it missed; then the whole cluster does.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_lose_nothing() {
    let mut cluster = Cluster::started(3).await;
    cluster.nodes[0].put("before", "1").await;
    let follower = cluster.follower().await;
    cluster.nodes[follower].stop().await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].put("meanwhile", "2").await;
    let revision = cluster.nodes[leader].store().progress().borrow().revision;

    cluster.nodes[follower].start().await;
    caught_up(&cluster.nodes[follower], revision).await;
    assert_eq!(cluster.nodes[follower].get("meanwhile").await.as_deref(), Some("2"));

    cluster.stop().await;
    cluster.start().await;
    for node in &cluster.nodes {
        assert_eq!(node.get("before").await.as_deref(), Some("1"));
        assert_eq!(node.get("meanwhile").await.as_deref(), Some("2"));
    }
    cluster.stop().await;
}

/// Without a quorum nothing is written, and the error says so; a follower alone has nobody to send to.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_written() {
    /// That a call is under way at each of so many deadlines is no chance.
    const TRIES: usize = 5;
    let mut cluster = Cluster::started(3).await;
    let third = cluster.follower().await;
    cluster.nodes[third].stop().await;
    // Leadership may have moved until here; from here on a follower needs the vote of the one that leads.
    let leader = cluster.leader().await;
    let alone = (0..3).find(|number| ![third, leader].contains(number));
    let alone = alone.expect("the last of three");
    cluster.nodes[leader].stop().await;
    let deadline = std::time::Duration::from_secs(3);
    // It calls the leader that it knew until the deadline; what becomes of a call that is under way then, it cannot know.
    let mut error = None;
    for _ in 0..TRIES {
        let proposal = cluster.nodes[alone].consensus().propose(put("lost", "x"), deadline);
        let refused = proposal.await.expect_err("no quorum");
        let is_decided = !matches!(refused, ProposeError::Unknown { .. });
        error = Some(refused);
        if is_decided {
            break;
        }
    }
    let status = cluster.nodes[alone].consensus().status();
    assert!(matches!(error, Some(ProposeError::NoLeader)), "{error:?}, {status:?}");
    assert_eq!(local(cluster.nodes[alone].store(), "lost"), None);
    cluster.stop().await;
}

/// What is too large is refused before anything is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_too_large_is_refused() {
    let mut cluster = Cluster::started(1).await;
    let value = "x".repeat(blox_raft::COMMAND_BYTES_MAX);
    let error = cluster.nodes[0]
        .consensus()
        .propose(put("k", &value), PATIENCE)
        .await
        .expect_err("too large");
    assert!(matches!(error, ProposeError::TooLarge { .. }), "{error:?}");
    cluster.stop().await;
}

/// A duty's command is only for the term it leads in, and only on that node.
#[tokio::test(flavor = "multi_thread")]
async fn duties_propose_in_their_own_term_only() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let Leadership::Leader { term } = *cluster.nodes[leader].consensus().leadership().borrow() else {
        panic!("it leads");
    };
    let propose = |number: usize, term: u64| {
        let consensus = cluster.nodes[number].consensus().clone();
        async move { consensus.propose_as_leader(term, put("duty", "x"), PATIENCE).await }
    };
    propose(leader, term).await.expect("it leads in that term");
    assert!(matches!(propose(leader, term + 1).await, Err(ProposeError::NotLeader)));
    assert!(matches!(propose(follower, term).await, Err(ProposeError::NotLeader)));
    cluster.nodes[leader]
        .consensus()
        .confirm_leadership(term, PATIENCE)
        .await
        .expect("a quorum confirms");
    assert!(
        cluster.nodes[follower]
            .consensus()
            .confirm_leadership(term, PATIENCE)
            .await
            .is_err()
    );
    assert!(cluster.nodes[leader].consensus().has_recent_quorum(PATIENCE));
    cluster.stop().await;
}
