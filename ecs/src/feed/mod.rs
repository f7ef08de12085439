//! The feed: from the queue into the state, and only then out of the queue.
//!
//! ```text
//! long polls -> decode -> group into one command -> propose -> applied -> delete
//!      ^            \-- nothing new: delete                       \-- unreadable: quarantine -> applied -> delete
//!      \-- held back by what is in flight (messages, bytes) and by the want of a recent quorum
//! ```
//! A message is deleted only after the command that holds it is applied. Until then it stays hidden from others for 10 s at a time, so that
//! a dead leader's messages come back soon. Everything runs on one task: dropping it stops everything at once.

pub(crate) mod batch;
mod delete;
mod dropped;
mod in_flight;
mod pending;
mod propose;
mod receive;
#[cfg(test)]
mod tests;
mod watermark;
#[cfg(feature = "zoo")]
mod zoo;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blox_runtime::time::Instant;
use blox_store::proto::{Command, ReportSource, command::Operation};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::queue::{QUEUE_BATCH_MESSAGES_MAX, Queue, ReceiptHandle};
use crate::source::Source;
use crate::state::{self, DutyEnd, Proposed, ReplicatedState};
use dropped::Dropped;
use in_flight::InFlight;
use pending::Pending;
use receive::Unit;

/// How long a received message stays hidden from others.
const VISIBILITY_MS: u64 = 10_000;
/// A pending message is hidden anew when less than this is left.
const EXTENSION_DUE_MS: u64 = 5_000;
/// How often hidden messages are looked over, and progress is reported.
const TICK_MS: u64 = 1_000;
/// Calls at once to hide messages anew, or to hand them back: all that may be in flight take 410.
const VISIBILITY_CALLS_MAX: usize = 32;
/// Deadline of a call to delete or to extend.
const QUEUE_CALL_TIMEOUT_MS: u64 = 5_000;
/// For handing unapplied messages back at the end of a session.
const HAND_BACK_TIMEOUT_MS: u64 = 1_000;

/// What each loop of the feed gives: it only ever ends with the duty.
type Forever = Result<Infallible, DutyEnd>;

/// The feed of one source under one session.
pub(crate) struct Feed {
    source: Arc<Source>,
    queue: Arc<dyn Queue>,
    state: Arc<dyn ReplicatedState>,
    in_flight: InFlight,
    pending: Mutex<Pending>,
    /// Messages came in: polls that rest may help.
    busy: Notify,
    dropped: Dropped,
    commands: AtomicU64,
}

/// A message whose command is applied; what it reserved is released when it is deleted.
struct Deletion {
    receipt: ReceiptHandle,
    _reserved: in_flight::Reserved,
}

impl Feed {
    pub(crate) fn new(source: Arc<Source>, queue: Arc<dyn Queue>, state: Arc<dyn ReplicatedState>) -> Feed {
        Feed {
            source,
            queue,
            state,
            in_flight: InFlight::new(),
            pending: Mutex::new(Pending::new()),
            busy: Notify::new(),
            dropped: Dropped::default(),
            commands: AtomicU64::new(0),
        }
    }

