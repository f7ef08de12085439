//! Whether a member still belongs to its cluster, asked of its peers when no leader calls: a removed node, a copy of a running one and a node
//! whose peers belong to another cluster end with a message; one whose peers lost their disks says so and waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blox_runtime::time::{Instant, sleep};
use futures::future::join_all;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;

use super::{GONE_AFTER_MIN, GONE_ELECTIONS};
use crate::engine::Engine;
use crate::identity::{Identity, MemberIdentity};
use crate::net::{self, Channels};
use crate::node::Node;
use crate::proto::{self, identify_reply};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What is waited for is said again after this.
const REMIND_INTERVAL: Duration = Duration::from_secs(10);

/// Refuses to be a second process under one identity: whoever answers where peers look for this node is the one.
pub(crate) async fn check_alone(node: &Node) -> Result<(), String> {
    let address = &node.config.peer_advertise;
    // A connection of its own, closed afterwards.
    let reply = net::identify(&Channels::default(), address, question(node)).await;
    match reply {
        Ok(reply) if is_copy(node, &reply) => Err(copied(node)),
        Ok(_) => Ok(()),
        Err(reason) => {
            tracing::warn!(
                address,
                reason,
                "this node does not reach itself where its peers look for it"
            );
            Ok(())
        }
    }
}

fn question(node: &Node) -> proto::IdentifyRequest {
    proto::IdentifyRequest {
        name: node.config.name.clone(),
        ..proto::IdentifyRequest::default()
    }
}

fn is_copy(node: &Node, reply: &proto::IdentifyReply) -> bool {
    reply.incarnation == node.identity.load().incarnation()
        && !reply.process.is_empty()
        && reply.process != node.process
}

fn copied(node: &Node) -> String {
    format!(
        "another process with the identity of this node (`{}`) answers at {}: the data directory of one is a copy of the other's. Two of \
         them would vote twice. Leave the one at that address running; start this one with an empty directory, under a name and an address \
         of its own, and say `blox member promote` to have it as one more member",
        node.config.name, node.config.peer_advertise
    )
}

/// Looks from time to time, until the node stops.
pub(crate) async fn run(node: Arc<Node>, engine: Arc<Engine>) {
    let gone_after = (node.config.timing.election_max * GONE_ELECTIONS).max(GONE_AFTER_MIN);
    let started = Instant::now();
    let mut reminded: Option<(Instant, String)> = None;
    loop {
        tokio::select! {
            biased;
            () = sleep(LOOK_INTERVAL) => {}
            () = node.stop.cancelled() => return,
        }
        let silence = contact(&node, &engine).unwrap_or_else(|| started.elapsed());
        let standing = if silence < gone_after {
            Standing::Well
        } else {
            ask(&node, &engine).await
        };
        match standing {
            Standing::Well => node.attention.store(None),
            Standing::Ended(reason) => {
                tracing::error!(reason, "this node does not take part any more");
                node.end(&reason);
                return;
            }
            Standing::Waits(reason) => {
                let said = reminded
                    .as_ref()
                    .is_some_and(|(at, said)| *said == reason && at.elapsed() < REMIND_INTERVAL);
                if !said {
                    tracing::warn!(reason, "no leader is heard of");
                    reminded = Some((Instant::now(), reason.clone()));
                }
                node.attention.store(Some(Arc::new(reason)));
            }
        }
    }
}

/// Since a leader was heard of; a leader: since a quorum was.
fn contact(node: &Node, engine: &Engine) -> Option<Duration> {
    if node.view.borrow().leading.is_none() {
        return node.contact.age();
    }
    let acknowledged = engine.raft.data_metrics().borrow_watched().last_quorum_acked;
    let alone = engine.raft.voter_ids().count() == 1;
    if alone {
        Some(Duration::ZERO)
    } else {
        acknowledged.map(|at| at.elapsed())
    }
}

/// Where a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// A leader calls.
    Well,
    /// It can take part no more: why.
    Ended(String),
    /// Nothing it could do: what it waits for.
    Waits(String),
}

/// What peers answer, by the address they were asked at.
struct Answers {
    me: MemberIdentity,
    /// The voters as this node's log knows them: name and address.
    voters: BTreeMap<u64, (String, String)>,
    replies: BTreeMap<String, proto::IdentifyReply>,
}

