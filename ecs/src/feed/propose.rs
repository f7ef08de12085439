//! Proposing: a few commands at once, and what becomes of each message when its command is applied, or is not.

use blox_store::proto::{Observed, Outcome, QuarantineMessages, QuarantinedMessage, command::Operation, outcome};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::batch::{Batch, Gather};
use super::dropped::Counts;
use super::receive::Unit;
use super::{Deletion, Feed, Forever};
use crate::events::EventType;
use crate::state::{DutyEnd, Proposed};

/// Commands proposed at once: enough to fill the round trip of consensus, few enough that what waits meanwhile is grouped.
const COMMANDS_IN_FLIGHT_MAX: usize = 4;

impl Feed {
    /// Turns messages into commands until the session ends.
    pub(super) async fn propose_forever(
        &self,
        mut received: mpsc::Receiver<Vec<Unit>>,
        deletions: mpsc::Sender<Deletion>,
    ) -> Forever {
        let mut gather = Gather::default();
        let mut in_flight = FuturesUnordered::new();
        loop {
            while let Ok(units) = received.try_recv() {
                units.into_iter().for_each(|unit| gather.push(unit));
            }
            while in_flight.len() < COMMANDS_IN_FLIGHT_MAX
                && let Some(batch) = gather.next()
            {
                in_flight.push(self.settle(batch, &deletions));
            }
            tokio::select! {
                biased;
                Some(left) = in_flight.next(), if !in_flight.is_empty() => {
                    left?.into_iter().for_each(|unit: Unit| gather.push(unit));
                }
                units = received.recv() => match units {
                    Some(units) => units.into_iter().for_each(|unit| gather.push(unit)),
                    None => return Err(DutyEnd::Cancelled),
                },
            }
        }
    }

    /// Proposes a batch and lets its messages go where the outcome sends them. Gives back those that need a further command.
    async fn settle(&self, batch: Batch, deletions: &mpsc::Sender<Deletion>) -> Result<Vec<Unit>, DutyEnd> {
        let (operation, cause, dropped) = self.operation(&batch);
        let reason = match self.propose(operation, cause).await? {
            Proposed::Applied(outcome) => return Ok(self.applied(batch, &outcome, deletions)),
            Proposed::TooLarge => "it is larger than a log entry may be".to_string(),
            Proposed::Refused(reason) => reason,
        };
        self.dropped.add(dropped);
        self.settle_alone(batch, &reason, deletions).await
    }

    /// A command was refused as a whole. One message alone goes into quarantine for it; of many, each tries alone.
    async fn settle_alone(
        &self,
        batch: Batch,
        reason: &str,
        deletions: &mpsc::Sender<Deletion>,
    ) -> Result<Vec<Unit>, DutyEnd> {
        let is_quarantine = matches!(batch, Batch::Quarantine(_));
        let mut units = batch.into_units();
        if units.len() == 1 && !is_quarantine {
            for unit in &mut units {
                unit.observations.clear();
                unit.poison.get_or_insert_with(|| format!("refused: {reason}"));
            }
            return Ok(units);
        }
        if units.len() == 1 {
            self.abandon(units, reason);
            return Ok(Vec::new());
        }
        let mut left = Vec::new();
        for unit in units {
            let alone = if is_quarantine {
                Batch::Quarantine(vec![unit])
            } else {
                Batch::Observe(vec![unit])
            };
            left.extend(Box::pin(self.settle(alone, deletions)).await?);
        }
        Ok(left)
    }

    /// The batch as a command, its cause, and what was dropped and travels with it.
    fn operation(&self, batch: &Batch) -> (Operation, String, Counts) {
        let source = self.source.name().to_string();
        match batch {
            Batch::Observe(units) => {
                let observations: Vec<_> = units
                    .iter()
                    .flat_map(|unit| unit.observations.iter().cloned())
                    .collect();
                let cause = format!("{} events of {source}", observations.len());
                let dropped = self.dropped.take();
                (
                    Operation::Observe(dropped.command(&source, observations)),
                    cause,
                    dropped,
                )
            }
            Batch::Quarantine(units) => {
                let messages: Vec<_> = units.iter().map(|unit| quarantined(unit, &source)).collect();
                let cause = format!("{} messages of {source} that cannot be read", messages.len());
                (
                    Operation::QuarantineMessages(QuarantineMessages { source, messages }),
                    cause,
                    Counts::default(),
                )
            }
        }
    }

