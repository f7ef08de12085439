//! Health, and what a node does while it drains and stops.

use std::time::Duration;

use blox_store::proto::ReportSource;
use blox_store::proto::command::Operation;

use crate::client::Connection;
use crate::documents::WEST;
use crate::node::Node;

/// Ready means: a leader was heard of lately, little is left to apply, and the node does not drain; alive means nothing but running.
#[tokio::test]
async fn ready_is_more_than_alive() {
    let node = Node::start().await;
    let ready = node.get("/readyz").await;
    assert_eq!(ready.short(), "200 [+]leader ok\n[+]applied ok\n[+]serving ok\n");
    let set = |change: &dyn Fn(&mut blox_raft::Status)| {
        change(&mut node.consensus.status.lock().expect("no test panics under it"))
    };
    set(&|status| status.leader_contact = Some(Duration::from_secs(6)));
    let stale = node.get("/readyz").await;
    assert_eq!(
        stale.short(),
        "503 [-]leader failed: the leader was last heard of 6000 ms ago\n[+]applied ok\n[+]serving ok\n"
    );
    set(&|status| {
        status.leader_contact = Some(Duration::ZERO);
        status.staleness = None;
    });
    let started = node.get("/readyz").await;
    assert_eq!(
        started.short(),
        "503 [+]leader ok\n[-]applied failed: the state has not been as new as the leader's since the start\n[+]serving ok\n"
    );
    set(&|status| status.staleness = Some(Duration::from_secs(6)));
    let behind = node.get("/readyz").await;
    assert_eq!(
        behind.short(),
        "503 [+]leader ok\n[-]applied failed: the state is 6000 ms old\n[+]serving ok\n"
    );
    set(&|status| {
        status.leader = None;
        status.commit_index = 5000;
    });
    let lost = node.get("/readyz").await;
    assert_eq!(
        lost.short(),
        "503 [-]leader failed: no leader is known\n[-]applied failed: 5000 committed entries are not applied yet, more \
         than 1000\n[+]serving ok\n"
    );
    assert_eq!(lost.header("x-blox-leader"), Some(""));
    assert_eq!(node.get("/livez").await.short(), "200 [+]process ok\n");
    assert_eq!(node.get("/v2/cluster").await.json()["leader"], serde_json::Value::Null);
}

/// Whoever needs a whole picture waits for the first reconcile of every configured source.
#[tokio::test]
async fn ready_may_wait_for_reconcile() {
    let node = Node::start().await;
    let waiting = node.get("/readyz?require=reconciled").await;
    assert_eq!(waiting.status(), 503);
    assert!(
        waiting
            .text()
            .ends_with("[-]reconciled failed: waiting for the first pass over us-west-2\n")
    );
    assert_eq!(node.get("/readyz").await.status(), 200);
    node.apply(Operation::ReportSource(ReportSource {
        source: WEST.into(),
        source_reconciled: true,
        ..ReportSource::default()
    }));
    assert_eq!(node.get("/readyz?require=reconciled").await.status(), 200);
    assert_eq!(node.get("/readyz?require=magic").await.status(), 400);
}

/// A draining node serves on, says that it is not ready, and asks clients to leave.
#[tokio::test]
async fn a_draining_node_sends_its_clients_away() {
    let node = Node::start().await;
    let mut kept = Connection::open(node.address).await;
    kept.send("GET", "/v1/ping", &[], b"").await;
    assert_eq!(kept.answer("GET").await.header("connection"), None);
    node.api.start_draining();
    kept.send("GET", "/readyz", &[], b"").await;
    let answer = kept.answer("GET").await;
    assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
    assert!(answer.text().contains("[-]serving failed: the node is draining\n"));
    assert!(kept.head_or_end().await.is_none());
    assert_eq!(node.request("PUT", "/v2/kv/k", &[], b"1").await.status(), 200);
}

/// A stopping server ends by itself, idle connections and streams notwithstanding.
#[tokio::test]
async fn a_stopping_server_ends() {
    let mut node = Node::start().await;
    let mut idle = Connection::open(node.address).await;
    idle.send("GET", "/v1/ping", &[], b"").await;
    idle.answer("GET").await;
    let mut stream = node.stream("/v2/watch").await;
    stream.head().await;
    node.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), &mut node.server).await;
    ended
        .expect("it ends within its grace")
        .expect("it does not panic")
        .expect("it ends well");
    assert!(idle.head_or_end().await.is_none());
}
