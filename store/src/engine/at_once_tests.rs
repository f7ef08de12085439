//! Writes that wait for nothing, on disk.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::damage::Damage;
use super::disk::{DiskEngine, WRITES_PER_NOTE};
use super::{Engine, Family, Reader, ScanLimit, Write};
use crate::store::StoreError;

fn engine(directory: &Path) -> DiskEngine {
    DiskEngine::create(directory, &Damage::unwatched()).expect("creates")
}

fn put(key: &'static str) -> [Write; 1] {
    [Write {
        family: Family::Latest,
        key: Bytes::from_static(key.as_bytes()),
        value: Some(Bytes::from_static(b"value")),
    }]
}

fn has(reader: &dyn Reader, key: &str) -> bool {
    reader.get(Family::Latest, key.as_bytes()).expect("reads").is_some()
}

/// What a process that is killed at this moment leaves: the files as the system has them.
fn left_by_a_kill(directory: &Path, copy: &Path) -> DiskEngine {
    fs::create_dir(copy).expect("a directory");
    for file in fs::read_dir(directory).expect("lists") {
        let file = file.expect("lists");
        fs::copy(file.path(), copy.join(file.file_name())).expect("copies");
    }
    DiskEngine::open(copy, &Damage::unwatched()).expect("opens")
}

/// What was written without waiting is read at once. A process that is killed may lose it, in whole batches from the end, and nothing any more
/// once an ordinary write has followed.
#[test]
fn what_waits_for_nothing_is_handed_over_by_the_next_write() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(&directory.path().join("state"));
    engine.write(&put("a")).expect("writes");
    assert!(engine.write_at_once(&put("b")).expect("writes"));
    assert!(has(&engine, "b"));

    let killed = left_by_a_kill(&directory.path().join("state"), &directory.path().join("before"));
    assert_eq!((has(&killed, "a"), has(&killed, "b")), (true, false));

    engine.write(&put("c")).expect("writes");
    let killed = left_by_a_kill(&directory.path().join("state"), &directory.path().join("after"));
    assert!(["a", "b", "c"].into_iter().all(|key| has(&killed, key)));
}

/// What gathers is handed over by itself too.
#[test]
fn what_gathers_can_be_handed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(&directory.path().join("state"));
    engine.write(&put("a")).expect("writes");
    assert!(!engine.has_gathered());
    assert!(engine.write_at_once(&put("b")).expect("writes"));
    assert!(engine.has_gathered());
    engine.hand_over().expect("hands over");
    assert!(!engine.has_gathered());
    let killed = left_by_a_kill(&directory.path().join("state"), &directory.path().join("copy"));
    assert!(has(&killed, "b"));
}

/// An engine that is synced keeps what was written without waiting, as does one that is closed.
#[test]
fn a_sync_takes_along_what_gathers_in_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(&directory.path().join("state"));
    engine.write(&put("a")).expect("writes");
    assert!(engine.write_at_once(&put("b")).expect("writes"));
    engine.flush().expect("syncs");
    let killed = left_by_a_kill(&directory.path().join("state"), &directory.path().join("copy"));
    assert!(has(&killed, "b"));

    assert!(engine.write_at_once(&put("c")).expect("writes"));
    drop(engine);
    let again = DiskEngine::open(&directory.path().join("state"), &Damage::unwatched()).expect("opens");
    assert!(has(&again, "c"));
}

/// One write in so many is an ordinary one, however many could wait for nothing.
#[test]
fn not_all_writes_gather_in_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(&directory.path().join("state"));
    let mut ordinary = 0;
    for _ in 0..3 * WRITES_PER_NOTE {
        if engine.undisturbed().is_some() {
            assert!(engine.write_at_once(&put("a")).expect("writes"));
        } else {
            engine.write(&put("a")).expect("writes");
            ordinary += 1;
        }
    }
    assert_eq!(ordinary, 3);
}

/// What is on disk only is not waited for; once it was read in the ordinary way it is in memory.
#[test]
fn the_disk_is_not_read_without_waiting() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let first = engine(&state);
    first.write(&put("a")).expect("writes");
    // A checkpoint has what was in memory written to tables.
    first
        .write_checkpoint(&directory.path().join("checkpoint"))
        .expect("a checkpoint");
    drop(first);

    let engine = DiskEngine::open(&state, &Damage::unwatched()).expect("opens");
    engine.write(&put("b")).expect("writes");
    let in_memory = engine.in_memory();
    let read = |key: &str| in_memory.get(Family::Latest, key.as_bytes());
    let scanned = || in_memory.scan(Family::Latest, b"", b"", ScanLimit::ONE);
    assert!(matches!(read("a"), Err(StoreError::NotInMemory)));
    assert!(matches!(scanned(), Err(StoreError::NotInMemory)));
    assert!(has(&engine, "a"));
    assert!(read("a").expect("in memory").is_some());
    assert!(read("b").expect("in memory").is_some());
    assert_eq!(scanned().expect("in memory").len(), 1);
}

/// Reading in memory and writing at once make no call to read or write.
#[test]
fn nothing_is_asked_of_the_system() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(&directory.path().join("state"));
    engine.write(&put("a")).expect("writes");
    let calls = || {
        let text = fs::read_to_string("/proc/thread-self/io").expect("Linux counts calls");
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse::<u64>().ok()).expect("a count")
        };
        (of("syscr:"), of("syscw:"))
    };
    let (first, second) = (calls(), calls());
    let looking = second.0 - first.0;
    for _ in 1..WRITES_PER_NOTE {
        let before = calls();
        let undisturbed = engine.undisturbed().expect("nothing disturbs");
        assert!(
            engine
                .in_memory()
                .get(Family::Latest, b"a")
                .expect("in memory")
                .is_some()
        );
        assert!(engine.write_at_once(&put("a")).expect("writes"));
        drop(undisturbed);
        let after = calls();
        assert_eq!((after.0 - before.0 - looking, after.1 - before.1), (0, 0));
    }
    let before = calls();
    engine.write(&put("a")).expect("writes");
    assert!(calls().1 > before.1, "an ordinary write is counted");
}

/// What makes files is kept apart: nothing is written at once beside a sync or a checkpoint, nor into a memtable that is nearly full.
#[test]
fn what_makes_files_is_kept_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = engine(&directory.path().join("state"));
    engine.write(&put("a")).expect("writes");
    let checkpoint = directory.path().join("checkpoint");
    std::thread::scope(|scope| {
        let made = scope.spawn(|| engine.write_checkpoint(&checkpoint));
        let mut kept_apart = false;
        while !made.is_finished() {
            kept_apart |= engine.undisturbed().is_none();
        }
        made.join().expect("no panic").expect("a checkpoint");
        assert!(kept_apart, "a checkpoint was made beside writes");
    });
    assert!(engine.undisturbed().is_some());

    let piece = vec![0; 512 << 10];
    let mut left_apart = 0;
    for _ in 0..30 {
        let write = Write {
            family: Family::Versions,
            key: Bytes::from_static(b"large"),
            value: Some(Bytes::from(piece.clone())),
        };
        engine.write(&[write]).expect("writes");
        // The first after a look at the manifest is left to the ordinary way anyhow.
        left_apart += u32::from(engine.undisturbed().is_none());
    }
    assert!(left_apart >= 4, "{left_apart} of 30 half megabytes");
}
