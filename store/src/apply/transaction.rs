//! What a command reads and writes: keys by revision, tombstones, source counters.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::indexes;
use super::overlay::Overlay;
use crate::Revision;
use crate::encoding::{self, Index, age_key, meta};
use crate::engine::{Family, Reader};
use crate::feature_level::FeatureLevel;
use crate::key::{Key, Kind};
use crate::proto::{HistoryRecord, Position, SourceStatus, StoredValue, Tombstone, stored_value};
use crate::ring::{Line, RingChange, SharedValue};
use crate::store::StoreError;
use crate::watch::Cause;

/// An overlay over the engine for one apply call (many entries, many commands). It is written as one batch at the end.
pub(crate) struct Transaction<'a> {
    pub(super) overlay: Overlay<'a>,
    pub(super) position: Position,
    /// The newest feature level this node knows.
    pub(super) known: FeatureLevel,
    sources: BTreeMap<String, LoadedSource>,
    changes: Vec<Arc<RingChange>>,
    cause: Arc<Cause>,
    /// Its part of every history record.
    cause_encoded: Vec<u8>,
    /// The value read last: most commands read a key, then write it.
    last_read: RefCell<Option<(Key, Option<Bytes>)>>,
}

struct LoadedSource {
    status: SourceStatus,
    changed: bool,
}

/// Decodes a value of any family.
pub(crate) fn decode<T: Message + Default>(bytes: Bytes, what: &str) -> Result<T, StoreError> {
    T::decode(bytes).map_err(|error| StoreError::Corrupt(format!("{what}: {error}")))
}

impl<'a> Transaction<'a> {
    pub(super) fn new(engine: &'a dyn Reader, position: Position, known: FeatureLevel) -> Transaction<'a> {
        Transaction {
            overlay: Overlay::new(engine),
            position,
            known,
            sources: BTreeMap::new(),
            changes: Vec::new(),
            cause: Arc::default(),
            cause_encoded: Vec::new(),
            last_read: RefCell::default(),
        }
    }

    /// Who asks for what is written from here on: a record that says nothing else.
    pub(super) fn set_cause(&mut self, asked: HistoryRecord) {
        self.cause_encoded.clear();
        asked
            .encode(&mut self.cause_encoded)
            .expect("a vector takes any length");
        self.cause = Arc::new(Cause::of(asked));
    }

    /// Writes the counters that the entry has changed.
    pub(super) fn write_sources(&mut self) {
        for (name, source) in &mut self.sources {
            if std::mem::take(&mut source.changed) {
                let key = meta::named(meta::SOURCE, &[name]);
                self.overlay
                    .write(Family::Meta, key, Some(source.status.encode_to_vec().into()));
            }
        }
    }

    /// The batch's parts: the overlay, where the state stands, and what to tell watchers.
    pub(super) fn into_parts(self) -> (Overlay<'a>, Position, Vec<Arc<RingChange>>) {
        (self.overlay, self.position, self.changes)
    }

    fn read_latest(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        if let Some((last, value)) = &*self.last_read.borrow()
            && last == key
        {
            return Ok(value.clone());
        }
        let value = self.overlay.get(Family::Latest, key.as_bytes())?;
        *self.last_read.borrow_mut() = Some((key.clone(), value.clone()));
        Ok(value)
    }

    /// Records one change of one key: what `latest` leaves behind, history, indexes, watchers.
    fn change(
        &mut self,
        key: &Key,
        current: Option<(&StoredValue, Bytes)>,
        previous: Option<(&StoredValue, Bytes)>,
        ecs_version: Option<i64>,
    ) {
        let revision = self.position.revision;
        let previous_mod_revision = previous.as_ref().map_or(0, |(value, _)| value.mod_revision);
        let deleted = current.is_none();
        // Three messages behind one another are one: what the command's changes have in common is encoded once.
        let change = HistoryRecord {
            key: key.to_bytes(),
            previous_mod_revision,
            deleted,
            ..HistoryRecord::default()
        };
        let version = HistoryRecord {
            ecs_version,
            ..HistoryRecord::default()
        };
        let length = change.encoded_len() + self.cause_encoded.len() + version.encoded_len();
        let mut record = Vec::with_capacity(length);
        change.encode(&mut record).expect("a vector takes any length");
        record.extend_from_slice(&self.cause_encoded);
        version.encode(&mut record).expect("a vector takes any length");
        let record = Bytes::from(record);
        self.position.history_bytes += record.len() as u64;
        self.overlay
            .write(Family::History, encoding::history_key(revision, 0), Some(record));
        if let Some((_, bytes)) = &previous {
            self.position.history_bytes += (key.as_bytes().len() + bytes.len()) as u64;
            self.overlay.write(
                Family::Versions,
                encoding::version_key(key, previous_mod_revision),
                Some(bytes.clone()),
            );
        }
        if deleted {
            let tombstone = StoredValue {
                mod_revision: revision,
                ..StoredValue::default()
            };
            self.overlay.write(
                Family::Versions,
                encoding::version_key(key, revision),
                Some(tombstone.encode_to_vec().into()),
            );
        }
        let bytes = current.as_ref().map(|(_, bytes)| bytes.clone());
        self.overlay.write(Family::Latest, key.to_bytes(), bytes.clone());
        *self.last_read.get_mut() = Some((key.clone(), bytes));
        let fields_before = previous.as_ref().and_then(|(value, _)| indexes::Indexed::of(value));
        let fields_after = current.as_ref().and_then(|(value, _)| indexes::Indexed::of(value));
        indexes::update(&mut self.overlay, key, fields_before.as_ref(), fields_after.as_ref());
        let value = |(_, bytes): (&StoredValue, Bytes)| SharedValue::new(bytes);
        self.changes.push(Arc::new(RingChange {
            key: key.clone(),
            revision,
            current: current.map(value),
            deleted: previous.filter(|_| deleted).map(value),
            cause: Arc::clone(&self.cause),
            line: Line::default(),
        }));
    }

    /// The value of a key, earlier writes of the same apply included.
    pub fn get(&self, key: &Key) -> Result<Option<StoredValue>, StoreError> {
        self.read_latest(key)?
            .map(|bytes| decode(bytes, "a value of `latest`"))
            .transpose()
    }

    /// All values of a kind whose key's tail begins with `prefix`, in key order.
    pub fn scan(&self, kind: Kind, prefix: &[u8]) -> Result<Vec<(Key, StoredValue)>, StoreError> {
        let from = [[kind as u8].as_slice(), prefix].concat();
        let pairs = self
            .overlay
            .scan(Family::Latest, &from, &encoding::prefix_end(&from), usize::MAX)?;
        pairs
            .into_iter()
            .map(|(key, value)| Ok((stored_key(key)?, decode(value, "a value of `latest`")?)))
            .collect()
    }

    /// Writes a key at the next revision; `ecs_version` is noted in its history. Returns what now stands there.
    pub fn put(
        &mut self,
        key: &Key,
        body: stored_value::Body,
        ecs_version: Option<i64>,
    ) -> Result<StoredValue, StoreError> {
        let bytes = self.read_latest(key)?;
        let previous = match &bytes {
            Some(bytes) => Some(decode::<StoredValue>(bytes.clone(), "a value of `latest`")?),
            None => None,
        };
        self.position.revision += 1;
        let revision = self.position.revision;
        let value = StoredValue {
            create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |previous| previous.version + 1),
            lease_id: 0,
            body: Some(body),
        };
        if previous.is_none() {
            indexes::create(&mut self.overlay, key)?;
        }
        let encoded = Bytes::from(value.encode_to_vec());
        self.change(key, Some((&value, encoded)), previous.as_ref().zip(bytes), ecs_version);
        Ok(value)
    }

