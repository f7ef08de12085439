//! Where the time of proposals goes on the leader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blox_runtime::time::Instant;
use openraft::OptionalSend;
use openraft::raft::responder::Responder;

use crate::types::{LogId, TypeConfig};

/// Sums over all proposals of this node as leader.
#[derive(Default)]
pub(crate) struct Stages {
    /// Of a proposal: until it leaves the queue, in an entry with those that waited together.
    pub queued: Sum,
    /// Of an entry: from there until consensus knows that a quorum has it, and hands it to be applied.
    pub committed: Sum,
    /// Of an entry: from there until it is applied here.
    pub applied: Sum,
}

/// How many, and how long in all.
#[derive(Default)]
pub(crate) struct Sum {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Sum {
    pub(crate) fn add(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Count and seconds.
    pub(crate) fn read(&self) -> (f64, f64) {
        let seconds = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        (self.count.load(Ordering::Relaxed) as f64, seconds)
    }
}

impl Stages {
    /// An entry that was handed to consensus at `sent` was applied.
    pub(crate) fn note(&self, sent: Instant, passed: &Passed) {
        if let Some(committed) = passed.committed {
            self.committed.add(committed.saturating_duration_since(sent));
            self.applied.add(passed.completed.saturating_duration_since(committed));
        }
    }
}

/// When an entry passed the stages after it was handed to consensus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// None: it was refused, or its leader lost the lead before.
    committed: Option<Instant>,
    completed: Instant,
}

/// What is done with an entry's outcome, at once and on the thread that knows it: those who wait are woken by the one that applied, not by way
/// of consensus. Without an outcome consensus has ended before.
type Then<T> = Box<dyn FnOnce(Option<T>, Passed) + Send>;

/// Is told an entry's outcome, and tells when the entry passed which stage.
pub(crate) struct Told<T> {
    committed: Option<Instant>,
    then: Option<Then<T>>,
}

impl<T> Told<T> {
    /// To be given to consensus.
    pub(crate) fn new(then: impl FnOnce(Option<T>, Passed) + Send + 'static) -> Told<T> {
        Told {
            committed: None,
            then: Some(Box::new(then)),
        }
    }

    fn tell(&mut self, outcome: Option<T>) {
        let Some(then) = self.then.take() else { return };
        let passed = Passed {
            committed: self.committed,
            completed: Instant::now(),
        };
        then(outcome, passed);
    }
}

impl<T> Drop for Told<T> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Told<T> {
    fn on_commit(&mut self, _: LogId) {
        self.committed = Some(Instant::now());
    }

    fn on_complete(mut self, outcome: T) {
        self.tell(Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::types::log_id;

    /// What was applied has its time in each stage. Each entry is told once, also that there will be no outcome any more.
    #[tokio::test(start_paused = true)]
    async fn each_stage_has_its_time() {
        let stages = Arc::new(Stages::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let sent = Instant::now();
        let entry = || {
            let (stages, told) = (Arc::clone(&stages), Arc::clone(&told));
            Told::new(move |outcome: Option<&'static str>, passed| {
                if outcome == Some("applied") {
                    stages.note(sent, &passed);
                }
                told.lock().push(outcome);
            })
        };
        let mut applied = entry();
        tokio::time::sleep(Duration::from_millis(5)).await;
        applied.on_commit(log_id(1, 1));
        tokio::time::sleep(Duration::from_millis(2)).await;
        applied.on_complete("applied");
        entry().on_complete("refused");
        drop(entry());
        assert_eq!(*told.lock(), [Some("applied"), Some("refused"), None]);
        assert_eq!(stages.committed.read(), (1.0, 0.005));
        assert_eq!(stages.applied.read(), (1.0, 0.002));
    }
}
