//! Between openraft's types and the bytes on disk and on the wire. Ours is the serialised form: openraft's structs may change.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use prost::Message;

use crate::proto;
use crate::types::{
    Commands, Entry, EntryPayload, LogId, Membership, NodeInfo, StoredMembership, TypeConfig, Vote, log_id,
};

/// Bytes that cannot be what we wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    /// Not the protobuf message it should be.
    #[error("{what} cannot be decoded: {cause}")]
    Undecodable {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        cause: prost::DecodeError,
    },
    /// A field without which the message means nothing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A membership that cannot be.
    #[error("impossible membership: {0}")]
    Membership(String),
}

fn decode<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, CodecError> {
    M::decode(bytes).map_err(|cause| CodecError::Undecodable { what, cause })
}

pub(crate) fn hash_to_proto(hash: u128) -> Bytes {
    Bytes::copy_from_slice(&hash.to_be_bytes())
}

/// `None`: no hash.
pub(crate) fn hash_from_proto(bytes: &[u8]) -> Option<u128> {
    bytes.try_into().ok().map(u128::from_be_bytes)
}

pub(crate) fn log_id_to_proto(id: &LogId) -> proto::LogId {
    proto::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn log_id_from_proto(id: &proto::LogId) -> LogId {
    log_id(id.term, id.index)
}

/// A log id's bytes; none for (0, 0).
pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    log_id_to_proto(id).encode_to_vec().into()
}

/// The inverse of [`encode_stored_log_id`]. No bytes: nothing was applied yet.
pub(crate) fn decode_stored_log_id(bytes: &[u8]) -> Result<Option<LogId>, CodecError> {
    match bytes.split_first() {
        None => Ok(None),
        Some((_, rest)) => decode::<proto::LogId>("a log id", rest).map(|id| Some(log_id_from_proto(&id))),
    }
}

/// A log id as the store keeps it beside the state: behind a version byte, so that the first one of all, (0, 0), is not empty.
pub(crate) fn encode_stored_log_id(id: &LogId) -> Bytes {
    let mut bytes = vec![STORED_LOG_ID_VERSION];
    bytes.extend_from_slice(&encode_log_id(id));
    bytes.into()
}

const STORED_LOG_ID_VERSION: u8 = 1;

pub(crate) fn vote_to_proto(vote: &Vote) -> proto::Vote {
    proto::Vote {
        term: vote.leader_id.term(),
        node_id: *vote.leader_id.node_id(),
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_proto(vote: &proto::Vote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node_id)
    } else {
        Vote::new(vote.term, vote.node_id)
    }
}

pub(crate) fn required_vote(vote: Option<&proto::Vote>) -> Result<Vote, CodecError> {
    vote.map(vote_from_proto).ok_or(CodecError::Missing("the vote"))
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    vote_to_proto(vote).encode_to_vec()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    decode::<proto::Vote>("a vote", bytes).map(|vote| vote_from_proto(&vote))
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    decode::<proto::LogId>("a log id", bytes).map(|id| log_id_from_proto(&id))
}

pub(crate) fn node_to_proto(id: u64, node: &NodeInfo) -> proto::Node {
    proto::Node {
        id,
        name: node.name.clone(),
        peer_address: node.peer_address.clone(),
        http_address: node.http_address.clone(),
        incarnation: node.incarnation.clone(),
    }
}

pub(crate) fn node_from_proto(node: &proto::Node) -> (u64, NodeInfo) {
    let info = NodeInfo {
        name: node.name.clone(),
        peer_address: node.peer_address.clone(),
        http_address: node.http_address.clone(),
        incarnation: node.incarnation.clone(),
    };
    (node.id, info)
}

pub(crate) fn membership_to_proto(membership: &Membership) -> proto::Membership {
    proto::Membership {
        voter_sets: membership
            .get_joint_config()
            .iter()
            .map(|set| proto::VoterSet {
                ids: set.iter().copied().collect(),
            })
            .collect(),
        nodes: membership.nodes().map(|(id, node)| node_to_proto(*id, node)).collect(),
    }
}

