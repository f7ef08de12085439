//! Writes that are not in the engine yet, and the hash chained over them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::engine::{Family, Pair, Reader, ScanLimit, Write};
use crate::store::StoreError;

/// How much a scan takes out of the engine at once.
const SCAN_STEP: ScanLimit = ScanLimit {
    count: 1_024,
    bytes: 1 << 20,
};

type Pending = BTreeMap<Bytes, Option<Bytes>>;

/// The engine as it will be once the batch is written.
pub(crate) struct Overlay<'a> {
    engine: &'a dyn Reader,
    pending: [Pending; Family::ALL.len()],
    /// Of all that was written; a key written twice counts twice.
    bytes: usize,
    hasher: Box<Xxh3>,
}

impl<'a> Overlay<'a> {
    /// Nothing written yet.
    pub fn new(engine: &'a dyn Reader) -> Overlay<'a> {
        Overlay {
            engine,
            pending: Default::default(),
            bytes: 0,
            hasher: Box::new(Xxh3::new()),
        }
    }

    /// A value, pending writes included.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.pending[family as usize].get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.engine.get(family, key),
        }
    }

    /// A write that every node makes: it enters the state hash.
    pub fn write(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        self.hasher.update(&[family as u8, u8::from(value.is_some())]);
        self.hash_bytes(&key);
        if let Some(value) = &value {
            self.hash_bytes(value);
        }
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.pending[family as usize].insert(key, value);
    }

    /// About how much waits to be written, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A write beside the state hash: what is no state (positions, encodings of consensus' own), and what not every version writes.
    pub fn write_unhashed(&mut self, family: Family, key: Bytes, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.pending[family as usize].insert(key, value);
    }

    fn hash_bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// Takes further state into the hash.
    pub fn hash_number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    /// Begins the hash of an entry.
    pub fn start_hash(&mut self, previous: &[u8], index: u64) {
        self.hasher.reset();
        self.hasher.update(previous);
        self.hasher.update(&index.to_le_bytes());
    }

    /// The hash of the entry.
    pub fn hash(&self) -> u128 {
        self.hasher.digest128()
    }

    /// At most `count` pairs with `from <= key < until`, pending writes included. (An empty `until`: to the end.)
    pub fn scan(&self, family: Family, from: &[u8], until: &[u8], count: usize) -> Result<Vec<Pair>, StoreError> {
        if !until.is_empty() && from >= until {
            return Ok(Vec::new());
        }
        let end = if until.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(until)
        };
        let mut pending = self.pending[family as usize]
            .range::<[u8], _>((Bound::Included(from), end))
            .peekable();
        let step = ScanLimit {
            count: SCAN_STEP.count.min(count),
            ..SCAN_STEP
        };
        let mut found: Vec<Pair> = Vec::new();
        let mut next = from.to_vec();
        loop {
            let stored = self.engine.scan(family, &next, until, step)?;
            let ended = stored.is_empty();
            if let Some((last, _)) = stored.last() {
                next.clear();
                next.extend_from_slice(last);
                next.push(0);
            }
            for (key, value) in stored {
                while let Some((before, written)) = pending.next_if(|(pending, _)| **pending < key) {
                    found.extend(written.clone().map(|value| (before.clone(), value)));
                }
                match pending.next_if(|(pending, _)| **pending == key) {
                    Some((_, written)) => found.extend(written.clone().map(|value| (key, value))),
                    None => found.push((key, value)),
                }
            }
            if ended {
                found.extend(
                    pending
                        .by_ref()
                        .filter_map(|(key, written)| written.clone().map(|value| (key.clone(), value))),
                );
            }
            if ended || found.len() >= count {
                found.truncate(count);
                return Ok(found);
            }
        }
    }

    /// Everything written, as one batch.
    pub fn into_batch(self) -> Vec<Write> {
        let families = Family::ALL.into_iter().zip(self.pending);
        families
            .flat_map(|(family, pending)| {
                pending
                    .into_iter()
                    .map(move |(key, value)| Write { family, key, value })
            })
            .collect()
    }
}
