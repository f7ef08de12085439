//! The engine of a node: RocksDB.
//!
//! The write-ahead log is written and never synced by a write: after a crash the state is some earlier whole batch, and the consensus log
//! replays the rest. Who lets go of log entries must have called [`Engine::flush`] or taken a checkpoint first. Writes that must not wait only
//! gather in memory what the next ordinary one hands to the system. Whatever could have them wait for the disk all the same (files that are made,
//! memtables that are full) is kept apart from them.

mod reading;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind,
    Options, WriteBatch, WriteOptions,
};

use self::reading::{DiskSnapshot, InMemory};
use super::damage::{Damage, opening};
use super::manifest_note::ManifestNote;
use super::{Engine, Family, FileSizes, Reader, Undisturbed, Write};
use crate::store::StoreError;
use crate::write_ahead_log::{self, WriteAheadLogError};

/// Uncompressed blocks kept in memory, all families together.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// One memtable: small, so that a flush is a short step and does not hold up the log's fsyncs.
const MEMTABLE_BYTES: usize = 16 << 20;
/// All memtables together: what a node's memory owes to writes.
const MEMTABLES_BYTES: usize = 64 << 20;
/// Memtables of one family, the one being filled included, before writes wait for a flush.
const MEMTABLES_PER_FAMILY: i32 = 4;
/// The write-ahead log is cut by flushing what holds it back beyond this; it bounds the replay at a start.
const WAL_BYTES_MAX: u64 = 128 << 20;
/// Files are handed to the disk in steps of this, instead of all at their end.
const BYTES_PER_SYNC: u64 = 512 << 10;
/// Flushes and compactions together, bytes a second: above it they would raise the log's fsync times.
const BACKGROUND_BYTES_PER_SECOND: i64 = 64 << 20;
/// The rate limiter's period, microseconds.
const BACKGROUND_PERIOD_US: i64 = 100_000;
/// The rate limiter serves low priorities at least once in this many times.
const BACKGROUND_FAIRNESS: i32 = 10;
/// Threads for flushes and compactions.
const BACKGROUND_THREADS: i32 = 2;
/// The manifest is looked at with every 16th write or so: it changes with flushes and compactions only. That write is an ordinary one, so that no
/// more than these gather in memory.
pub(super) const WRITES_PER_NOTE: u64 = 16;
/// How full memtables are is asked again after so much was written, bytes.
const MEASURE_BYTES: u64 = 1 << 20;
/// A memtable with less room than this, bytes, is left to ordinary writes: who fills it makes the next write-ahead log.
const ROOM_BYTES: u64 = 3 << 20;
/// What a write takes in a batch beside its key and value, about, bytes: a tag, its family, two lengths.
const RECORD_BYTES: usize = 16;
/// Tables of a family that is written to and seldom read before they are merged into those below: each merge reads and writes all of the first
/// level again.
const SELDOM_READ_TABLES: i32 = 16;
/// Beyond so many writes are slowed down, ...
const SELDOM_READ_TABLES_SLOW: i32 = 40;
/// ... and beyond so many they wait.
const SELDOM_READ_TABLES_MAX: i32 = 64;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const BLOCK_BYTES: usize = 16 << 10;
/// RocksDB's own text logs kept.
const TEXT_LOGS: usize = 3;
/// Size of one of them.
const TEXT_LOG_BYTES: usize = 4 << 20;

/// See the module.
pub(crate) struct DiskEngine {
    // Order matters: the database closes before its files may go.
    database: DB,
    files: Files,
    damage: Damage,
    /// `None`: nothing here changes.
    note: Option<Mutex<ManifestNote>>,
    writes: AtomicU64,
    /// Writes that the system has not been given.
    gathered: AtomicU64,
    /// Bytes written since it was asked how full memtables are.
    unmeasured_bytes: AtomicU64,
    /// Whether one was nearly full.
    nearly_full: AtomicBool,
    /// Held by whoever does what a write could have to wait for.
    disturbance: Mutex<()>,
}

/// The directory of an engine, deleted on drop when a newer one has taken its place.
struct Files {
    directory: PathBuf,
    discard: AtomicBool,
}

impl Drop for Files {
    fn drop(&mut self) {
        if self.discard.load(Ordering::Acquire)
            && let Err(error) = std::fs::remove_dir_all(&self.directory)
        {
            // The next start removes what is not current.
            tracing::warn!(directory = %self.directory.display(), %error, "cannot delete the replaced state");
        }
    }
}

impl DiskEngine {
    /// Creates an empty database in `directory`; one that was begun there and never finished is completed.
    pub fn create(directory: &Path, damage: &Damage) -> Result<DiskEngine, StoreError> {
        let mut options = database_options()?;
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let database = DB::open_cf_descriptors(&options, directory, families())
            .map_err(|error| StoreError::storage(format!("creating the state in {}", directory.display()), error))?;
        DiskEngine::noted(database, directory, damage)
    }