    fn applied(&self, batch: Batch, outcome: &Outcome, deletions: &mpsc::Sender<Deletion>) -> Vec<Unit> {
        let mut left = Vec::new();
        match batch {
            Batch::Observe(mut units) => {
                if let Some(outcome::Result::Observed(observed)) = &outcome.result {
                    self.count_observed(&units, observed);
                    poison_refused(&mut units, observed);
                }
                for mut unit in units {
                    unit.observations.clear();
                    match unit.poison {
                        Some(_) => left.push(unit),
                        None => self.delete_later(unit, deletions),
                    }
                }
            }
            Batch::Quarantine(units) => {
                self.count("blox_sqs_quarantined_total", units.len());
                units.into_iter().for_each(|unit| self.delete_later(unit, deletions));
            }
        }
        left
    }

    fn delete_later(&self, unit: Unit, deletions: &mpsc::Sender<Deletion>) {
        if let Some(receipt) = self.pending.lock().applied(unit.id) {
            // Never full: the channel has room for all that may be in flight. Closed: the session is over, and the message comes back.
            let _ = deletions.try_send(Deletion {
                receipt,
                _reserved: unit.reserved,
            });
        }
    }

    /// The messages come back when their hiding ends.
    fn abandon(&self, units: Vec<Unit>, reason: &str) {
        tracing::warn!(
            source = self.source.name(),
            messages = units.len(),
            reason,
            "not applied; the messages come back"
        );
        self.count("blox_sqs_abandoned_total", units.len());
        let mut pending = self.pending.lock();
        units.iter().for_each(|unit| pending.abandoned(unit.id));
    }

    fn count_observed(&self, units: &[Unit], observed: &Observed) {
        let source = [("source", self.source.name())];
        self.source
            .metrics()
            .add("blox_event_version_gaps_total", &source, observed.gaps);
        let observations = || units.iter().flat_map(|unit| unit.observations.iter());
        if observed.duplicates + observed.stale == 0 && observed.refused.is_empty() {
            for event_type in [EventType::Task, EventType::Instance] {
                let count = observations()
                    .filter(|one| EventType::name_of(one.kind()) == event_type.name())
                    .count();
                self.count_events(event_type.name(), "applied", count as u64);
            }
        } else {
            // Apply counts outcomes, not which event had which.
            self.count_events("mixed", "applied", observed.applied);
            self.count_events("mixed", "duplicate", observed.duplicates);
            self.count_events("mixed", "stale", observed.stale);
        }
        if let Some(newest_ms) = observations().map(|one| one.observed_at_ms).max() {
            let lag_seconds = self.state.wall_ms().saturating_sub(newest_ms).max(0) as f64 / 1_000.0;
            self.source
                .metrics()
                .set("blox_event_lag_seconds", &source, lag_seconds);
        }
    }
}

fn quarantined(unit: &Unit, source: &str) -> QuarantinedMessage {
    QuarantinedMessage {
        message_id: unit.message_id.clone(),
        reason: unit.poison.clone().unwrap_or_default(),
        body: unit.body.clone(),
        received_at_ms: unit.received_at_ms,
        sequence: 0,
        source: source.to_string(),
    }
}

/// Apply could not read these: their messages go into quarantine.
fn poison_refused(units: &mut [Unit], observed: &Observed) {
    for refused in &observed.refused {
        let mut index = refused.index as usize;
        for unit in &mut *units {
            if index < unit.observations.len() {
                unit.poison.get_or_insert_with(|| refused.reason.clone());
                break;
            }
            index -= unit.observations.len();
        }
    }
}
