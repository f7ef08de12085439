//! Proposing: what each answer of consensus means for an order.

use std::time::Duration;

use blox_raft::ProposeError;
use blox_runtime::time::Instant;
use blox_store::proto::command::Operation;
use blox_store::proto::outcome;
use blox_store::proto::{Command, Outcome, RefusalCode};

use crate::executor::{ExecuteError, Executor};

/// The wait before an outcome is proposed again, first and longest, milliseconds.
const RETRY_FIRST_MS: u64 = 100;
const RETRY_LONGEST_MS: u64 = 2_000;

/// Why an executor that ends calls nobody.
const ENDING: &str = "this node's scheduler ends";

/// Why a command has no outcome.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The session is over.
    Over(ExecuteError),
    /// Nothing was written.
    NotWritten(String),
    /// Nobody knows.
    Unknown(String),
    /// The state refused it.
    Refused(String),
}

impl CommitError {
    /// As the end of an order.
    pub(super) fn failed(self, doing: &'static str) -> ExecuteError {
        match self {
            CommitError::Over(over) => over,
            CommitError::NotWritten(cause) | CommitError::Unknown(cause) | CommitError::Refused(cause) => {
                ExecuteError::Failed { doing, cause }
            }
        }
    }
}

impl Executor {
    /// Proposes once.
    pub(super) async fn commit(
        &self,
        request_id: &str,
        cause: &str,
        operation: Operation,
    ) -> Result<Outcome, CommitError> {
        let command = Command {
            actor: "scheduler".to_owned(),
            request_id: request_id.to_owned(),
            cause: cause.to_owned(),
            session: self.session,
            idempotency: None,
            operation: Some(operation),
        };
        let within = Duration::from_millis(self.limits.propose_wait_ms);
        match self.surroundings.proposer.propose(command, within).await {
            Ok(outcome) => self.accept(outcome),
            Err(error @ (ProposeError::NotLeader | ProposeError::Stopped(_))) => {
                Err(CommitError::Over(self.over(error.to_string())))
            }
            Err(error @ ProposeError::Unknown { .. }) => Err(CommitError::Unknown(error.to_string())),
            Err(error @ (ProposeError::NoLeader | ProposeError::Overloaded | ProposeError::DiskFull(_))) => {
                Err(CommitError::NotWritten(error.to_string()))
            }
            // Trying again does not make it smaller.
            Err(error @ ProposeError::TooLarge { .. }) => Err(CommitError::Refused(error.to_string())),
        }
    }

    fn accept(&self, outcome: Outcome) -> Result<Outcome, CommitError> {
        let Some(outcome::Result::Refusal(refusal)) = &outcome.result else {
            return Ok(outcome);
        };
        match refusal.code() {
            RefusalCode::StaleSession => Err(CommitError::Over(self.over(refusal.message.clone()))),
            _ => Err(CommitError::Refused(refusal.message.clone())),
        }
    }

    /// Proposes what has happened until the state knows it: applying an outcome twice does nothing the second time, because each names its
    /// launch or task, which the first has closed. Ends only with the session.
    pub(super) async fn commit_outcome(
        &self,
        request_id: &str,
        cause: &str,
        operation: Operation,
    ) -> Result<Outcome, ExecuteError> {
        let mut wait_ms = RETRY_FIRST_MS;
        loop {
            match self.commit(request_id, cause, operation.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(CommitError::Over(over)) => {
                    self.surroundings.metrics.outcomes_refused.increment();
                    tracing::warn!(request_id, %over, "an outcome came after its session; the next one looks it up");
                    return Err(over);
                }
                Err(error @ CommitError::Refused(_)) => return Err(error.failed("record an outcome")),
                Err(CommitError::NotWritten(reason) | CommitError::Unknown(reason)) => {
                    tracing::warn!(request_id, reason, "an outcome is not recorded yet; trying again");
                }
            }
            self.surroundings.timer.sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RETRY_LONGEST_MS);
        }
    }

    pub(super) fn over(&self, cause: String) -> ExecuteError {
        ExecuteError::SessionOver {
            session: self.session,
            cause,
        }
    }

    /// Confirms that this node leads; the answer is the moment until which a call that relies on it may be sent. An executor that ends makes
    /// no more calls.
    pub(super) async fn may_call_until(&self) -> Result<Instant, String> {
        let within = Duration::from_millis(self.limits.leader_check_wait_ms);
        let asked_at = tokio::select! {
            biased;
            () = self.ending.cancelled() => return Err(ENDING.to_owned()),
            asked_at = self.surroundings.proposer.confirm_leadership(within) => asked_at.map_err(|error| error.to_string())?,
        };
        Ok(asked_at + Duration::from_millis(self.limits.leader_check_age_ms))
    }

    /// Refuses to begin an order of an executor that ends.
    pub(super) fn may_begin(&self, doing: &'static str) -> Result<(), ExecuteError> {
        if self.ending.is_cancelled() {
            let cause = ENDING.to_owned();
            return Err(ExecuteError::Failed { doing, cause });
        }
        Ok(())
    }
}
