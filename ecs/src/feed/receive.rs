//! Receiving: several long polls at once, decoded, and weighed against the state before anything is proposed.

use std::time::Duration;

use blox_runtime::time::Instant;
use blox_store::proto::Observation;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::dropped::Counts;
use super::in_flight::Reserved;
use super::watermark::PollEnd;
use super::{Deletion, Feed, Forever, VISIBILITY_MS};
use crate::error::CallError;
use crate::events::{self, Decoded, EventType};
use crate::queue::{Message, ReceiveOptions};
use crate::state::{DutyEnd, Effect, QUORUM_AGE_MS_MAX};

/// Long polls at once while messages come in. All but the first rest when they find nothing, until messages come in again: an idle queue costs
/// one poll, and its watermark need not wait for the others.
const POLLS: usize = 4;
/// How long a poll waits for a first message: an idle queue's watermark moves when a poll comes back empty.
pub(super) const POLL_WAIT_MS: u64 = 2_000;
/// Beyond the longest poll: the SDK's own deadline is shorter.
const RECEIVE_TIMEOUT_MS: u64 = 30_000;
/// How often a leader without a recent quorum, or without room on disk, looks again.
const QUORUM_CHECK_MS: u64 = 50;
/// Pause after a failed receive, doubled for each further one.
const BACKOFF_MS: u64 = 200;
/// The longest pause after a failed receive.
const BACKOFF_MS_MAX: u64 = 15_000;

/// One message on its way into the state.
pub(super) struct Unit {
    /// Its number in [`super::Pending`].
    pub(super) id: u64,
    pub(super) message_id: String,
    pub(super) body: Bytes,
    pub(super) received_at_ms: i64,
    /// What of it changes the state.
    pub(super) observations: Vec<Observation>,
    /// Why it, or a part of it, cannot be read: it goes into quarantine once the observations are applied.
    pub(super) poison: Option<String>,
    pub(super) reserved: Reserved,
}

/// A message noted as received.
struct Received {
    id: u64,
    message_id: String,
    body: Bytes,
    reserved: Reserved,
}

impl Feed {
    /// Runs all polls.
    pub(super) async fn receive_forever(
        &self,
        units: mpsc::Sender<Vec<Unit>>,
        deletions: mpsc::Sender<Deletion>,
    ) -> Forever {
        let polls = (0..POLLS).map(|number| self.poll_forever(number, &units, &deletions));
        let never = futures::future::try_join_all(polls).await?;
        Ok(never.into_iter().next().expect("there is at least one poll"))
    }

    async fn poll_forever(
        &self,
        number: usize,
        units: &mpsc::Sender<Vec<Unit>>,
        deletions: &mpsc::Sender<Deletion>,
    ) -> Forever {
        let options = ReceiveOptions {
            wait: Duration::from_millis(POLL_WAIT_MS),
            visibility: Duration::from_millis(VISIBILITY_MS),
        };
        let mut failures = Failures::default();
        loop {
            let reserved = self.in_flight.reserve().await;
            self.wait_until_applicable().await;
            let poll = self.pending.lock().poll_begins(self.state.wall_ms());
            match self.receive(options).await {
                Ok(messages) if messages.is_empty() => {
                    failures.recovered(self.source.name(), number);
                    self.pending.lock().poll_ends(poll, PollEnd::Empty);
                    drop(reserved);
                    if number > 0 {
                        self.busy.notified().await;
                    }
                }
                Ok(messages) => {
                    failures.recovered(self.source.name(), number);
                    self.busy.notify_waiters();
                    #[cfg(feature = "zoo")]
                    self.delete_early(&messages).await;
                    let received = self.note(messages, reserved);
                    self.pending.lock().poll_ends(poll, PollEnd::Messages);
                    self.take_in(received, units, deletions).await?;
                }
                Err(error) => {
                    let end = if error.is_definite() {
                        PollEnd::Failed
                    } else {
                        PollEnd::Lost
                    };
                    self.pending.lock().poll_ends(poll, end);
                    self.count_error(&error);
                    let pause = failures.failed(self.source.name(), number, &self.source.config().queue, &error);
                    drop(reserved);
                    blox_runtime::time::sleep(pause).await;
                }
            }
        }
    }

    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Message>, CallError> {
        let deadline = Duration::from_millis(RECEIVE_TIMEOUT_MS);
        blox_runtime::time::timeout(deadline, self.queue.receive(options))
            .await
            .unwrap_or_else(|_| {
                let cause = format!("no answer within {deadline:?}");
                Err(CallError::Unknown {
                    operation: "ReceiveMessage",
                    code: None,
                    cause,
                })
            })
    }

    /// A leader that no quorum has acknowledged lately may be none, and one whose disks have no room may not write: what it received could
    /// not be applied.
    async fn wait_until_applicable(&self) {
        while !self.state.has_recent_quorum(Duration::from_millis(QUORUM_AGE_MS_MAX)) || !self.state.has_room() {
            blox_runtime::time::sleep(Duration::from_millis(QUORUM_CHECK_MS)).await;
        }
    }

