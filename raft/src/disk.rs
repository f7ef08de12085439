//! Room on disk: each node knows how much its own has, the leader also what its followers say of theirs with every heartbeat. Before a
//! disk that writes need is full, the leader refuses them: what has no room would be acknowledged by nobody, and a disk that is full ends
//! its node.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use blox_runtime::time::Instant;
use parking_lot::Mutex;

use crate::NodeId;
use crate::proto;

const MEBIBYTE: f64 = (1 << 20) as f64;

/// Room on one node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes free for it.
    pub free_bytes: u64,
    /// With less than this, writes are refused.
    pub needed_bytes: u64,
    /// Whether they are.
    pub refusing: bool,
}

/// A disk with too little room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullDisk {
    /// Whose it is.
    pub node: String,
    /// Bytes free on it.
    pub free_bytes: u64,
    /// Bytes that writes need.
    pub needed_bytes: u64,
}

/// Why a write has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullDisks(pub Vec<FullDisk>);

impl fmt::Display for FullDisks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("too little room on the disk of ")?;
        for (number, disk) in self.0.iter().enumerate() {
            let FullDisk {
                node,
                free_bytes,
                needed_bytes,
            } = disk;
            let separator = if number > 0 { ", " } else { "" };
            write!(
                formatter,
                "{separator}node {node} ({:.1} MiB free, writes need {:.1} MiB)",
                *free_bytes as f64 / MEBIBYTE,
                *needed_bytes as f64 / MEBIBYTE
            )?;
        }
        formatter.write_str(
            ": nothing was written. Free space there or enlarge the disk; reads go on, and writes by themselves once there is room",
        )
    }
}

/// What a node knows of disks.
#[derive(Clone, Debug, Default)]
pub struct DiskStatus {
    /// Its own; `None`: never looked at.
    pub own: Option<DiskRoom>,
    /// While it leads: the disks for whose sake it refuses writes.
    pub refused: Option<FullDisks>,
}

/// Room on the disks of a cluster, as one node knows it.
#[derive(Default)]
pub(crate) struct Disks {
    own: Mutex<Option<DiskRoom>>,
    peers: Mutex<Peers>,
    refusal: ArcSwapOption<FullDisks>,
}

/// What was heard of peers.
struct Peers {
    since: Instant,
    heard: HashMap<NodeId, Heard>,
}

impl Default for Peers {
    fn default() -> Peers {
        Peers {
            since: Instant::now(),
            heard: HashMap::new(),
        }
    }
}

/// The last a peer answered.
#[derive(Clone, Copy)]
struct Heard {
    at: Instant,
    /// `None`: it did not say.
    room: Option<DiskRoom>,
}

/// Who votes, as the weighing sees it.
pub(crate) struct Electorate<'a> {
    pub me: NodeId,
    /// One set; two while a change of members is under way.
    pub voter_sets: &'a [BTreeSet<NodeId>],
    /// A voter that has not answered for so long gives no quorum anything.
    pub silence_max: Duration,
}

impl Disks {
    pub(crate) fn report(&self, room: DiskRoom) {
        *self.own.lock() = Some(room);
    }

    pub(crate) fn own(&self) -> Option<DiskRoom> {
        *self.own.lock()
    }

    /// A peer has answered a heartbeat.
    pub(crate) fn heard(&self, peer: NodeId, room: Option<DiskRoom>) {
        let at = Instant::now();
        self.peers.lock().heard.insert(peer, Heard { at, room });
    }

    /// What was heard as an earlier leader says nothing of now.
    pub(crate) fn forget_peers(&self) {
        *self.peers.lock() = Peers::default();
    }

    /// For whose sake writes are refused here at the moment.
    pub(crate) fn refusal(&self) -> Option<Arc<FullDisks>> {
        self.refusal.load_full()
    }

    pub(crate) fn set_refusal(&self, full: Option<FullDisks>) {
        self.refusal.store(full.map(Arc::new));
    }

    pub(crate) fn status(&self) -> DiskStatus {
        DiskStatus {
            own: self.own(),
            refused: self.refusal().map(|full| full.as_ref().clone()),
        }
    }

    /// The disks for whose sake a leader must refuse writes: its own; or others', where the voters that answer and have room are no quorum.
    pub(crate) fn full(&self, electorate: &Electorate<'_>) -> Vec<(NodeId, DiskRoom)> {
        let own = self.own().filter(|room| room.refusing);
        let peers = self.peers.lock();
        let room_of = |id: &NodeId| {
            if *id == electorate.me {
                return own;
            }
            let heard = peers.heard.get(id)?;
            heard.room.filter(|room| room.refusing)
        };
        let silent = |id: &NodeId| {
            let last = peers.heard.get(id).map_or(peers.since, |heard| heard.at);
            *id != electorate.me && last.elapsed() > electorate.silence_max
        };
        let mut full: Vec<(NodeId, DiskRoom)> = Vec::new();
        for voters in electorate.voter_sets {
            let full_here: Vec<(NodeId, DiskRoom)> = voters.iter().filter_map(|id| Some((*id, room_of(id)?))).collect();
            let with_room = voters.iter().filter(|id| room_of(id).is_none() && !silent(id)).count();
            let quorum = voters.len() / 2 + 1;
            if with_room < quorum {
                full.extend(full_here);
            }
        }
        if let Some(room) = own {
            full.push((electorate.me, room));
        }
        full.sort_by_key(|(id, _)| *id);
        full.dedup_by_key(|(id, _)| *id);
        full
    }
}

