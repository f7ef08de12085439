//! Three nodes: starting them, killing them, cutting their power, holding them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blox_raft::{Clock, Consensus, InitialMember, RaftConfig, SnapshotPolicy, Timing};
use blox_runtime::random::between;
use blox_runtime::simulated::Process;
use blox_runtime::time::Instant;
use blox_store::Store;
use parking_lot::Mutex;

use crate::checker::Checker;
use crate::duties::{Duties, draw_reconcile_pause_ms};
use crate::fleet::Fleet;
use crate::trace::Trace;

/// Their names.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
/// Snapshots are taken often, and little log is kept: a node that is away for a moment needs one.
const SNAPSHOT_ENTRIES: u64 = 40;
const KEEP_ENTRIES: u64 = 10;
/// Wall clocks go wrong by up to so much, milliseconds.
const WALL_SKEW_MS_MAX: u64 = 100_000;
/// The wall's time at the beginning, milliseconds since the epoch.
pub(crate) const EPOCH_MS: i64 = 1_800_000_000_000;

/// The nodes of one run.
pub struct Cluster {
    /// What happens.
    pub trace: Arc<Trace>,
    /// What must hold.
    pub checker: Arc<Mutex<Checker>>,
    /// What the nodes observe and schedule on.
    pub fleet: Arc<Fleet>,
    reconcile_pause_ms: u64,
    ambush: Mutex<Ambush>,
    nodes: Vec<Node>,
}

struct Node {
    name: &'static str,
    directory: PathBuf,
    life: Mutex<Life>,
}

/// A node at the moment. Its disks outlast its process.
struct Life {
    process: Option<Process>,
    consensus: Option<Consensus>,
    store: Store,
}

/// A leader is to be held between the intents that it has applied and the calls that follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ambush {
    #[default]
    None,
    Laid,
    Sprung(&'static str),
}

/// A node that runs, as its callers see it.
#[derive(Clone)]
pub struct Running {
    /// Its name.
    pub name: &'static str,
    /// What its tasks belong to.
    pub process: Process,
    /// Its consensus.
    pub consensus: Consensus,
    /// Its state.
    pub store: Store,
}

