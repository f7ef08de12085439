//! `GET /v2/snapshot`.

use blox_store::backup;
use blox_store::proto::PutKey;
use blox_store::proto::command::Operation;

use crate::node::Node;

/// The answer is a whole backup of as many bytes as it announced, and says its revision; unknown keys are refused.
#[tokio::test]
async fn the_answer_is_a_whole_backup() {
    let node = Node::start().await;
    let put = Operation::PutKey(PutKey {
        key: "one".into(),
        value: "1".into(),
        precondition: None,
    });
    node.apply(put);
    let answer = node.get("/v2/snapshot").await;
    assert_eq!(answer.status(), 200);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("saved");
    assert!(answer.whole);
    assert_eq!(
        answer.header("content-length"),
        Some(answer.body.len().to_string().as_str())
    );
    std::fs::write(&file, &answer.body).expect("written");
    let inspected = backup::inspect(&file, &directory.path().join("scratch"), |_| {}).expect("whole");
    assert_eq!(inspected.summary.cluster_id, "cluster-1");
    assert_eq!(inspected.summary.revision, node.revision());
    assert_eq!(node.get("/v2/snapshot?consistancy=stale").await.status(), 400);
    assert_eq!(
        node.get("/v2/snapshot?consistency=stale").await.status(),
        200,
        "the first one has ended"
    );
}
