//! The log on a disk: what survives reopening, what an unclean end leaves, and what must refuse to open.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::FutureExt;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{LogHandle, OpenError, RaftLog, create, open};
use crate::types::{Commands, Entry, EntryPayload, TypeConfig, Vote, log_id};

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = EntryPayload::Normal(Commands(Bytes::from(vec![index as u8; bytes])));
    Entry {
        log_id: log_id(term, index),
        payload,
    }
}

/// Appends and waits until it is durable. As in a cluster, the vote for who gave the entries comes first.
async fn append(log: &mut RaftLog, entries: Vec<Entry>) {
    let term = entries
        .iter()
        .map(|entry| entry.log_id.leader_id.term)
        .max()
        .unwrap_or_default();
    let voted = log.shared.tail.lock().vote().map_or(0, |vote| vote.leader_id.term);
    if voted < term {
        log.save_vote(&Vote::new(term, 1)).await.expect("durable");
    }
    let (sender, durable) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::<TypeConfig>::signal(sender))
        .await
        .expect("appended");
    durable.await.expect("called back").expect("durable");
}

async fn read(log: &mut RaftLog) -> Vec<Entry> {
    log.get_log_reader()
        .await
        .try_get_log_entries(..)
        .await
        .expect("readable")
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for item in fs::read_dir(from).expect("listed") {
        let path = item.expect("listed").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// The write-ahead logs that hold something, oldest first.
fn write_ahead_logs(directory: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(super::open::database_path(directory))
        .expect("listed")
        .map(|item| item.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| fs::metadata(path).expect("there").len() > 0)
        .collect();
    logs.sort();
    logs
}

fn refusal(result: Result<(RaftLog, LogHandle), OpenError>) -> String {
    match result {
        Err(error @ OpenError::Lost { .. }) => error.to_string(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it opened"),
    }
}

/// Everything that was called back as durable is in a copy of the directory taken while the log still runs, as after a kill.
#[tokio::test]
async fn what_was_durable_survives_an_unclean_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let live = directory.path().join("live");
    let (mut log, handle) = create(&live).expect("created");
    log.save_vote(&Vote::new(3, 1)).await.expect("durable");
    append(&mut log, (0..100).map(|index| entry(3, index, 300)).collect()).await;
    log.truncate_after(Some(log_id(3, 89))).await.expect("durable");
    append(&mut log, vec![entry(4, 90, 10)]).await;
    log.purge(log_id(3, 9)).await.expect("queued");
    log.save_vote(&Vote::new_committed(4, 2))
        .await
        .expect("durable, and all before it");
    let expected = read(&mut log).await;

    let copy = directory.path().join("copy");
    copy_directory(&live, &copy);
    let (mut reopened, reopened_handle) = open(&copy).expect("whole");
    assert_eq!(read(&mut reopened).await, expected);
    assert_eq!(expected.first().map(|entry| entry.log_id.index), Some(10));
    assert_eq!(reopened_handle.last(), Some(log_id(4, 90)));
    assert_eq!(reopened_handle.purged(), Some(log_id(3, 9)));
    assert_eq!(reopened_handle.vote(), Some(Vote::new_committed(4, 2)));
    drop((handle, log));
}

/// A truncation returns only once it is durable, as a vote does: what openraft does next may rest on it.
#[tokio::test]
async fn a_truncation_waits_for_the_disk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut log, _handle) = create(&directory.path().join("raft")).expect("created");
    append(&mut log, (0..10).map(|index| entry(1, index, 10)).collect()).await;
    let shared = log.shared.clone();
    // Nobody can write while this is held.
    let disk = shared.writer.lock();
    assert!(log.truncate_after(Some(log_id(1, 4))).now_or_never().is_none());
    drop(disk);
    log.truncate_after(Some(log_id(1, 2))).await.expect("durable");
    assert_eq!(read(&mut log).await.len(), 3);
}

/// A write-ahead log that has lost its durable end opens in RocksDB without a word; the note refuses it.
#[tokio::test]
async fn a_lost_durable_tail_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let live = directory.path().join("live");
    let (mut log, handle) = create(&live).expect("created");
    for index in 0..20 {
        append(&mut log, vec![entry(1, index, 100)]).await;
    }
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..8 {
        let copy = directory.path().join(format!("copy{round}"));
        copy_directory(&live, &copy);
        let newest = write_ahead_logs(&copy).pop().expect("one that holds the entries");
        let length = fs::metadata(&newest).expect("there").len();
        if random.random_bool(0.5) {
            // The end is cut off: at least half of the last entry's 100 bytes.
            let kept = random.random_range(0..length - 50);
            fs::File::options()
                .write(true)
                .open(&newest)
                .and_then(|file| file.set_len(kept))
                .expect("cut");
        } else {
            // A bit has flipped somewhere.
            let mut bytes = fs::read(&newest).expect("read");
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            fs::write(&newest, bytes).expect("written");
        }
        let message = refusal(open(&copy));
        assert!(message.contains("blox member replace"), "{message}");
    }
    drop((handle, log));
}

