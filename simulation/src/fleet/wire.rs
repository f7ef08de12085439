//! What lies between a node and ECS or SQS: calls that take their time, or get lost before or after they took effect.
//!
//! A call belongs to its node's process until it is on the wire: who is killed before sends nothing, who is held sends late. From then on it
//! belongs to nobody: it arrives whatever becomes of its sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blox_ecs::{CallError, EcsApi, EcsRequest, Message, Queue, ReceiptHandle, ReceiveOptions};
use blox_runtime::random::between;
use blox_runtime::simulated::spawn_outside;
use blox_runtime::time::{Instant, sleep, timeout};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::Fleet;
use super::answers::refused;
use crate::oracles::Fact;

/// From the making of a call to its bytes on the wire, microseconds; where the process is held, longer.
const PREPARE_MICROSECONDS: std::ops::RangeInclusive<u64> = 20..=3_000;
/// One way between a node and AWS, milliseconds, ...
const TRAVEL_MS: std::ops::RangeInclusive<u64> = 1..=30;
/// ... and for one call in so many while things go wrong ...
const LATE_EACH: u64 = 15;
/// ... so long. With what lists lag, a process is held and leadership may be confirmed before a call, this stays below
/// [`crate::duties::CLOSE_AFTER_DEADLINE_MS`]: otherwise doubles would be within the promise.
const LATE_MS: std::ops::RangeInclusive<u64> = 100..=1_500;
/// A call without an answer is given up after this, as the SDK does.
const CALL_TIMEOUT: Duration = Duration::from_millis(3_000);
/// A connection breaks within this where a call or its answer is lost, milliseconds.
const BREAKS_MS: std::ops::RangeInclusive<u64> = 1..=4_000;
/// Of a hundred calls while things go wrong: the call is lost, its answer is, AWS refuses it, there is no connection.
const CALL_LOST_PERCENT: u64 = 4;
const ANSWER_LOST_PERCENT: u64 = 8;
const REFUSED_PERCENT: u64 = 4;
const NO_CONNECTION_PERCENT: u64 = 3;
/// One receive in so many that nobody waits for any more takes messages all the same.
const UNHEARD_RECEIVE_EACH: u64 = 4;

/// Whether calls to AWS get lost, and take long.
#[derive(Default)]
pub struct CallWeather {
    is_bad: AtomicBool,
}

impl CallWeather {
    /// From now on they do, or do not.
    pub fn set(&self, is_bad: bool) {
        self.is_bad.store(is_bad, Ordering::Relaxed);
    }

    fn fate(&self) -> Fate {
        if !self.is_bad.load(Ordering::Relaxed) {
            return Fate::Answered;
        }
        let drawn = between(1..=100);
        let mut below = 0;
        let mut is = |percent| {
            below += percent;
            drawn <= below
        };
        match () {
            () if is(CALL_LOST_PERCENT) => Fate::CallLost,
            () if is(ANSWER_LOST_PERCENT) => Fate::AnswerLost,
            () if is(REFUSED_PERCENT) => Fate::Refused,
            () if is(NO_CONNECTION_PERCENT) => Fate::NoConnection,
            () => Fate::Answered,
        }
    }

    fn travel(&self) -> Duration {
        let is_late = self.is_bad.load(Ordering::Relaxed) && between(1..=LATE_EACH) == 1;
        Duration::from_millis(between(if is_late { LATE_MS } else { TRAVEL_MS }))
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    CallLost,
    AnswerLost,
    Refused,
    NoConnection,
}

/// AWS as one process of one node sees it.
pub struct NodeEnd {
    /// The node's name.
    node: &'static str,
    fleet: Arc<Fleet>,
}

impl NodeEnd {
    /// For that node.
    pub fn new(node: &'static str, fleet: Arc<Fleet>) -> NodeEnd {
        NodeEnd { node, fleet }
    }

