//! The first start of a cluster.
//!
//! Initial members that were never in a cluster ask each other who they are. When all of them are new and were told the same member list,
//! the one with the lowest name founds the cluster: it draws the cluster id, numbers the members by name, writes that down and puts it
//! into the first entry of the log. The others learn it by asking on. Exactly one founds, so that no two first entries exist. A node
//! whose name is already taken by another incarnation has lost its disk: it is refused.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::codec;
use crate::config::InitialMember;
use crate::error::REMEDY;
use crate::identity::{Identity, MemberIdentity, NewIdentity};
use crate::net;
use crate::node::Node;
use crate::pause;
use crate::proto::{self, identify_reply};
use crate::types::NodeInfo;

/// Between two rounds of questions, milliseconds.
const ASK_AGAIN_MS: std::ops::RangeInclusive<u64> = 30..=120;

/// Why a node cannot become a member.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "`{peer}` was told of the initial members {theirs}, this node of {ours}: give every initial member the same list and start again \
         with empty data directories"
    )]
    ListDiffers { peer: String, ours: String, theirs: String },
    #[error("`{name}` answered at {address}, which the initial members give to `{expected}`: correct the list")]
    AnotherName {
        name: String,
        address: String,
        expected: String,
    },
    #[error(
        "`{name}` says it is reached at {advertised}, the initial members say {listed}: make both the same, since peers keep the first"
    )]
    AnotherAddress {
        name: String,
        advertised: String,
        listed: String,
    },
    #[error(
        "cluster {cluster_id} already has a member `{name}` (node {node_id}) with another incarnation, and this node's data directory was \
         empty: its disk was lost or exchanged. Stop it; {REMEDY}"
    )]
    DiskLost {
        cluster_id: String,
        name: String,
        node_id: u64,
    },
    #[error(
        "cluster {cluster_id} exists already and has no member `{name}`, and takes no further ones yet: start a new cluster with other \
         peers, or correct the list of initial members"
    )]
    NotAMember { cluster_id: String, name: String },
    #[error("cannot write down that this node is a member: {0}")]
    Storage(String),
}

/// What this node answers when asked who it is.
pub(crate) fn introduce(node: &Node, asked: proto::IdentifyRequest) -> proto::IdentifyReply {
    let info = node.info();
    let state = match node.identity.load().as_ref() {
        Identity::New(_) => {
            let ours = sorted(&node.config.initial_members);
            if let Some(refused) = disagreement(&ours, asked) {
                // The first one is told; others differ as much.
                drop(node.disagreement.set(refused));
            }
            identify_reply::State::Uninitialised(proto::Uninitialised {
                initial_members: list_to_proto(&ours),
            })
        }
        Identity::Member(member) => identify_reply::State::Member(proto::InCluster {
            cluster_id: member.cluster_id.clone(),
            node_id: member.node_id,
            nodes: known_nodes(node, member),
        }),
    };
    proto::IdentifyReply {
        name: info.name,
        incarnation: info.incarnation,
        peer_address: info.peer_address,
        http_address: info.http_address,
        state: Some(state),
    }
}

/// Whether an initial member was told of others than this node. Nothing vouches for who asks: only one of our own list is believed, and only
/// what it says.
fn disagreement(ours: &[InitialMember], asked: proto::IdentifyRequest) -> Option<Refused> {
    let believed = !asked.initial_members.is_empty() && ours.iter().any(|member| member.name == asked.name);
    let theirs = list_from_proto(asked.initial_members);
    (believed && theirs != ours).then(|| Refused::ListDiffers {
        peer: asked.name,
        ours: list(ours),
        theirs: list(&theirs),
    })
}

fn known_nodes(node: &Node, member: &MemberIdentity) -> Vec<proto::Node> {
    let membership = node
        .engine
        .get()
        .map(|engine| engine.raft.server_metrics().borrow_watched().membership_config.clone());
    let nodes: Vec<proto::Node> = membership
        .iter()
        .flat_map(|membership| membership.nodes())
        .map(|(id, node)| codec::node_to_proto(*id, node))
        .collect();
    if !nodes.is_empty() {
        return nodes;
    }
    // The founder knows its members before its log does.
    member
        .founders
        .iter()
        .flatten()
        .map(|(id, node)| codec::node_to_proto(*id, node))
        .collect()
}

fn list_to_proto(members: &[InitialMember]) -> Vec<proto::InitialMember> {
    let message = |member: &InitialMember| proto::InitialMember {
        name: member.name.clone(),
        peer_address: member.peer_address.clone(),
    };
    members.iter().map(message).collect()
}

