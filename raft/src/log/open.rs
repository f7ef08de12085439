//! Creating the log, and opening it again with all its checks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blox_runtime::time::Instant;
use blox_store::write_ahead_log::WriteAheadLogError;
use bytes::Bytes;
use openraft::LogIdOptionExt;

use super::database::{self, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options};
use super::note::{Note, NoteError};
use super::record;
use super::sizes::Sizes;
use super::tail::Tail;
use crate::codec;
use crate::error::REMEDY;
use crate::types::{Entry, LogId, Vote};

pub(super) const MEMTABLE_BYTES: usize = 8 << 20;
const MEMTABLES_MAX: i32 = 4;
const WAL_BYTES_MAX: u64 = 256 << 20;
/// Finished write-ahead logs kept for reuse: overwriting a file of known length syncs faster than growing one.
const WAL_FILES_RECYCLED: usize = 3;
/// Tables before they are merged: what they hold is mostly let go of before that (see [`super::reclaim`]), ...
const TABLES: i32 = 16;
/// ... before writes are slowed down, ...
const TABLES_SLOW: i32 = 40;
/// ... and before they wait.
const TABLES_MAX: i32 = 64;
/// Tables are synced in steps, so that no flush makes a log sync wait.
const TABLE_SYNC_STEP_BYTES: u64 = 512 << 10;
/// Flushes and compactions write no faster than this a second.
const BACKGROUND_BYTES_PER_SECOND: i64 = 24 << 20;
const RATE_LIMITER_REFILL_MICROSECONDS: i64 = 100_000;
const RATE_LIMITER_FAIRNESS: i32 = 10;

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot {doing} {}: {cause}", path.display())]
    Storage {
        doing: &'static str,
        path: PathBuf,
        cause: String,
    },
    /// It has lost what this node promised to its peers.
    #[error(
        "the log in {} has lost entries that were durable ({what}). This node must not vote with it. Its disk may not keep what it \
         acknowledges. Stop it; {REMEDY}",
        path.display()
    )]
    Lost { path: PathBuf, what: String },
}

/// A log that was found whole.
pub(super) struct Opened {
    pub db: Arc<DB>,
    pub note: Note,
    pub tail: Tail,
    pub committed: Option<LogId>,
}

pub(super) fn database_path(directory: &Path) -> PathBuf {
    directory.join("db")
}

fn note_path(directory: &Path) -> PathBuf {
    directory.join("durable")
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(MEMTABLES_MAX);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_recycle_log_file_num(WAL_FILES_RECYCLED);
    // The only mode that both allows recycled files and stops at the first damaged record; the note tells whether that was too early.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_zero_file_num_compaction_trigger(TABLES);
    options.set_level_zero_slowdown_writes_trigger(TABLES_SLOW);
    options.set_level_zero_stop_writes_trigger(TABLES_MAX);
    options.set_bytes_per_sync(TABLE_SYNC_STEP_BYTES);
    options.set_ratelimiter(
        BACKGROUND_BYTES_PER_SECOND,
        RATE_LIMITER_REFILL_MICROSECONDS,
        RATE_LIMITER_FAIRNESS,
    );
    options.set_keep_log_file_num(4);
    options
}

/// Whoever gave this node an entry had its vote first, in that term or a later one; only what a cluster begins with precedes all votes.
fn check_vote(vote: Option<&Vote>, last: Option<LogId>) -> Result<(), String> {
    #[cfg(feature = "zoo")]
    if crate::zoo::saves_no_vote() {
        return Ok(());
    }
    let Some(last) = last.filter(|last| last.index > 0) else {
        return Ok(());
    };
    match vote {
        Some(vote) if vote.leader_id.term >= last.leader_id.term => Ok(()),
        Some(vote) => Err(format!(
            "it ends with an entry of term {}, and its last vote is of term {}",
            last.leader_id.term, vote.leader_id.term
        )),
        None => Err(format!("it has entries up to {} and no vote", last.index)),
    }
}

/// Creates an empty log in a directory that must not exist yet.
pub(super) fn create(directory: &Path) -> Result<Opened, OpenError> {
    let failed = |doing, cause: &dyn std::fmt::Display| OpenError::Storage {
        doing,
        path: directory.to_owned(),
        cause: cause.to_string(),
    };
    std::fs::create_dir_all(directory).map_err(|cause| failed("create the log's directory", &cause))?;
    let mut options = options();
    options.create_if_missing(true);
    options.set_error_if_exists(true);
    let db = DB::open(&options, database_path(directory)).map_err(|cause| failed("create the log in", &cause))?;
    let path = note_path(directory);
    let note = Note::create(&path).map_err(|cause| OpenError::Storage {
        doing: "create the durable note",
        path,
        cause: cause.to_string(),
    })?;
    if let Some(parent) = directory.parent() {
        std::fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(|cause| failed("sync the directory above", &cause))?;
    }
    Ok(Opened {
        db: Arc::new(db),
        note,
        tail: Tail::default(),
        committed: None,
    })
}

