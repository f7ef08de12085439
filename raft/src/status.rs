//! What a node knows of its cluster.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use crate::NodeId;
use crate::compare::StateDifference;
use crate::identity::Identity;
use crate::node::Node;
use crate::types::{NodeInfo, position};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees everything acknowledged before it began, on any node.
    Linearizable,
    /// Whatever this node has; refused where that may be older than asked for.
    Stale {
        /// All that was committed so long ago must be applied here; `None`: nothing must.
        max: Option<Duration>,
    },
}

/// What a read barrier found.
#[derive(Clone, Copy, Debug)]
pub struct ReadPoint {
    /// The state holds at least this revision now.
    pub revision: u64,
    /// Applied log index here.
    pub applied_index: u64,
}

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not yet in a cluster.
    Uninitialised,
    /// Receives the log, has no vote.
    Learner,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads (as far as it knows).
    Leader,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// `host:port` for peers.
    pub peer_address: String,
    /// `host:port` for users.
    pub http_address: String,
    /// Has a vote.
    pub voter: bool,
    /// Highest log index known to be on it; only a leader knows.
    pub matched_index: Option<u64>,
}

/// What this node knows of its cluster.
#[derive(Clone, Debug)]
pub struct Status {
    /// Cluster id; empty: not yet in one.
    pub cluster_id: String,
    /// This node's number; 0: not yet in a cluster.
    pub node_id: NodeId,
    /// This node's name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// The leader it knows of.
    pub leader: Option<Member>,
    /// Members, by number.
    pub members: Vec<Member>,
    /// Last index in its log.
    pub last_log_index: u64,
    /// Highest index it knows to be committed.
    pub commit_index: u64,
    /// Highest index applied to its state.
    pub applied_index: u64,
    /// Index its newest snapshot stands at.
    pub snapshot_index: u64,
    /// Time since it last heard of a leader with a quorum (a leader: since its last quorum acknowledgement); `None`: never.
    pub leader_contact: Option<Duration>,
    /// How long ago the state here was as new as any; `None`: not yet in the life of this process.
    pub staleness: Option<Duration>,
    /// Leader changes seen by this process.
    pub leader_changes: u64,
    /// What keeps this node from taking part, and what to do about it; `None`: nothing known.
    pub attention: Option<String>,
    /// Set once consensus has stopped: why.
    pub stopped: Option<String>,
    /// Nodes whose state differs from the others' though they have applied the same log: an alarm.
    pub state_differences: Vec<StateDifference>,
}

/// What every answer says of its node: of a [`Status`] the part that costs next to nothing, and holds nothing for long that consensus needs.
#[derive(Clone, Debug)]
pub struct Glance {
    /// Name of the leader it knows of.
    pub leader: Option<String>,
    /// Current term.
    pub term: u64,
    /// Highest index it knows to be committed.
    pub commit_index: u64,
    /// Highest index applied to its state.
    pub applied_index: u64,
    /// As in [`Status`].
    pub leader_contact: Option<Duration>,
}

impl Glance {
    pub(crate) fn of(node: &Node, leader_contact: Option<Duration>) -> Glance {
        let (term, leader) = {
            let view = node.view.borrow();
            (view.term, view.leader.as_ref().map(|(_, info)| info.name.clone()))
        };
        let committed = node
            .engine
            .get()
            .and_then(|engine| engine.raft.data_metrics().borrow_watched().local_committed);
        Glance {
            leader,
            term,
            commit_index: position(committed.as_ref()),
            applied_index: node.store.progress().borrow().applied_index,
            leader_contact,
        }
    }
}

impl From<Status> for Glance {
    fn from(status: Status) -> Glance {
        Glance {
            leader: status.leader.map(|leader| leader.name),
            term: status.term,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            leader_contact: status.leader_contact,
        }
    }
}

impl Status {
    pub(crate) fn of(node: &Node, leader_contact: Option<Duration>, staleness: Option<Duration>) -> Status {
        let view = node.view.borrow().clone();
        let (cluster_id, node_id) = match node.identity.load().as_ref() {
            Identity::New(_) => (String::new(), 0),
            Identity::Member(member) => (member.cluster_id.clone(), member.node_id),
        };
        let mut status = Status {
            cluster_id,
            node_id,
            name: node.config.name.clone(),
            role: view.role,
            term: view.term,
            leader: None,
            members: Vec::new(),
            last_log_index: position(node.log.last().as_ref()),
            commit_index: 0,
            applied_index: node.store.progress().borrow().applied_index,
            snapshot_index: 0,
            leader_contact,
            staleness,
            leader_changes: node.counters.leader_changes.load(Ordering::Relaxed),
            attention: node.attention.load().as_deref().cloned(),
            stopped: node.stopped.borrow().clone(),
            state_differences: node.alarm.load().differences.clone(),
        };
        let Some(engine) = node.engine.get() else { return status };
        let metrics = engine.raft.metrics().borrow_watched().clone();
        let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
        let matched = |id: &NodeId| {
            metrics
                .replication
                .as_ref()
                .and_then(|replication| replication.get(id))
                .map(|id| position(id.as_ref()))
        };
        let member = |id: NodeId, info: &NodeInfo| Member {
            id,
            name: info.name.clone(),
            peer_address: info.peer_address.clone(),
            http_address: info.http_address.clone(),
            voter: voters.contains(&id),
            matched_index: matched(&id),
        };
        status.members = metrics
            .membership_config
            .nodes()
            .map(|(id, info)| member(*id, info))
            .collect();
        status.leader = view.leader.as_ref().map(|(id, info)| member(*id, info));
        status.commit_index = position(metrics.local_committed.as_ref());
        status.snapshot_index = engine.snapshots.current_position();
        status
    }
}

/// Whether this node leads: what leader duties follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It does not lead.
    Follower,
    /// It leads in this term and has applied its first entry of it.
    Leader {
        /// The term.
        term: u64,
    },
}
