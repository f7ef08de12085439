//! `early-delivery`, one of the zoo's bugs (see `blox_runtime::zoo`).

use bytes::Bytes;

use super::{LogEntry, Store};
use crate::apply;

impl Store {
    /// Tells watchers what an entry will change that is only proposed, if nothing stands between it and the state.
    pub fn deliver_early(&self, payload: Bytes) {
        let Some(writer) = self.inner.writer.try_lock() else {
            return;
        };
        if self.inner.ring.lock().head().1 != writer.position.revision {
            return;
        }
        let entry = LogEntry {
            index: writer.position.applied_index + 1,
            log_id: writer.position.log_id.clone(),
            membership: None,
            payload: Some(payload),
        };
        let position = writer.position.clone();
        if let Ok(foreseen) = apply::apply(&*writer.engine, position, &[entry], self.inner.known_level) {
            self.inner.ring.lock().push(foreseen.changes);
            let progress = self.inner.progress.borrow().clone();
            // Nothing of it has changed: it wakes those who wait.
            self.inner.progress.send_replace(progress);
        }
    }
}
