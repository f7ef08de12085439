//! What every route stands on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blox_raft::{Clock, Status};
use blox_store::{Progress, Revision, Store};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::backups::Backups;
use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::config::ApiConfig;
use crate::daemons::DaemonSummaries;
use crate::ecs_lag::EcsLag;
use crate::metrics::{HttpMetrics, MetricsSource};

/// Backups a node writes at once: each reads its whole state from disk.
const BACKUPS_AT_ONCE: usize = 1;

/// What the node puts together.
pub struct ApiParts {
    /// Deadlines and bounds.
    pub config: ApiConfig,
    /// This node's name.
    pub node: String,
    /// Version of the program, for `/metrics` and `/v2/cluster`.
    pub version: String,
    /// Names of the configured sources: `/readyz?require=reconciled` waits for each of them.
    pub sources: Vec<String>,
    /// The state of this node.
    pub store: Store,
    /// Consensus.
    pub cluster: Arc<dyn Cluster>,
    /// ECS.
    pub catalog: Arc<dyn Catalog>,
    /// The scheduler's counters.
    pub daemons: Arc<dyn DaemonSummaries>,
    /// The whole state in one file.
    pub backups: Arc<dyn Backups>,
    /// What the rest of the node shows on `/metrics`.
    pub metrics: Arc<dyn MetricsSource>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where uuids (request ids, ids of environments and deployments, deployment tokens) come from.
    pub new_uuid: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What every route stands on. Cheap to clone; all clones are the same state.
#[derive(Clone)]
pub struct ApiState {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ApiParts,
    progress: watch::Receiver<Progress>,
    ecs_lag: EcsLag,
    http_metrics: HttpMetrics,
    requests: Semaphore,
    body_bytes: Arc<Semaphore>,
    answer_bytes: Arc<Semaphore>,
    small_reads: Arc<Semaphore>,
    large_reads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    backup_place: Arc<Semaphore>,
    /// Asked with every answer.
    draining: AtomicBool,
    /// Waited for.
    drains: CancellationToken,
    streams_end: CancellationToken,
}

impl ApiState {
    /// The state of a node that is ready to serve.
    pub fn new(parts: ApiParts) -> ApiState {
        let config = &parts.config;
        ApiState {
            inner: Arc::new(Inner {
                progress: parts.store.progress(),
                ecs_lag: EcsLag::default(),
                http_metrics: HttpMetrics::default(),
                requests: Semaphore::new(config.requests_in_flight),
                body_bytes: Arc::new(Semaphore::new(config.body_bytes_in_flight)),
                answer_bytes: Arc::new(Semaphore::new(config.answer_bytes_in_flight)),
                small_reads: Arc::new(Semaphore::new(config.small_reads)),
                large_reads: Arc::new(Semaphore::new(config.large_reads)),
                streams: Arc::new(Semaphore::new(config.streams)),
                backup_place: Arc::new(Semaphore::new(BACKUPS_AT_ONCE)),
                draining: AtomicBool::new(false),
                drains: CancellationToken::new(),
                streams_end: CancellationToken::new(),
                parts,
            }),
        }
    }

    /// Begins to drain: `/readyz` fails and every answer asks its client to use another connection. Requests are still served.
    pub fn start_draining(&self) {
        self.inner.draining.store(true, Ordering::Release);
        self.inner.drains.cancel();
    }

    /// Whether it drains.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// Waits until it drains.
    pub(crate) async fn draining(&self) {
        self.inner.drains.cancelled().await;
    }

    /// Breaks off every stream and watch, and those that would begin.
    pub(crate) fn end_streams(&self) {
        self.inner.streams_end.cancel();
    }

    pub(crate) fn streams_end(&self) -> CancellationToken {
        self.inner.streams_end.clone()
    }

    pub(crate) fn config(&self) -> &ApiConfig {
        &self.inner.parts.config
    }

    pub(crate) fn node(&self) -> &str {
        &self.inner.parts.node
    }

    pub(crate) fn version(&self) -> &str {
        &self.inner.parts.version
    }

    pub(crate) fn sources(&self) -> &[String] {
        &self.inner.parts.sources
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    pub(crate) fn cluster(&self) -> &dyn Cluster {
        &*self.inner.parts.cluster
    }

    pub(crate) fn catalog(&self) -> &dyn Catalog {
        &*self.inner.parts.catalog
    }

    pub(crate) fn daemons(&self) -> Arc<dyn DaemonSummaries> {
        Arc::clone(&self.inner.parts.daemons)
    }

    pub(crate) fn metrics_source(&self) -> &dyn MetricsSource {
        &*self.inner.parts.metrics
    }

    pub(crate) fn http_metrics(&self) -> &HttpMetrics {
        &self.inner.http_metrics
    }

    pub(crate) fn requests(&self) -> &Semaphore {
        &self.inner.requests
    }

    pub(crate) fn body_bytes(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.body_bytes)
    }

    /// What answers that are whole in memory may take.
    pub(crate) fn answer_bytes(&self) -> &Arc<Semaphore> {
        &self.inner.answer_bytes
    }

    /// Places for work off the request threads that reads little.
    pub(crate) fn small_reads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.small_reads)
    }

    /// Places for work that reads much, in the order in which they were asked for.
    pub(crate) fn large_reads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.large_reads)
    }

    pub(crate) fn stream_permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.streams)
    }

    /// Backups are written one at a time.
    pub(crate) fn backup_place(&self) -> Arc<Semaphore> {
        Arc::clone(&self.inner.backup_place)
    }

    pub(crate) fn backups(&self) -> Arc<dyn Backups> {
        Arc::clone(&self.inner.parts.backups)
    }

    /// Streams and watches that run now.
    pub(crate) fn streams_running(&self) -> usize {
        self.config()
            .streams
            .saturating_sub(self.inner.streams.available_permits())
    }

    pub(crate) fn status(&self) -> Status {
        self.cluster().status()
    }

    /// Revision of this node's state now.
    pub(crate) fn revision(&self) -> Revision {
        self.inner.progress.borrow().revision
    }

    pub(crate) fn progress(&self) -> Progress {
        self.inner.progress.borrow().clone()
    }

    /// How far behind ECS the state is, as known within the last half second; `None`: not known.
    pub(crate) fn ecs_lag_ms(&self) -> Option<i64> {
        self.inner
            .ecs_lag
            .milliseconds(self.store(), self.sources(), self.wall_ms(), self.monotonic())
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        self.inner.parts.clock.wall_ms()
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.inner.parts.clock.monotonic()
    }

    pub(crate) fn new_uuid(&self) -> String {
        (self.inner.parts.new_uuid)()
    }
}
