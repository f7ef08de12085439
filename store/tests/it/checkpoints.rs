//! Checkpoints: what they hold, installing them under readers and watchers, and what a crash or a torn copy leaves.

use std::fs;
use std::path::{Path, PathBuf};

use blox_store::proto::StoredValue;
use blox_store::{Key, Kind, Store, StoreError, WatchEnd, WatchFrom};

use crate::model::everything;
use crate::support::{Fed, RandomLog, open, seed};
use crate::watches::{next, runtime};

fn state(store: &Store) -> Vec<(Key, StoredValue)> {
    let view = store.view().expect("a view");
    Kind::ALL
        .into_iter()
        .flat_map(|kind| view.scan(kind).expect("a scan"))
        .collect()
}

/// Two stores of each engine, and where a checkpoint may go.
fn on_both_engines(test: impl Fn(Store, Store, &Path)) {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    println!("engine: RocksDB");
    test(open(&at("one")), open(&at("two")), &at("checkpoint"));
    println!("engine: memory");
    test(Store::in_memory(), Store::in_memory(), &at("checkpoint"));
}

/// A state installed from a checkpoint is the state it was taken of: position, hash, values, history; and it takes the same next entry.
#[test]
fn an_installed_state_is_the_same_state() {
    let seed = seed();
    on_both_engines(|one, two, checkpoint| {
        let mut log = RandomLog::new(seed, 5);
        one.apply(&log.entries(300)).expect("applies");
        let meta = one.checkpoint(checkpoint).expect("a checkpoint");
        let taken = (one.fingerprint().expect("a fingerprint"), state(&one));
        // What comes after does not enter it.
        let later = log.entries(50);
        one.apply(&later).expect("applies");
        let inspected = Store::inspect(checkpoint).expect("a whole checkpoint");
        assert_eq!((inspected.applied_index, inspected.revision), (300, meta.revision));
        let mut fed = Fed::new(two.clone());
        fed.put("to be replaced", "1");
        let installed = two.install(checkpoint).expect("installs");
        assert!(!checkpoint.exists(), "it is moved away");
        assert_eq!(
            (installed.applied_index, &installed.log_id, &installed.membership),
            (300, &meta.log_id, &meta.membership)
        );
        assert_eq!(
            (two.fingerprint().expect("a fingerprint"), state(&two)),
            taken,
            "seed {seed}"
        );
        assert_eq!(
            two.oldest_revision(),
            two.view().expect("a view").revision().min(two.oldest_revision())
        );
        two.apply(&later).expect("applies");
        assert_eq!(
            two.fingerprint().expect("a fingerprint"),
            one.fingerprint().expect("a fingerprint"),
            "seed {seed}"
        );
        for revision in one.oldest_revision()..=one.view().expect("a view").revision() {
            let at = |store: &Store| {
                store
                    .view_at(revision)
                    .expect("a view")
                    .scan(Kind::User)
                    .expect("a scan")
            };
            assert_eq!(at(&one), at(&two), "revision {revision}, seed {seed}");
        }
    });
}

/// A checkpoint taken while entries are applied is one whole moment: installed, it has the hash that the state had at its entry.
#[test]
fn a_checkpoint_under_load_is_one_moment() {
    let seed = seed();
    on_both_engines(|one, two, checkpoint| {
        let entries = RandomLog::new(seed, 5).entries(2_000);
        let (hashes, taken) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let hashes = entries.iter().map(|entry| {
                    one.apply(std::slice::from_ref(entry)).expect("applies");
                    one.fingerprint().expect("readable").hash
                });
                hashes.collect::<Vec<_>>()
            });
            let mut taken = Vec::new();
            while !writer.is_finished() {
                one.checkpoint(checkpoint).expect("a checkpoint");
                two.install(checkpoint).expect("installs");
                taken.push(two.fingerprint().expect("readable"));
            }
            (writer.join().expect("no panic"), taken)
        });
        println!("{} checkpoints under load", taken.len());
        for found in taken.iter().filter(|found| found.applied_index > 0) {
            let expected = hashes[found.applied_index as usize - 1];
            assert_eq!(found.hash, expected, "at entry {}, seed {seed}", found.applied_index);
        }
    });
}

/// Readers finish on the state they began with.
#[test]
fn readers_finish_on_the_old_state() {
    on_both_engines(|one, two, checkpoint| {
        Fed::new(one.clone()).put("new", "1");
        one.checkpoint(checkpoint).expect("a checkpoint");
        let mut fed = Fed::new(two.clone());
        for key in 0..2_000 {
            fed.put(&format!("old-{key:04}"), &"x".repeat(100));
        }
        two.flush().expect("flushes");
        let before = two.view().expect("a view");
        two.install(checkpoint).expect("installs");
        assert_eq!(before.user_keys(b"", None, 10_000).expect("readable").len(), 2_000);
        assert_eq!(
            two.view()
                .expect("a view")
                .user_keys(b"", None, 10)
                .expect("readable")
                .len(),
            1
        );
        drop(before);
    });
}