/// Opens a log and reads all of it once: it must hold what the note says was durable, without a hole and without a damaged entry.
pub(super) fn open(directory: &Path) -> Result<Opened, OpenError> {
    let began = Instant::now();
    let lost = |what: String| OpenError::Lost {
        path: directory.to_owned(),
        what,
    };
    let failed = |doing, cause: String| OpenError::Storage {
        doing,
        path: directory.to_owned(),
        cause,
    };

    let (note, durable) = Note::open(&note_path(directory)).map_err(|error| match error {
        NoteError::NoValidSlot => lost("its durable note is damaged".to_owned()),
        NoteError::Io(cause) if cause.kind() == io::ErrorKind::NotFound => {
            lost("its durable note is missing".to_owned())
        }
        NoteError::Io(cause) => failed("read the durable note of", cause.to_string()),
    })?;
    let rocksdb_failed = |doing: &'static str, cause: database::Error| {
        if database::is_damage(&cause) {
            lost(format!("its files are damaged or missing: {cause}"))
        } else {
            failed(doing, cause.to_string())
        }
    };
    database::prepare(&database_path(directory)).map_err(|error| match error {
        WriteAheadLogError::Hole { .. } => lost(error.to_string()),
        WriteAheadLogError::Io { .. } => failed("look at the write-ahead logs of", error.to_string()),
    })?;
    let db =
        DB::open(&options(), database_path(directory)).map_err(|cause| rocksdb_failed("open the log in", cause))?;
    let recovered = db.latest_sequence_number();
    if recovered < durable {
        return Err(lost(format!(
            "it ends at write {recovered}, and write {durable} was durable"
        )));
    }

    let get = |key: &[u8]| db.get(key).map_err(|cause| rocksdb_failed("read", cause));
    let damaged = |error: codec::CodecError| lost(error.to_string());
    let vote = get(record::VOTE_KEY)?
        .map(|bytes| codec::decode_vote(&bytes))
        .transpose()
        .map_err(damaged)?;
    let purged = get(record::PURGED_KEY)?
        .map(|bytes| codec::decode_log_id(&bytes))
        .transpose()
        .map_err(damaged)?;
    let committed = get(record::COMMITTED_KEY)?
        .map(|bytes| codec::decode_log_id(&bytes))
        .transpose()
        .map_err(damaged)?;

    let mut sizes = Sizes::default();
    let mut entries: Option<(u64, LogId)> = None;
    let start = record::key(purged.map_or(0, |purged| purged.index + 1));
    for item in db.iterator(IteratorMode::From(&start, Direction::Forward)) {
        let (key, value) = item.map_err(|cause| rocksdb_failed("read", cause))?;
        let Some(index) = record::index_of(&key) else { break };
        let before = entries.map(|(_, last)| last).or(purged);
        if before.next_index() != index {
            return Err(lost(format!(
                "it has entry {index}, and none at {}",
                before.next_index()
            )));
        }
        let entry = record::decode(index, Bytes::from(value.into_vec())).map_err(|error| lost(error.to_string()))?;
        sizes.add(index, record::size(&entry));
        entries = Some((entries.map_or(index, |(first, _)| first), entry.log_id));
    }
    #[cfg(feature = "zoo")]
    let vote = crate::zoo::vote_of_log(vote, entries.map(|(_, last)| last).or(purged));
    check_vote(vote.as_ref(), entries.map(|(_, last)| last)).map_err(lost)?;
    tracing::info!(
        ?purged,
        ?entries,
        ?committed,
        sequence = recovered,
        took_ms = began.elapsed().as_millis() as u64,
        "the log is whole"
    );
    Ok(Opened {
        db: Arc::new(db),
        note,
        tail: Tail::recovered(purged, entries, vote, sizes),
        committed,
    })
}

/// Shows every entry of an opened log, in order.
pub(super) fn read(opened: &Opened, directory: &Path, mut each: impl FnMut(Entry)) -> Result<(), OpenError> {
    let failed = |cause: String| OpenError::Storage {
        doing: "read",
        path: directory.to_owned(),
        cause,
    };
    let start = record::key(0);
    for item in opened.db.iterator(IteratorMode::From(&start, Direction::Forward)) {
        let (key, value) = item.map_err(|cause| failed(cause.to_string()))?;
        let Some(index) = record::index_of(&key) else { break };
        let entry = record::decode(index, Bytes::from(value.into_vec())).map_err(|error| failed(error.to_string()))?;
        each(entry);
    }
    Ok(())
}
