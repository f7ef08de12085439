//! The queue between callers and the batcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use blox_runtime::time::Instant;
use blox_store::proto::Outcome;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Refusal, WAITING_BYTES_MAX, WAITING_MAX};

/// What a proposal comes back as.
pub(crate) type Answer = Result<Outcome, Refusal>;

/// Who proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller of this node; goes to the leader wherever it is.
    Caller,
    /// A duty of the leader of this term.
    Duty { term: u64 },
    /// As a duty, for what is small and makes room or keeps the leader going: it is taken also where disks have little room.
    Upkeep { term: u64 },
    /// A caller of another node: never forwarded again.
    Forwarded,
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// One command on its way.
pub(crate) struct Proposal {
    pub command: Bytes,
    pub origin: Origin,
    pub until: Instant,
    pub began: Instant,
    claim: Arc<AtomicU8>,
    answer: oneshot::Sender<Answer>,
    _space: Space,
}

/// Bytes of the queue, given back when the proposal is answered.
struct Space {
    waiting_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.waiting_bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Proposal {
    /// Takes it out of its caller's hands; `false`: the caller has given it up.
    pub(crate) fn take(&self) -> bool {
        self.claim
            .compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(crate) fn answer(self, answer: Answer) {
        // A caller that has gone needs no answer.
        drop(self.answer.send(answer));
    }
}

/// A proposal as its caller holds it.
pub(crate) struct Submitted {
    claim: Arc<AtomicU8>,
    answer: oneshot::Receiver<Answer>,
}

/// Tells of a proposal whether it is under way.
pub(crate) struct UnderWay(Arc<AtomicU8>);

impl UnderWay {
    /// Whether it has left the queue.
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire) == TAKEN
    }
}

impl Submitted {
    /// To be asked while somebody waits for the answer.
    pub(crate) fn under_way(&self) -> UnderWay {
        UnderWay(self.claim.clone())
    }

    /// Waits for the answer. What is still in the queue at the deadline is withdrawn: nothing was written then.
    pub(crate) async fn answer(mut self, until: Instant) -> Answer {
        match blox_runtime::time::timeout_at(until, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if self.withdraw() => Err(Refusal::Stopped("consensus has ended".to_owned())),
            Ok(Err(_)) => Err(Refusal::Unknown(
                "consensus ended before the outcome was known".to_owned(),
            )),
            Err(_) if self.withdraw() => Err(Refusal::TryAgain(
                "it waited in the queue until the deadline".to_owned(),
            )),
            Err(_) => Err(Refusal::Unknown(
                "the deadline passed before the outcome was known".to_owned(),
            )),
        }
    }

    fn withdraw(&self) -> bool {
        self.claim
            .compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Where callers put proposals.
pub(crate) struct ProposalQueue {
    sender: mpsc::Sender<Proposal>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// A bounded queue and its far end.
pub(crate) fn queue() -> (ProposalQueue, mpsc::Receiver<Proposal>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (
        ProposalQueue {
            sender,
            waiting_bytes: Arc::default(),
        },
        receiver,
    )
}

impl ProposalQueue {
    /// Puts a command into the queue, or says at once that there is no room.
    pub(crate) fn submit(&self, command: Bytes, origin: Origin, until: Instant) -> Result<Submitted, Refusal> {
        let bytes = command.len();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let space = Space {
            waiting_bytes: self.waiting_bytes.clone(),
            bytes,
        };
        if before > 0 && before + bytes > WAITING_BYTES_MAX {
            return Err(Refusal::Overloaded);
        }
        let claim = Arc::new(AtomicU8::new(WAITING));
        let (answer, receiver) = oneshot::channel();
        let proposal = Proposal {
            command,
            origin,
            until,
            began: Instant::now(),
            claim: claim.clone(),
            answer,
            _space: space,
        };
        match self.sender.try_send(proposal) {
            Ok(()) => Ok(Submitted {
                claim,
                answer: receiver,
            }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refusal::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Refusal::Stopped("consensus has ended".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    /// What is still queued at the deadline was certainly not written; what was taken may have been.
    #[tokio::test]
    async fn only_a_taken_proposal_is_unknown() {
        let (queue, mut receiver) = queue();
        let waiting = queue
            .submit(Bytes::from_static(b"a"), Origin::Caller, soon())
            .expect("room");
        assert!(matches!(waiting.answer(soon()).await, Err(Refusal::TryAgain(_))));
        let given_up = receiver.recv().await.expect("it is in the queue");
        assert!(!given_up.take(), "its caller has gone");

        let taken = queue
            .submit(Bytes::from_static(b"b"), Origin::Caller, soon())
            .expect("room");
        let proposal = receiver.recv().await.expect("it is in the queue");
        assert!(proposal.take());
        assert!(matches!(taken.answer(soon()).await, Err(Refusal::Unknown(_))));
    }

    /// The queue is bounded in bytes and in count, and space comes back.
    #[tokio::test]
    async fn a_full_queue_refuses() {
        let (queue, mut receiver) = queue();
        let half = Bytes::from(vec![0; WAITING_BYTES_MAX / 2 + 1]);
        let _first = queue.submit(half.clone(), Origin::Caller, soon()).expect("room");
        assert!(matches!(
            queue.submit(half.clone(), Origin::Caller, soon()),
            Err(Refusal::Overloaded)
        ));
        drop(receiver.recv().await);
        let _second = queue.submit(half, Origin::Caller, soon()).expect("room again");
        drop(receiver.recv().await);
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                queue
                    .submit(Bytes::from_static(b"a"), Origin::Caller, soon())
                    .expect("room")
            })
            .collect();
        assert!(matches!(
            queue.submit(Bytes::from_static(b"a"), Origin::Caller, soon()),
            Err(Refusal::Overloaded)
        ));
        assert_eq!(waiting.len(), WAITING_MAX);
    }
}