/// A torn tail that was never acknowledged is cut, not refused.
#[tokio::test]
async fn a_torn_tail_above_the_note_is_cut() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let live = directory.path().join("live");
    let (mut log, handle) = create(&live).expect("created");
    append(&mut log, vec![entry(1, 0, 100), entry(1, 1, 100)]).await;
    let before = directory.path().join("before");
    copy_directory(&live, &before);
    append(&mut log, vec![entry(1, 2, 100)]).await;

    // The disk as it may stand after a power loss: the note of before, and half of the last write.
    let torn = directory.path().join("torn");
    copy_directory(&live, &torn);
    fs::copy(before.join("durable"), torn.join("durable")).expect("the older note");
    let newest = write_ahead_logs(&torn).pop().expect("one that holds the entries");
    let length = fs::metadata(&newest).expect("there").len();
    fs::File::options()
        .write(true)
        .open(&newest)
        .and_then(|file| file.set_len(length - 30))
        .expect("torn");
    let (mut reopened, _handle) = open(&torn).expect("a torn tail is harmless");
    let kept: Vec<u64> = read(&mut reopened)
        .await
        .iter()
        .map(|entry| entry.log_id.index)
        .collect();
    assert_eq!(kept, vec![0, 1]);
    drop((handle, log));
}

/// A missing or wholly damaged note is refused: nothing tells any more what was durable.
#[tokio::test]
async fn a_log_without_its_note_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("raft");
    let (log, handle) = create(&path).expect("created");
    drop((log, handle));
    fs::write(path.join("durable"), [7; 1024]).expect("damaged");
    assert!(refusal(open(&path)).contains("note is damaged"));
    fs::remove_file(path.join("durable")).expect("removed");
    assert!(refusal(open(&path)).contains("note is missing"));
}

/// A follower's inline syncs and the log thread's batches make one log, in order.
#[tokio::test]
async fn inline_syncs_keep_the_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("raft");
    let (mut log, handle) = create(&path).expect("created");
    handle.gauge.set_inline(true);
    log.save_vote(&Vote::new(1, 1)).await.expect("durable");
    let mut durable = Vec::new();
    for index in 0..200 {
        let (sender, receiver) = TypeConfig::oneshot();
        let bytes = if index % 7 == 0 { 5_000 } else { 20 };
        log.append([entry(1, index, bytes)], IOFlushed::<TypeConfig>::signal(sender))
            .await
            .expect("appended");
        durable.push(receiver);
    }
    for receiver in durable {
        receiver.await.expect("called back").expect("durable");
    }
    let expected = read(&mut log).await;
    assert_eq!(expected.len(), 200);
    assert_eq!(handle.gauge.unwritten_bytes(), 0);
    drop((log, handle));
    let (mut reopened, _handle) = open(&path).expect("whole");
    assert_eq!(read(&mut reopened).await, expected);
}

/// More entries than memory keeps are read from disk and memory as one, and a byte limit is kept.
#[tokio::test]
async fn a_long_log_is_read_across_disk_and_memory() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut log, _handle) = create(&directory.path().join("raft")).expect("created");
    for index in 0..48 {
        append(&mut log, vec![entry(1, index, 1 << 20)]).await;
    }
    let indexes: Vec<u64> = read(&mut log).await.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(indexes, (0..48).collect::<Vec<_>>());
    let mut reader = log.get_log_reader().await;
    for start in [0, 20, 44] {
        let limited = reader.limited_get_log_entries(start, 48).await.expect("readable");
        assert_eq!(limited[0].log_id.index, start);
        assert!(limited.len() <= 4, "{} entries of a mebibyte each", limited.len());
    }
}

/// What is sent to a peer begins where it was asked to, or is not sent.
#[tokio::test]
async fn a_limited_read_begins_at_its_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut log, _handle) = create(&directory.path().join("raft")).expect("created");
    append(&mut log, (0..10).map(|index| entry(1, index, 10)).collect()).await;
    log.purge(log_id(1, 3)).await.expect("queued");
    let mut reader = log.get_log_reader().await;
    // A leader that was may still ask: no reason to end.
    let purged = reader.limited_get_log_entries(2, 8).await;
    assert!(purged.expect("no error").is_empty(), "partly purged");
    assert!(reader.limited_get_log_entries(10, 12).await.expect("none").is_empty());
    let entries = reader.limited_get_log_entries(4, 8).await.expect("held");
    assert_eq!(entries.len(), 4);
}

/// Write-ahead logs are made ready beside appends: soon one is written to that is as long as it will be. All appends are there when the log is opened
/// again, also where it was closed meanwhile.
#[cfg(not(feature = "simulation"))]
#[tokio::test]
async fn write_ahead_logs_are_made_ready() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("raft");
    let (mut log, handle) = create(&path).expect("created");
    handle.prepare();
    append(&mut log, vec![entry(1, 0, 100)]).await;
    drop((handle, log));

    let (mut log, handle) = open(&path).expect("opened");
    handle.prepare();
    let mut seen = std::collections::BTreeSet::new();
    let mut index = 1;
    let in_use = loop {
        append(&mut log, vec![entry(1, index, 100)]).await;
        index += 1;
        let newest = write_ahead_logs(&path).pop().expect("one that is written to");
        seen.insert(newest.clone());
        // The first two were filled.
        if seen.len() > 2 {
            break newest;
        }
    };
    let length = fs::metadata(in_use).expect("there").len();
    assert!(length >= super::open::MEMTABLE_BYTES as u64, "{length} bytes");
    drop((handle, log));
    let (mut log, handle) = open(&path).expect("opened");
    assert_eq!(read(&mut log).await.len() as u64, index);
    drop((handle, log));
}
