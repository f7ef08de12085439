//! One node from start to stop.
//!
//! Start: listen for users, open the state, take part in consensus, serve (from here on `/livez` and `/readyz` answer), follow leadership.
//! Stop, on the first SIGTERM or SIGINT: see [`stop`]. A storage error, a stopped consensus or a lost listener ends the process with an
//! error: a node that cannot do its part must not look as if it could.

mod disk;
pub mod signals;
mod state;
mod stop;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use blox_api::{ApiConfig, ApiParts, ApiState};
use blox_raft::{Clock, Consensus, RaftConfig, SystemClock};
use blox_store::{FeatureLevel, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::adapters::backups::LocalBackups;
use crate::adapters::catalog::EcsCatalog;
use crate::adapters::daemons::Planned;
use crate::adapters::metrics::NodeMetrics;
use crate::adapters::sources::Sources;
use crate::cli::stdin;
use crate::config::NodeConfig;
use crate::duties::{Duties, NodeFailed};
use crate::logging::{DroppedLines, Position};

use signals::Signals;

/// Folder of the state in the data directory.
pub const STATE_FOLDER: &str = "state";
/// How often the term in log lines is looked up.
const POSITION_MS: u64 = 200;

/// The running parts.
struct Node {
    api: ApiState,
    consensus: Consensus,
    store: Store,
    duties: JoinHandle<Result<(), NodeFailed>>,
    duties_stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    serving_stop: CancellationToken,
}

/// Runs until told to stop, or until it must.
pub async fn node(
    config: NodeConfig,
    position: Position,
    dropped: DroppedLines,
    exit_on_stdin_close: bool,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let mut node = tokio::select! {
        started = start(config, position, dropped) => started?,
        signal = signals.stop() => {
            tracing::info!(signal, "stopped while starting");
            return Ok(());
        }
    };
    let reason = tokio::select! {
        signal = signals.stop() => signal,
        () = stdin::closed(exit_on_stdin_close) => "standard input closed",
        reason = node.consensus.stopped() => return Err(consensus_lost(&node.store, &reason)),
        what = state::damaged(&node.store) => return Err(anyhow!("{}", state::advised(&what))),
        ended = &mut node.serving => return Err(listener_lost(ended)),
        ended = &mut node.duties => return Err(duties_lost(ended)),
    };
    tracing::info!(reason, "stopping; a second signal ends at once");
    tokio::select! {
        stopped = stop::gracefully(node) => stopped,
        signal = signals.stop() => Err(anyhow!("{signal} again: ended without handing over")),
    }
}

/// Where the cause is a damaged state or a full disk, the error says what to do.
fn consensus_lost(store: &Store, reason: &str) -> anyhow::Error {
    match store.damage().borrow().as_deref() {
        Some(what) => anyhow!("{}", state::advised(what)),
        None => anyhow!("consensus has stopped: {}", disk::advised(reason)),
    }
}

fn duties_lost(ended: Result<Result<(), NodeFailed>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the leader duties ended by themselves"),
        Ok(Err(error)) => anyhow::Error::new(error),
        Err(error) => anyhow::Error::new(error).context("the leader duties broke off"),
    }
}

fn listener_lost(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the users' interface ended by itself"),
        Ok(Err(error)) => anyhow::Error::new(error).context("the users' interface failed"),
        Err(error) => anyhow::Error::new(error).context("the users' interface broke off"),
    }
}

async fn start(config: NodeConfig, position: Position, dropped: DroppedLines) -> anyhow::Result<Node> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), http = %config.http.listen, peer = %config.peer.listen, "starts");
    let listener = TcpListener::bind(config.http.listen).await.with_context(|| {
        format!(
            "cannot listen for users on {}; is another node running? see [http] listen",
            config.http.listen
        )
    })?;
    let store = open_state(&config.data_directory).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let consensus = Consensus::start(raft_config(&config), store.clone(), Arc::clone(&clock)).await?;
    let sources = Arc::new(Sources::connect(&config.sources, Arc::clone(&clock)).await);
    let metrics = Arc::new(NodeMetrics::new(Arc::clone(&sources), dropped));
    let backups = LocalBackups::open(
        &config.data_directory,
        store.clone(),
        consensus.clone(),
        Arc::clone(&clock),
    )
    .with_context(|| format!("cannot clean {}", config.data_directory.display()))?;
    let api = ApiState::new(ApiParts {
        config: ApiConfig::default(),
        node: config.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sources: sources.names(),
        store: store.clone(),
        cluster: Arc::new(consensus.clone()),
        catalog: Arc::new(EcsCatalog(Arc::clone(&sources))),
        daemons: Arc::new(Planned {
            clock: Arc::clone(&clock),
        }),
        backups: Arc::new(backups),
        metrics: Arc::clone(&metrics) as Arc<dyn blox_api::MetricsSource>,
        clock: Arc::clone(&clock),
        // One for each request: by the thread's generator, since the system's is a call each time.
        new_uuid: Arc::new(|| uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()),
    });
    let serving_stop = CancellationToken::new();
    let serving = tokio::spawn(blox_api::serve(listener, api.clone(), serving_stop.clone()));
    tokio::spawn(follow_term(consensus.clone(), position.clone()));
    tokio::spawn(disk::watch(
        config.data_directory.clone(),
        config.disk_reserve_bytes,
        store.clone(),
        consensus.clone(),
    ));

    let duties_stop = CancellationToken::new();
    let duties = Duties {
        consensus: consensus.clone(),
        store: store.clone(),
        sources,
        clock,
        limits: config.history,
        maintenance_pause: config.history_check,
        election_max: config.timing.election_max,
        position,
        scheduler_metrics: metrics.scheduler(),
    };
    let duties = tokio::spawn(duties.run(duties_stop.clone()));
    Ok(Node {
        api,
        consensus,
        store,
        duties,
        duties_stop,
        serving,
        serving_stop,
    })
}

async fn open_state(data_directory: &Path) -> anyhow::Result<Store> {
    let directory = data_directory.join(STATE_FOLDER);
    let member = blox_raft::has_log(data_directory);
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        state::open(&directory, member, known_feature_level())
            .with_context(|| format!("cannot open the state in {}", directory.display()))
    });
    opened.await.context("opening the state broke off")?
}

/// The newest feature level this version knows; in tests a node may pretend to be of another.
fn known_feature_level() -> FeatureLevel {
    #[cfg(feature = "failpoints")]
    return crate::failpoints::known_feature_level();
    #[cfg(not(feature = "failpoints"))]
    FeatureLevel::NEWEST
}

fn raft_config(config: &NodeConfig) -> RaftConfig {
    RaftConfig {
        name: config.name.clone(),
        data_directory: config.data_directory.clone(),
        peer_listen: config.peer.listen,
        peer_advertise: config.peer.advertise.clone(),
        http_advertise: config.http.advertise.clone(),
        initial_members: config.initial_members.clone(),
        timing: config.timing,
        snapshot: config.snapshot,
    }
}

/// Keeps the term in log lines true on followers too.
async fn follow_term(consensus: Consensus, position: Position) {
    loop {
        position.set_term(consensus.status().term);
        tokio::time::sleep(Duration::from_millis(POSITION_MS)).await;
    }
}