fn list_from_proto(members: Vec<proto::InitialMember>) -> Vec<InitialMember> {
    members
        .into_iter()
        .map(|member| InitialMember {
            name: member.name,
            peer_address: member.peer_address,
        })
        .collect()
}

fn sorted(members: &[InitialMember]) -> Vec<InitialMember> {
    let mut members = members.to_vec();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members
}

/// Asks until this node knows which cluster it belongs to, founding it where that is its part.
pub(crate) async fn found_or_join(node: &Arc<Node>, new: &NewIdentity) -> Result<MemberIdentity, Refused> {
    let members = sorted(&node.config.initial_members);
    let founds = members.first().is_some_and(|first| first.name == new.name);
    let own = members.iter().find(|member| member.name == new.name);
    if let Some(own) = own
        && own.peer_address != node.config.peer_advertise
    {
        return Err(Refused::AnotherAddress {
            name: new.name.clone(),
            advertised: node.config.peer_advertise.clone(),
            listed: own.peer_address.clone(),
        });
    }
    let mut rounds: u64 = 0;
    loop {
        if let Some(disagreement) = node.disagreement.get() {
            return Err(disagreement.clone());
        }
        match ask_all(node, new, &members).await? {
            Round::Joined { cluster_id, node_id } => return settle(new, cluster_id, node_id, None).await,
            Round::AllNew(others) if founds => return found(node, new, others).await,
            Round::AllNew(_) | Round::Waiting => {}
        }
        rounds += 1;
        if rounds.is_multiple_of(100) {
            tracing::info!("still waiting for the other initial members");
        }
        tokio::time::sleep(Duration::from_millis(pause::between(ASK_AGAIN_MS))).await;
    }
}

/// What one round of questions has brought.
#[derive(Debug)]
enum Round {
    /// A cluster knows this node.
    Joined { cluster_id: String, node_id: u64 },
    /// All others are new and agree.
    AllNew(Vec<NodeInfo>),
    /// Somebody has not answered, or knows nothing yet.
    Waiting,
}

async fn ask_all(node: &Node, new: &NewIdentity, members: &[InitialMember]) -> Result<Round, Refused> {
    let mut others = Vec::new();
    let mut silent = false;
    for member in members.iter().filter(|member| member.name != new.name) {
        let question = proto::IdentifyRequest {
            name: new.name.clone(),
            initial_members: list_to_proto(members),
        };
        let reply = match net::identify(&node.channels, &member.peer_address, question).await {
            Ok(reply) => reply,
            Err(reason) => {
                tracing::debug!(peer = member.name, reason, "an initial member does not answer yet");
                silent = true;
                continue;
            }
        };
        match judge(new, member, members, reply)? {
            Some(Round::AllNew(mut one)) => others.append(&mut one),
            Some(joined) => return Ok(joined),
            None => silent = true,
        }
    }
    Ok(if silent { Round::Waiting } else { Round::AllNew(others) })
}

/// What one answer means: the cluster to join, one more that is new and agrees, or nothing yet.
fn judge(
    new: &NewIdentity,
    member: &InitialMember,
    members: &[InitialMember],
    reply: proto::IdentifyReply,
) -> Result<Option<Round>, Refused> {
    if reply.name != member.name {
        return Err(Refused::AnotherName {
            name: reply.name,
            address: member.peer_address.clone(),
            expected: member.name.clone(),
        });
    }
    match reply.state {
        Some(identify_reply::State::Uninitialised(theirs)) => {
            let theirs = list_from_proto(theirs.initial_members);
            if theirs != members {
                return Err(Refused::ListDiffers {
                    peer: reply.name,
                    ours: list(members),
                    theirs: list(&theirs),
                });
            }
            Ok(Some(Round::AllNew(vec![NodeInfo {
                name: reply.name,
                peer_address: member.peer_address.clone(),
                http_address: reply.http_address,
                incarnation: reply.incarnation,
            }])))
        }
        Some(identify_reply::State::Member(cluster)) => {
            // A member that has not received the first entry yet knows nobody.
            if cluster.nodes.is_empty() {
                return Ok(None);
            }
            let cluster_id = cluster.cluster_id;
            match cluster.nodes.iter().find(|known| known.name == new.name) {
                Some(known) if known.incarnation == new.incarnation => Ok(Some(Round::Joined {
                    cluster_id,
                    node_id: known.id,
                })),
                Some(known) => Err(Refused::DiskLost {
                    cluster_id,
                    name: new.name.clone(),
                    node_id: known.id,
                }),
                None => Err(Refused::NotAMember {
                    cluster_id,
                    name: new.name.clone(),
                }),
            }
        }
        None => Ok(None),
    }
}

fn list(members: &[InitialMember]) -> String {
    let shown: Vec<String> = members
        .iter()
        .map(|member| format!("{}={}", member.name, member.peer_address))
        .collect();
    shown.join(", ")
}