pub(crate) fn membership_from_proto(membership: &proto::Membership) -> Result<Membership, CodecError> {
    let sets: Vec<BTreeSet<u64>> = membership
        .voter_sets
        .iter()
        .map(|set| set.ids.iter().copied().collect())
        .collect();
    let nodes: BTreeMap<u64, NodeInfo> = membership.nodes.iter().map(node_from_proto).collect();
    if sets.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(sets, nodes).map_err(|cause| CodecError::Membership(cause.to_string()))
}

pub(crate) fn stored_membership_to_proto(stored: &StoredMembership) -> proto::StoredMembership {
    proto::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_proto),
        membership: Some(membership_to_proto(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_proto(stored: &proto::StoredMembership) -> Result<StoredMembership, CodecError> {
    let membership = stored
        .membership
        .as_ref()
        .ok_or(CodecError::Missing("the membership"))?;
    Ok(StoredMembership::new(
        stored.log_id.as_ref().map(log_id_from_proto),
        membership_from_proto(membership)?,
    ))
}

/// A membership and its place in the log, as the store keeps it beside the state.
pub(crate) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    stored_membership_to_proto(stored).encode_to_vec().into()
}

/// The inverse of [`encode_stored_membership`]; no bytes: no membership yet.
pub(crate) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, CodecError> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    stored_membership_from_proto(&decode::<proto::StoredMembership>("a membership", bytes)?)
}

pub(crate) fn entry_to_proto(entry: &Entry) -> proto::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(Commands(bytes)) => Some(proto::log_entry::Payload::Commands(bytes.clone())),
        EntryPayload::Membership(membership) => {
            Some(proto::log_entry::Payload::Membership(membership_to_proto(membership)))
        }
    };
    proto::LogEntry {
        term: entry.log_id.leader_id.term,
        index: entry.log_id.index,
        payload,
    }
}

pub(crate) fn entry_from_proto(entry: proto::LogEntry) -> Result<Entry, CodecError> {
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(proto::log_entry::Payload::Commands(bytes)) => EntryPayload::Normal(Commands(bytes)),
        Some(proto::log_entry::Payload::Membership(membership)) => {
            EntryPayload::Membership(membership_from_proto(&membership)?)
        }
    };
    Ok(Entry {
        log_id: log_id(entry.term, entry.index),
        payload,
    })
}

pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, CodecError> {
    let entry = proto::LogEntry::decode(bytes).map_err(|cause| CodecError::Undecodable {
        what: "a log entry",
        cause,
    })?;
    entry_from_proto(entry)
}

