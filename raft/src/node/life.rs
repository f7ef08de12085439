//! The life of a node: its thread, its runtime, from opening its files to closing them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use blox_store::Store;
use openraft::LogIdOptionExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Contact, Counters, Node, housekeeping, nobody, observer};
use crate::bootstrap;
use crate::clock::Clock;
use crate::config::RaftConfig;
use crate::engine::{self, Engine};
use crate::error::StartError;
use crate::identity::{self, Identity, MemberIdentity};
use crate::log::RaftLog;
use crate::net::{self, Channels};
use crate::propose::{self, Proposal, batcher};
use crate::read::{self, ReadRounds};
use crate::status::Leadership;

/// openraft's tasks get this long to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// What was opened and not yet put to work.
struct Opened {
    listener: TcpListener,
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
    std::thread::Builder::new()
        .name("blox-raft".to_owned())
        .spawn(move || run(config, store, clock, started))
        .map_err(|cause| failed(&cause))?;
    answer.await.map_err(|cause| failed(&cause))?
}

fn check(config: &RaftConfig) -> Result<(), StartError> {
    engine::settings(config, "")?;
    if config.name.is_empty() {
        return Err(StartError::Configuration("the node needs a name".to_owned()));
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
    let node = runtime.block_on(async {
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
    });
    // Ends every task and with the last of them closes the database.
    drop(runtime);
    if let Some(node) = node {
        node.log.close();
        // Said only once this thread holds nothing any more: whoever waits may open the same directories again.
        let finished = node.finished.clone();
        drop(node);
        finished.send_replace(true);
    }
}

async fn open(config: RaftConfig, store: Store, clock: Arc<dyn Clock>) -> Result<(Arc<Node>, Opened), StartError> {
    let applied = store.applied().map_err(|cause| StartError::Storage {
        doing: "read the applied position".to_owned(),
        cause: cause.to_string(),
    })?;
    let (identity, log, handle) = identity::open(&config.data_directory, &config.name, applied.log_id.is_empty())?;
    if let Identity::New(_) = identity
        && !config.initial_members.iter().any(|member| member.name == config.name)
    {
        return Err(StartError::Configuration(format!(
            "`{}` is not among the initial members, and its data directory is empty: name it there. (A \
             cluster that exists takes no further members yet.)",
            config.name
        )));
    }
    let listener = TcpListener::bind(config.peer_listen)
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
        proposals,
        reads,
        view: watch::Sender::new(nobody()),
        leadership: watch::Sender::new(Leadership::Follower),
        contact: Contact::default(),
        counters: Counters::default(),
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
    tokio::spawn(net::serve(node.clone(), listener));
    tokio::spawn(batcher::run(node.clone(), proposals));
    tokio::spawn(rounds.run(node.clone()));
    let reason = tokio::select! {
        reason = participate(node, log) => reason,
        () = node.stop.cancelled() => "it was shut down".to_owned(),
    };
    tracing::info!(reason, "consensus ends on this node");
    node.end(&reason);
    if let Some(engine) = node.engine.get()
        && tokio::time::timeout(SHUTDOWN_DEADLINE, engine.raft.shutdown())
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
        Identity::Member(member) => member.clone(),
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
        .filter(|_| node.log.last().is_none() && node.log.vote().is_none());
    let member = Arc::new(member);
    let engine = Engine::build(&node.config, &node.store, member, log, &node.log, &node.channels).await?;
    let engine = Arc::new(engine);
    drop(node.engine.set(engine.clone()));
    engine.raft.run();
    tokio::spawn(observer::run(node.clone(), engine.clone()));
    tokio::spawn(housekeeping::run(node.clone(), engine.clone()));
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

/// Waits until openraft ends, and says why it did.
async fn ended(engine: &Engine) -> String {
    let mut metrics = engine.raft.metrics();
    loop {
        if let Err(fatal) = &metrics.borrow_and_update().running_state {
            return format!("consensus has ended: {fatal}");
        }
        if metrics.changed().await.is_err() {
            let last = metrics.borrow_watched().running_state.clone();
            return match last {
                Err(fatal) => format!("consensus has ended: {fatal}"),
                Ok(()) => "consensus has ended: its core panicked".to_owned(),
            };
        }
    }
}
