//! A cluster of whole nodes in this process.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blox_raft::{
    Consensus, Consistency, InitialMember, Leadership, RaftConfig, SnapshotPolicy, StartError, SystemClock, Timing,
};
use blox_store::Store;
use blox_store::proto::{Command, PutKey, command::Operation};
use tempfile::TempDir;

/// Slow machines share their disk between tests: these times leave room, and no test depends on them.
pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(500),
    election_max: Duration::from_millis(1000),
    compare_states: Duration::from_secs(60),
};
/// Long enough for anything that is going to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One node: its directory stays when it is stopped.
pub struct TestNode {
    pub config: RaftConfig,
    pub running: Option<(Consensus, Store)>,
}

impl TestNode {
    /// One that does not run yet.
    pub fn new(config: RaftConfig) -> TestNode {
        TestNode { config, running: None }
    }

    fn state_directory(&self) -> PathBuf {
        self.config.data_directory.join("state")
    }

    pub async fn try_start(&mut self) -> Result<(), StartError> {
        assert!(self.running.is_none(), "it runs already");
        let store = Store::open(&self.state_directory()).expect("the state opens");
        let clock = Arc::new(SystemClock::new());
        let consensus = Consensus::start(self.config.clone(), store.clone(), clock).await?;
        self.running = Some((consensus, store));
        Ok(())
    }

    pub async fn start(&mut self) {
        self.try_start().await.expect("the node starts");
    }

    pub async fn stop(&mut self) {
        let (consensus, store) = self.running.take().expect("it runs");
        consensus.shutdown().await;
        drop((consensus, store));
    }

    pub fn consensus(&self) -> &Consensus {
        &self.running.as_ref().expect("it runs").0
    }

    pub fn store(&self) -> &Store {
        &self.running.as_ref().expect("it runs").1
    }

    /// As after an exchanged disk.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(&self.config.data_directory).expect("removed");
    }

    /// Writes one key through this node.
    pub async fn put(&self, key: &str, value: &str) {
        self.consensus()
            .propose(put(key, value), PATIENCE)
            .await
            .expect("written");
    }

    /// Reads one key here, linearizably.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.consensus()
            .read_barrier(Consistency::Linearizable, 0, PATIENCE)
            .await
            .expect("confirmed");
        local(self.store(), key)
    }
}

/// A command that writes one key.
pub fn put(key: &str, value: &str) -> Command {
    Command {
        actor: "test".into(),
        operation: Some(Operation::PutKey(PutKey {
            key: key.as_bytes().to_vec().into(),
            value: value.as_bytes().to_vec().into(),
            precondition: None,
        })),
        ..Command::default()
    }
}

/// What this store holds under a key, fresh or not.
pub fn local(store: &Store, key: &str) -> Option<String> {
    let view = store.view().expect("a view");
    let record = view.user_key(key.as_bytes()).expect("readable")?;
    Some(String::from_utf8(record.value.to_vec()).expect("text"))
}

/// Addresses that were free a moment ago.
pub fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().expect("bound").to_string())
        .collect()
}

/// Nodes named `a`, `b`, `c`, ... with their directories.
pub struct Cluster {
    pub nodes: Vec<TestNode>,
    _directory: TempDir,
}

impl Cluster {
    /// Nodes that know of each other and do not run yet.
    pub fn new(count: usize, snapshot: SnapshotPolicy) -> Cluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let names: Vec<String> = ('a'..).take(count).map(String::from).collect();
        let addresses = free_addresses(count);
        let initial_members: Vec<InitialMember> = names
            .iter()
            .zip(&addresses)
            .map(|(name, address)| InitialMember {
                name: name.clone(),
                peer_address: address.clone(),
            })
            .collect();
        let nodes = initial_members
            .iter()
            .map(|member| TestNode {
                config: RaftConfig {
                    name: member.name.clone(),
                    data_directory: directory.path().join(&member.name),
                    peer_listen: member.peer_address.parse().expect("an address"),
                    peer_advertise: member.peer_address.clone(),
                    http_advertise: format!("{}.example:2000", member.name),
                    initial_members: initial_members.clone(),
                    timing: TIMING,
                    snapshot,
                },
                running: None,
            })
            .collect();
        Cluster {
            nodes,
            _directory: directory,
        }
    }

    /// A node beside the initial members that knows of them and does not run yet.
    pub fn newcomer(&self, name: &str) -> TestNode {
        let address = free_addresses(1).remove(0);
        let config = self.nodes[0].config.clone();
        TestNode::new(RaftConfig {
            name: name.into(),
            data_directory: self._directory.path().join(name),
            peer_listen: address.parse().expect("an address"),
            peer_advertise: address,
            http_advertise: format!("{name}.example:2000"),
            ..config
        })
    }

    /// Nodes that run, with a leader.
    pub async fn started(count: usize) -> Cluster {
        let mut cluster = Cluster::new(count, SnapshotPolicy::default());
        cluster.start().await;
        // A leader needs a majority only; each node is a member once it has applied something.
        for node in &cluster.nodes {
            let mut progress = node.store().progress();
            progress
                .wait_for(|progress| progress.applied_index > 0)
                .await
                .expect("the node runs");
        }
        cluster
    }

    pub async fn start(&mut self) {
        for node in &mut self.nodes {
            node.start().await;
        }
        self.leader().await;
    }

    /// The node that leads, once one does.
    pub async fn leader(&self) -> usize {
        let waits = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.running.is_some())
            .map(|(number, node)| {
                let mut leadership = node.consensus().leadership();
                Box::pin(async move {
                    leadership
                        .wait_for(|leadership| matches!(leadership, Leadership::Leader { .. }))
                        .await
                        .expect("the node runs");
                    number
                })
            });
        let (leader, ..) = tokio::time::timeout(PATIENCE, futures::future::select_all(waits))
            .await
            .expect("somebody leads");
        leader
    }

    /// A running node that does not lead at the moment.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.nodes.len())
            .find(|number| *number != leader && self.nodes[*number].running.is_some())
            .expect("more than one runs")
    }

    pub async fn stop(&mut self) {
        for node in &mut self.nodes {
            if node.running.is_some() {
                node.stop().await;
            }
        }
    }
}

/// Waits until `node` has applied as much as `revision`.
pub async fn caught_up(node: &TestNode, revision: u64) {
    let mut progress = node.store().progress();
    tokio::time::timeout(PATIENCE, progress.wait_for(|progress| progress.revision >= revision))
        .await
        .expect("it catches up")
        .expect("the store is open");
}
