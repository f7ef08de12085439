//! Nodes that are in no cluster yet: how a cluster begins, and how a node waits to be taken in by one that exists.
//!
//! Initial members that were never in a cluster ask each other who they are. When all of them are new and were told the same member list,
//! the one with the lowest name founds the cluster: it draws the cluster id, numbers the members by name, writes that down and puts it
//! into the first entry of the log. The others learn it by asking on. Exactly one founds, so that no two first entries exist.
//!
//! A new node that hears of a cluster that does not know its incarnation (it lost its disk, or is one more) is a *candidate* from then on:
//! it never founds, and asks on until an operator has taken it in. A node that is not among the initial members founds nothing either.
//!
//! A list may name fewer than there are by now, in the end only the node itself: whoever is called by a member of a cluster under another
//! incarnation has lost its disk, and is a candidate too. Who has nobody to ask listens for such calls before it founds alone.

mod introduce;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use blox_runtime::time::Instant;
use blox_runtime::{random, spawn_blocking};
use futures::future::join_all;

use crate::config::InitialMember;
use crate::identity::{Identity, MemberIdentity, NewIdentity};
use crate::net;
use crate::node::Node;
use crate::proto;
use crate::restore::{self, RestoredMark};
use crate::types::NodeInfo;

pub(crate) use introduce::introduce;
use judge::{Answer, conclude, judge, judge_call, judge_cluster};

/// Between two rounds of questions while a cluster begins, milliseconds.
const ASK_AGAIN_MS: std::ops::RangeInclusive<u64> = 30..=120;
/// Between two rounds of a candidate's questions, milliseconds.
const CANDIDATE_ASKS_MS: std::ops::RangeInclusive<u64> = 300..=500;
/// A node whose list names nobody else listens for so long before it founds a cluster alone: a live cluster that knows it under its address
/// calls within a heartbeat (without a leader: an election time-out, without a quorum: a second), and a second later if it has to connect.
const LISTEN_BEFORE_FOUNDING_ALONE: Duration = Duration::from_secs(3);
/// Where elections are slow it listens for at least so many of the longest election time-outs.
const LISTEN_ELECTIONS: u32 = 3;
/// How often a node that waits says so, seconds.
const REMIND_SECONDS: u64 = 10;
/// Members of other clusters' making that a candidate asks besides those it was told of.
const LEARNED_ADDRESSES_MAX: usize = 64;

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
        "`{peer}` was restored from {theirs}, this node from {ours}: empty the data directories of all initial members, restore the same file \
         on each of them, and start again"
    )]
    RestoredDiffers { peer: String, ours: String, theirs: String },
    #[error(
        "this node's data directory was restored from a backup, and a restored node only founds a new cluster, together with the others, but \
         {0}. To found one, stop that cluster; to take this node into it, empty its data directory first"
    )]
    RestoredOutside(Outsider),
    #[error("cannot write down that this node is a member: {0}")]
    Storage(String),
}

/// Why a candidate is none of the members, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Outsider {
    #[error(
        "cluster {cluster_id} already has a member `{name}` (node {node_id}) with another incarnation, and this node's data directory was \
         empty: its disk was lost or exchanged, or two nodes have the same name. To give its place to this node, say `blox member replace \
         {name}` to one of the others; if the old disk is still there, stop this node and give it back instead"
    )]
    DiskLost {
        cluster_id: String,
        name: String,
        node_id: u64,
    },
    #[error(
        "cluster {cluster_id} exists already and has no member `{name}`: to take this node in, say `blox member promote {name}` to one of \
         its members, or `blox member replace OLD --with {name}`"
    )]
    NotAMember { cluster_id: String, name: String },
    #[error(
        "node {from} of cluster {cluster_id} calls this node under another incarnation: that cluster has a member at this address, and this \
         node's data directory was empty. If its disk was lost, name members of that cluster in `initial_members`, start this node again, and \
         say `blox member replace {name}` to one of them; if the old disk is still there, stop this node and give it back; if that cluster \
         is to have nobody here, say `blox member remove` to it, and start this node again"
    )]
    Called {
        cluster_id: String,
        from: u64,
        name: String,
    },
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
    let listens = listens_before_founding(&members, node.config.timing.election_max);
    if founds && !listens.is_zero() {
        tracing::info!(
            seconds = listens.as_secs_f32(),
            "the initial members name only this node: it founds a cluster alone unless a member of one calls it meanwhile"
        );
    }
    let began = Instant::now();
    let mut asking = Asking::new(node, new, members);
    loop {
        match asking.round().await? {
            Round::Joined(place) => {
                node.attention.store(None);
                return settle(node, new, place).await;
            }
            Round::AllNew(others) if founds => {
                if began.elapsed() >= listens {
                    node.attention.store(None);
                    return found(node, new, others).await;
                }
            }
            Round::AllNew(_) => {
                asking.wait("the other initial members are there; the one with the lowest name founds the cluster")
            }
            Round::Outside(outsider) => asking.wait(&outsider.to_string()),
            Round::Waiting(reason) => asking.wait(&reason),
        }
        let pause = if asking.candidate {
            CANDIDATE_ASKS_MS
        } else {
            ASK_AGAIN_MS
        };
        blox_runtime::time::sleep(Duration::from_millis(random::between(pause))).await;
    }
}