async fn found(node: &Node, new: &NewIdentity, mut nodes: Vec<NodeInfo>) -> Result<MemberIdentity, Refused> {
    nodes.push(node.info());
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    let founders: BTreeMap<u64, NodeInfo> = (1..).zip(nodes).collect();
    let node_id = founders
        .iter()
        .find(|(_, founder)| founder.name == new.name)
        .map_or(1, |(id, _)| *id);
    let cluster_id = Uuid::new_v4().to_string();
    tracing::info!(cluster_id, members = founders.len(), "founds a cluster");
    settle(new, cluster_id, node_id, Some(founders)).await
}

async fn settle(
    new: &NewIdentity,
    cluster_id: String,
    node_id: u64,
    founders: Option<BTreeMap<u64, NodeInfo>>,
) -> Result<MemberIdentity, Refused> {
    let new = new.clone();
    let written = spawn_blocking(move || new.join(&cluster_id, node_id, founders))
        .await
        .map_err(io::Error::other);
    written
        .and_then(|written| written)
        .map_err(|error| Refused::Storage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: &[&str]) -> Vec<InitialMember> {
        names
            .iter()
            .map(|name| InitialMember {
                name: (*name).into(),
                peer_address: format!("{name}:1"),
            })
            .collect()
    }

    fn new_node(directory: &std::path::Path) -> NewIdentity {
        match crate::identity::open(directory, "b", true)
            .expect("an empty directory")
            .0
        {
            Identity::New(new) => new,
            Identity::Member(_) => panic!("an empty directory is new"),
        }
    }

    fn uninitialised(name: &str, list: &[&str]) -> proto::IdentifyReply {
        proto::IdentifyReply {
            name: name.into(),
            incarnation: "theirs".into(),
            state: Some(identify_reply::State::Uninitialised(proto::Uninitialised {
                initial_members: list_to_proto(&members(list)),
            })),
            ..proto::IdentifyReply::default()
        }
    }

    fn member_of(name: &str, nodes: Vec<proto::Node>) -> proto::IdentifyReply {
        proto::IdentifyReply {
            name: name.into(),
            state: Some(identify_reply::State::Member(proto::InCluster {
                cluster_id: "c".into(),
                node_id: 1,
                nodes,
            })),
            ..proto::IdentifyReply::default()
        }
    }

    /// A question ends a new node only where one of its own list asks, with a list that differs.
    #[test]
    fn strangers_questions_change_nothing() {
        let ours = members(&["a", "b", "c"]);
        let asked = |name: &str, names: &[&str]| {
            let request = proto::IdentifyRequest {
                name: name.into(),
                initial_members: list_to_proto(&members(names)),
            };
            disagreement(&ours, request)
        };
        assert!(asked("a", &["a", "b", "c"]).is_none());
        assert!(asked("z", &["a", "z"]).is_none(), "a stranger");
        assert!(asked("", &[]).is_none());
        assert!(asked("a", &[]).is_none(), "no list at all");
        assert!(matches!(asked("a", &["a", "b"]), Some(Refused::ListDiffers { .. })));
    }

    /// Each answer an asked node can give, and what follows from it.
    #[test]
    fn answers_are_judged() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let new = new_node(directory.path());
        let ours = members(&["a", "b", "c"]);
        let judge = |reply| judge(&new, &ours[0], &ours, reply);
        let known = |incarnation: &str| proto::Node {
            id: 2,
            name: "b".into(),
            incarnation: incarnation.into(),
            ..proto::Node::default()
        };

        assert!(matches!(
            judge(uninitialised("a", &["a", "b", "c"])),
            Ok(Some(Round::AllNew(_)))
        ));
        assert!(matches!(
            judge(uninitialised("a", &["a", "b"])),
            Err(Refused::ListDiffers { .. })
        ));
        assert!(matches!(
            judge(uninitialised("c", &["a", "b", "c"])),
            Err(Refused::AnotherName { .. })
        ));
        assert!(matches!(judge(member_of("a", vec![])), Ok(None)));
        assert!(matches!(
            judge(member_of("a", vec![known(&new.incarnation)])),
            Ok(Some(Round::Joined { node_id: 2, .. }))
        ));
        let lost = judge(member_of("a", vec![known("another")])).expect_err("another incarnation");
        assert!(lost.to_string().contains("give it back its data directory"), "{lost}");
        let stranger = proto::Node {
            id: 7,
            name: "z".into(),
            ..proto::Node::default()
        };
        assert!(matches!(
            judge(member_of("a", vec![stranger])),
            Err(Refused::NotAMember { .. })
        ));
    }
}
