//! The executor: carries a plan out by the launch protocol.
//!
//! Before any call that starts or stops a task there is a committed intent; after it, a committed outcome:
//!
//! ```text
//! IntendLaunches -> taken -> leader check, at most 1 s old -> StartTask, 10 instances a call, no retries -> RecordLaunches
//! IntendStops    -> taken -> leader check, at most 1 s old -> StopTask                                   -> RecordStops
//! unknown launches        -> ListTasks by startedBy, DescribeTasks                                       -> RecordLaunches
//! ```
//!
//! Never two tasks of an environment on one instance, except where an answer was lost *and* the listing lagged, or a call reached ECS over
//! 60 s after its deadline (a paused process): then a double is stopped (the younger) within one reconcile, counted and shown.

mod answer;
mod commit;
mod hold;
mod launch;
pub mod launcher;
mod look_up;
pub mod proposer;
mod records;
mod stop;
pub mod timer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blox_store::Revision;
use blox_store::proto::{Outcome, outcome};
use tokio_util::sync::CancellationToken;

pub use launch::LaunchOrder;
pub use look_up::LookUpOrder;
pub use records::RecordsOrder;
pub use stop::{StopOrder, TaskToStop};

use crate::executor::launcher::Launcher;
use crate::executor::proposer::Proposer;
use crate::executor::timer::Timer;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::names::LaunchId;

/// What the scheduler runs on.
#[derive(Clone)]
pub struct Surroundings {
    /// Consensus and state.
    pub proposer: Arc<dyn Proposer>,
    /// ECS.
    pub launcher: Arc<dyn Launcher>,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
    /// A new uuid at each call: deployment tokens.
    pub new_token: Arc<dyn Fn() -> String + Send + Sync>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Carries orders out under one session. Every order ends with the revision up to which the state must be read to see what it did.
pub struct Executor {
    surroundings: Surroundings,
    session: u64,
    limits: Limits,
    launches_made: AtomicU64,
    ending: CancellationToken,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Another session has begun, or this node no longer leads: nothing more may be done under this one.
    #[error("session {session} is over: {cause}")]
    SessionOver {
        /// The session.
        session: u64,
        /// How it is known.
        cause: String,
    },
    /// This order came to nothing, or to an unknown end that the state will show; planning again is right.
    #[error("{doing}: {cause}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        cause: String,
    },
}

/// What an order leads to.
pub type Executed = Result<Revision, ExecuteError>;

impl Executor {
    /// The executor of one session.
    pub fn new(surroundings: Surroundings, session: u64, limits: Limits) -> Executor {
        Executor {
            surroundings,
            session,
            limits,
            launches_made: AtomicU64::new(0),
            ending: CancellationToken::new(),
        }
    }

    /// The same, until the token ends it: then no order begins and no call is made any more. Calls under way are answered and recorded, and of
    /// intents without a call it is recorded that there was none.
    pub fn until(self, ending: CancellationToken) -> Executor {
        Executor { ending, ..self }
    }

    /// Unique in the cluster without any randomness: sessions are numbered by the state, and only one executor runs under each.
    fn next_launch_id(&self) -> LaunchId {
        let number = self.launches_made.fetch_add(1, Ordering::Relaxed) + 1;
        LaunchId::from(format!("{}-{number}", self.session))
    }

    fn now(&self) -> u64 {
        self.surroundings.proposer.elapsed_ms()
    }
}

/// What of a command of intents was taken: for nothing else may a call be made.
fn taken(outcome: &Outcome) -> BTreeSet<&str> {
    match &outcome.result {
        Some(outcome::Result::Launched(launched)) => launched.taken.iter().map(String::as_str).collect(),
        _ => BTreeSet::new(),
    }
}