/// Who can ask others needs not listen: they know.
fn listens_before_founding(members: &[InitialMember], election_max: Duration) -> Duration {
    if members.len() > 1 {
        return Duration::ZERO;
    }
    LISTEN_BEFORE_FOUNDING_ALONE.max(election_max * LISTEN_ELECTIONS)
}

/// A peer's call arrived at a node that is no member yet: what it tells is kept until the next round.
pub(crate) fn called(node: &Node, envelope: &proto::Envelope) {
    if let Identity::New(new) = node.identity.load().as_ref()
        && let Some(outsider) = judge_call(new, envelope)
    {
        // The first one counts; others tell the same.
        drop(node.called.set(outsider));
    }
}

/// A new node's questions, round after round.
struct Asking<'a> {
    node: &'a Node,
    new: &'a NewIdentity,
    members: Vec<InitialMember>,
    /// It has heard that a cluster exists: it founds none any more.
    candidate: bool,
    /// Where that cluster's members are, beyond those it was told of.
    learned: BTreeSet<String>,
    /// When it last said what it waits for.
    reminded: Instant,
}

/// A place in a cluster.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    cluster_id: String,
    node_id: u64,
    /// Of the membership that says so.
    position: u64,
    /// The members of the beginning, where this node founds the cluster or that was founded from a backup.
    founders: Option<BTreeMap<u64, NodeInfo>>,
}

/// What one round of questions has brought.
#[derive(Debug)]
enum Round {
    /// A cluster knows this node.
    Joined(Place),
    /// All others are new and agree.
    AllNew(Vec<NodeInfo>),
    /// A cluster exists that does not know this node.
    Outside(Outsider),
    /// Somebody has not answered, or knows nothing yet: who.
    Waiting(String),
}

