//! A cold start reads everything from disk.

use blox_store::Store;

use crate::support::{Fed, RandomLog, log_entry, open, seed};

/// After each of many restarts, at random places, the state goes on as one that never stopped.
#[test]
fn a_restarted_state_goes_on() {
    let seed = seed();
    let directory = tempfile::tempdir().expect("a directory");
    let never_stopped = Store::in_memory();
    let mut log = RandomLog::new(seed, 5);
    for round in 1..12 {
        let store = open(directory.path());
        assert_eq!(
            store.fingerprint().expect("readable"),
            never_stopped.fingerprint().expect("readable"),
            "round {round}"
        );
        assert_eq!(*store.progress().borrow(), *never_stopped.progress().borrow());
        assert_eq!(store.oldest_revision(), never_stopped.oldest_revision());
        assert_eq!(
            store.session().expect("readable"),
            never_stopped.session().expect("readable")
        );
        let entries = log.entries(round * 7);
        store.apply(&entries).expect("applies");
        never_stopped.apply(&entries).expect("applies");
        let (applied, expected) = (
            store.applied().expect("readable"),
            never_stopped.applied().expect("readable"),
        );
        assert_eq!(
            (applied.applied_index, applied.log_id, applied.membership),
            (expected.applied_index, expected.log_id, expected.membership)
        );
    }
}

/// Two stores cannot open the same directory at once.
#[test]
fn a_directory_is_opened_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path());
    assert!(Store::open(directory.path()).is_err());
    drop(first);
    open(directory.path());
}

/// What was applied before a flush is there after the files are copied away under a running store, as a crash would leave them.
#[test]
fn what_was_flushed_is_there_after_a_crash() {
    let directory = tempfile::tempdir().expect("a directory");
    let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
    let mut fed = Fed::new(open(&live));
    for round in 0..50 {
        fed.put("a", &round.to_string());
    }
    fed.store.flush().expect("flushes");
    copy_all(&live, &copy);
    let crashed = open(&copy);
    assert_eq!(crashed.progress().borrow().applied_index, 50);
    crashed.apply(&[log_entry(51, 0, vec![])]).expect("goes on");
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).expect("created");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// What is written stands in memory first, and in tables once a checkpoint was taken: the figures for the metrics page say both.
#[test]
fn file_sizes_follow_what_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(open(directory.path()));
    fed.puts("key", 500);
    let before = fed.store.file_sizes().table_bytes;
    assert!(fed.store.unflushed_bytes() > 0);
    let beside = tempfile::tempdir().expect("a directory");
    let checkpoint = beside.path().join("checkpoint");
    fed.store.checkpoint(&checkpoint).expect("it can be written");
    let sizes = fed.store.file_sizes();
    assert!(sizes.table_bytes > before, "{before} before, then {sizes:?}");
}