pub(crate) fn append_to_proto(request: &openraft::raft::AppendEntriesRequest<TypeConfig>) -> proto::AppendRequest {
    proto::AppendRequest {
        vote: Some(vote_to_proto(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_proto),
        entries: request.entries.iter().map(entry_to_proto).collect(),
        commit: request.leader_commit.as_ref().map(log_id_to_proto),
    }
}

pub(crate) fn append_from_proto(
    request: proto::AppendRequest,
) -> Result<openraft::raft::AppendEntriesRequest<TypeConfig>, CodecError> {
    Ok(openraft::raft::AppendEntriesRequest {
        vote: required_vote(request.vote.as_ref())?,
        prev_log_id: request.previous.as_ref().map(log_id_from_proto),
        entries: request
            .entries
            .into_iter()
            .map(entry_from_proto)
            .collect::<Result<_, _>>()?,
        leader_commit: request.commit.as_ref().map(log_id_from_proto),
    })
}

/// The entry whose encoding holds these commands, encoded already: the same bytes as [`blox_store::proto::Entry`], without decoding and
/// encoding each command again.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EncodedEntry {
    /// Leader's wall clock, milliseconds since the epoch.
    #[prost(int64, tag = "1")]
    pub wall_time_ms: i64,
    /// Replicated clock, milliseconds.
    #[prost(uint64, tag = "2")]
    pub elapsed_ms: u64,
    /// Encoded commands.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub commands: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let node = NodeInfo {
            name: "a".into(),
            peer_address: "h:1".into(),
            http_address: "h:2".into(),
            incarnation: "x".into(),
        };
        Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, node)])).expect("one voter with its node")
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes on disk and on the wire are a contract with every older version: they must never change.
    #[test]
    fn golden_bytes() {
        assert_eq!(hex(&encode_vote(&Vote::new_committed(7, 2))), "080710021801");
        assert_eq!(hex(&encode_log_id(&log_id(3, 300))), "080310ac02");
        assert_eq!(hex(&encode_stored_log_id(&log_id(0, 0))), "01");
        let blank = Entry {
            log_id: log_id(1, 2),
            payload: EntryPayload::Blank,
        };
        assert_eq!(hex(&entry_to_proto(&blank).encode_to_vec()), "08011002");
        let normal = Entry {
            log_id: log_id(1, 3),
            payload: EntryPayload::Normal(Commands(Bytes::from_static(b"hi"))),
        };
        assert_eq!(hex(&entry_to_proto(&normal).encode_to_vec()), "080110031a026869");
        let change = Entry {
            log_id: log_id(0, 0),
            payload: EntryPayload::Membership(membership()),
        };
        assert_eq!(
            hex(&entry_to_proto(&change).encode_to_vec()),
            "22190a030a0101121208011201611a03683a312203683a322a0178"
        );
        let stored = StoredMembership::new(Some(log_id(0, 0)), membership());
        assert_eq!(
            hex(&encode_stored_membership(&stored)),
            "0a0012190a030a0101121208011201611a03683a312203683a322a0178"
        );
    }

    /// Everything that is written can be read again.
    #[test]
    fn round_trips() {
        for entry in [
            Entry {
                log_id: log_id(0, 0),
                payload: EntryPayload::Membership(membership()),
            },
            Entry {
                log_id: log_id(5, 9),
                payload: EntryPayload::Blank,
            },
            Entry {
                log_id: log_id(5, 10),
                payload: EntryPayload::Normal(Commands(Bytes::from_static(b"payload"))),
            },
        ] {
            let bytes = entry_to_proto(&entry).encode_to_vec();
            assert_eq!(decode_entry(bytes.into()).expect("our own bytes"), entry);
        }
        let first = log_id(0, 0);
        assert_eq!(
            decode_stored_log_id(&encode_stored_log_id(&first)).expect("our own bytes"),
            Some(first)
        );
        assert_eq!(decode_stored_log_id(&[]).expect("nothing applied"), None);
        for vote in [Vote::new(1, 2), Vote::new_committed(3, 1)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).expect("our own bytes"), vote);
        }
        let stored = StoredMembership::new(Some(log_id(2, 4)), membership());
        assert_eq!(
            decode_stored_membership(&encode_stored_membership(&stored)).expect("our own bytes"),
            stored
        );
    }

    /// An entry put together from encoded commands is the entry the store decodes.
    #[test]
    fn encoded_entry_is_the_stores_entry() {
        let commands: Vec<_> = ["one", "two"]
            .into_iter()
            .map(|actor| blox_store::proto::Command {
                actor: actor.into(),
                ..Default::default()
            })
            .collect();
        let expected = blox_store::proto::Entry {
            wall_time_ms: -5,
            elapsed_ms: 77,
            commands: commands.clone(),
        }
        .encode_to_vec();
        let encoded = EncodedEntry {
            wall_time_ms: -5,
            elapsed_ms: 77,
            commands: commands.iter().map(|command| command.encode_to_vec().into()).collect(),
        };
        assert_eq!(encoded.encode_to_vec(), expected);
    }
}