impl<'a> Asking<'a> {
    fn new(node: &'a Node, new: &'a NewIdentity, members: Vec<InitialMember>) -> Asking<'a> {
        Asking {
            node,
            new,
            members,
            candidate: false,
            learned: BTreeSet::new(),
            reminded: Instant::now(),
        }
    }

    /// Says what it waits for, where operators look. A first start passes through many short waits: only one that lasts is worth a line.
    fn wait(&mut self, reason: &str) {
        let said = self
            .node
            .attention
            .load()
            .as_ref()
            .is_some_and(|said| said.as_str() == reason);
        if !said {
            self.node.attention.store(Some(Arc::new(reason.to_owned())));
        }
        let lasts = self.reminded.elapsed() >= Duration::from_secs(REMIND_SECONDS);
        if lasts || (self.candidate && !said) {
            tracing::warn!(reason, "this node is not a member yet");
            self.reminded = Instant::now();
        }
    }

    /// A round that makes this node a candidate is followed by another at once: before it says that it waits, the members have heard of it.
    async fn round(&mut self) -> Result<Round, Refused> {
        let was_candidate = self.candidate;
        let round = self.ask().await;
        if self.candidate && !was_candidate {
            return self.ask().await;
        }
        round
    }

    async fn ask(&mut self) -> Result<Round, Refused> {
        let question = proto::IdentifyRequest {
            name: self.new.name.clone(),
            initial_members: list_to_proto(&self.members),
            incarnation: self.new.incarnation.clone(),
            peer_address: self.node.config.peer_advertise.clone(),
            http_address: self.node.config.http_advertise.clone(),
            candidate: self.candidate,
            restored: self.new.restored.as_ref().map(RestoredMark::to_proto),
        };
        let others: Vec<&InitialMember> = self
            .members
            .iter()
            .filter(|member| member.name != self.new.name)
            .collect();
        let listed = others.iter().map(|member| member.peer_address.as_str());
        let learned = self.learned.iter().map(String::as_str);
        let addresses: Vec<&str> = listed.chain(learned).collect();
        let asked = addresses
            .iter()
            .map(|address| net::identify(&self.node.channels, address, question.clone()));
        let mut replies = join_all(asked).await;
        let learned = replies.split_off(others.len());
        let mut answers = Vec::new();
        for (member, reply) in others.iter().zip(replies) {
            answers.push(match reply {
                Ok(reply) => judge(self.new, member, &self.members, reply),
                Err(reason) => {
                    tracing::debug!(peer = member.name, reason, "an initial member does not answer yet");
                    Ok(Answer::Nothing(member.name.clone()))
                }
            });
        }
        // Whoever answers at a learned address is no initial member: it can only say which cluster there is.
        answers.extend(
            learned
                .into_iter()
                .flatten()
                .filter_map(|reply| judge_cluster(self.new, &reply))
                .map(Ok),
        );
        self.learn(&answers);
        // Last: whoever answers knows more.
        let called = self.node.called.get();
        answers.extend(called.map(|outsider| Ok(Answer::Outside(outsider.clone(), Vec::new()))));
        let round = conclude(answers);
        match (&round, self.node.disagreement.get()) {
            (Ok(Round::Joined(_)), _) => round,
            (Ok(Round::Outside(outsider)), _) if self.new.restored.is_some() => {
                Err(Refused::RestoredOutside(outsider.clone()))
            }
            (Ok(Round::Outside(_)), _) => {
                self.candidate = true;
                round
            }
            _ if self.candidate => Ok(Round::Waiting(
                "no member of the cluster answers any more. If that cluster is gone for good, restart this node so that it may found another"
                    .to_owned(),
            )),
            (_, Some(disagreement)) => Err(disagreement.clone()),
            _ => round,
        }
    }

    fn learn(&mut self, answers: &[Result<Answer, Refused>]) {
        let told = |address: &str| self.members.iter().any(|member| member.peer_address == address);
        for answer in answers {
            let Ok(Answer::Outside(_, addresses)) = answer else {
                continue;
            };
            for address in addresses {
                let own = *address == self.node.config.peer_advertise;
                if !own && !told(address) && self.learned.len() < LEARNED_ADDRESSES_MAX {
                    self.learned.insert(address.clone());
                }
            }
        }
    }
}

async fn found(node: &Node, new: &NewIdentity, mut nodes: Vec<NodeInfo>) -> Result<MemberIdentity, Refused> {
    nodes.push(node.info());
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    let founders: BTreeMap<u64, NodeInfo> = (1..).zip(nodes).collect();
    let node_id = founders
        .iter()
        .find(|(_, founder)| founder.name == new.name)
        .map_or(1, |(id, _)| *id);
    let cluster_id = random::id().to_string();
    tracing::info!(cluster_id, members = founders.len(), "founds a cluster");
    let place = Place {
        cluster_id,
        node_id,
        position: 0,
        founders: Some(founders),
    };
    settle(node, new, place).await
}

async fn settle(node: &Node, new: &NewIdentity, place: Place) -> Result<MemberIdentity, Refused> {
    let (new, store) = (new.clone(), node.store.clone());
    let write = move || {
        if let (Some(_), Some(founders)) = (&new.restored, &place.founders) {
            restore::write_membership(&store, founders)?;
        }
        new.join(&place.cluster_id, place.node_id, place.position, place.founders)
    };
    let written = spawn_blocking(write).await.map_err(io::Error::other);
    written
        .and_then(|written| written)
        .map_err(|error| Refused::Storage(error.to_string()))
}

#[cfg(test)]
mod tests;