    /// Notes all messages of one answer as received, before any of them is weighed: until then none may count as applied.
    fn note(&self, messages: Vec<Message>, mut reserved: Reserved) -> Vec<Received> {
        let hidden_until = Instant::now() + Duration::from_millis(VISIBILITY_MS);
        self.count("blox_sqs_received_total", messages.len());
        let mut pending = self.pending.lock();
        let note = |message: Message| Received {
            id: pending.received(message.receipt, message.sent_at_ms, hidden_until),
            message_id: message.id,
            reserved: reserved.split(message.body.len()),
            body: message.body,
        };
        messages.into_iter().map(note).collect()
    }

    async fn take_in(
        &self,
        received: Vec<Received>,
        units: &mpsc::Sender<Vec<Unit>>,
        deletions: &mpsc::Sender<Deletion>,
    ) -> Result<(), DutyEnd> {
        let mut taken = Vec::with_capacity(received.len());
        for received in received {
            let unit = self.unit(received)?;
            if !unit.observations.is_empty() || unit.poison.is_some() {
                taken.push(unit);
            } else if let Some(receipt) = self.pending.lock().applied(unit.id) {
                // All it says is in the state: it may go. Never blocks: the channel has room for all that may be in flight.
                let _ = deletions.try_send(Deletion {
                    receipt,
                    _reserved: unit.reserved,
                });
            }
        }
        if !taken.is_empty() && units.send(taken).await.is_err() {
            return Err(DutyEnd::Cancelled);
        }
        Ok(())
    }

    fn unit(&self, received: Received) -> Result<Unit, DutyEnd> {
        let decoded = events::decode(self.source.name(), &self.source.cluster_filter(), &received.body);
        self.dropped.add(Counts {
            unknown_types: decoded.unknown_types,
            filtered: decoded.filtered,
            ..Counts::default()
        });
        self.count_events("other", "unknown", decoded.unknown_types);
        self.count_events("other", "filtered", decoded.filtered);
        let (observations, poison) = self.weigh(decoded)?;
        if let Some(reason) = &poison {
            self.count_events("other", "poison", 1);
            tracing::warn!(
                source = self.source.name(),
                message = received.message_id,
                reason,
                "a message cannot be read"
            );
        }
        Ok(Unit {
            id: received.id,
            message_id: received.message_id,
            body: received.body,
            received_at_ms: self.state.wall_ms(),
            observations,
            poison,
            reserved: received.reserved,
        })
    }

    /// Leaves what changes the state; the rest is counted. What cannot be read is a reason for quarantine.
    fn weigh(&self, decoded: Decoded) -> Result<(Vec<Observation>, Option<String>), DutyEnd> {
        let Decoded {
            observations,
            mut poison,
            ..
        } = decoded;
        let effects = self.state.effects(&observations)?;
        let mut news = Vec::with_capacity(observations.len());
        let mut dropped = Counts::default();
        for (observation, effect) in observations.into_iter().zip(effects) {
            let event_type = EventType::name_of(observation.kind());
            match effect {
                Effect::Created | Effect::Changed { .. } => news.push(observation),
                Effect::Duplicate => {
                    dropped.duplicates += 1;
                    self.count_events(event_type, "duplicate", 1);
                }
                Effect::Stale => {
                    dropped.stale += 1;
                    self.count_events(event_type, "stale", 1);
                }
                Effect::Unreadable(reason) => {
                    poison.get_or_insert(reason);
                }
            }
        }
        self.dropped.add(dropped);
        Ok((news, poison))
    }

    pub(super) fn count_events(&self, event_type: &str, outcome: &str, amount: u64) {
        let labels = [
            ("source", self.source.name()),
            ("type", event_type),
            ("outcome", outcome),
        ];
        self.source.metrics().add("blox_events_total", &labels, amount);
    }
}

/// Failed receives in a row of one poll.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
}

impl Failures {
    /// Notes a failure; how long to pause. Only the first poll speaks, so that one cause is said once.
    fn failed(&mut self, source: &str, poll: usize, queue: &Option<String>, error: &CallError) -> Duration {
        let pause_ms = BACKOFF_MS
            .saturating_mul(1 << self.in_a_row.min(10))
            .min(BACKOFF_MS_MAX);
        self.in_a_row += 1;
        let queue = queue.as_deref().unwrap_or_default();
        if poll == 0 && error.is_queue_missing() {
            tracing::error!(
                source,
                queue,
                retry_in_ms = pause_ms,
                "the queue does not exist: create it, or correct `queue` of the source; until then only reconcile observes"
            );
        } else if poll == 0 {
            tracing::warn!(source, queue, retry_in_ms = pause_ms, %error, "receiving failed");
        }
        Duration::from_millis(pause_ms)
    }

    fn recovered(&mut self, source: &str, poll: usize) {
        if std::mem::take(&mut self.in_a_row) > 0 && poll == 0 {
            tracing::info!(source, "receiving works again");
        }
    }
}
