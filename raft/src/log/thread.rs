//! Who runs the log's writer: a thread of its own; in a simulation a task that takes its time.

use std::sync::Arc;

use super::shared::LogShared;
use super::writer::Operation;

#[cfg(not(feature = "simulation"))]
pub(super) use of_a_node::{LogThread, Queue, courier, start};
#[cfg(feature = "simulation")]
pub(super) use simulated::{LogThread, Queue, courier, start};

#[cfg(not(feature = "simulation"))]
mod of_a_node {
    use tokio::sync::mpsc;

    use super::{Arc, LogShared, Operation};
    use crate::log::writer;

    /// Where operations wait for the writer.
    pub(crate) type Queue = std::sync::mpsc::Sender<Operation>;

    /// The thread, to be waited for.
    pub(crate) struct LogThread(std::thread::JoinHandle<()>);

    /// Starts the log thread.
    pub(crate) fn start(shared: Arc<LogShared>) -> (Queue, LogThread) {
        let (queue, operations) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("blox-raft-log".to_owned())
            .spawn(move || writer::run(&shared, &operations))
            .expect("the system starts one more thread");
        (queue, LogThread(thread))
    }

    /// Takes operations to the log thread, in order, once whatever else consensus has to do at the moment is done: above all peers are sent what
    /// is to be written before this node begins to write it, as waking a thread takes longer than that.
    pub(crate) fn courier(queue: Queue) -> mpsc::UnboundedSender<Operation> {
        let (courier, mut operations) = mpsc::unbounded_channel();
        drop(blox_runtime::spawn(async move {
            while let Some(first) = operations.recv().await {
                tokio::task::yield_now().await;
                let mut next = Some(first);
                while let Some(operation) = next {
                    if let Err(closed) = queue.send(operation) {
                        closed.0.refuse();
                    }
                    next = operations.try_recv().ok();
                }
            }
        }));
        courier
    }

    impl LogThread {
        /// Waits for its end; `false`: it panicked.
        pub(crate) fn join(self) -> bool {
            self.0.join().is_ok()
        }
    }
}

#[cfg(feature = "simulation")]
mod simulated {
    use std::ops::RangeInclusive;
    use std::time::Duration;

    use blox_runtime::{random, time};
    use tokio::sync::mpsc;

    use super::{Arc, LogShared, Operation};
    use crate::log::writer;

    /// What a sync takes, microseconds, mostly and now and then.
    const SYNC_MICROSECONDS: RangeInclusive<u64> = 100..=3_000;
    const SLOW_SYNC_MICROSECONDS: RangeInclusive<u64> = 3_000..=80_000;
    /// One sync in so many is a slow one.
    const SLOW_SYNC_EACH: u64 = 25;

    pub(crate) type Queue = mpsc::UnboundedSender<Operation>;

    pub(crate) struct LogThread;

    /// Starts the log's task: what waits while it syncs is lost in a crash, and what it has just synced is durable before it says so.
    pub(crate) fn start(shared: Arc<LogShared>) -> (Queue, LogThread) {
        let (queue, mut operations) = mpsc::unbounded_channel();
        drop(blox_runtime::spawn(async move {
            while let Some(first) = operations.recv().await {
                sync_delay().await;
                let (waiting, stopping) = writer::gather(first, || operations.try_recv().ok());
                let taken = waiting.len();
                let result = shared.writer.lock().write(&waiting, &shared);
                sync_delay().await;
                writer::answer(waiting, &result, &shared);
                shared.gauge.done(taken);
                if stopping {
                    return;
                }
            }
        }));
        (queue, LogThread)
    }

    /// The log's task has no other way.
    pub(crate) fn courier(queue: Queue) -> Queue {
        queue
    }

    async fn sync_delay() {
        let range = if random::between(1..=SLOW_SYNC_EACH) == 1 {
            SLOW_SYNC_MICROSECONDS
        } else {
            SYNC_MICROSECONDS
        };
        time::sleep(Duration::from_micros(random::between(range) / 2)).await;
    }

    impl LogThread {
        #[allow(clippy::unused_self)]
        pub(crate) fn join(self) -> bool {
            true
        }
    }
}