async fn ask(node: &Node, engine: &Engine) -> Standing {
    let identity = node.identity.load_full();
    let Identity::Member(me) = identity.as_ref() else {
        return Standing::Well;
    };
    if let Err(copied) = check_alone(node).await {
        return Standing::Ended(copied);
    }
    let membership = engine.raft.server_metrics().borrow_watched().membership_config.clone();
    let ids: BTreeSet<u64> = membership.voter_ids().collect();
    let known = membership.nodes().map(|(_, info)| info.peer_address.clone());
    let listed = node
        .config
        .initial_members
        .iter()
        .map(|member| member.peer_address.clone());
    let mut addresses: BTreeSet<String> = known.chain(listed).collect();
    addresses.remove(&node.config.peer_advertise);
    let asked = addresses.iter().map(|address| async move {
        let reply = net::identify(&node.channels, address, question(node)).await;
        reply.ok().map(|reply| (address.clone(), reply))
    });
    let replies = join_all(asked).await.into_iter().flatten().collect();
    judge(&Answers {
        me: me.clone(),
        voters: membership
            .nodes()
            .filter(|(id, _)| ids.contains(id) && **id != me.node_id)
            .map(|(id, info)| (*id, (info.name.clone(), info.peer_address.clone())))
            .collect(),
        replies,
    })
}

/// What the answers come to. Numbers are never given twice, so a committed membership as late as the one that first named this node, and
/// without it, has removed it.
fn judge(answers: &Answers) -> Standing {
    let Answers { me, voters, replies } = answers;
    let mut strangers = Vec::new();
    let mut empty = Vec::new();
    for (address, reply) in replies {
        match &reply.state {
            Some(identify_reply::State::Member(cluster)) if cluster.cluster_id == me.cluster_id => {
                let names_me = cluster.nodes.iter().any(|known| known.id == me.node_id);
                if !cluster.nodes.is_empty() && cluster.position >= me.joined_at && !names_me {
                    return Standing::Ended(removed(me, cluster));
                }
            }
            Some(identify_reply::State::Member(cluster)) => strangers.push((address, &cluster.cluster_id)),
            Some(identify_reply::State::Uninitialised(_)) => empty.push((address, &reply.name)),
            None => {}
        }
    }
    let among_voters = |address: &String| voters.values().any(|(_, known)| known == address);
    let others = voters.len();
    let all = others + 1;
    let majority = all / 2 + 1;
    let foreign: Vec<&(&String, &String)> = strangers.iter().filter(|(address, _)| among_voters(address)).collect();
    if let Some((address, theirs)) = foreign.first()
        && foreign.len() >= majority
    {
        return Standing::Ended(format!(
            "{} of the {others} other voters belong to another cluster ({address} to {theirs}), this node's directory to cluster {}: one of \
             them has the wrong data directory or address. Give this node the directory it had, or an empty one and `blox member replace {}`",
            foreign.len(),
            me.cluster_id,
            me.name
        ));
    }
    let wiped: Vec<String> = empty
        .iter()
        .filter(|(address, _)| among_voters(address))
        .map(|(_, name)| format!("`{name}`"))
        .collect();
    let left = all - wiped.len();
    if left < majority {
        return Standing::Waits(format!(
            "{} answer with empty data directories: of the {} voters of cluster {} only {left} can still have its state, and {majority} are \
             needed. Give them back their data directories as they last were; where those are lost, start a new cluster (this node's \
             directory still holds what it had). Nothing is founded beside this node while it runs",
            wiped.join(" and "),
            all,
            me.cluster_id
        ));
    }
    let silent: Vec<String> = voters
        .values()
        .filter(|(_, address)| !replies.contains_key(address))
        .map(|(name, address)| format!("`{name}` at {address}"))
        .collect();
    let mut reason = format!("no leader of cluster {} is heard of", me.cluster_id);
    for (what, who) in [("no answer from", silent), ("an empty data directory at", wiped)] {
        if !who.is_empty() {
            reason.push_str(&format!("; {what} {}", who.join(", ")));
        }
    }
    Standing::Waits(reason)
}