    /// Runs until the session ends, and says why.
    pub(crate) async fn run(&self) -> DutyEnd {
        // Both channels are bounded by what may be in flight: every item holds a message's reservation.
        let (units, received) = mpsc::channel::<Vec<Unit>>(in_flight::MESSAGES_MAX);
        let (deletions, applied) = mpsc::channel::<Deletion>(in_flight::MESSAGES_MAX);
        let ended: Forever = futures::try_join!(
            self.receive_forever(units, deletions.clone()).boxed(),
            self.propose_forever(received, deletions).boxed(),
            self.delete_forever(applied).boxed(),
            self.keep_hidden_forever().boxed(),
            self.report_forever().boxed(),
        )
        .map(|(never, ..)| never);
        match ended {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// Makes what was received and not applied visible again, so that the next leader need not wait for it. What of it was applied all the
    /// same arrives a second time there, which changes nothing.
    pub(crate) async fn hand_back(&self) {
        let receipts = self.pending.lock().receipts();
        let calls = futures::stream::iter(receipts.chunks(QUEUE_BATCH_MESSAGES_MAX)).for_each_concurrent(
            VISIBILITY_CALLS_MAX,
            |chunk| async move {
                // One that fails comes back all the same, later.
                let _ = self.queue.extend(chunk.to_vec(), Duration::ZERO).await;
            },
        );
        let deadline = Duration::from_millis(HAND_BACK_TIMEOUT_MS);
        if blox_runtime::time::timeout(deadline, calls).await.is_err() {
            tracing::debug!(
                source = self.source.name(),
                "unapplied messages come back by themselves"
            );
        }
    }

    /// Hides pending messages anew before their time is up.
    async fn keep_hidden_forever(&self) -> Forever {
        let mut ticks = blox_runtime::time::interval(Duration::from_millis(TICK_MS));
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let due = self.pending.lock().due(now + Duration::from_millis(EXTENSION_DUE_MS));
            self.count_in_flight();
            futures::stream::iter(due.chunks(QUEUE_BATCH_MESSAGES_MAX))
                .for_each_concurrent(VISIBILITY_CALLS_MAX, |chunk| self.hide_anew(chunk, now))
                .await;
        }
    }

    async fn hide_anew(&self, chunk: &[(u64, ReceiptHandle)], now: Instant) {
        let receipts: Vec<_> = chunk.iter().map(|(_, receipt)| receipt.clone()).collect();
        let visibility = Duration::from_millis(VISIBILITY_MS);
        let deadline = Duration::from_millis(QUEUE_CALL_TIMEOUT_MS);
        match blox_runtime::time::timeout(deadline, self.queue.extend(receipts, visibility)).await {
            Ok(Ok(_)) => {
                // One that could not be extended comes back and is applied twice, which changes nothing: no need to tell them apart.
                self.pending
                    .lock()
                    .hidden(chunk.iter().map(|(id, _)| *id), now + visibility);
                self.count("blox_sqs_extended_total", chunk.len());
            }
            Ok(Err(error)) => self.count_error(&error),
            Err(_) => tracing::warn!(
                source = self.source.name(),
                "extending messages took longer than {deadline:?}"
            ),
        }
    }

    /// Once a second: the watermark, if it moved, and what was dropped and no command has carried yet.
    async fn report_forever(&self) -> Forever {
        let mut ticks = blox_runtime::time::interval(Duration::from_millis(TICK_MS));
        loop {
            ticks.tick().await;
            let moved = self.pending.lock().moved_watermark();
            if let Some(watermark_ms) = moved {
                let report = ReportSource {
                    source: self.source.name().into(),
                    watermark_ms,
                    ..ReportSource::default()
                };
                let proposed = self
                    .propose(Operation::ReportSource(report), "the feed's watermark moved".into())
                    .await?;
                if matches!(proposed, Proposed::Applied(_)) {
                    self.pending.lock().reported(watermark_ms);
                }
            }
            let dropped = self.dropped.take();
            if !dropped.is_none() {
                let observe = dropped.command(self.source.name(), Vec::new());
                self.propose(
                    Operation::Observe(observe),
                    "events that left nothing to propose".into(),
                )
                .await?;
            }
        }
    }

    async fn propose(&self, operation: Operation, cause: String) -> Result<Proposed, DutyEnd> {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let command = Command {
            actor: "feed".into(),
            request_id: format!("feed-{}-{}-{number}", self.source.name(), self.state.session()),
            cause,
            session: self.state.session(),
            idempotency: None,
            operation: Some(operation),
        };
        state::propose(self.state.as_ref(), command).await
    }

    fn count(&self, name: &'static str, amount: usize) {
        self.source
            .metrics()
            .add(name, &[("source", self.source.name())], amount as u64);
    }

    fn count_error(&self, error: &crate::CallError) {
        let operation = match error {
            crate::CallError::Refused { operation, .. }
            | crate::CallError::NotSent { operation, .. }
            | crate::CallError::Unknown { operation, .. } => operation,
        };
        let labels = [
            ("source", self.source.name()),
            ("op", operation),
            ("code", &error.label()),
        ];
        self.source.metrics().add("blox_sqs_errors_total", &labels, 1);
    }

    fn count_in_flight(&self) {
        let count = self.pending.lock().len() as f64;
        self.source
            .metrics()
            .set("blox_sqs_in_flight_messages", &[("source", self.source.name())], count);
    }
}
