//! What this node answers when it is asked who it is.

use openraft::async_runtime::watch::WatchReceiver;

use super::judge::{check_restored, list};
use super::{Refused, list_from_proto, list_to_proto, sorted};
use crate::codec;
use crate::config::InitialMember;
use crate::identity::{Identity, MemberIdentity};
use crate::node::Node;
use crate::proto::{self, identify_reply};
use crate::restore::RestoredMark;
use crate::types::{NodeInfo, position};

/// What this node answers when asked who it is.
pub(crate) fn introduce(node: &Node, asked: proto::IdentifyRequest) -> proto::IdentifyReply {
    let info = node.info();
    let state = match node.identity.load().as_ref() {
        Identity::New(new) => {
            let ours = sorted(&node.config.initial_members);
            if let Some(refused) = disagreement(&ours, new.restored.as_ref(), asked) {
                // The first one is told; others differ as much.
                drop(node.disagreement.set(refused));
            }
            identify_reply::State::Uninitialised(proto::Uninitialised {
                initial_members: list_to_proto(&ours),
                restored: new.restored.as_ref().map(RestoredMark::to_proto),
            })
        }
        Identity::Member(member) => {
            let (position, nodes) = committed_nodes(node, member);
            // The last question of one that was taken in meanwhile makes it no candidate again.
            if asked.candidate && nodes.iter().all(|node| node.incarnation != asked.incarnation) {
                node.candidates.heard(NodeInfo {
                    name: asked.name,
                    peer_address: asked.peer_address,
                    http_address: asked.http_address,
                    incarnation: asked.incarnation,
                });
            }
            identify_reply::State::Member(proto::InCluster {
                cluster_id: member.cluster_id.clone(),
                node_id: member.node_id,
                nodes,
                position,
                founders: restored_founders(member),
            })
        }
    };
    proto::IdentifyReply {
        name: info.name,
        incarnation: info.incarnation,
        peer_address: info.peer_address,
        http_address: info.http_address,
        state: Some(state),
        process: node.process.clone(),
        feature_level: node.store.known_feature_level().number(),
    }
}

/// Whether an initial member was told of others than this node. Nothing vouches for who asks: only one of our own list is believed, and only
/// what it says. A candidate's list is of no effect: its cluster exists.
pub(super) fn disagreement(
    ours: &[InitialMember],
    restored: Option<&RestoredMark>,
    asked: proto::IdentifyRequest,
) -> Option<Refused> {
    let believed =
        !asked.candidate && !asked.initial_members.is_empty() && ours.iter().any(|member| member.name == asked.name);
    if !believed {
        return None;
    }
    let theirs = list_from_proto(asked.initial_members);
    if theirs != ours {
        return Some(Refused::ListDiffers {
            peer: asked.name,
            ours: list(ours),
            theirs: list(&theirs),
        });
    }
    check_restored(&asked.name, restored, asked.restored).err()
}

/// The members of the beginning of a cluster that was founded from a backup.
fn restored_founders(member: &MemberIdentity) -> Vec<proto::Node> {
    let founders = member.founders.iter().filter(|_| member.restored).flatten();
    founders.map(|(id, node)| codec::node_to_proto(*id, node)).collect()
}

/// The committed members, and where that membership stands in the log: an uncommitted one may never have been.
fn committed_nodes(node: &Node, member: &MemberIdentity) -> (u64, Vec<proto::Node>) {
    let membership = node.engine.get().map(|engine| {
        engine
            .raft
            .server_metrics()
            .borrow_watched()
            .committed_membership_config
            .clone()
    });
    let nodes: Vec<proto::Node> = membership
        .iter()
        .flat_map(|membership| membership.nodes())
        .map(|(id, node)| codec::node_to_proto(*id, node))
        .collect();
    if !nodes.is_empty() {
        let position = membership.map_or(0, |membership| position(membership.log_id().as_ref()));
        return (position, nodes);
    }
    // The founder knows its members before its log does.
    let founders = member.founders.iter().flatten();
    (0, founders.map(|(id, node)| codec::node_to_proto(*id, node)).collect())
}