    /// Opens the database in `directory`. Nothing of it that is missing is made up for: an empty family in place of a lost one would be
    /// another state.
    pub fn open(directory: &Path, damage: &Damage) -> Result<DiskEngine, StoreError> {
        ManifestNote::check(directory)?;
        let doing = || format!("opening the state in {}", directory.display());
        write_ahead_log::prepare(directory).map_err(|error| looking(doing(), error))?;
        let database = DB::open_cf_descriptors(&database_options()?, directory, families())
            .map_err(|error| opening(doing(), &error))?;
        DiskEngine::noted(database, directory, damage)
    }

    fn noted(database: DB, directory: &Path, damage: &Damage) -> Result<DiskEngine, StoreError> {
        let note = ManifestNote::begin(directory)
            .map_err(|error| StoreError::storage(format!("noting the manifest in {}", directory.display()), error))?;
        Ok(DiskEngine {
            note: Some(Mutex::new(note)),
            ..DiskEngine::of(database, directory, damage.clone())
        })
    }

    /// As [`DiskEngine::open_read_only`], once its write-ahead logs are seen to be whole.
    pub fn open_whole(directory: &Path) -> Result<DiskEngine, StoreError> {
        let doing = || format!("reading the checkpoint {}", directory.display());
        write_ahead_log::verify(directory).map_err(|error| looking(doing(), error))?;
        DiskEngine::open_read_only(directory)
    }

    /// Opens a checkpoint to look at it; nothing in it changes.
    pub fn open_read_only(directory: &Path) -> Result<DiskEngine, StoreError> {
        let database = DB::open_cf_descriptors_read_only(&database_options()?, directory, families(), false)
            .map_err(|error| opening(format!("reading the checkpoint {}", directory.display()), &error))?;
        Ok(DiskEngine::of(database, directory, Damage::unwatched()))
    }

    fn of(database: DB, directory: &Path, damage: Damage) -> DiskEngine {
        DiskEngine {
            database,
            damage,
            note: None,
            writes: AtomicU64::new(0),
            gathered: AtomicU64::new(0),
            unmeasured_bytes: AtomicU64::new(0),
            nearly_full: AtomicBool::new(false),
            disturbance: Mutex::new(()),
            files: Files {
                directory: directory.to_owned(),
                discard: AtomicBool::new(false),
            },
        }
    }

    fn look_at_manifest(&self) -> Result<(), StoreError> {
        let Some(note) = &self.note else { return Ok(()) };
        note.lock().look().map_err(|error| {
            StoreError::storage(
                format!("noting the manifest in {}", self.files.directory.display()),
                error,
            )
        })
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.database
            .cf_handle(family.name())
            .expect("every family is created when the database is opened")
    }

    /// A figure of RocksDB over all families. Unknown is none: nothing but a forecast depends on it.
    fn sum(&self, property: &rocksdb::properties::PropName) -> u64 {
        let of = |family: Family| {
            let asked = self.database.property_int_value_cf(self.family(family), property);
            asked.ok().flatten().unwrap_or_default()
        };
        Family::ALL.into_iter().map(of).sum()
    }

    fn doing(&self, what: &str, family: Family) -> String {
        format!("{what} {} in {}", family.name(), self.files.directory.display())
    }

    /// Writes a batch, unsynced.
    fn write_with(&self, batch: &[Write], options: &WriteOptions) -> Result<(), rocksdb::Error> {
        // What it will hold is known: it need not grow, which copies all of it each time.
        let bytes = |write: &Write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len) + RECORD_BYTES;
        let all = batch.iter().map(bytes).sum();
        self.unmeasured_bytes.fetch_add(all as u64, Ordering::Relaxed);
        let mut writes = WriteBatch::with_capacity_bytes(all);
        for write in batch {
            let family = self.family(write.family);
            match &write.value {
                Some(value) => writes.put_cf(family, &write.key, value),
                None => writes.delete_cf(family, &write.key),
            }
        }
        self.database.write_opt(writes, options)
    }

    fn writing(&self, error: &rocksdb::Error) -> StoreError {
        let doing = format!("writing to the state in {}", self.files.directory.display());
        self.damage.storage(doing, error)
    }

    /// A batch was written in the ordinary way.
    fn written(&self) -> Result<(), StoreError> {
        self.gathered.store(0, Ordering::Relaxed);
        if self.unmeasured_bytes.load(Ordering::Relaxed) >= MEASURE_BYTES {
            self.measure();
        }
        let writes = self.writes.fetch_add(1, Ordering::Relaxed);
        if writes.is_multiple_of(WRITES_PER_NOTE) {
            self.look_at_manifest()?;
        }
        Ok(())
    }

    /// Looks how full memtables are, each and all together (beyond seven eighths RocksDB writes the fullest).
    fn measure(&self) {
        self.unmeasured_bytes.store(0, Ordering::Relaxed);
        let active = |family: Family| {
            let size = rocksdb::properties::CUR_SIZE_ACTIVE_MEM_TABLE;
            let asked = self.database.property_int_value_cf(self.family(family), size);
            asked.ok().flatten().unwrap_or(u64::MAX)
        };
        let sizes = Family::ALL.map(active);
        let one = sizes
            .iter()
            .any(|size| size.saturating_add(ROOM_BYTES) > MEMTABLE_BYTES as u64);
        let all = self.unflushed_bytes() + ROOM_BYTES > MEMTABLES_BYTES as u64 / 8 * 7;
        self.nearly_full.store(one || all, Ordering::Relaxed);
    }

    /// Gives what has gathered to the system, and syncs it where that is wanted.
    fn flush_log(&self, sync: bool) -> Result<(), StoreError> {
        self.gathered.store(0, Ordering::Relaxed);
        self.database.flush_wal(sync).map_err(|error| self.writing(&error))
    }

    /// Makes everything written so far durable. The caller holds the disturbance.
    fn sync(&self) -> Result<(), StoreError> {
        self.flush_log(true)?;
        self.look_at_manifest()
    }
}

