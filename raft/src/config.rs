//! Who this node is and how it keeps time with its peers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything consensus must be told.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This node's name, unique in the cluster; one of `initial_members` unless it joins later.
    pub name: String,
    /// `identity.json`, `raft/` (the log) and `snapshots/` live here; the state's own directory is the store's.
    pub data_directory: PathBuf,
    /// Where to listen for peers.
    pub peer_listen: SocketAddr,
    /// `host:port` under which peers reach it.
    pub peer_advertise: String,
    /// `host:port` of its HTTP interface, told to users as the leader's address.
    pub http_advertise: String,
    /// The members of the first start, the same list on each of them.
    pub initial_members: Vec<InitialMember>,
    /// Heartbeat and election times.
    pub timing: Timing,
    /// When to snapshot and how much log to keep.
    pub snapshot: SnapshotPolicy,
}

/// A member of the first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name.
    pub name: String,
    /// `host:port` of its peer interface.
    pub peer_address: String,
}

/// Heartbeat and election times, and what else happens from time to time.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Shortest election time-out.
    pub election_min: Duration,
    /// Longest election time-out; also the leader's lease.
    pub election_max: Duration,
    /// Between two comparisons of the nodes' states.
    pub compare_states: Duration,
}

/// As etcd's compact hash check: often enough that little is built on a wrong state, and of no weight.
const COMPARE_STATES: Duration = Duration::from_secs(60);

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            compare_states: COMPARE_STATES,
        }
    }
}

/// When to snapshot and how much log to keep.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// A snapshot is taken after this many entries, ...
    pub entries: u64,
    /// ... or this many bytes of log, whichever comes first.
    pub bytes: u64,
    /// Entries kept behind a snapshot, so that a node briefly away catches up by log ...
    pub keep_entries: u64,
    /// ... but not more bytes than this.
    pub keep_bytes: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> SnapshotPolicy {
        SnapshotPolicy {
            entries: 20_000,
            bytes: 256 << 20,
            keep_entries: 20_000,
            keep_bytes: 128 << 20,
        }
    }
}
