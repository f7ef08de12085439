//! What a node does by itself from time to time: the part of the snapshot policy that counts bytes (openraft itself counts entries only), and
//! handing to the system what was applied without waiting.

use std::sync::Arc;
use std::time::Duration;

use openraft::LogIdOptionExt;
use openraft::async_runtime::watch::WatchReceiver;

use super::Node;
use crate::engine::Engine;

const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Looks at the log's size from time to time, until openraft ends.
pub(super) async fn run(node: Arc<Node>, engine: Arc<Engine>) {
    let policy = node.config.snapshot;
    // The applied index a snapshot was last asked at: one that takes long is asked for once.
    let mut asked_at = None;
    loop {
        tokio::select! {
            biased;
            () = blox_runtime::time::sleep(LOOK_INTERVAL) => {}
            () = node.stop.cancelled() => return,
        }
        hand_over(&node).await;
        let (applied, snapshot, purged) = {
            let metrics = engine.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            (
                metrics.last_applied.index(),
                metrics.snapshot.index(),
                metrics.purged.index(),
            )
        };
        if asked_at <= snapshot && applied > snapshot && node.log.bytes_after(snapshot) > policy.bytes {
            asked_at = applied;
            if engine.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let Some(snapshot) = snapshot else { continue };
        if let Some(point) = node.log.purge_point(policy.keep_bytes)
            && Some(point.min(snapshot)) > purged
            && engine.raft.trigger().purge_log(point.min(snapshot)).await.is_err()
        {
            return;
        }
    }
}

/// Gives to the system what the state has gathered in memory: a process that is killed then leaves all but what it applied last.
async fn hand_over(node: &Node) {
    let store = node.store.clone();
    if !store.has_gathered() {
        return;
    }
    let handed_over = blox_runtime::spawn_blocking(move || store.hand_over()).await;
    match handed_over {
        Ok(Ok(())) => {}
        // The next write fails of it too, and ends this node.
        Ok(Err(error)) => tracing::error!(%error, "the state cannot be written"),
        Err(error) => tracing::error!(%error, "the state was not handed to the system"),
    }
}
