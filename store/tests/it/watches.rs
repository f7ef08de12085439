//! Watches: ordered, unique, gapless, with the value before, from any revision still kept, by slow and by fast readers.

use std::time::Duration;

use blox_store::{Kind, Store, WatchBatch, WatchEnd, WatchFrom, WatchRequest, Watcher};
use tokio::runtime::{Builder, Runtime};

use crate::model::{Model, Replica, everything};
use crate::support::{Fed, RandomLog, Task, command, observe, on_both_engines, put, seed};

/// Long enough for anything here, on any machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

pub async fn next(watcher: &mut Watcher) -> Result<WatchBatch, WatchEnd> {
    tokio::time::timeout(DEADLINE, watcher.next())
        .await
        .expect("something happens in time")
}

/// Reads up to the store's revision.
async fn catch_up(store: &Store, watcher: &mut Watcher, replica: &mut Replica) {
    let head = store.progress().borrow().revision;
    while watcher.delivered() < head {
        let batch = next(watcher).await.expect("a batch");
        batch.changes.iter().for_each(|change| replica.take(change));
        assert_eq!(batch.revision, watcher.delivered());
        assert_eq!(batch.revision, replica.revision, "everything is asked for");
    }
}

/// A replica fed by a watch is, at every moment, what a model that keeps everything remembers; so is one that begins anew at each moment.
#[test]
fn a_watch_replays_the_state() {
    let seed = seed();
    on_both_engines(|store| {
        runtime().block_on(async {
            let mut log = RandomLog::new(seed, 1);
            let (mut model, mut replica) = (Model::default(), Replica::default());
            let mut watcher = store.watch(everything(WatchFrom::Revision(0))).expect("a watch");
            for _ in 0..400 {
                store.apply(&[log.entry()]).expect("applies");
                model.take(&store);
                catch_up(&store, &mut watcher, &mut replica).await;
                assert_eq!(replica.state, model.at(model.revision), "seed {seed}");
                let from = replica.revision.saturating_sub(10).max(store.oldest_revision()).max(1);
                let mut resumed = store.watch(everything(WatchFrom::Revision(from))).expect("a watch");
                let mut second = Replica {
                    state: model.at(from - 1),
                    revision: from - 1,
                };
                catch_up(&store, &mut resumed, &mut second).await;
                assert_eq!(second.state, replica.state, "resumed from {from}, seed {seed}");
            }
            assert!(model.revision > 100, "the log did something, seed {seed}");
        });
    });
}

/// After a restart the ring is empty: the same changes come from the history, and go on with the live ones.
#[test]
fn a_watch_goes_on_after_a_restart() {
    let seed = seed();
    let directory = tempfile::tempdir().expect("a directory");
    let mut log = RandomLog::new(seed, 5);
    let entries = log.entries(300);
    let told = |store: &Store| {
        runtime().block_on(async {
            let from = store.oldest_revision().max(1);
            let mut watcher = store.watch(everything(WatchFrom::Revision(from))).expect("a watch");
            let head = store.progress().borrow().revision;
            let mut told = Vec::new();
            while watcher.delivered() < head {
                told.extend(next(&mut watcher).await.expect("a batch").changes);
            }
            told.iter().map(|change| format!("{change:?}")).collect::<Vec<_>>()
        })
    };
    let store = crate::support::open(directory.path());
    store.apply(&entries).expect("applies");
    let live = told(&store);
    drop(store);
    let store = crate::support::open(directory.path());
    let past = told(&store);
    assert_eq!(live, past, "seed {seed}");
    let mut watcher = store.watch(everything(WatchFrom::Now)).expect("a watch");
    let mut fed = Fed::new(store);
    let revision = fed.put("live", "again");
    let batch = runtime().block_on(next(&mut watcher)).expect("a batch");
    assert_eq!((batch.revision, batch.changes.len()), (revision, 1));
}

/// A reader that falls behind the ring reads the history and comes back to the ring: nothing is lost, nothing twice.
#[test]
fn a_slow_reader_loses_nothing() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let mut watcher = fed.store.watch(everything(WatchFrom::Revision(1))).expect("a watch");
        // 24 MiB of values: more than the ring holds.
        let large = "x".repeat(64 << 10);
        for round in 0..384 {
            fed.put(&format!("key-{}", round % 5), &format!("{round}{large}"));
        }
        runtime().block_on(async {
            let mut replica = Replica::default();
            let first = next(&mut watcher).await.expect("a batch");
            first.changes.iter().for_each(|change| replica.take(change));
            let bytes: usize = first
                .changes
                .iter()
                .map(|change| change.key.as_bytes().len() + (64 << 10))
                .sum();
            assert!(bytes < 2 << 20, "a batch is bounded: {bytes}");
            fed.put("live", "meanwhile");
            catch_up(&fed.store, &mut watcher, &mut replica).await;
            assert_eq!(replica.revision, 385);
        });
    });
}