impl From<DiskRoom> for proto::DiskRoom {
    fn from(room: DiskRoom) -> proto::DiskRoom {
        proto::DiskRoom {
            free_bytes: room.free_bytes,
            needed_bytes: room.needed_bytes,
            refusing: room.refusing,
        }
    }
}

impl From<proto::DiskRoom> for DiskRoom {
    fn from(room: proto::DiskRoom) -> DiskRoom {
        DiskRoom {
            free_bytes: room.free_bytes,
            needed_bytes: room.needed_bytes,
            refusing: room.refusing,
        }
    }
}

impl From<FullDisks> for proto::DisksFull {
    fn from(full: FullDisks) -> proto::DisksFull {
        let disks = full.0.into_iter().map(|disk| proto::FullDisk {
            node: disk.node,
            free_bytes: disk.free_bytes,
            needed_bytes: disk.needed_bytes,
        });
        proto::DisksFull { disks: disks.collect() }
    }
}

impl From<proto::DisksFull> for FullDisks {
    fn from(full: proto::DisksFull) -> FullDisks {
        let disks = full.disks.into_iter().map(|disk| FullDisk {
            node: disk.node,
            free_bytes: disk.free_bytes,
            needed_bytes: disk.needed_bytes,
        });
        FullDisks(disks.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE_MAX: Duration = Duration::from_secs(60);

    fn room(refusing: bool) -> DiskRoom {
        DiskRoom {
            free_bytes: 3 << 20,
            needed_bytes: 64 << 20,
            refusing,
        }
    }

    fn full(disks: &Disks, voter_sets: &[&[NodeId]]) -> Vec<NodeId> {
        let voter_sets: Vec<BTreeSet<NodeId>> = voter_sets.iter().map(|set| set.iter().copied().collect()).collect();
        let electorate = Electorate {
            me: 1,
            voter_sets: &voter_sets,
            silence_max: SILENCE_MAX,
        };
        disks.full(&electorate).into_iter().map(|(id, _)| id).collect()
    }

    /// A leader refuses for its own disk, or where no quorum of disks has room; one full follower of three is outvoted.
    #[test]
    fn a_quorum_of_disks_needs_room() {
        let disks = Disks::default();
        let three: &[&[NodeId]] = &[&[1, 2, 3]];
        assert!(full(&disks, three).is_empty(), "nothing is known");
        disks.heard(2, Some(room(true)));
        assert!(full(&disks, three).is_empty(), "two others have room");
        disks.heard(3, Some(room(true)));
        assert_eq!(full(&disks, three), [2, 3]);
        assert_eq!(
            full(&disks, &[&[1, 2, 3], &[1, 4, 5]]),
            [2, 3],
            "each set needs a quorum"
        );
        assert!(full(&disks, &[&[1, 2, 3, 4, 5]]).is_empty());
        disks.heard(3, None);
        assert!(
            full(&disks, three).is_empty(),
            "one that does not say is taken to have room"
        );
        disks.report(room(true));
        assert_eq!(full(&disks, three), [1, 2], "both are in the way of a quorum");
        disks.heard(2, Some(room(false)));
        assert_eq!(full(&disks, three), [1]);
        disks.report(room(false));
        assert!(full(&disks, three).is_empty());
    }

    /// A voter that answers no more lends no quorum: then the full disk of the other one counts.
    #[test]
    fn a_silent_voter_has_no_room() {
        let disks = Disks::default();
        disks.heard(2, Some(room(true)));
        let long_ago = Instant::now()
            .checked_sub(SILENCE_MAX * 2)
            .expect("the machine runs for minutes");
        let silent = Heard {
            at: long_ago,
            room: Some(room(false)),
        };
        disks.peers.lock().heard.insert(3, silent);
        assert_eq!(full(&disks, &[&[1, 2, 3]]), [2]);
        disks.heard(2, Some(room(false)));
        assert!(
            full(&disks, &[&[1, 2, 3]]).is_empty(),
            "no disk is full: that quorum is lost otherwise"
        );
        disks.heard(2, Some(room(true)));
        disks.peers.lock().heard.remove(&3);
        assert!(
            full(&disks, &[&[1, 2, 3]]).is_empty(),
            "a new leader gives it time to answer"
        );
        disks.peers.lock().since = long_ago;
        assert_eq!(full(&disks, &[&[1, 2, 3]]), [2]);
    }

    /// The message says whose disk, how much is free and what to do.
    #[test]
    fn the_message_says_what_to_do() {
        let full = FullDisks(vec![FullDisk {
            node: "b".into(),
            free_bytes: 3 << 19,
            needed_bytes: 64 << 20,
        }]);
        let message = full.to_string();
        assert!(
            message.contains("node b (1.5 MiB free, writes need 64.0 MiB)"),
            "{message}"
        );
        assert!(message.contains("Free space there or enlarge the disk"), "{message}");
    }
}
