//! What the duties need of the replicated state, as a trait, so that feed and reconcile run on a fake in tests.

use std::collections::HashMap;
use std::time::Duration;

use blox_raft::ProposeError;
use blox_store::StoreError;
use blox_store::proto::{Command, Observation, Outcome, RefusalCode, ResourceKind, outcome};
use futures::future::BoxFuture;

/// How recent a quorum's acknowledgement of this leader must be for the feed to receive.
pub(crate) const QUORUM_AGE_MS_MAX: u64 = 1_000;
/// How long one proposal may take.
pub(crate) const PROPOSAL_TIMEOUT_MS: u64 = 5_000;

/// What an observation would do to the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The resource is not there yet.
    Created,
    /// It would change.
    Changed {
        /// ECS was ahead of the state, by its version: something was missed. Otherwise only this form's own knowledge is added.
        missed: bool,
    },
    /// The state says this already.
    Duplicate,
    /// The state holds something newer.
    Stale,
    /// The document is no JSON object of its kind; why.
    Unreadable(String),
}

/// A resource the state holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownResource {
    /// Its ARN.
    pub arn: String,
    /// Revision of its last change.
    pub mod_revision: u64,
    /// ECS has forgotten it already, and it only waits for its end.
    pub forgotten: bool,
}

/// The replicated state, seen by a leader duty.
pub trait ReplicatedState: Send + Sync + 'static {
    /// Has one command committed and applied, under the duty's session.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>>;

    /// Whether a quorum has acknowledged this leader within `within`.
    fn has_recent_quorum(&self, within: Duration) -> bool;

    /// Whether disks have room for what would be proposed.
    fn has_room(&self) -> bool {
        true
    }

    /// The session every command carries.
    fn session(&self) -> u64;

    /// Wall clock, milliseconds since the epoch.
    fn wall_ms(&self) -> i64;

    /// What each observation would do to one cut of this node's applied state. What changes nothing now never will: registers only grow.
    fn effects(&self, observations: &[Observation]) -> Result<Vec<Effect>, StoreError>;

    /// The resources of a kind, of one cluster (`None`: of all).
    fn known(
        &self,
        kind: ResourceKind,
        source: &str,
        cluster_arn: Option<&str>,
    ) -> Result<Vec<KnownResource>, StoreError>;

    /// When the last pass over each cluster of a source ended, milliseconds since the epoch.
    fn last_passes(&self, source: &str) -> Result<HashMap<String, i64>, StoreError>;
}

/// Why a duty ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DutyEnd {
    /// It was told to.
    #[error("the duty was told to stop")]
    Cancelled,
    /// The session is over: another node leads, or will.
    #[error("the session is over: {0}")]
    SessionOver(String),
    /// This node's state cannot be read, or consensus has stopped: the process must end.
    #[error("this node cannot go on: {0}")]
    NodeFailed(String),
}

impl From<StoreError> for DutyEnd {
    fn from(error: StoreError) -> DutyEnd {
        DutyEnd::NodeFailed(error.to_string())
    }
}

/// What became of a proposal, as far as the duty goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proposed {
    /// Committed and applied.
    Applied(Box<Outcome>),
    /// Too large for an entry; nothing was written.
    TooLarge,
    /// Refused by `apply` for a reason that is not the session's end.
    Refused(String),
}

/// Pause before the second attempt, doubled for each further one.
const PROPOSAL_BACKOFF_MS: u64 = 50;
/// The longest pause between two attempts.
const PROPOSAL_BACKOFF_MS_MAX: u64 = 1_000;

/// Proposes, again and again until the session ends while no leader takes it or its outcome is not known: all that feed and reconcile propose
/// is harmless when applied twice, and to hold what was received is what slows its senders down.
pub(crate) async fn propose(state: &dyn ReplicatedState, command: Command) -> Result<Proposed, DutyEnd> {
    let mut backoff = Duration::from_millis(PROPOSAL_BACKOFF_MS);
    let mut attempt = 1_u64;
    loop {
        let failure = match state.propose(command.clone()).await {
            Ok(outcome) => return applied(outcome),
            Err(ProposeError::TooLarge { .. }) => return Ok(Proposed::TooLarge),
            Err(ProposeError::NotLeader) => {
                return Err(DutyEnd::SessionOver("this node does not lead any more".into()));
            }
            Err(ProposeError::Stopped(why)) => return Err(DutyEnd::NodeFailed(why)),
            Err(
                error @ (ProposeError::NoLeader
                | ProposeError::Overloaded
                | ProposeError::DiskFull(_)
                | ProposeError::Unknown { .. }),
            ) => error.to_string(),
        };
        tracing::debug!(attempt, failure, "proposal failed, trying again");
        blox_runtime::time::sleep(backoff).await;
        backoff = (backoff * 2).min(Duration::from_millis(PROPOSAL_BACKOFF_MS_MAX));
        attempt += 1;
    }
}

fn applied(outcome: Outcome) -> Result<Proposed, DutyEnd> {
    match &outcome.result {
        Some(outcome::Result::Refusal(refusal)) if refusal.code() == RefusalCode::StaleSession => {
            Err(DutyEnd::SessionOver(refusal.message.clone()))
        }
        Some(outcome::Result::Refusal(refusal)) => Ok(Proposed::Refused(refusal.message.clone())),
        _ => Ok(Proposed::Applied(Box::new(outcome))),
    }
}