/// Only what is asked for is told; where nothing of it happened, an empty batch says how far it is.
#[test]
fn kinds_and_prefixes_choose() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let of = |kinds: Vec<Kind>, prefix: &[u8]| WatchRequest {
            from: WatchFrom::Revision(1),
            kinds,
            prefix: prefix.to_vec().into(),
        };
        let mut tasks = fed.store.watch(of(vec![Kind::Task], b"")).expect("a watch");
        let mut prefixed = fed
            .store
            .watch(of(vec![], blox_store::Key::user(b"b/").as_bytes()))
            .expect("a watch");
        let task = Task::new("one", "a", "1").observation(1);
        fed.entry(vec![
            command(put("a", "1")),
            command(put("b/1", "1")),
            command(observe(vec![task])),
            command(put("c", "1")),
        ]);
        runtime().block_on(async {
            let batch = next(&mut tasks).await.expect("a batch");
            assert_eq!(
                (batch.revision, batch.changes.len(), batch.changes[0].key.kind()),
                (4, 1, Kind::Task)
            );
            let batch = next(&mut prefixed).await.expect("a batch");
            assert_eq!(
                (batch.revision, batch.changes.len(), batch.changes[0].key.tail()),
                (4, 1, b"b/1".as_slice())
            );
            fed.put("a", "2");
            let bookmark = next(&mut prefixed).await.expect("a bookmark");
            assert_eq!((bookmark.revision, bookmark.changes.len()), (5, 0));
        });
    });
}

/// A change carries who asked for it, when and why, live and from the history alike.
#[test]
fn changes_carry_their_cause() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |store: &Store| {
        let mut watcher = store.watch(everything(WatchFrom::Revision(1))).expect("a watch");
        let batch = runtime().block_on(next(&mut watcher)).expect("a batch");
        let change = &batch.changes[0];
        assert_eq!(
            (&*change.cause.actor, &*change.cause.request_id, &*change.cause.reason),
            ("test", "request-1", "a test asks")
        );
        assert_eq!(change.cause.wall_time_ms, 1_700_000_000_000);
    };
    let mut fed = Fed::new(crate::support::open(directory.path()));
    fed.put("a", "1");
    check(&fed.store);
    drop(fed);
    check(&crate::support::open(directory.path()));
}

/// A watch begins anywhere from the oldest revision to the next one, and nowhere else.
#[test]
fn a_watch_begins_where_it_can() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        for round in 0..5 {
            fed.put("a", &round.to_string());
        }
        fed.compact(3);
        let start = |revision| {
            fed.store
                .watch(everything(WatchFrom::Revision(revision)))
                .map(|watcher| watcher.delivered())
        };
        assert_eq!(start(2), Err(WatchEnd::Compacted { asked: 2, oldest: 3 }));
        assert_eq!(start(3), Ok(2));
        assert_eq!(start(6), Ok(5));
        assert_eq!(start(7), Err(WatchEnd::Future { asked: 7, current: 5 }));
    });
}

/// A reader so slow that its place is compacted is told so, with the oldest revision.
#[test]
fn a_reader_overtaken_by_compaction_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(crate::support::open(directory.path()));
    for round in 0..20 {
        fed.put("a", &round.to_string());
    }
    drop(fed);
    // A restart: nothing is in the ring.
    let mut fed = Fed::new(crate::support::open(directory.path()));
    let mut watcher = fed.store.watch(everything(WatchFrom::Revision(5))).expect("a watch");
    fed.compact(10);
    let end = runtime().block_on(next(&mut watcher));
    assert!(
        matches!(end, Err(WatchEnd::Compacted { asked: 5, oldest: 10 })),
        "{end:?}"
    );
}

/// The value before a deletion is told even where the deletion is the oldest revision kept.
#[test]
fn the_value_before_the_oldest_deletion_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(crate::support::open(directory.path()));
    fed.put("a", "1");
    fed.put("a", "2");
    let deleted = fed.delete("a");
    fed.compact(deleted);
    fed.idle(3);
    drop(fed);
    let store = crate::support::open(directory.path());
    let mut watcher = store.watch(everything(WatchFrom::Revision(deleted))).expect("a watch");
    let batch = runtime().block_on(next(&mut watcher)).expect("a batch");
    let last = batch.changes[0].deleted.as_ref().expect("the value before");
    assert_eq!((batch.changes.len(), last.mod_revision), (1, 2));
}

/// Many watchers are woken by one apply; one that gives up waiting and asks again misses nothing.
#[test]
fn waiting_watchers_are_woken() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        runtime().block_on(async {
            let mut impatient = fed.store.watch(everything(WatchFrom::Now)).expect("a watch");
            let given_up = tokio::time::timeout(Duration::from_millis(1), impatient.next()).await;
            assert!(given_up.is_err(), "nothing has happened yet");
            let mut waiting = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let mut watcher = fed.store.watch(everything(WatchFrom::Now)).expect("a watch");
                waiting.spawn(async move { next(&mut watcher).await });
            }
            tokio::task::yield_now().await;
            fed.put("a", "1");
            while let Some(batch) = waiting.join_next().await {
                assert_eq!(batch.expect("no panic").expect("a batch").revision, 1);
            }
            assert_eq!(next(&mut impatient).await.expect("a batch").revision, 1);
        });
    });
}
