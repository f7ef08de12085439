//! Writing what a pass found: changed observations in batches, what is gone, and the pass' result.

use blox_store::proto::{
    Command, ForgetResource, ForgetResources, Observation, Observe, ReconcilePass, ReportSource, command::Operation,
    outcome,
};

use crate::feed::batch::{COMMAND_BYTES_MAX, COMMAND_OBSERVATIONS_MAX, observation_bytes};
use crate::reconcile::PassError;
use crate::state::{self, Effect, Proposed, ReplicatedState};

/// Collects what differs and proposes it in batches.
pub(super) struct Writer<'a> {
    state: &'a dyn ReplicatedState,
    source: &'a str,
    request_id: String,
    observations: Vec<Observation>,
    bytes: usize,
    pub(super) drift: Drift,
}

/// What a pass found to differ from the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    /// Not in the state.
    pub(super) added: u64,
    /// Older in the state.
    pub(super) changed: u64,
    /// Only in the state.
    pub(super) gone: u64,
}

impl<'a> Writer<'a> {
    /// `pass` names the pass in the log.
    pub(super) fn new(state: &'a dyn ReplicatedState, source: &'a str, pass: &str) -> Writer<'a> {
        let request_id = format!("reconcile-{source}-{}-{pass}", state.session());
        Writer {
            state,
            source,
            request_id,
            observations: Vec::new(),
            bytes: 0,
            drift: Drift::default(),
        }
    }

    /// Takes in what a Describe said; what the state says already is dropped, so that nothing is proposed that changes nothing.
    pub(super) async fn observe(&mut self, observations: Vec<Observation>) -> Result<(), PassError> {
        let effects = self.state.effects(&observations).map_err(state::DutyEnd::from)?;
        for (observation, effect) in observations.into_iter().zip(effects) {
            match effect {
                Effect::Created => self.drift.added += 1,
                Effect::Changed { missed: true } => self.drift.changed += 1,
                Effect::Changed { missed: false } => {}
                Effect::Duplicate | Effect::Stale => continue,
                Effect::Unreadable(reason) => {
                    tracing::warn!(
                        source = self.source,
                        arn = observation.arn,
                        reason,
                        "a Describe answer cannot be read"
                    );
                    continue;
                }
            }
            let bytes = observation_bytes(&observation);
            if self.observations.len() == COMMAND_OBSERVATIONS_MAX || self.bytes + bytes > COMMAND_BYTES_MAX {
                self.flush().await?;
            }
            self.bytes += bytes;
            self.observations.push(observation);
        }
        Ok(())
    }

    /// Proposes what is left.
    pub(super) async fn flush(&mut self) -> Result<(), PassError> {
        self.bytes = 0;
        let observations = std::mem::take(&mut self.observations);
        if observations.is_empty() {
            return Ok(());
        }
        let cause = format!("{} resources of {} differed from ECS", observations.len(), self.source);
        let source = self.source.to_string();
        self.propose(
            Operation::Observe(Observe {
                observations,
                source,
                ..Observe::default()
            }),
            cause,
        )
        .await?;
        Ok(())
    }

    /// Forgets what ECS does not know any more.
    pub(super) async fn forget(&mut self, resources: Vec<ForgetResource>) -> Result<(), PassError> {
        for chunk in resources.chunks(COMMAND_OBSERVATIONS_MAX) {
            let cause = format!(
                "ECS called {} resources of {} missing in two passes",
                chunk.len(),
                self.source
            );
            let forget = ForgetResources {
                resources: chunk.to_vec(),
            };
            let outcome = self.propose(Operation::ForgetResources(forget), cause).await?;
            if let Some(outcome::Result::Removed(removed)) = outcome {
                self.drift.gone += removed.count;
            }
        }
        Ok(())
    }

    /// Reports finished passes.
    pub(super) async fn report(&self, passes: Vec<ReconcilePass>, source_reconciled: bool) -> Result<(), PassError> {
        let source = self.source.to_string();
        let report = ReportSource {
            source,
            watermark_ms: 0,
            passes,
            source_reconciled,
        };
        self.propose(Operation::ReportSource(report), "a reconcile pass ended".into())
            .await?;
        Ok(())
    }

    async fn propose(&self, operation: Operation, cause: String) -> Result<Option<outcome::Result>, PassError> {
        let command = Command {
            actor: "reconcile".into(),
            request_id: self.request_id.clone(),
            cause,
            session: self.state.session(),
            idempotency: None,
            operation: Some(operation),
        };
        match state::propose(self.state, command).await? {
            Proposed::Applied(outcome) => Ok(outcome.result),
            Proposed::TooLarge => Err(PassError::Proposal(
                "a resource is larger than a log entry may be".into(),
            )),
            Proposed::Refused(reason) => Err(PassError::Proposal(reason)),
        }
    }
}
