//! What the log stands on: RocksDB in a node; in a simulation a disk in memory under the same words.

#[cfg(not(feature = "simulation"))]
pub(super) use rocksdb::{
    DB, DBCompressionType, DBRecoveryMode, Direction, Error, IteratorMode, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

#[cfg(feature = "simulation")]
pub(super) use super::simulated::{
    DB, DBCompressionType, DBRecoveryMode, Direction, Error, IteratorMode, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

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