fn looking(doing: String, error: WriteAheadLogError) -> StoreError {
    match error {
        WriteAheadLogError::Hole { .. } => StoreError::Corrupt(format!("{doing}: {error}")),
        WriteAheadLogError::Io { .. } => StoreError::storage(doing, error),
    }
}

fn database_options() -> Result<Options, StoreError> {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A finished write-ahead log that is missing would leave some families ahead of others.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_manual_wal_flush(true);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_wal_bytes_per_sync(BYTES_PER_SYNC);
    options.set_ratelimiter(BACKGROUND_BYTES_PER_SECOND, BACKGROUND_PERIOD_US, BACKGROUND_FAIRNESS);
    options.set_max_background_jobs(BACKGROUND_THREADS);
    options.set_keep_log_file_num(TEXT_LOGS);
    options.set_max_log_file_size(TEXT_LOG_BYTES);
    options.set_stats_dump_period_sec(0);
    Ok(options)
}

fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    Family::ALL
        .into_iter()
        .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache)))
        .collect()
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    // The history is only scanned.
    if family != Family::History {
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(MEMTABLES_PER_FAMILY);
    options.set_level_compaction_dynamic_level_bytes(true);
    if matches!(family, Family::Versions | Family::History) {
        options.set_level_zero_file_num_compaction_trigger(SELDOM_READ_TABLES);
        options.set_level_zero_slowdown_writes_trigger(SELDOM_READ_TABLES_SLOW);
        options.set_level_zero_stop_writes_trigger(SELDOM_READ_TABLES_MAX);
    }
    options
}

impl Engine for DiskEngine {
    fn snapshot(self: Arc<Self>) -> Arc<dyn Reader> {
        Arc::new(DiskSnapshot::new(self, |engine| engine.database.snapshot()))
    }

    fn undisturbed(&self) -> Option<Undisturbed<'_>> {
        let is_noted = self.writes.load(Ordering::Relaxed).is_multiple_of(WRITES_PER_NOTE);
        let is_unknown = self.unmeasured_bytes.load(Ordering::Relaxed) >= ROOM_BYTES / 2;
        if is_noted || is_unknown || self.nearly_full.load(Ordering::Relaxed) {
            return None;
        }
        let held = self.disturbance.try_lock()?;
        Some(Undisturbed { _held: Some(held) })
    }

    fn in_memory(&self) -> Box<dyn Reader + '_> {
        Box::new(InMemory::of(self))
    }

    fn write(&self, batch: &[Write]) -> Result<(), StoreError> {
        fail::fail_point!("store::before-write");
        self.write_with(batch, &WriteOptions::default())
            .and_then(|()| self.database.flush_wal(false))
            .map_err(|error| self.writing(&error))?;
        self.written()
    }

    fn has_gathered(&self) -> bool {
        self.gathered.load(Ordering::Relaxed) > 0
    }

    fn hand_over(&self) -> Result<(), StoreError> {
        let _held = self.disturbance.lock();
        self.flush_log(false)
    }

    fn write_at_once(&self, batch: &[Write]) -> Result<bool, StoreError> {
        let mut options = WriteOptions::default();
        options.set_no_slowdown(true);
        match self.write_with(batch, &options) {
            Ok(()) => {
                self.writes.fetch_add(1, Ordering::Relaxed);
                self.gathered.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(false),
            Err(error) => Err(self.writing(&error)),
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        let _held = self.disturbance.lock();
        self.sync()
    }

    fn write_checkpoint(&self, directory: &Path) -> Result<(), StoreError> {
        let _held = self.disturbance.lock();
        self.sync()?;
        Checkpoint::new(&self.database)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
            .map_err(|error| {
                let doing = format!("writing the checkpoint {}", directory.display());
                self.damage.storage(doing, &error)
            })
    }

    fn unflushed_bytes(&self) -> u64 {
        self.sum(rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    fn file_sizes(&self) -> FileSizes {
        FileSizes {
            table_bytes: self.sum(rocksdb::properties::LIVE_SST_FILES_SIZE),
            compaction_pending_bytes: self.sum(rocksdb::properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        }
    }

    fn discard_when_unused(&self) {
        self.files.discard.store(true, Ordering::Release);
    }
}
