//! Applying in a simulation: there is one thread, so it takes a moment of its own instead of a thread.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use blox_runtime::{random, time, watch};
use blox_store::Store;
use openraft::storage::EntryResponder;

use super::{AppliedReceiver, applier};
use crate::log::LogGauge;
use crate::types::{LogId, TypeConfig};

/// What applying a batch takes, microseconds.
const APPLY_MICROSECONDS: RangeInclusive<u64> = 20..=4_000;

/// Applies committed entries.
pub(crate) struct Applier {
    store: Store,
    applied: watch::Sender<Option<LogId>>,
}

impl Applier {
    pub(crate) fn start(store: Store, applied: Option<LogId>, _: Arc<LogGauge>) -> (Applier, AppliedReceiver) {
        let (applied, receiver) = watch::channel(applied);
        (Applier { store, applied }, receiver)
    }

    /// Applies entries as one batch and answers their proposers.
    pub(super) async fn apply(&self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        time::sleep(Duration::from_micros(random::between(APPLY_MICROSECONDS))).await;
        applier::apply(&self.store, entries, &self.applied)
    }

    /// A snapshot has replaced the state.
    pub(super) fn installed(&self, applied: Option<LogId>) {
        self.applied.send_replace(applied);
    }
}
