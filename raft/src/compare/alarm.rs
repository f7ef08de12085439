//! What is known of states that differ: the same on every node that the leader reaches.

use crate::NodeId;
use crate::codec::{hash_from_proto, hash_to_proto};
use crate::proto;

/// A node whose state differs from the others' at the same log index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDifference {
    /// Its number.
    pub node_id: NodeId,
    /// Its name.
    pub node: String,
    /// Log index at which the hashes were compared.
    pub index: u64,
    /// Its chained hash there.
    pub hash: u128,
    /// The others' chained hash there.
    pub expected: u128,
    /// A majority of voters agrees on `expected`, so that this node is wrong. Otherwise it differs from the leader, and nobody knows
    /// which of them is right.
    pub majority: bool,
}

impl StateDifference {
    /// One sentence, without its full stop.
    pub fn describe(&self) -> String {
        let (node, index) = (&self.node, self.index);
        if self.majority {
            format!("the state of `{node}` differs from that of a majority of nodes at log entry {index}")
        } else {
            format!(
                "the state of `{node}` differs from the leader's at log entry {index}, and no majority of nodes says which is right: compare \
                 both with ECS and a backup, and replace the wrong one"
            )
        }
    }

    /// The same news, at whichever index.
    pub(super) fn is_as_bad_as(&self, other: &StateDifference) -> bool {
        (self.node_id, self.majority) == (other.node_id, other.majority)
    }
}

/// States that differ; none: no alarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// By node number.
    pub differences: Vec<StateDifference>,
}

impl Alarm {
    pub(super) fn to_proto(&self) -> proto::CompareStateRequest {
        let difference = |one: &StateDifference| proto::StateDifference {
            node_id: one.node_id,
            node: one.node.clone(),
            index: one.index,
            hash: hash_to_proto(one.hash),
            expected: hash_to_proto(one.expected),
            majority: one.majority,
        };
        proto::CompareStateRequest {
            differences: self.differences.iter().map(difference).collect(),
        }
    }

    pub(super) fn from_proto(request: &proto::CompareStateRequest) -> Alarm {
        let difference = |one: &proto::StateDifference| {
            Some(StateDifference {
                node_id: one.node_id,
                node: one.node.clone(),
                index: one.index,
                hash: hash_from_proto(&one.hash)?,
                expected: hash_from_proto(&one.expected)?,
                majority: one.majority,
            })
        };
        Alarm {
            differences: request.differences.iter().filter_map(difference).collect(),
        }
    }
}
