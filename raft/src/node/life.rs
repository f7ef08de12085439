//! The life of a node: its thread, its runtime, from opening its files to closing them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use blox_runtime::{random, watch};
use blox_store::Store;
use openraft::LogIdOptionExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Contact, Counters, Node, disks, housekeeping, levels, nobody, observer};
use crate::bootstrap;
use crate::clock::Clock;
use crate::compare;
use crate::config::RaftConfig;
use crate::engine::{self, Engine};
use crate::error::StartError;
use crate::identity::{self, Identity, MemberIdentity};
use crate::log::RaftLog;
use crate::machine;
use crate::membership::{self, Candidates, INITIAL_MEMBERS_MAX};
use crate::net::{self, Channels, Listener};
use crate::propose::{self, Proposal, batcher};
use crate::read::{self, ReadRounds};
use crate::status::Leadership;

/// openraft's tasks get this long to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// What was opened and not yet put to work.
struct Opened {
    listener: Listener,
    log: RaftLog,
    proposals: mpsc::Receiver<Proposal>,
    rounds: ReadRounds,
}

/// Starts a node on a thread of its own; returns once it listens.
pub(crate) async fn start(config: RaftConfig, store: Store, clock: Arc<dyn Clock>) -> Result<Arc<Node>, StartError> {
    check(&config)?;
    let failed = |cause: &dyn std::fmt::Display| StartError::Storage {
        doing: "start the consensus thread".to_owned(),
        cause: cause.to_string(),
    };
    let (started, answer) = oneshot::channel();
    #[cfg(not(feature = "simulation"))]
    std::thread::Builder::new()
        .name("blox-raft".to_owned())
        .spawn(move || run(config, store, clock, started))
        .map_err(|cause| failed(&cause))?;
    #[cfg(feature = "simulation")]
    drop(blox_runtime::spawn(async move {
        if let Some(node) = live_through(config, store, clock, started).await {
            close(node);
        }
    }));
    answer.await.map_err(|cause| failed(&cause))?
}

fn check(config: &RaftConfig) -> Result<(), StartError> {
    engine::settings(config, "")?;
    if config.name.is_empty() {
        return Err(StartError::Configuration("the node needs a name".to_owned()));
    }
    if config.initial_members.is_empty() || config.initial_members.len() > INITIAL_MEMBERS_MAX {
        return Err(StartError::Configuration(format!(
            "there are {} initial members: name 1 to {INITIAL_MEMBERS_MAX}",
            config.initial_members.len()
        )));
    }
    let mut names: Vec<&str> = config
        .initial_members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() != config.initial_members.len() {
        return Err(StartError::Configuration(
            "two initial members have the same name".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(not(feature = "simulation"))]
fn run(
    config: RaftConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    started: oneshot::Sender<Result<Arc<Node>, StartError>>,
) {
    // One thread for all of consensus: with more, the core wakes too early and its batches shrink.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            let error = StartError::Storage {
                doing: "start the consensus runtime".to_owned(),
                cause: cause.to_string(),
            };
            drop(started.send(Err(error)));
            return;
        }
    };
    let node = runtime.block_on(live_through(config, store, clock, started));
    // Ends every task and with the last of them closes the database.
    drop(runtime);
    if let Some(node) = node {
        close(node);
    }
}

/// From opening its files to its end; `None`: it never began.
async fn live_through(
    config: RaftConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    started: oneshot::Sender<Result<Arc<Node>, StartError>>,
) -> Option<Arc<Node>> {
    let (node, opened) = match open(config, store, clock).await {
        Ok(both) => both,
        Err(error) => {
            drop(started.send(Err(error)));
            return None;
        }
    };
    if started.send(Ok(node.clone())).is_err() {
        // Whoever started it has gone meanwhile.
        node.stop.cancel();
    }
    live(&node, opened).await;
    Some(node)
}

fn close(node: Arc<Node>) {
    node.log.close();
    // Said only once this thread holds nothing any more: whoever waits may open the same directories again.
    let finished = node.finished.clone();
    drop(node);
    finished.send_replace(true);
}

async fn open(config: RaftConfig, store: Store, clock: Arc<dyn Clock>) -> Result<(Arc<Node>, Opened), StartError> {
    compare::mark::check(&config.data_directory)?;
    let applied = store.applied().map_err(|cause| StartError::Storage {
        doing: "read the applied position".to_owned(),
        cause: cause.to_string(),
    })?;
    let (identity, log, handle) = identity::open(&config.data_directory, &config.name, applied.log_id.is_empty())?;
    let listener = net::listen(config.peer_listen, &config.peer_advertise)
        .await
        .map_err(|cause| StartError::Listen {
            address: config.peer_listen.to_string(),
            cause: cause.to_string(),
        })?;
    let (proposals, waiting_proposals) = propose::queue();
    let (reads, rounds) = read::queue();
    let node = Node {
        config,
        store,
        clock,
        identity: ArcSwap::from_pointee(identity),
        engine: OnceLock::new(),
        log: handle,
        channels: Channels::default(),
        disagreement: OnceLock::new(),
        called: OnceLock::new(),
        process: random::id().to_string(),
        candidates: Candidates::default(),
        attention: ArcSwapOption::empty(),
        changing: tokio::sync::Mutex::new(()),
        proposals,
        reads,
        view: watch::Sender::new(nobody()),
        unsettled_term: AtomicU64::new(0),
        leadership: watch::Sender::new(Leadership::Follower),
        contact: Contact::default(),
        disks: Arc::default(),
        counters: Counters::default(),
        alarm: ArcSwap::default(),
        stop: CancellationToken::new(),
        stopped: watch::Sender::new(None),
        finished: watch::Sender::new(false),
    };
    Ok((
        Arc::new(node),
        Opened {
            listener,
            log,
            proposals: waiting_proposals,
            rounds,
        },
    ))
}

