//! Write-ahead logs of RocksDB, and manifests, which are written alike, looked at before RocksDB reads them: of two things in them it says
//! nothing.
//!
//! - A record that begins with zeros. RocksDB takes it for room that was set aside and never written, passes over the rest of its block and
//!   reads on behind it: what a disk lost, or a power cut kept back, would be a hole in the middle of what is recovered.
//! - A record marked as one of a file in reuse, in a file that is in none. RocksDB reads it again and again, without an end.
//!
//! Both end the write-ahead log where they stand. In the newest file nothing can follow that was promised and is not missed (see the log's
//! durable note, and the replay of the state), so the file is cut there. (After a power cut the note may lag, as it may for torn ends.) In a
//! file with records in files behind it, it is damage, unless the next file goes on with the sequence number that comes next: then nothing is
//! missing. So it is in a manifest, where a change of the files would be passed over, unless nothing but zeros follows.
//!
//! A record whose checksum does not match is an end that RocksDB sees: it compares sequence numbers itself from there on.

mod records;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use records::{Found, follow};

/// Why a database's write-ahead logs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WriteAheadLogError {
    /// RocksDB would pass over it.
    #[error("{} has lost what it held from byte {offset} on", path.display())]
    Hole {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The system refused.
    #[error("reading {}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Looks through the write-ahead logs and the manifest of the database in `directory`, which nobody has open; that it is missing is for others
/// to say. Blocking; it reads all of them.
pub fn prepare(directory: &Path) -> Result<(), WriteAheadLogError> {
    see_manifest(directory)?;
    let Some((path, offset)) = open_end(directory)? else {
        return Ok(());
    };
    tracing::warn!(path = %path.display(), offset, "a write-ahead log ends in nothing and is cut there");
    cut(&path, offset).map_err(|cause| failed(&path, cause))
}

/// Sees that nothing in `directory` has such a place, the newest write-ahead log no more than the others: of a database that was copied
/// whole. Blocking, as [`prepare`].
pub fn verify(directory: &Path) -> Result<(), WriteAheadLogError> {
    see_manifest(directory)?;
    match open_end(directory)? {
        Some((path, offset)) => Err(WriteAheadLogError::Hole { path, offset }),
        None => Ok(()),
    }
}

/// Where the write-ahead logs together end in something that RocksDB does not see as an end, if they do.
fn open_end(directory: &Path) -> Result<Option<(PathBuf, u64)>, WriteAheadLogError> {
    let mut end = None;
    let mut goes_on_with = None;
    for (number, path) in write_ahead_logs(directory)?.into_iter().rev() {
        let found = look(&path, number)?;
        if let Some(offset) = found.unseen_end {
            match goes_on_with {
                None => end = Some((path, offset)),
                Some(_) if goes_on_with == found.next => {}
                Some(_) => return Err(WriteAheadLogError::Hole { path, offset }),
            }
        }
        goes_on_with = found.first.or(goes_on_with);
    }
    Ok(end)
}

/// Only the manifest that counts: another one may be the beginning of one that never did.
fn see_manifest(directory: &Path) -> Result<(), WriteAheadLogError> {
    let Ok(name) = std::fs::read_to_string(directory.join("CURRENT")) else {
        return Ok(());
    };
    let path = directory.join(name.trim_end());
    if !path.is_file() {
        return Ok(());
    }
    if let Some(offset) = look(&path, 0)?.unseen_end
        && holds_something(&path, offset).map_err(|cause| failed(&path, cause))?
    {
        return Err(WriteAheadLogError::Hole { path, offset });
    }
    Ok(())
}

/// Whether something other than zeros stands in a file from `offset` on.
fn holds_something(path: &Path, offset: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    Ok(rest.iter().any(|byte| *byte != 0))
}

fn failed(path: &Path, cause: io::Error) -> WriteAheadLogError {
    WriteAheadLogError::Io {
        path: path.to_owned(),
        cause,
    }
}

/// The write-ahead logs with their numbers, in order.
fn write_ahead_logs(directory: &Path) -> Result<Vec<(u64, PathBuf)>, WriteAheadLogError> {
    let entries = match std::fs::read_dir(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|cause| failed(directory, cause))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|cause| failed(directory, cause))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".log")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

fn cut(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(bytes)?;
    file.sync_all()
}

