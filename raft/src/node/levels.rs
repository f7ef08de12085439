//! Raises the state's feature level once every member, learners too, says that it knows a newer one. Members that do not answer hold it back:
//! they may be of an older version.

use std::sync::Arc;
use std::time::Duration;

use blox_runtime::time::{Instant, sleep};
use blox_store::FeatureLevel;
use blox_store::proto::{Command, RaiseFeatureLevel, command::Operation};
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use prost::Message;

use super::Node;
use crate::NodeId;
use crate::engine::Engine;
use crate::net;
use crate::propose::Origin;
use crate::proto;
use crate::types::NodeInfo;

/// Between two rounds of questions; without anything newer to raise to nobody is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the command may take.
const RAISE_DEADLINE: Duration = Duration::from_secs(5);

/// Looks from time to time whether this node leads and the level can rise, until the node stops.
pub(super) async fn run(node: Arc<Node>, engine: Arc<Engine>) {
    loop {
        tokio::select! {
            biased;
            () = sleep(ASK_INTERVAL) => {}
            () = node.stop.cancelled() => return,
        }
        let leading = node.view.borrow().leading;
        let Some(leading) = leading.filter(|_| node.store.feature_level() < node.store.known_feature_level()) else {
            continue;
        };
        let level = level_of_all(&node, &engine).await;
        if level > node.store.feature_level() {
            raise(&node, leading.term, level).await;
        }
    }
}

/// The newest level that every member knows, as far as it answers.
async fn level_of_all(node: &Node, engine: &Engine) -> FeatureLevel {
    let members: Vec<(NodeId, NodeInfo)> = {
        let metrics = engine.raft.server_metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        membership.nodes().map(|(id, info)| (*id, info.clone())).collect()
    };
    let others = members.iter().filter(|(id, _)| *id != engine.identity.node_id);
    let levels = join_all(others.map(|(_, info)| level_of(node, info))).await;
    let known = node.store.known_feature_level();
    levels.into_iter().fold(known, FeatureLevel::min)
}

async fn level_of(node: &Node, info: &NodeInfo) -> FeatureLevel {
    let question = proto::IdentifyRequest::default();
    match net::identify(&node.channels, &info.peer_address, question).await {
        Ok(reply) if reply.incarnation == info.incarnation => FeatureLevel::new(reply.feature_level),
        Ok(_) => FeatureLevel::FIRST,
        Err(reason) => {
            tracing::debug!(
                member = info.name,
                reason,
                "a member does not say which feature level it knows"
            );
            FeatureLevel::FIRST
        }
    }
}

async fn raise(node: &Node, term: u64, level: FeatureLevel) {
    let command = Command {
        actor: "node".to_owned(),
        cause: format!("every member knows feature level {level}"),
        operation: Some(Operation::RaiseFeatureLevel(RaiseFeatureLevel {
            level: level.number(),
        })),
        ..Command::default()
    };
    let until = Instant::now() + RAISE_DEADLINE;
    let submitted = node
        .proposals
        .submit(command.encode_to_vec().into(), Origin::Duty { term }, until);
    let answer = match submitted {
        Ok(submitted) => submitted.answer(until).await,
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(_) => tracing::info!(%level, "the feature level is raised: every member knows it"),
        Err(refusal) => tracing::warn!(?refusal, %level, "the feature level is not raised yet"),
    }
}
