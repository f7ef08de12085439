//! One consistent cut: a snapshot of the engine, shown at the head or at an older revision.

use std::sync::Arc;

use bytes::Bytes;

use crate::Revision;
use crate::apply::transaction::decode;
use crate::encoding::{meta, prefix_end, version_key, version_prefix};
use crate::engine::{Family, Reader, ScanLimit};
use crate::key::Key;
use crate::proto::{Position, StoredValue};
use crate::store::StoreError;

/// See the module.
pub(crate) struct Cut {
    /// The snapshot.
    pub reader: Arc<dyn Reader>,
    /// Where the state stood when it was taken.
    pub position: Position,
    /// What is shown: at most `position.revision`.
    pub revision: Revision,
}

impl Cut {
    /// The head of a snapshot.
    pub fn head(reader: Arc<dyn Reader>) -> Result<Cut, StoreError> {
        let position = position(&*reader)?;
        Ok(Cut {
            revision: position.revision,
            reader,
            position,
        })
    }

    /// The same snapshot at an older revision.
    pub fn at(&self, revision: Revision) -> Cut {
        Cut {
            reader: Arc::clone(&self.reader),
            position: self.position.clone(),
            revision,
        }
    }

    /// Whether `latest` alone tells the state.
    pub fn is_head(&self) -> bool {
        self.revision == self.position.revision
    }

    /// A key's value.
    pub fn get(&self, key: &Key) -> Result<Option<StoredValue>, StoreError> {
        match self.reader.get(Family::Latest, key.as_bytes())? {
            Some(bytes) => self.value_of(key, bytes),
            None if self.is_head() => Ok(None),
            None => self.left_behind(key),
        }
    }

    /// A key's value, where `latest` holds these bytes.
    pub fn value_of(&self, key: &Key, latest: Bytes) -> Result<Option<StoredValue>, StoreError> {
        let value: StoredValue = decode(latest, "a value of `latest`")?;
        if value.mod_revision <= self.revision {
            Ok(Some(value))
        } else {
            self.left_behind(key)
        }
    }

    /// The value that `latest` had at the revision shown and has left behind since.
    pub fn left_behind(&self, key: &Key) -> Result<Option<StoredValue>, StoreError> {
        let end = prefix_end(&version_prefix(key));
        let newest = self
            .reader
            .scan(Family::Versions, &version_key(key, self.revision), &end, ScanLimit::ONE)?;
        let Some((_, bytes)) = newest.into_iter().next() else {
            return Ok(None);
        };
        let value: StoredValue = decode(bytes, "a value of `versions`")?;
        // Without a body: a tombstone.
        Ok(value.body.is_some().then_some(value))
    }

    /// The value a key had from exactly `revision` on, if it is still kept.
    pub fn version(&self, key: &Key, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        self.reader.get(Family::Versions, &version_key(key, revision))
    }

    /// A message of `meta`.
    pub fn meta<T: prost::Message + Default>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.reader
            .get(Family::Meta, key)?
            .map(|bytes| decode(bytes, "a record of `meta`"))
            .transpose()
    }

    /// At most `count` pairs of `meta` from `from` on whose keys begin with `front`.
    pub fn meta_scan(&self, front: &[u8], from: &[u8], count: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let end = prefix_end(front);
        let mut found = Vec::new();
        let mut from = from.to_vec();
        while found.len() < count {
            let step = self.reader.scan(
                Family::Meta,
                &from,
                &end,
                ScanLimit {
                    count: count - found.len(),
                    bytes: 1 << 20,
                },
            )?;
            let Some((last, _)) = step.last() else { break };
            from = [last.as_ref(), &[0]].concat();
            found.extend(step);
        }
        Ok(found)
    }
}

/// Where a state stands; a new one at the very beginning.
pub(crate) fn position(reader: &dyn Reader) -> Result<Position, StoreError> {
    let found = reader.get(Family::Meta, meta::POSITION)?;
    Ok(found
        .map(|bytes| decode(bytes, "the position"))
        .transpose()?
        .unwrap_or_default())
}