    /// Makes a call: `effect` is what it does once it arrives, and learns whether its sender still listens.
    async fn send<T, Effect, Doing>(
        &self,
        operation: &'static str,
        give_up: Duration,
        effect: Effect,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        Effect: FnOnce(Arc<Fleet>, Heard) -> Doing + Send + 'static,
        Doing: Future<Output = Result<T, CallError>> + Send,
    {
        let weather = &self.fleet.weather;
        let (fate, there, back) = (weather.fate(), weather.travel(), weather.travel());
        // Between the making of a call and the wire a process may be held for any time.
        sleep(Duration::from_micros(between(PREPARE_MICROSECONDS))).await;
        if fate == Fate::NoConnection {
            let cause = "no connection".to_owned();
            return Err(CallError::NotSent { operation, cause });
        }
        let breaks = Duration::from_millis(between(BREAKS_MS));
        let (answer, answered) = oneshot::channel();
        let (fleet, node) = (self.fleet.clone(), self.node);
        let listening = Listening::default();
        let heard = listening.0.clone();
        spawn_outside(async move {
            sleep(there).await;
            let said = match fate {
                Fate::CallLost => None,
                Fate::Refused => Some(Err(refused(operation, "ThrottlingException", "Rate exceeded"))),
                _ => Some(effect(fleet.clone(), heard).await),
            };
            match said.filter(|_| fate != Fate::AnswerLost) {
                Some(said) => {
                    sleep(back).await;
                    // Nobody may listen any more.
                    let _ = answer.send(said);
                }
                None => {
                    fleet.trace.say(format_args!("{node}: {operation}: {fate:?}"));
                    sleep(breaks).await;
                    drop(answer);
                }
            }
        });
        match timeout(give_up, answered).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) => Err(unknown(operation, "the connection broke")),
            Err(_) => Err(unknown(operation, "no answer in time")),
        }
    }
}

/// Whether a call's sender still waits for its answer.
type Heard = Arc<AtomicBool>;

/// The sender's side of [`Heard`].
struct Listening(Heard);

impl Default for Listening {
    fn default() -> Listening {
        Listening(Arc::new(AtomicBool::new(true)))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl EcsApi for NodeEnd {
    fn call(&self, request: EcsRequest) -> BoxFuture<'_, Result<Bytes, CallError>> {
        async move {
            let operation = request.operation();
            // As the SDK's adapter does, right before the request is written.
            if request.send_by().is_some_and(|send_by| Instant::now() > send_by) {
                let cause = "leadership was confirmed too long ago".to_owned();
                return Err(CallError::NotSent { operation, cause });
            }
            if let EcsRequest::StartTask(start) = &request {
                self.fleet.tell(&Fact::StartLeaves { node: self.node, start });
            }
            let answer = self.send(operation, CALL_TIMEOUT, move |fleet, _heard| async move {
                fleet.answer(&request).map(Bytes::from)
            });
            answer.await
        }
        .boxed()
    }
}

impl Queue for NodeEnd {
    fn receive(&self, options: ReceiveOptions) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        let receive = move |fleet: Arc<Fleet>, heard: Heard| async move {
            // A connection that is gone is not always noticed: what is received then comes back later.
            let is_heard = || heard.load(Ordering::Relaxed) || between(1..=UNHEARD_RECEIVE_EACH) == 1;
            Ok(fleet.queue.receive(options, is_heard).await)
        };
        self.send("ReceiveMessage", options.wait + CALL_TIMEOUT, receive)
            .boxed()
    }

    fn delete(&self, receipts: Vec<ReceiptHandle>) -> BoxFuture<'_, Result<usize, CallError>> {
        async move {
            let messages = self.fleet.queue.named(&receipts);
            self.fleet.tell(&Fact::DeleteLeaves {
                node: self.node,
                messages: &messages,
            });
            let delete = move |fleet: Arc<Fleet>, _heard: Heard| async move {
                fleet.queue.delete(&receipts);
                Ok(0)
            };
            self.send("DeleteMessageBatch", CALL_TIMEOUT, delete).await
        }
        .boxed()
    }

    fn extend(&self, receipts: Vec<ReceiptHandle>, visibility: Duration) -> BoxFuture<'_, Result<usize, CallError>> {
        let extend = move |fleet: Arc<Fleet>, _heard: Heard| async move {
            fleet.queue.extend(&receipts, visibility);
            Ok(0)
        };
        self.send("ChangeMessageVisibilityBatch", CALL_TIMEOUT, extend).boxed()
    }
}

fn unknown(operation: &'static str, cause: &str) -> CallError {
    CallError::Unknown {
        operation,
        code: None,
        cause: cause.to_owned(),
    }
}