fn removed(me: &MemberIdentity, cluster: &proto::InCluster) -> String {
    let successor = cluster.nodes.iter().find(|known| known.name == me.name);
    let replaced = successor.map_or_else(String::new, |known| format!(" (node {} bears its name now)", known.id));
    format!(
        "node {} (`{}`, incarnation {}) is no member of cluster {} any more{replaced}: it was removed or replaced, and what its data \
         directory holds counts for nothing. To take it in again, start it with an empty directory and say `blox member promote {}` (or \
         `blox member replace`) to one of the members",
        me.node_id, me.name, me.incarnation, me.cluster_id, me.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> MemberIdentity {
        MemberIdentity {
            cluster_id: "ours".into(),
            node_id: 3,
            name: "c".into(),
            incarnation: "mine".into(),
            joined_at: 7,
            founders: None,
            restored: false,
        }
    }

    fn member(cluster_id: &str, position: u64, ids: &[u64]) -> proto::IdentifyReply {
        let nodes = ids.iter().map(|id| proto::Node {
            id: *id,
            name: if *id == 1042 { "c".into() } else { format!("n{id}") },
            ..proto::Node::default()
        });
        proto::IdentifyReply {
            state: Some(identify_reply::State::Member(proto::InCluster {
                cluster_id: cluster_id.into(),
                node_id: 1,
                nodes: nodes.collect(),
                position,
                ..proto::InCluster::default()
            })),
            ..proto::IdentifyReply::default()
        }
    }

    fn new(name: &str) -> proto::IdentifyReply {
        proto::IdentifyReply {
            name: name.into(),
            state: Some(identify_reply::State::Uninitialised(proto::Uninitialised::default())),
            ..proto::IdentifyReply::default()
        }
    }

    fn judged(replies: &[(&str, proto::IdentifyReply)]) -> Standing {
        judge(&Answers {
            me: me(),
            voters: [(1, ("a".into(), "a:1".into())), (2, ("b".into(), "b:1".into()))].into(),
            replies: replies
                .iter()
                .map(|(address, reply)| ((*address).to_owned(), reply.clone()))
                .collect(),
        })
    }

    fn ended(standing: Standing) -> String {
        match standing {
            Standing::Ended(reason) => reason,
            other => panic!("it goes on: {other:?}"),
        }
    }

    fn waits(standing: Standing) -> String {
        match standing {
            Standing::Waits(reason) => reason,
            other => panic!("it does not wait: {other:?}"),
        }
    }

    /// A later membership without it removes it, whoever says so; an earlier one, from before it was taken in, does not.
    #[test]
    fn only_a_later_membership_removes() {
        let reason = ended(judged(&[("a:1", member("ours", 9, &[1, 2, 1042]))]));
        assert!(
            reason.contains("no member of cluster ours any more (node 1042"),
            "{reason}"
        );
        let lagging = waits(judged(&[("a:1", member("ours", 6, &[1, 2]))]));
        assert!(lagging.contains("no answer from `b`"), "{lagging}");
        waits(judged(&[("a:1", member("ours", 9, &[1, 2, 3]))]));
        waits(judged(&[("a:1", member("ours", 0, &[]))]));
    }

    /// One stranger may be the one that is wrong; two of two mean that this node is.
    #[test]
    fn a_majority_of_strangers_means_that_this_one_is_wrong() {
        waits(judged(&[("a:1", member("theirs", 9, &[1, 2, 3]))]));
        let both = [("a:1", member("theirs", 9, &[1])), ("b:1", member("theirs", 9, &[1]))];
        let reason = ended(judged(&both));
        assert!(reason.contains("belong to another cluster"), "{reason}");
        let elsewhere = [("x:1", member("theirs", 9, &[1])), ("y:1", member("theirs", 9, &[1]))];
        waits(judged(&elsewhere));
    }

    /// Peers that lost their disks are named; once they are too many, it is said that no majority is left.
    #[test]
    fn lost_disks_are_named() {
        let one = waits(judged(&[("a:1", new("a"))]));
        assert!(one.contains("an empty data directory at `a`"), "{one}");
        let two = waits(judged(&[("a:1", new("a")), ("b:1", new("b"))]));
        assert!(
            two.contains("only 1 can still have its state, and 2 are needed"),
            "{two}"
        );
    }
}