impl Cluster {
    /// Three nodes that have never run, with their files under `directory`, and a fleet without instances.
    pub fn new(directory: &Path, trace: Arc<Trace>) -> Arc<Cluster> {
        let node = |name: &'static str| Node {
            name,
            directory: directory.join(name),
            life: Mutex::new(Life {
                process: None,
                consensus: None,
                store: Store::in_memory(),
            }),
        };
        let checker = Arc::new(Mutex::new(Checker::new(trace.clone(), &NAMES)));
        Arc::new(Cluster {
            fleet: Fleet::new(trace.clone(), checker.clone()),
            reconcile_pause_ms: draw_reconcile_pause_ms(),
            ambush: Mutex::default(),
            checker,
            trace,
            nodes: NAMES.into_iter().map(node).collect(),
        })
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .expect("one of the three")
    }

    /// Looks at a node after a step of its own.
    pub fn look(&self, process: &Process) {
        let node = self.node(process.name());
        let consensus = {
            let life = node.life.lock();
            let alive = life.process.as_ref().is_some_and(|alive| alive.is(process));
            life.consensus.clone().filter(|_| alive)
        };
        let intends = self.checker.lock().look(node.name, &node.directory, consensus.as_ref());
        let leads = || consensus.as_ref().is_some_and(|consensus| consensus.belief().leads);
        let mut ambush = self.ambush.lock();
        if *ambush == Ambush::Laid && intends && leads() {
            self.trace
                .say(format_args!("{} is held right after its intents", node.name));
            process.hold();
            *ambush = Ambush::Sprung(node.name);
        }
    }

    /// The next leader that applies intents is held at that very step.
    pub fn lay_ambush(&self) {
        *self.ambush.lock() = Ambush::Laid;
    }

    /// Who was held, if somebody was; then that is over, and whoever asks must let it go.
    pub fn take_ambushed(&self) -> Option<&'static str> {
        let mut ambush = self.ambush.lock();
        let Ambush::Sprung(name) = *ambush else { return None };
        *ambush = Ambush::None;
        Some(name)
    }

    /// Nobody is to be held any more.
    pub fn call_ambush_off(&self) {
        *self.ambush.lock() = Ambush::None;
    }

    /// Starts a node that does not run.
    pub fn start(self: &Arc<Self>, name: &str) {
        let node = self.node(name);
        let (process, store) = {
            let mut life = node.life.lock();
            if life.process.is_some() {
                return;
            }
            let process = Process::new(node.name);
            life.process = Some(process.clone());
            (process, life.store.clone())
        };
        self.trace.say(format_args!("{name} starts"));
        self.checker.lock().starts(name);
        let cluster = self.clone();
        let name = node.name;
        process.enter(|| drop(blox_runtime::spawn(async move { cluster.live(name, store).await })));
    }

    async fn live(self: Arc<Self>, name: &'static str, store: Store) {
        let node = self.node(name);
        let clock = Arc::new(SkewedClock::new());
        let started = Consensus::start(config(node), store.clone(), clock.clone()).await;
        let why = match started {
            Ok(consensus) => {
                node.life.lock().consensus = Some(consensus.clone());
                let fleet = self.fleet.clone();
                let duties = Duties::new(name, consensus.clone(), store, clock, fleet, self.reconcile_pause_ms);
                tokio::select! {
                    biased;
                    why = consensus.stopped() => why,
                    why = duties.run() => why,
                }
            }
            Err(error) => error.to_string(),
        };
        self.checker
            .lock()
            .violated(format!("{name} has ended by itself: {why}"));
    }

    /// Kills a node. `power`: what its state had not flushed is lost too.
    pub fn kill(&self, name: &str, power: bool) {
        let node = self.node(name);
        let mut life = node.life.lock();
        let Some(process) = life.process.take() else { return };
        let how = if power { "loses its power" } else { "is killed" };
        self.trace.say(format_args!("{name} {how}"));
        process.kill();
        let consensus = life.consensus.take();
        if !power {
            life.store.flush().expect("memory does not fail");
        }
        let left = life.store.after_power_cut().expect("memory does not fail");
        life.store = left.expect("it is in memory");
        drop(life);
        drop(consensus);
    }

    /// Flushes a node's state, as RocksDB does now and then by itself.
    pub fn flush(&self, name: &str) {
        let store = self.node(name).life.lock().store.clone();
        store.flush().expect("memory does not fail");
        self.trace.say(format_args!("{name} flushes its state"));
    }

    /// Holds a node, like SIGSTOP; or lets it go on.
    pub fn hold(&self, name: &str, on: bool) {
        let Some(process) = self.node(name).life.lock().process.clone() else {
            return;
        };
        self.trace
            .say(format_args!("{name} {}", if on { "is held" } else { "goes on" }));
        if on {
            process.hold();
        } else {
            process.release();
        }
    }

    /// The nodes that have started.
    pub fn running(&self) -> Vec<Running> {
        let running = |node: &Node| {
            let life = node.life.lock();
            Some(Running {
                name: node.name,
                process: life.process.clone()?,
                consensus: life.consensus.clone()?,
                store: life.store.clone(),
            })
        };
        self.nodes.iter().filter_map(running).collect()
    }

    /// The state of a node, whether it runs or not.
    pub fn store(&self, name: &str) -> Store {
        self.node(name).life.lock().store.clone()
    }
}

fn config(node: &Node) -> RaftConfig {
    let address = |name: &str| format!("{name}:2010");
    RaftConfig {
        name: node.name.to_owned(),
        data_directory: node.directory.clone(),
        peer_listen: "127.0.0.1:2010".parse().expect("an address"),
        peer_advertise: address(node.name),
        http_advertise: format!("{}:2000", node.name),
        initial_members: NAMES
            .iter()
            .map(|name| InitialMember {
                name: (*name).to_owned(),
                peer_address: address(name),
            })
            .collect(),
        timing: Timing::default(),
        snapshot: SnapshotPolicy {
            entries: SNAPSHOT_ENTRIES,
            keep_entries: KEEP_ENTRIES,
            ..SnapshotPolicy::default()
        },
    }
}

/// Virtual time, and a wall clock that is wrong, anew with each start.
struct SkewedClock {
    began: Instant,
    skew_ms: i64,
}

impl SkewedClock {
    fn new() -> SkewedClock {
        let skew = i64::try_from(between(0..=2 * WALL_SKEW_MS_MAX)).expect("small");
        SkewedClock {
            began: Instant::now(),
            skew_ms: skew - i64::try_from(WALL_SKEW_MS_MAX).expect("small"),
        }
    }
}

impl Clock for SkewedClock {
    fn wall_ms(&self) -> i64 {
        let elapsed = blox_runtime::time::elapsed();
        EPOCH_MS + self.skew_ms + i64::try_from(elapsed.as_millis()).expect("a short run")
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}
