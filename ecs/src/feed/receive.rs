//! Receiving: several long polls at once, decoded, and weighed against the state before anything is proposed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use blox_store::proto::Observation;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::in_flight::Reserved;
use super::{Deletion, Feed, Forever, VISIBILITY_MS};
use crate::error::CallError;
use crate::events::{self, Decoded, EventType};
use crate::queue::{Message, ReceiveOptions};
use crate::state::{DutyEnd, Effect, QUORUM_AGE_MS_MAX};

/// Long polls at once.
const POLLS: usize = 4;
/// How long a poll waits for a first message: SQS' longest.
const POLL_WAIT_MS: u64 = 20_000;
/// One of the polls waits only this long: an idle queue's watermark moves when a poll comes back empty.
const WATERMARK_POLL_WAIT_MS: u64 = 2_000;
/// Beyond the longest poll: the SDK's own deadline is shorter.
const RECEIVE_TIMEOUT_MS: u64 = 30_000;
/// How often a leader without a recent quorum looks again.
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
        let wait_ms = if number == 0 {
            WATERMARK_POLL_WAIT_MS
        } else {
            POLL_WAIT_MS
        };
        let visibility = Duration::from_millis(VISIBILITY_MS);
        let options = ReceiveOptions {
            wait: Duration::from_millis(wait_ms),
            visibility,
        };
        let mut failures = Failures::default();
        loop {
            let reserved = self.in_flight.reserve().await;
            self.wait_for_quorum().await;
            let began_at_ms = self.state.wall_ms();
            match self.receive(options).await {
                Ok(messages) => {
                    failures.recovered(self.source.name(), number);
                    if messages.is_empty() {
                        self.pending.lock().polled_empty(began_at_ms);
                    } else {
                        self.take_in(messages, reserved, units, deletions).await?;
                    }
                }
                Err(error) => {
                    self.count_error(&error);
                    let pause = failures.failed(self.source.name(), number, &self.source.config().queue, &error);
                    drop(reserved);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Message>, CallError> {
        let deadline = Duration::from_millis(RECEIVE_TIMEOUT_MS);
        tokio::time::timeout(deadline, self.queue.receive(options))
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

    /// A leader that no quorum has acknowledged lately may be none: what it received could not be applied.
    async fn wait_for_quorum(&self) {
        while !self.state.has_recent_quorum(Duration::from_millis(QUORUM_AGE_MS_MAX)) {
            tokio::time::sleep(Duration::from_millis(QUORUM_CHECK_MS)).await;
        }
    }

    async fn take_in(
        &self,
        messages: Vec<Message>,
        mut reserved: Reserved,
        units: &mpsc::Sender<Vec<Unit>>,
        deletions: &mpsc::Sender<Deletion>,
    ) -> Result<(), DutyEnd> {
        let hidden_until = Instant::now() + Duration::from_millis(VISIBILITY_MS);
        self.count("blox_sqs_received_total", messages.len());
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            let reserved = reserved.split(message.body.len());
            let unit = self.unit(message, reserved, hidden_until)?;
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

    fn unit(&self, message: Message, reserved: Reserved, hidden_until: Instant) -> Result<Unit, DutyEnd> {
        let decoded = events::decode(self.source.name(), &self.source.cluster_filter(), &message.body);
        self.unknown_types.fetch_add(decoded.unknown_types, Ordering::Relaxed);
        self.count_events("other", "unknown", decoded.unknown_types);
        self.count_events("other", "filtered", decoded.filtered);
        let (observations, poison) = self.weigh(decoded)?;
        if let Some(reason) = &poison {
            self.count_events("other", "poison", 1);
            tracing::warn!(
                source = self.source.name(),
                message = message.id,
                reason,
                "a message cannot be read"
            );
        }
        Ok(Unit {
            id: self
                .pending
                .lock()
                .received(message.receipt, message.sent_at_ms, hidden_until),
            message_id: message.id,
            body: message.body,
            received_at_ms: self.state.wall_ms(),
            observations,
            poison,
            reserved,
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
        for (observation, effect) in observations.into_iter().zip(effects) {
            let event_type = EventType::name_of(observation.kind());
            match effect {
                Effect::Created | Effect::Changed { .. } => news.push(observation),
                Effect::Duplicate => self.count_events(event_type, "duplicate", 1),
                Effect::Stale => self.count_events(event_type, "stale", 1),
                Effect::Unreadable(reason) => {
                    poison.get_or_insert(reason);
                }
            }
        }
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
