//! The types openraft is instantiated with. They stay inside this crate.

use std::fmt;

use blox_store::proto::Outcome;
use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::type_config::alias;
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use crate::propose::Told;

/// What consensus runs on.
#[cfg(not(feature = "simulation"))]
pub(crate) type Runtime = openraft::impls::TokioRuntime;
#[cfg(feature = "simulation")]
pub(crate) type Runtime = blox_runtime::simulated::Simulated;

/// Consensus as this crate uses it. Leader ids are those of the Raft paper: one leader a term, so that a term fences. (openraft's macro for this
/// takes no responder of one's own.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Commands;
    type R = Outcomes;
    type NodeId = u64;
    type Node = NodeInfo;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Commands, u64, NodeInfo>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Told<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type EntryPayload = alias::EntryPayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, NodeInfo>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type CommittedLeaderId = alias::CommittedLeaderIdOf<TypeConfig>;

/// An encoded [`blox_store::proto::Entry`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Commands(pub Bytes);

impl fmt::Debug for Commands {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of commands", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// What an entry's commands did, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes(pub Vec<Outcome>);

/// What the membership knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    /// Its name.
    pub name: String,
    /// `host:port` for peers.
    pub peer_address: String,
    /// `host:port` for users.
    pub http_address: String,
    /// Random, new with each empty disk.
    pub incarnation: String,
}

/// A log id from its parts.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// Where an entry stands, counted from one as the rest of Blox counts: openraft's log begins at index zero, and zero means "nothing" to
/// everyone else.
pub(crate) fn position(id: Option<&LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}
