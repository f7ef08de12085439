//! What makes a state that came out of a backup a new cluster's: see [`crate::backup`] and `apply/restore.rs`.

use bytes::Bytes;

use super::{CheckpointMeta, Store, StoreError};
use crate::apply;
use crate::encoding::meta;
use crate::engine::{Family, Write};

impl Store {
    /// Makes a state that was installed from a backup the beginning of a new cluster: `log_id` is its applied position in
    /// the new cluster's log, in consensus' own encoding; the index stays. Blocking.
    pub fn begin_anew(&self, log_id: Bytes, wall_time_ms: i64) -> Result<CheckpointMeta, StoreError> {
        let mut writer = self.inner.writer.lock();
        let applied = apply::restore(
            &*writer.engine,
            writer.position.clone(),
            log_id,
            wall_time_ms,
            self.inner.known_level,
        )?;
        writer.engine.write(&applied.batch)?;
        writer.engine.flush()?;
        writer.position = applied.position;
        self.inner.publish(&writer.position, None, |ring| {
            ring.restart(writer.position.revision);
        });
        drop(writer);
        self.applied()
    }

    /// Writes the first membership of a restored cluster at its applied position, before its log begins; durable when it returns. Blocking.
    pub fn write_first_membership(&self, membership: Bytes) -> Result<(), StoreError> {
        let writer = self.inner.writer.lock();
        if writer.position.restored_revision == 0 {
            return Err(StoreError::Corrupt(
                "a membership comes by the log, but to a state that was restored from a backup".to_owned(),
            ));
        }
        writer.engine.write(&[Write {
            family: Family::Meta,
            key: Bytes::from_static(meta::MEMBERSHIP),
            value: Some(membership),
        }])?;
        writer.engine.flush()?;
        self.inner.publish(&writer.position, None, |_| {});
        Ok(())
    }
}