fn look(path: &Path, number: u64) -> Result<Found, WriteAheadLogError> {
    let found = File::open(path).and_then(|mut file| follow(&mut file, number));
    found.map_err(|cause| failed(path, cause))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use rocksdb::{DB, DBRecoveryMode, FlushOptions, Options};

    use super::records::HEADER_BYTES;
    use super::records::tests::record;
    use super::*;

    fn options(files_in_reuse: usize) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_recycle_log_file_num(files_in_reuse);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options
    }

    /// A copy of a database as a killed process leaves it, with its write-ahead logs in order.
    fn killed(db: &DB) -> (tempfile::TempDir, Vec<(u64, PathBuf)>) {
        let copy = tempfile::tempdir().expect("a directory");
        for entry in std::fs::read_dir(db.path()).expect("it is there") {
            let path = entry.expect("an entry").path();
            std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
        }
        let files = write_ahead_logs(copy.path()).expect("read");
        (copy, files)
    }

    fn key(number: usize) -> [u8; 8] {
        (number as u64).to_be_bytes()
    }

    /// How many of the keys 0, 1, 2, ... are there, and none after a gap.
    fn held(directory: &Path, files_in_reuse: usize) -> usize {
        let db = DB::open(&options(files_in_reuse), directory).expect("it opens");
        let there = |number: usize| db.get(key(number)).expect("read").is_some();
        let held = (0..).take_while(|number| there(*number)).count();
        assert!((held..held + 64).all(|number| !there(number)), "a hole at {held}");
        held
    }

    fn zero(path: &Path, from: u64, bytes: usize) {
        let file = File::options().write(true).open(path).expect("opened");
        file.write_all_at(&vec![0; bytes], from).expect("written");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// What RocksDB wrote has no such place, whatever lies where in its blocks, in new files and in files in reuse.
        #[test]
        fn what_was_written_is_left_alone(
            lengths in prop::collection::vec(0..70_000_usize, 1..40),
            files_in_reuse in 0..3_usize,
        ) {
            let directory = tempfile::tempdir().expect("a directory");
            let db = DB::open(&options(files_in_reuse), directory.path()).expect("it opens");
            for round in 0..4 {
                for (number, length) in lengths.iter().enumerate() {
                    db.put(key(round * lengths.len() + number), vec![1; *length]).expect("written");
                }
                if round < 3 {
                    db.flush().expect("flushed");
                }
            }
            db.flush_wal(false).expect("written");
            let (copy, files) = killed(&db);
            let sizes = || files.iter().map(|(_, path)| path.metadata().map(|found| found.len()).ok()).collect::<Vec<_>>();
            let before = sizes();
            verify(copy.path()).expect("nothing is wrong");
            prepare(copy.path()).expect("nothing is wrong");
            prop_assert_eq!(sizes(), before);
            prop_assert_eq!(held(copy.path(), files_in_reuse), 4 * lengths.len());
        }

        /// A page that was never written ends the newest file, in front of whatever stands behind it: no hole.
        #[test]
        fn a_page_of_zeros_leaves_no_hole(page in 0..40_u64, lengths in prop::collection::vec(0..9_000_usize, 40)) {
            let directory = tempfile::tempdir().expect("a directory");
            let db = DB::open(&options(0), directory.path()).expect("it opens");
            for (number, length) in lengths.iter().enumerate() {
                db.put(key(number), vec![1; *length]).expect("written");
            }
            let (copy, files) = killed(&db);
            let (_, newest) = files.last().expect("a file");
            let bytes = newest.metadata().expect("it is there").len();
            let from = (page * 4_096).min(bytes / 4_096 * 4_096);
            zero(newest, from, 4_096.min((bytes - from) as usize));
            prepare(copy.path()).expect("it is the newest");
            held(copy.path(), 0);
        }
    }

    /// Zeros in a file that nothing follows are its end, also where an empty one was made behind it.
    #[test]
    fn an_end_that_nothing_follows_is_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let whole = record(7, 50, 12);
        let torn = file("000007.log", &[whole.clone(), vec![0; 90]].concat());
        file("000009.log", b"");
        prepare(directory.path()).expect("nothing is lost");
        assert_eq!(std::fs::read(&torn).expect("read"), whole);
        std::fs::write(&torn, [whole, vec![0; 90]].concat()).expect("written");
        file("000009.log", &record(9, 52, 12));
        assert!(matches!(
            prepare(directory.path()),
            Err(WriteAheadLogError::Hole { offset: 23, .. })
        ));
    }

    /// Zeros behind the last record of a file, where the next one goes on with the number that comes next: a process was killed before the file
    /// was cut to its end. Nothing is missing.
    #[test]
    fn an_end_that_the_next_file_goes_on_from_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).expect("written");
        let uncut = [record(7, 50, 12), vec![0; 90]].concat();
        file("000007.log", &uncut);
        file("000009.log", &record(9, 51, 12));
        file("000011.log", b"");
        prepare(directory.path()).expect("nothing is lost");
        verify(directory.path()).expect("nothing is lost");
        let left = std::fs::read(directory.path().join("000007.log")).expect("read");
        assert_eq!(left, uncut);
    }

    /// A record that is torn in its middle is an end that RocksDB sees, whatever the length it tells leads to: in an older file too.
    #[test]
    fn a_torn_record_is_left_to_rocksdb() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).expect("written");
        let torn = |number, sequence| {
            let mut record = record(number, sequence, 500);
            record[100..].fill(0);
            record
        };
        file("000007.log", &[record(7, 50, 12), torn(7, 51), vec![0; 90]].concat());
        file("000009.log", &record(9, 52, 12));
        prepare(directory.path()).expect("it is left to RocksDB");
        // One that begins torn follows nothing.
        file("000007.log", &[record(7, 50, 12), vec![0; 90]].concat());
        file("000009.log", &torn(9, 52));
        prepare(directory.path()).expect("nothing is lost");
    }

    /// RocksDB alone passes over a file that begins with zeros, and goes on with the next one. This is why the module is there: should it
    /// fail some day, RocksDB has learnt it.
    #[test]
    fn zeros_in_an_older_file_are_damage() {
        let directory = tempfile::tempdir().expect("a directory");
        let families = ["default", "other"];
        let mut options = options(0);
        options.create_missing_column_families(true);
        let db = DB::open_cf(&options, directory.path(), families).expect("it opens");
        let other = db.cf_handle("other").expect("it was created");
        for number in 0..3 {
            db.put(key(number), "value").expect("written");
            db.put_cf(other, key(number), "value").expect("written");
            // Begins another write-ahead log; the one before is kept for the family that was not flushed.
            db.flush_cf_opt(other, &FlushOptions::default()).expect("flushed");
        }
        db.put(key(3), "value").expect("written");
        let (copy, files) = killed(&db);
        assert_eq!(files.len(), 4);
        let (_, path) = &files[1];
        let bytes = path.metadata().expect("it is there").len();
        zero(path, 0, bytes as usize);
        let found = prepare(copy.path());
        assert!(
            matches!(&found, Err(WriteAheadLogError::Hole { path: at, offset: 0 }) if at == path),
            "{found:?}"
        );
        let db = DB::open_cf(&options, copy.path(), families).expect("RocksDB sees nothing");
        let there = [0, 1, 2, 3].map(|number| db.get(key(number)).expect("read").is_some());
        assert_eq!(there, [true, false, true, true], "RocksDB passes over it");
    }

    /// Zeros over a change of a manifest are damage, zeros behind the last one its end.
    #[test]
    fn a_manifest_has_no_hole() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = DB::open(&options(0), directory.path()).expect("it opens");
        for number in 0..3 {
            db.put(key(number), "value").expect("written");
            db.flush().expect("flushed");
        }
        let manifest_of = |(copy, _): &(tempfile::TempDir, _)| {
            let name = std::fs::read_to_string(copy.path().join("CURRENT")).expect("a name");
            let path = copy.path().join(name.trim_end());
            let bytes = path.metadata().expect("it is there").len();
            (path, bytes)
        };
        let longer = killed(&db);
        let (path, bytes) = manifest_of(&longer);
        zero(&path, bytes, 4_096);
        prepare(longer.0.path()).expect("nothing is lost");
        assert_eq!(held(longer.0.path(), 0), 3);
        let damaged = killed(&db);
        let (path, _) = manifest_of(&damaged);
        zero(&path, 0, HEADER_BYTES);
        let copy = &damaged.0;
        assert!(matches!(
            prepare(copy.path()),
            Err(WriteAheadLogError::Hole { offset: 0, .. })
        ));
    }

    /// One flipped bit makes a record one of a file in reuse, and RocksDB would never come to its end.
    #[test]
    fn a_record_of_another_kind_of_file_ends_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = DB::open(&options(0), directory.path()).expect("it opens");
        for number in 0..3 {
            db.put(key(number), "value").expect("written");
        }
        let (copy, files) = killed(&db);
        let (_, newest) = files.last().expect("a file");
        let record_bytes = newest.metadata().expect("it is there").len() / 3;
        let file = File::options().write(true).open(newest).expect("opened");
        file.write_all_at(&[5], record_bytes + 6).expect("written");
        prepare(copy.path()).expect("it is the newest");
        assert_eq!(held(copy.path(), 0), 1);
    }
}
