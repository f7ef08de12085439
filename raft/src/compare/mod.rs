//! Nodes compare the chained state hash at the same log index: the same log must give the same state everywhere.
//!
//! The leader asks its peers for the hashes they hold, and tells them what it found: all nodes then show the same alarm. A node that
//! differs from a majority ends, as after a storage error, and does not start again: what it answers is not what was written
//! (docs/decisions/0012).

mod alarm;
pub(crate) mod mark;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;

pub(crate) use alarm::Alarm;
pub use alarm::StateDifference;
use verdict::{Held, Verdict, verdict};

use crate::NodeId;
use crate::codec::{hash_from_proto, hash_to_proto};
use crate::engine::Engine;
use crate::node::Node;
use crate::proto;
use crate::types::NodeInfo;
use blox_store::HashPoint;

/// How long a peer may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Compares from time to time while this node leads, until it stops.
pub(crate) async fn run(node: Arc<Node>, engine: Arc<Engine>) {
    let pause = node.config.timing.compare_states;
    loop {
        tokio::select! {
            biased;
            () = blox_runtime::time::sleep(pause) => {}
            () = node.stop.cancelled() => return,
        }
        if node.view.borrow().leading.is_some() {
            round(&node, &engine).await;
        }
    }
}

async fn round(node: &Node, engine: &Engine) {
    let (peers, voters) = {
        let membership = engine.raft.server_metrics().borrow_watched().membership_config.clone();
        let peers: Vec<(NodeId, NodeInfo)> = membership
            .nodes()
            .filter(|(id, _)| **id != engine.identity.node_id)
            .map(|(id, info)| (*id, info.clone()))
            .collect();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        (peers, voters)
    };
    let held = ask(node, engine, &peers).await;
    let own = Held {
        id: engine.identity.node_id,
        points: node.store.recent_hashes(),
    };
    let found = verdict(&own, &held, &voters);
    let compared = found.compared.len() as u64 - 1;
    node.counters.states_compared.fetch_add(compared, Ordering::Relaxed);
    let before = node.alarm.load_full();
    let alarm = next_alarm(&before, &found, engine, &peers);
    if alarm == *before {
        return;
    }
    note(node, &alarm, &found);
    node.alarm.store(Arc::new(alarm));
    // Told at once: a node that is wrong must not go on answering.
    ask(node, engine, &peers).await;
    heed(node, engine).await;
}

/// Has every peer say which hashes it holds, and tells it of the alarm. Peers that do not answer are left out.
async fn ask(node: &Node, engine: &Engine, peers: &[(NodeId, NodeInfo)]) -> Vec<Held> {
    let alarm = node.alarm.load_full();
    let answers = join_all(peers.iter().map(|(id, info)| {
        let request = alarm.to_proto();
        async move {
            match engine
                .requests
                .compare_state((*id, info), request, ANSWER_DEADLINE)
                .await
            {
                Ok(reply) => Some(Held {
                    id: *id,
                    points: points_from_proto(&reply),
                }),
                Err(reason) => {
                    tracing::debug!(peer = info.name, reason, "its state is not compared");
                    None
                }
            }
        }
    }));
    answers.await.into_iter().flatten().collect()
}

/// What was found, and of what was known before that of which nothing new was found.
fn next_alarm(before: &Alarm, found: &Verdict, engine: &Engine, peers: &[(NodeId, NodeInfo)]) -> Alarm {
    let name = |id: NodeId| {
        let info = peers.iter().find(|(peer, _)| *peer == id).map(|(_, info)| &info.name);
        info.unwrap_or(&engine.identity.name).clone()
    };
    let is_member = |id: NodeId| id == engine.identity.node_id || peers.iter().any(|(peer, _)| *peer == id);
    let kept = before
        .differences
        .iter()
        .filter(|known| is_member(known.node_id) && !found.compared.contains(&known.node_id));
    let new = found.differing.iter().map(|difference| StateDifference {
        node_id: difference.id,
        node: name(difference.id),
        index: difference.index,
        hash: difference.hash,
        expected: difference.expected,
        majority: found.majority,
    });
    let mut differences: Vec<StateDifference> = kept.cloned().chain(new).collect();
    differences.sort_by_key(|difference| difference.node_id);
    // The newest index moves on while a node goes on differing: that is no news.
    for difference in &mut differences {
        if let Some(known) = before.differences.iter().find(|known| known.is_as_bad_as(difference)) {
            *difference = known.clone();
        }
    }
    Alarm { differences }
}

fn note(node: &Node, alarm: &Alarm, found: &Verdict) {
    for difference in &alarm.differences {
        node.counters.states_differing.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            node = difference.node,
            differs_from = ?found.compared.iter().filter(|id| **id != difference.node_id).collect::<Vec<_>>(),
            leader = node.config.name,
            index = difference.index,
            hash = format!("{:032x}", difference.hash),
            expected = format!("{:032x}", difference.expected),
            majority = difference.majority,
            "ALARM: the states of nodes differ though they have applied the same log: {}",
            difference.describe()
        );
    }
    if alarm.differences.is_empty() {
        tracing::info!("the states of all nodes are equal again: the alarm is over");
    }
}

/// What a leader asks and says.
pub(crate) async fn answer(
    node: &Node,
    engine: &Engine,
    request: &proto::CompareStateRequest,
) -> proto::CompareStateReply {
    let alarm = Alarm::from_proto(request);
    if alarm != **node.alarm.load() {
        node.alarm.store(Arc::new(alarm));
        heed(node, engine).await;
    }
    let points = node.store.recent_hashes();
    proto::CompareStateReply {
        points: points
            .iter()
            .map(|point| proto::HashPoint {
                index: point.index,
                hash: hash_to_proto(point.hash),
            })
            .collect(),
    }
}

fn points_from_proto(reply: &proto::CompareStateReply) -> Vec<HashPoint> {
    let point = |point: &proto::HashPoint| {
        Some(HashPoint {
            index: point.index,
            hash: hash_from_proto(&point.hash)?,
        })
    };
    reply.points.iter().filter_map(point).collect()
}

/// Ends this node where the alarm names it, a majority stands against it, and its own hash is what it is said to be.
async fn heed(node: &Node, engine: &Engine) {
    let alarm = node.alarm.load_full();
    let own = alarm
        .differences
        .iter()
        .find(|one| one.node_id == engine.identity.node_id);
    let Some(own) = own.filter(|own| own.majority) else {
        return;
    };
    let held = node.store.recent_hashes();
    if !held
        .iter()
        .any(|point| point.index == own.index && point.hash == own.hash)
    {
        return;
    }
    let why = format!("{}.", own.describe());
    tracing::error!("ALARM: {why} This node ends");
    let directory = node.config.data_directory.clone();
    let text = why.clone();
    let marked = blox_runtime::spawn_blocking(move || mark::set(&directory, &text)).await;
    if !matches!(marked, Ok(Ok(()))) {
        tracing::error!(?marked, "cannot mark the data directory: do not start this node again");
    }
    node.end(&why);
}
