//! What a simulation of whole clusters sees of a node beside the facade: what became durable in its log, what it applied, what it believes.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use blox_runtime::simulated::Process;
use blox_store::{AppliedEntry, LogEntry, Store};
use bytes::Bytes;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::vote::RaftLeaderId;

use crate::codec;
use crate::consensus::Consensus;
use crate::log::simulated as disk;
use crate::types::position;

pub use crate::net::simulated::Weather;

thread_local! {
    static APPLIED: RefCell<Vec<Applied>> = const { RefCell::new(Vec::new()) };
}

/// Begins a world: its disks are empty, nobody listens, the network is as `weather` says.
pub fn begin(weather: Arc<dyn Weather>) {
    disk::forget_all();
    APPLIED.with(RefCell::take);
    crate::net::simulated::begin(weather);
}

/// What became durable in a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durable {
    /// An entry.
    Entry {
        /// Where it stands, counted from one.
        position: u64,
        /// Its leader's term.
        term: u64,
        /// Of what it says.
        hash: u64,
    },
    /// A vote.
    Vote {
        /// The term.
        term: u64,
        /// For whom.
        candidate: u64,
        /// Whether the candidate is known to have won.
        won: bool,
    },
    /// Entries up to this position are in a snapshot.
    Purged(u64),
    /// Entries from this position on, up to but without the second, are gone.
    Removed(u64, u64),
}

/// What became durable in the log of the node with that data directory, since this was asked last.
pub fn take_durable(data_directory: &Path) -> Vec<Durable> {
    let changes = disk::take_changes(&data_directory.join("raft"));
    changes
        .into_iter()
        .map(|change| match change {
            disk::Durable::Entry(entry) => Durable::Entry {
                position: position(Some(&entry.log_id)),
                term: entry.log_id.leader_id.term,
                hash: hash_of(&prost::Message::encode_to_vec(&codec::entry_to_proto(&entry))),
            },
            disk::Durable::Vote(vote) => Durable::Vote {
                term: vote.leader_id.term(),
                candidate: *vote.leader_id.node_id(),
                won: vote.committed,
            },
            disk::Durable::Purged(id) => Durable::Purged(position(Some(&id))),
            disk::Durable::Removed(from, until) => Durable::Removed(from + 1, until + 1),
        })
        .collect()
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// What a node applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Which node.
    pub node: String,
    /// Where the entry stands, counted from one.
    pub position: u64,
    /// Its leader's term.
    pub term: u64,
    /// The entry's commands, encoded; none: it has none.
    pub payload: Option<Bytes>,
    /// What they did.
    pub outcomes: Vec<blox_store::proto::Outcome>,
    /// Chained hash of the state, after the last entry of a batch.
    pub state_hash: Option<u128>,
}

/// What nodes have applied since this was asked last, in order.
pub fn take_applied() -> Vec<Applied> {
    APPLIED.with(RefCell::take)
}

/// A batch was applied.
pub(crate) fn note_applied(store: &Store, entries: &[LogEntry], results: &[AppliedEntry]) {
    let node = Process::current().map_or_else(String::new, |process| process.name().to_owned());
    let last = entries.len().saturating_sub(1);
    let hash = store.fingerprint().map(|fingerprint| fingerprint.hash).ok();
    let notes = entries
        .iter()
        .zip(results)
        .enumerate()
        .map(|(number, (entry, result))| {
            let id = codec::decode_stored_log_id(&entry.log_id).ok().flatten();
            Applied {
                node: node.clone(),
                position: entry.index,
                term: id.map_or(0, |id| id.leader_id.term),
                payload: entry.payload.clone(),
                outcomes: result.outcomes.clone(),
                state_hash: hash.filter(|_| number == last),
            }
        });
    APPLIED.with(|applied| applied.borrow_mut().extend(notes));
}

/// What a node believes at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Belief {
    /// Its number; 0: not a member yet.
    pub node_id: u64,
    /// The term.
    pub term: u64,
    /// Whether it leads, elected by a quorum.
    pub leads: bool,
    /// Last position in its log, synced or not.
    pub last: u64,
    /// The highest position it knows to be committed.
    pub committed: u64,
    /// Position of the newest entry it has purged.
    pub purged: u64,
    /// Position its current snapshot stands at.
    pub snapshot: u64,
}

impl Consensus {
    /// What this node believes at the moment.
    pub fn belief(&self) -> Belief {
        let node = self.node();
        let Some(engine) = node.engine.get() else {
            return Belief::default();
        };
        let committed = position(engine.raft.data_metrics().borrow_watched().local_committed.as_ref());
        let server = engine.raft.server_metrics();
        let server = server.borrow_watched();
        Belief {
            node_id: server.id,
            term: server.vote.leader_id.term(),
            leads: server.state == ServerState::Leader
                && server.vote.committed
                && *server.vote.leader_id.node_id() == server.id,
            last: position(node.log.last().as_ref()),
            committed,
            purged: position(node.log.purged().as_ref()),
            snapshot: engine.snapshots.current_position(),
        }
    }

    /// Why consensus has ended on this node, if it has.
    pub fn end(&self) -> Option<String> {
        self.node().stopped.borrow().clone()
    }
}
