//! Finishes a joint change of the voters that its leader left half done: until then a majority of both the old and the new voters is needed.

use std::sync::Arc;
use std::time::Duration;

use blox_runtime::time::{Instant, sleep, timeout};
use openraft::ChangeMembers;

use super::leader::look;
use crate::engine::Engine;
use crate::node::Node;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long finishing may take before it is tried anew.
const FINISH_DEADLINE: Duration = Duration::from_secs(10);

/// Looks from time to time, until the node stops.
pub(crate) async fn run(node: Arc<Node>, _engine: Arc<Engine>) {
    loop {
        tokio::select! {
            biased;
            () = sleep(LOOK_INTERVAL) => {}
            () = node.stop.cancelled() => return,
        }
        // Whoever changes the members at the moment finishes it itself.
        let Ok(_one_at_a_time) = node.changing.try_lock() else {
            continue;
        };
        let Ok(view) = look(&node, Instant::now()) else {
            continue;
        };
        if view.seen.voter_sets.len() < 2 {
            continue;
        }
        tracing::info!("finishes a change of the voters that was left half done");
        let finished = timeout(
            FINISH_DEADLINE,
            view.change(ChangeMembers::AddVoterIds([].into()), false),
        )
        .await;
        if let Ok(Err(error)) = finished {
            tracing::debug!(?error, "not finished yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use blox_store::Store;

    use crate::config::{InitialMember, RaftConfig, SnapshotPolicy, Timing};
    use crate::types::{EntryPayload, Membership, NodeInfo};
    use crate::{Consensus, SystemClock};
    use openraft::async_runtime::watch::WatchReceiver;

    use super::*;

    /// A joint change whose leader went away after its first half is finished by whoever leads, without being asked.
    #[tokio::test(flavor = "multi_thread")]
    async fn half_a_change_is_finished() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let config = RaftConfig {
            name: "a".into(),
            data_directory: directory.path().to_owned(),
            peer_listen: address,
            peer_advertise: address.to_string(),
            http_advertise: "a.example:2000".into(),
            initial_members: vec![InitialMember {
                name: "a".into(),
                peer_address: address.to_string(),
            }],
            timing: Timing::default(),
            snapshot: SnapshotPolicy::default(),
        };
        let store = Store::open(&directory.path().join("state")).expect("opened");
        let consensus = Consensus::start(config, store, Arc::new(SystemClock::new()))
            .await
            .expect("started");
        let patience = Duration::from_secs(60);
        let list = consensus.members(patience).await.expect("it leads");
        assert!(!list.changing);
        let raft = consensus.node().engine.get().expect("a member").raft.clone();
        let observed = raft.metrics().borrow_watched().membership_config.clone();
        let nodes: BTreeMap<u64, NodeInfo> = observed.nodes().map(|(id, info)| (*id, info.clone())).collect();
        let joint = Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1])], nodes).expect("two equal halves");
        let payload = EntryPayload::Blank;
        raft.append_membership(joint, payload, []).await.expect("written");
        let sets = || {
            raft.metrics()
                .borrow_watched()
                .membership_config
                .get_joint_config()
                .len()
        };
        let finished = timeout(patience, async {
            while sets() > 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        finished.await.expect("the leader finishes it");
        consensus.shutdown().await;
    }
}
