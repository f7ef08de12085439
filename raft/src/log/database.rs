//! What the log stands on: RocksDB in a node; in a simulation a disk in memory under the same words.

#[cfg(not(feature = "simulation"))]
pub(super) use rocksdb::{
    DB, DBCompressionType, DBRecoveryMode, Direction, Error, IteratorMode, Options, WriteBatch, WriteOptions,
};

#[cfg(not(feature = "simulation"))]
pub(super) use view::View;

#[cfg(feature = "simulation")]
pub(super) use super::simulated::{
    DB, DBCompressionType, DBRecoveryMode, Direction, Error, IteratorMode, Options, View, WriteBatch, WriteOptions,
};

#[cfg(not(feature = "simulation"))]
mod view {
    use std::ops::Range;

    use rocksdb::{DB, DBRawIterator, Error, ReadOptions};

    /// Pairs of a range of keys as they are when it is made. Making it does not read the disk; the first step does.
    pub(in crate::log) struct View<'a> {
        pairs: DBRawIterator<'a>,
        /// Until the first step.
        start: Option<Vec<u8>>,
    }

    impl View<'_> {
        pub(in crate::log) fn of<'a>(db: &'a DB, keys: &Range<impl AsRef<[u8]>>) -> View<'a> {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(keys.end.as_ref());
            View {
                pairs: db.raw_iterator_opt(options),
                start: Some(keys.start.as_ref().to_vec()),
            }
        }
    }

    impl Iterator for View<'_> {
        type Item = Result<(Box<[u8]>, Box<[u8]>), Error>;

        fn next(&mut self) -> Option<Self::Item> {
            match self.start.take() {
                Some(start) => self.pairs.seek(start),
                None => self.pairs.next(),
            }
            match self.pairs.item() {
                Some((key, value)) => Some(Ok((key.into(), value.into()))),
                None => self.pairs.status().err().map(Err),
            }
        }
    }
}

/// Looks at write-ahead logs before they are read: see [`blox_store::write_ahead_log`].
#[cfg(not(feature = "simulation"))]
pub(super) fn prepare(directory: &std::path::Path) -> Result<(), blox_store::write_ahead_log::WriteAheadLogError> {
    blox_store::write_ahead_log::prepare(directory)
}

/// The simulated disk has none.
#[cfg(feature = "simulation")]
pub(super) fn prepare(_: &std::path::Path) -> Result<(), blox_store::write_ahead_log::WriteAheadLogError> {
    Ok(())
}

/// Whether an error means that files are not what was written, rather than that the system refused.
#[cfg(not(feature = "simulation"))]
pub(super) fn is_damage(error: &Error) -> bool {
    use rocksdb::ErrorKind;
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::InvalidArgument | ErrorKind::NotSupported => true,
        ErrorKind::IOError => error.to_string().contains("No such file"),
        _ => false,
    }
}

/// The simulated disk damages nothing.
#[cfg(feature = "simulation")]
pub(super) fn is_damage(_: &Error) -> bool {
    false
}

/// Bytes that a flush would write; where that is not known, none: nothing but a forecast depends on it.
#[cfg(not(feature = "simulation"))]
pub(super) fn unflushed_bytes(db: &DB) -> u64 {
    let asked = db.property_int_value(rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES);
    asked.ok().flatten().unwrap_or_default()
}

/// The simulated disk has no tables.
#[cfg(feature = "simulation")]
pub(super) fn unflushed_bytes(_: &DB) -> u64 {
    0
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use super::*;
    use crate::log::record::key;

    /// A view shows what was there when it was made, whatever happens before its first step: range deletions, new values, flushes, compactions.
    #[test]
    fn a_view_is_of_the_moment_it_is_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = Options::default();
        options.create_if_missing(true);
        let db = DB::open(&options, directory.path()).expect("a database");
        let put = |indexes: std::ops::Range<u64>, value: &str| {
            for index in indexes {
                db.put(key(index), value).expect("written");
            }
        };
        put(0..100, "old");
        db.flush().expect("flushed");
        put(100..200, "old");
        let view = View::of(&db, &(key(10)..key(150)));
        let mut batch = WriteBatch::default();
        batch.delete_range(key(0), key(120));
        db.write(batch).expect("written");
        put(20..30, "new");
        db.flush().expect("flushed");
        db.compact_range(None::<&[u8]>, None::<&[u8]>);
        let pairs: Vec<_> = view.collect::<Result<_, _>>().expect("read");
        let expected: Vec<_> = (10..150).map(|index| (key(index).into(), (*b"old").into())).collect();
        assert_eq!(pairs, expected);
    }
}