/// Watchers go on from the new history without a gap, or are told that it does not reach back.
#[test]
fn watchers_go_on_across_an_installation() {
    on_both_engines(|one, two, checkpoint| {
        let (mut ahead, mut behind) = (Fed::new(one.clone()), Fed::new(two.clone()));
        for round in 0..10 {
            ahead.put("a", &round.to_string());
        }
        for round in 0..4 {
            behind.put("a", &round.to_string());
        }
        let mut current = two.watch(everything(WatchFrom::Now)).expect("a watch");
        let mut late = two.watch(everything(WatchFrom::Revision(1))).expect("a watch");
        ahead.compact(3);
        one.checkpoint(checkpoint).expect("a checkpoint");
        runtime().block_on(async {
            let waiting = tokio::spawn(async move {
                let batch = next(&mut current).await;
                (batch, current)
            });
            tokio::task::yield_now().await;
            two.install(checkpoint).expect("installs");
            let (batch, mut current) = waiting.await.expect("no panic");
            let batch = batch.expect("a batch");
            let revisions: Vec<_> = batch.changes.iter().map(|change| change.revision).collect();
            assert_eq!(revisions, [5, 6, 7, 8, 9, 10]);
            let mut fed = Fed::new(two.clone());
            fed.put("a", "live");
            assert_eq!(next(&mut current).await.expect("a batch").changes[0].revision, 11);
            let end = next(&mut late).await;
            assert!(
                matches!(end, Err(WatchEnd::Compacted { asked: 1, oldest: 3 })),
                "{end:?}"
            );
        });
    });
}

/// A watcher that has seen more than the installed state holds is told, instead of skipping what comes then.
#[test]
fn a_watcher_ahead_of_the_installed_state_is_told() {
    on_both_engines(|one, two, checkpoint| {
        Fed::new(one.clone()).put("a", "1");
        one.checkpoint(checkpoint).expect("a checkpoint");
        let mut fed = Fed::new(two.clone());
        fed.puts("a", 5);
        let mut watcher = two.watch(everything(WatchFrom::Now)).expect("a watch");
        two.install(checkpoint).expect("installs");
        let end = runtime().block_on(next(&mut watcher));
        assert!(matches!(end, Err(WatchEnd::Future { asked: 6, current: 1 })), "{end:?}");
    });
}

type Damage = fn(&Path);

/// A checkpoint that lacks a file, or has one cut short or flipped in the manifest, is no checkpoint; the state stays as it is.
#[test]
fn a_torn_checkpoint_is_refused() {
    on_both_engines(|one, two, checkpoint| {
        let mut fed = Fed::new(one.clone());
        fed.puts("a", 100);
        Fed::new(two.clone()).put("mine", "1");
        let before = two.fingerprint().expect("a fingerprint");
        let damages: [(&str, Damage); 4] = [
            ("no manifest", |directory| {
                fs::remove_file(directory.join("CHECKPOINT")).expect("removed")
            }),
            ("a flipped manifest", |directory| {
                let mut bytes = fs::read(directory.join("CHECKPOINT")).expect("read");
                bytes[3] ^= 1;
                fs::write(directory.join("CHECKPOINT"), bytes).expect("written");
            }),
            ("a missing file", |directory| {
                fs::remove_file(largest_file(directory)).expect("removed")
            }),
            ("a short file", |directory| {
                let path = largest_file(directory);
                let bytes = fs::read(&path).expect("read");
                // A new file: the old one is linked to the live state.
                fs::remove_file(&path).expect("removed");
                fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
            }),
        ];
        for (what, damage) in damages {
            one.checkpoint(checkpoint).expect("a checkpoint");
            damage(checkpoint);
            assert!(
                matches!(Store::inspect(checkpoint), Err(StoreError::Corrupt(_))),
                "{what}"
            );
            assert!(two.install(checkpoint).is_err(), "{what}");
            assert_eq!(two.fingerprint().expect("a fingerprint"), before, "{what}");
            fs::remove_dir_all(checkpoint).expect("removed");
        }
        Fed::new(two).put("mine", "2");
        assert!(
            one.checkpoint(checkpoint).is_ok() && one.checkpoint(checkpoint).is_err(),
            "nothing is written over"
        );
        fs::remove_dir_all(checkpoint).expect("removed");
    });
}

fn largest_file(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory)
        .expect("readable")
        .map(|entry| entry.expect("readable").path());
    files
        .filter(|path| !path.ends_with("CHECKPOINT"))
        .max_by_key(|path| fs::metadata(path).expect("there").len())
        .expect("a file")
}

