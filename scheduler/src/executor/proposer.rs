//! What the scheduler needs of consensus and of the state, so that both can be stood in for.

use std::time::Duration;

use async_trait::async_trait;
use blox_raft::{Consensus, ProposeError, ReadError};
use blox_runtime::time::Instant;
use blox_store::proto::{Command, Outcome, SourceStatus};
use blox_store::{Store, StoreError, View, WatchEnd, WatchRequest, Watcher};

/// Consensus and state as a leader duty sees them.
#[async_trait]
pub trait Proposer: Send + Sync + 'static {
    /// Has one command committed and applied, while this node leads.
    async fn propose(&self, command: Command, within: Duration) -> Result<Outcome, ProposeError>;

    /// Confirms with a quorum that this node leads; returns when that was asked.
    async fn confirm_leadership(&self, within: Duration) -> Result<Instant, ReadError>;

    /// The replicated clock, milliseconds.
    fn elapsed_ms(&self) -> u64;

    /// The state at the head.
    fn view(&self) -> Result<View, StoreError>;

    /// Changes of the state.
    fn watch(&self, request: WatchRequest) -> Result<Watcher, WatchEnd>;

    /// What feed and reconcile have done.
    fn sources(&self) -> Result<Vec<SourceStatus>, StoreError>;
}

/// This node, while it leads in one term.
pub struct Leader {
    consensus: Consensus,
    store: Store,
    term: u64,
}

impl Leader {
    /// The leader of that term: every proposal and every check fails once the term is over.
    pub fn new(consensus: Consensus, store: Store, term: u64) -> Leader {
        Leader { consensus, store, term }
    }
}

#[async_trait]
impl Proposer for Leader {
    async fn propose(&self, command: Command, within: Duration) -> Result<Outcome, ProposeError> {
        self.consensus.propose_as_leader(self.term, command, within).await
    }

    async fn confirm_leadership(&self, within: Duration) -> Result<Instant, ReadError> {
        self.consensus.confirm_leadership(self.term, within).await
    }

    fn elapsed_ms(&self) -> u64 {
        self.consensus.elapsed_ms()
    }

    fn view(&self) -> Result<View, StoreError> {
        self.store.view()
    }

    fn watch(&self, request: WatchRequest) -> Result<Watcher, WatchEnd> {
        self.store.watch(request)
    }

    fn sources(&self) -> Result<Vec<SourceStatus>, StoreError> {
        self.store.sources()
    }
}