async fn live(node: &Arc<Node>, opened: Opened) {
    let Opened {
        listener,
        log,
        proposals,
        rounds,
    } = opened;
    blox_runtime::spawn(net::serve(node.clone(), listener));
    blox_runtime::spawn(batcher::run(node.clone(), proposals));
    blox_runtime::spawn(rounds.run(node.clone()));
    let reason = tokio::select! {
        biased;
        reason = participate(node, log) => reason,
        () = node.stop.cancelled() => "it was shut down".to_owned(),
    };
    tracing::info!(reason, "consensus ends on this node");
    node.end(&reason);
    if let Some(engine) = node.engine.get()
        && blox_runtime::time::timeout(SHUTDOWN_DEADLINE, engine.raft.shutdown())
            .await
            .is_err()
    {
        tracing::warn!("openraft did not end in time");
    }
}

/// Joins or founds the cluster if need be, and takes part until something ends that; says what.
async fn participate(node: &Arc<Node>, log: RaftLog) -> String {
    let identity = node.identity.load_full();
    let member = match identity.as_ref() {
        Identity::Member(member) => {
            if let Err(refusal) = membership::check_alone(node).await {
                return refusal;
            }
            member.clone()
        }
        Identity::New(new) => match bootstrap::found_or_join(node, new).await {
            Ok(member) => {
                node.identity.store(Arc::new(Identity::Member(member.clone())));
                member
            }
            Err(refusal) => return refusal.to_string(),
        },
    };
    match engage(node, member, log).await {
        Ok(engine) => ended(&engine).await,
        Err(error) => error.to_string(),
    }
}

async fn engage(node: &Arc<Node>, member: MemberIdentity, log: RaftLog) -> Result<Arc<Engine>, StartError> {
    let founders = member
        .founders
        .clone()
        // A restored state has its first membership already.
        .filter(|_| !member.restored && node.log.last().is_none() && node.log.vote().is_none());
    let member = Arc::new(member);
    check_known_as(node, &node.store)?;
    let engine = Engine::build(
        &node.config,
        &node.store,
        member,
        log,
        &node.log,
        &node.channels,
        &node.disks,
    )
    .await?;
    let engine = Arc::new(engine);
    drop(node.engine.set(engine.clone()));
    engine.raft.run();
    blox_runtime::spawn(observer::run(node.clone(), engine.clone()));
    blox_runtime::spawn(housekeeping::run(node.clone(), engine.clone()));
    blox_runtime::spawn(compare::run(node.clone(), engine.clone()));
    blox_runtime::spawn(membership::finish_changes(node.clone(), engine.clone()));
    blox_runtime::spawn(membership::watch_standing(node.clone(), engine.clone()));
    blox_runtime::spawn(disks::run(node.clone()));
    blox_runtime::spawn(levels::run(node.clone(), engine.clone()));
    if let Some(founders) = founders {
        match engine.raft.initialize(founders).await {
            // Another start of this node got further than it wrote down.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(StartError::Identity(format!("the cluster cannot be founded: {error}"))),
        }
    }
    tracing::info!(
        node_id = engine.identity.node_id,
        cluster_id = engine.identity.cluster_id,
        last = node.log.last().next_index(),
        "takes part in consensus"
    );
    Ok(engine)
}

/// Refuses before it takes part what [`observer`] would refuse later: a node that was started otherwise than its state knows it.
fn check_known_as(node: &Node, store: &Store) -> Result<(), StartError> {
    let (_, membership) = machine::applied_state(store).map_err(|cause| StartError::Storage {
        doing: "read the applied membership".to_owned(),
        cause: cause.to_string(),
    })?;
    let id = node.identity.load().node_id();
    match id.and_then(|id| membership.get_node(&id)) {
        Some(known) => observer::check_known_as(node, known).map_err(StartError::Identity),
        None => Ok(()),
    }
}

/// Waits until openraft ends, and says why it did.
async fn ended(engine: &Engine) -> String {
    // Its metrics as a whole change with every entry; these do seldom, and end with it as well.
    let mut metrics = engine.raft.server_metrics();
    while metrics.changed().await.is_ok() {}
    match &engine.raft.metrics().borrow_watched().running_state {
        Err(fatal) => format!("consensus has ended: {fatal}"),
        Ok(()) => "consensus has ended: its core panicked".to_owned(),
    }
}
