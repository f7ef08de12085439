//! The bound on what is received and not yet deleted, in messages and in bytes: when it is reached, nothing more is received.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::queue::QUEUE_BATCH_MESSAGES_MAX;

/// The most messages received and not yet deleted.
pub(crate) const MESSAGES_MAX: usize = 4_096;
/// The most bytes of bodies received and not yet deleted, KiB: counted in KiB because a semaphore counts to 2^32.
const KIB_MAX: usize = 64 * 1_024;
/// The largest body SQS carries, KiB.
const MESSAGE_KIB_MAX: usize = 1_024;

/// The bound. A receive reserves the most it can bring before it is sent, so the bound holds at every moment.
pub(crate) struct InFlight {
    messages: Arc<Semaphore>,
    kib: Arc<Semaphore>,
}

/// A place for a message, or for the ten of a receive; given back when dropped.
pub(crate) struct Reserved {
    messages: OwnedSemaphorePermit,
    kib: OwnedSemaphorePermit,
}

impl InFlight {
    pub(crate) fn new() -> InFlight {
        InFlight {
            messages: Arc::new(Semaphore::new(MESSAGES_MAX)),
            kib: Arc::new(Semaphore::new(KIB_MAX)),
        }
    }

    /// Waits for room for one receive at its largest.
    pub(crate) async fn reserve(&self) -> Reserved {
        let messages = QUEUE_BATCH_MESSAGES_MAX as u32;
        let kib = messages * MESSAGE_KIB_MAX as u32;
        let never_closed = "the semaphores are never closed";
        Reserved {
            messages: self
                .messages
                .clone()
                .acquire_many_owned(messages)
                .await
                .expect(never_closed),
            kib: self.kib.clone().acquire_many_owned(kib).await.expect(never_closed),
        }
    }
}

impl Reserved {
    /// Cuts out the place of one message of this many bytes. A queue that brings more than was asked for gets what is left.
    pub(crate) fn split(&mut self, bytes: usize) -> Reserved {
        let kib = bytes.div_ceil(1_024).min(self.kib.num_permits());
        let messages = self.messages.num_permits().min(1);
        let within = "the number is within what is held";
        Reserved {
            messages: self.messages.split(messages).expect(within),
            kib: self.kib.split(kib).expect(within),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Receives reserve their worst case; only what they really brought stays reserved; the bound holds and is given back.
    #[tokio::test]
    async fn the_bound_holds_before_anything_is_received() {
        let in_flight = InFlight::new();
        let mut held = Vec::new();
        while let Some(reserved) = in_flight.reserve().now_or_never() {
            held.push(reserved);
        }
        assert_eq!(held.len(), KIB_MAX / (QUEUE_BATCH_MESSAGES_MAX * MESSAGE_KIB_MAX));
        let small: Vec<Reserved> = held.drain(..).map(|mut reserved| reserved.split(100)).collect();
        assert!(in_flight.reserve().now_or_never().is_some());
        assert_eq!(in_flight.kib.available_permits(), KIB_MAX - small.len());
        drop(small);
        assert_eq!(in_flight.kib.available_permits(), KIB_MAX);
        assert_eq!(in_flight.messages.available_permits(), MESSAGES_MAX);
    }
}
