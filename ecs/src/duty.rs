//! The leader duty of one source: feed and reconcile under one session, until it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use blox_raft::{Clock, Consensus, ProposeError};
use blox_store::proto::{Command, Observation, Outcome, ResourceKind};
use blox_store::{Store, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::source::Source;
use crate::state::{DutyEnd, Effect, KnownResource, PROPOSAL_TIMEOUT_MS, ReplicatedState};
use crate::{feed, reads, reconcile};

/// Under what a duty runs.
#[derive(Clone)]
pub struct DutyContext {
    /// Where commands are proposed.
    pub consensus: Consensus,
    /// This node's state: while it leads, the newest there is.
    pub store: Store,
    /// The session every command carries.
    pub session: u64,
    /// The term this node leads in.
    pub term: u64,
    /// Fires when the session is over.
    pub cancel: CancellationToken,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
}

/// Runs feed and reconcile of one source until the session ends; says why it ended. On the caller's task: spawn one a source.
pub async fn run_source(source: Arc<Source>, context: DutyContext) -> DutyEnd {
    let cancel = context.cancel.clone();
    run_duty(source, Arc::new(LiveState { context }), cancel).await
}

/// As [`run_source`], over any state: for tests and simulation.
pub async fn run_duty(source: Arc<Source>, state: Arc<dyn ReplicatedState>, cancel: CancellationToken) -> DutyEnd {
    tracing::info!(
        source = source.name(),
        session = state.session(),
        "feed and reconcile begin"
    );
    let feed = source
        .queue()
        .map(|queue| feed::Feed::new(source.clone(), queue.clone(), state.clone()));
    let end = tokio::select! {
        biased;
        () = cancel.cancelled() => DutyEnd::Cancelled,
        end = run_feed(feed.as_ref()).boxed() => end,
        end = reconcile::run(&source, state.as_ref()).boxed() => end,
    };
    if let Some(feed) = feed {
        feed.hand_back().await;
    }
    tracing::info!(source = source.name(), session = state.session(), reason = %end, "feed and reconcile end");
    end
}

async fn run_feed(feed: Option<&feed::Feed>) -> DutyEnd {
    match feed {
        Some(feed) => feed.run().await,
        None => std::future::pending().await,
    }
}

/// The real state: proposals through consensus, reads from the local store.
struct LiveState {
    context: DutyContext,
}

impl ReplicatedState for LiveState {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        let deadline = Duration::from_millis(PROPOSAL_TIMEOUT_MS);
        self.context
            .consensus
            .propose_as_leader(self.context.term, command, deadline)
            .boxed()
    }

    fn has_recent_quorum(&self, within: Duration) -> bool {
        self.context.consensus.has_recent_quorum(within)
    }

    fn has_room(&self) -> bool {
        self.context.consensus.disks().refused.is_none()
    }

    fn session(&self) -> u64 {
        self.context.session
    }

    fn wall_ms(&self) -> i64 {
        self.context.clock.wall_ms()
    }

    fn effects(&self, observations: &[Observation]) -> Result<Vec<Effect>, StoreError> {
        reads::effects(&self.context.store, observations)
    }

    fn known(
        &self,
        kind: ResourceKind,
        source: &str,
        cluster_arn: Option<&str>,
    ) -> Result<Vec<KnownResource>, StoreError> {
        reads::known(&self.context.store, kind, source, cluster_arn)
    }

    fn last_passes(&self, source: &str) -> Result<HashMap<String, i64>, StoreError> {
        reads::last_passes(&self.context.store, source)
    }
}