    /// Deletes a key at the next revision; returns the last value. An absent key stays absent, and uses no revision.
    pub fn delete(&mut self, key: &Key) -> Result<Option<StoredValue>, StoreError> {
        let Some(bytes) = self.read_latest(key)? else {
            return Ok(None);
        };
        let previous: StoredValue = decode(bytes.clone(), "a value of `latest`")?;
        self.position.revision += 1;
        indexes::delete(&mut self.overlay, key, self.position.revision);
        let ecs_version = indexes::Indexed::of(&previous).and_then(|fields| fields.ecs_version());
        self.change(key, None, Some((&previous, bytes)), ecs_version);
        Ok(Some(previous))
    }

    /// What is remembered of a deleted ARN.
    pub fn tombstone(&self, arn: &str) -> Result<Option<Tombstone>, StoreError> {
        let found = self.overlay.get(Family::Tombstones, arn.as_bytes())?;
        found.map(|bytes| decode(bytes, "a tombstone")).transpose()
    }

    /// Remembers a deleted ARN, for as long as [`super::expiry`] says.
    pub fn put_tombstone(&mut self, arn: &str, tombstone: Tombstone) -> Result<(), StoreError> {
        if let Some(earlier) = self.tombstone(arn)? {
            let key = age_key(Index::TombstoneAge, earlier.deleted_at_elapsed_ms, arn.as_bytes());
            self.overlay.write(Family::Indexes, key, None);
        }
        let key = age_key(Index::TombstoneAge, tombstone.deleted_at_elapsed_ms, arn.as_bytes());
        self.overlay.write(Family::Indexes, key, Some(Bytes::new()));
        let value = tombstone.encode_to_vec().into();
        self.overlay
            .write(Family::Tombstones, Bytes::copy_from_slice(arn.as_bytes()), Some(value));
        Ok(())
    }

    /// Counters of a source, written back at the end of the entry. Its passes stand apart and are not among them.
    pub fn source_status(&mut self, source: &str) -> Result<&mut SourceStatus, StoreError> {
        if !self.sources.contains_key(source) {
            let found = self.overlay.get(Family::Meta, &meta::named(meta::SOURCE, &[source]))?;
            let status = match found {
                Some(bytes) => decode(bytes, "a source's status")?,
                None => SourceStatus {
                    source: source.to_owned(),
                    ..SourceStatus::default()
                },
            };
            self.sources
                .insert(source.to_owned(), LoadedSource { status, changed: false });
        }
        let loaded = self.sources.get_mut(source).expect("inserted above");
        loaded.changed = true;
        Ok(&mut loaded.status)
    }

    /// Has a resource expire once it has been forgotten for as long as [`super::expiry`] says.
    pub fn expire_later(&mut self, key: &Key, forgotten_at_elapsed_ms: u64) -> Result<(), StoreError> {
        let key = age_key(Index::ForgottenAge, forgotten_at_elapsed_ms, key.as_bytes());
        self.overlay.write(Family::Indexes, key, Some(Bytes::new()));
        Ok(())
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.position.revision
    }

    /// Replicated clock, milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        self.position.elapsed_ms
    }

    /// The leader's wall clock, milliseconds since the epoch: for display only.
    pub fn wall_time_ms(&self) -> i64 {
        self.cause.wall_time_ms
    }

    /// The `session` field of the command being applied.
    pub fn command_session(&self) -> u64 {
        self.cause.session
    }
}

/// A key read from `latest`.
pub(crate) fn stored_key(bytes: Bytes) -> Result<Key, StoreError> {
    Key::from_bytes(bytes).ok_or_else(|| StoreError::Corrupt("a key of `latest` begins with no kind".to_owned()))
}
