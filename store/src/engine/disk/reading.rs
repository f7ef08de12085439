//! Reading: at the head, in a snapshot, and at the head what is in memory.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, DBRawIterator, ErrorKind, ReadOptions, ReadTier, SnapshotWithThreadMode};
use self_cell::self_cell;

use super::DiskEngine;
use crate::engine::{Family, Pair, Reader, ScanLimit};
use crate::store::StoreError;

/// Between two keys of a family, as many as are wanted.
struct Scan<'s> {
    family: Family,
    from: &'s [u8],
    until: &'s [u8],
    limit: ScanLimit,
}

impl DiskEngine {
    /// What was found, copied.
    fn found(
        &self,
        family: Family,
        found: Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>,
    ) -> Result<Option<Bytes>, StoreError> {
        match found {
            Ok(found) => Ok(found.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(self.failed("reading", family, &error)),
        }
    }

    /// Scans with an iterator of the family, which is bounded from above, so that it does not walk over what was deleted behind the range.
    fn scan_with<'i>(
        &self,
        scan: &Scan<'_>,
        iterate: impl FnOnce(&ColumnFamily, ReadOptions) -> DBRawIterator<'i>,
    ) -> Result<Vec<Pair>, StoreError> {
        let mut found = Vec::new();
        let mut options = ReadOptions::default();
        if !scan.until.is_empty() {
            if scan.from >= scan.until {
                return Ok(found);
            }
            options.set_iterate_upper_bound(scan.until);
        }
        let mut pairs = iterate(self.family(scan.family), options);
        let mut bytes = 0;
        pairs.seek(scan.from);
        while let Some((key, value)) = pairs.item() {
            bytes += key.len() + value.len();
            found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if found.len() >= scan.limit.count || bytes >= scan.limit.bytes {
                return Ok(found);
            }
            pairs.next();
        }
        match pairs.status() {
            Ok(()) => Ok(found),
            Err(error) => Err(self.failed("scanning", scan.family, &error)),
        }
    }

    /// Why nothing was read.
    fn failed(&self, what: &str, family: Family, error: &rocksdb::Error) -> StoreError {
        match error.kind() {
            // Only said where it was asked not to wait for the disk.
            ErrorKind::Incomplete => StoreError::NotInMemory,
            _ => self.damage.storage(self.doing(what, family), error),
        }
    }
}

impl Reader for DiskEngine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.found(family, self.database.get_pinned_cf(self.family(family), key))
    }

    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError> {
        let scan = Scan {
            family,
            from,
            until,
            limit,
        };
        self.scan_with(&scan, |family, options| {
            self.database.raw_iterator_cf_opt(family, options)
        })
    }
}

/// Reads memtables and the block cache, and nothing else.
pub(super) struct InMemory<'e> {
    engine: &'e DiskEngine,
    options: ReadOptions,
}

impl InMemory<'_> {
    pub(super) fn of(engine: &DiskEngine) -> InMemory<'_> {
        let options = InMemory::only(ReadOptions::default());
        InMemory { engine, options }
    }

    fn only(mut options: ReadOptions) -> ReadOptions {
        options.set_read_tier(ReadTier::BlockCache);
        options
    }
}

impl Reader for InMemory<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let InMemory { engine, options } = self;
        engine.found(
            family,
            engine.database.get_pinned_cf_opt(engine.family(family), key, options),
        )
    }

    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError> {
        let scan = Scan {
            family,
            from,
            until,
            limit,
        };
        self.engine.scan_with(&scan, |family, options| {
            self.engine
                .database
                .raw_iterator_cf_opt(family, InMemory::only(options))
        })
    }
}

type BorrowedSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell!(
    /// A RocksDB snapshot together with the database it borrows.
    pub(super) struct DiskSnapshot {
        owner: Arc<DiskEngine>,
        #[covariant]
        dependent: BorrowedSnapshot,
    }
);

impl Reader for DiskSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let engine = self.borrow_owner();
        engine.found(
            family,
            self.borrow_dependent().get_pinned_cf(engine.family(family), key),
        )
    }

    fn scan(&self, family: Family, from: &[u8], until: &[u8], limit: ScanLimit) -> Result<Vec<Pair>, StoreError> {
        let scan = Scan {
            family,
            from,
            until,
            limit,
        };
        self.borrow_owner().scan_with(&scan, |family, options| {
            self.borrow_dependent().raw_iterator_cf_opt(family, options)
        })
    }
}