/// Checkpoints of another engine are refused with a reason.
#[test]
fn a_checkpoint_of_another_engine_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let checkpoint = directory.path().join("checkpoint");
    Store::in_memory().checkpoint(&checkpoint).expect("a checkpoint");
    let refused = open(&directory.path().join("state")).install(&checkpoint);
    assert!(refused.is_err_and(|error| error.to_string().contains("memory")));
}

fn generations(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"));
    let mut names: Vec<_> = names.filter(|name| name.starts_with("generation-")).collect();
    names.sort();
    names
}

/// A crash before the pointer is replaced leaves the old state, one after it the new one; the next start removes the other.
#[test]
fn a_crash_during_an_installation_leaves_one_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let (home, checkpoint) = (directory.path().join("state"), directory.path().join("checkpoint"));
    let mut fed = Fed::new(open(&directory.path().join("other")));
    fed.put("new", "1");
    fed.store.checkpoint(&checkpoint).expect("a checkpoint");
    drop(fed);
    let mut fed = Fed::new(open(&home));
    fed.put("old", "1");
    drop(fed);
    // Moved in, the pointer not replaced.
    fs::rename(&checkpoint, home.join("generation-0000000002")).expect("moved");
    fs::write(home.join("CURRENT.new"), "generation-00").expect("written");
    let store = open(&home);
    assert!(
        store
            .view()
            .expect("a view")
            .user_key(b"old")
            .expect("readable")
            .is_some()
    );
    assert_eq!(generations(&home), ["generation-0000000001"]);
    drop(store);
    // The pointer replaced, the old state not yet removed.
    Fed::new(open(&directory.path().join("other")))
        .store
        .checkpoint(&home.join("generation-0000000002"))
        .expect("a checkpoint");
    fs::write(home.join("CURRENT"), "generation-0000000002").expect("written");
    let store = open(&home);
    assert!(
        store
            .view()
            .expect("a view")
            .user_key(b"new")
            .expect("readable")
            .is_some()
    );
    assert_eq!(generations(&home), ["generation-0000000002"]);
}

/// The replaced state's files go as soon as nobody reads them, and an installed state survives a restart.
#[test]
fn a_replaced_state_goes_when_unused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (home, checkpoint) = (directory.path().join("state"), directory.path().join("checkpoint"));
    let store = open(&home);
    let mut fed = Fed::new(store.clone());
    fed.put("a", "1");
    store.checkpoint(&checkpoint).expect("a checkpoint");
    let reader = store.view().expect("a view");
    store.install(&checkpoint).expect("installs");
    assert_eq!(generations(&home).len(), 2, "somebody reads");
    drop(reader);
    assert_eq!(generations(&home), ["generation-0000000002"]);
    fed.put("a", "2");
    let before = store.fingerprint().expect("a fingerprint");
    drop((fed, store));
    assert_eq!(open(&home).fingerprint().expect("a fingerprint"), before);
}

/// A checkpoint that has a state but whose pointer was lost is never taken for an empty one.
#[test]
fn a_lost_pointer_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(open(directory.path()));
    fed.put("a", "1");
    drop(fed);
    fs::remove_file(directory.path().join("CURRENT")).expect("removed");
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Corrupt(_))));
    fs::write(directory.path().join("CURRENT"), "generation-0000000009").expect("written");
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Corrupt(_))));
    // A first start that ended before its pointer was written starts over.
    let fresh = directory.path().join("fresh");
    drop(open(&fresh));
    fs::remove_file(fresh.join("CURRENT")).expect("removed");
    open(&fresh);
}

/// When the pointer's replacement fails half-way, nobody knows which state the disk says is current: neither is deleted before the next start.
#[test]
fn a_failed_replacement_of_the_pointer_deletes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let home = directory.path().join("state");
    let mut fed = Fed::new(open(&home));
    fed.put("k", "1");
    let checkpoint = directory.path().join("checkpoint");
    fed.store.checkpoint(&checkpoint).expect("a checkpoint");
    // A directory where the new pointer is to be written stands in for a disk that fails there.
    fs::create_dir(home.join("CURRENT.new")).expect("created");
    assert!(matches!(
        fed.store.install(&checkpoint),
        Err(StoreError::Storage { .. })
    ));
    assert!(home.join("generation-0000000002").is_dir());
    assert!(home.join("generation-0000000001").is_dir());
    drop(fed);
    fs::remove_dir(home.join("CURRENT.new")).expect("removed");
    assert_eq!(open(&home).progress().borrow().revision, 1);
    assert!(
        !home.join("generation-0000000002").exists(),
        "the start removes what is not current"
    );
}
