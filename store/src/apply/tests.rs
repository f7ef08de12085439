//! What only the engine's own view can show: every family, byte by byte.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{apply, complete_indexes};
use crate::encoding::Index;
use crate::engine::damage::Damage;
use crate::engine::disk::DiskEngine;
use crate::engine::memory::MemoryEngine;
use crate::engine::{Engine, Family, Pair, Reader, ScanLimit};
use crate::feature_level::FeatureLevel;
use crate::proto::command::Operation;
use crate::proto::{
    Command, Compact, DeleteKey, Entry, Expire, ForgetResource, ForgetResources, Form, HistoryRecord, Observation,
    Observe, Position, PutKey, ResourceKind,
};
use crate::store::{LogEntry, Store};

fn everything(reader: &dyn Reader, family: Family) -> Vec<Pair> {
    reader
        .scan(
            family,
            &[],
            &[],
            ScanLimit {
                count: usize::MAX,
                bytes: usize::MAX,
            },
        )
        .expect("a scan")
}

fn entry(index: u64, commands: Vec<Operation>) -> LogEntry {
    let commands = commands.into_iter().map(|operation| Command {
        operation: Some(operation),
        ..Command::default()
    });
    let entry = Entry {
        wall_time_ms: 0,
        elapsed_ms: index * 60_000,
        commands: commands.collect(),
    };
    LogEntry {
        index,
        log_id: Bytes::new(),
        membership: None,
        payload: Some(entry.encode_to_vec().into()),
    }
}

fn put(key: u32, value: u32) -> Operation {
    Operation::PutKey(PutKey {
        key: format!("key-{key}").into(),
        value: value.to_string().into(),
        precondition: None,
    })
}

fn delete(key: u32) -> Operation {
    Operation::DeleteKey(DeleteKey {
        key: format!("key-{key}").into(),
        precondition: None,
    })
}

fn run(engine: &dyn Engine, entries: &[LogEntry], group: usize) -> Position {
    let mut position = Position::default();
    for entries in entries.chunks(group) {
        let applied = apply(engine, position, entries, FeatureLevel::NEWEST).expect("applies");
        engine.write(&applied.batch).expect("writes");
        position = applied.position;
    }
    position
}

/// Both engines, and every way to cut the log into calls, end with the same bytes in every family.
#[test]
fn every_family_is_the_same() {
    let seed = 11;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut puts = 0;
    let log: Vec<LogEntry> = (1..=500)
        .map(|index| {
            let commands = (0..random.random_range(0..4)).map(|_| match random.random_range(0..10) {
                0 => Operation::Compact(Compact { revision: puts / 2 }),
                1 => Operation::Expire(Expire { limit: 2 }),
                2..=3 => delete(random.random_range(0..9)),
                _ => {
                    puts += 1;
                    put(random.random_range(0..9), random.random())
                }
            });
            entry(index, commands.collect())
        })
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let mut engines: Vec<(Arc<dyn Engine>, Position)> = Vec::new();
    for group in [1, 3, log.len()] {
        let disk = DiskEngine::create(&directory.path().join(group.to_string()), &Damage::unwatched()).expect("opens");
        for engine in [Arc::new(MemoryEngine::default()) as Arc<dyn Engine>, Arc::new(disk)] {
            let position = run(&*engine, &log, group);
            engines.push((engine, position));
        }
    }
    let (first, first_position) = &engines[0];
    assert!(
        first_position.swept_revision > 100,
        "something was swept: {first_position:?}"
    );
    for (engine, position) in &engines[1..] {
        assert_eq!(position, first_position, "seed {seed}");
        for family in Family::ALL {
            assert_eq!(
                everything(&**engine, family),
                everything(&**first, family),
                "{}, seed {seed}",
                family.name()
            );
        }
    }
}

fn task_arn(id: u32) -> String {
    format!("arn:aws:ecs:eu-west-1:1:task/c/{id}")
}

fn observe(id: u32, status: &str, ecs_version: i64) -> Operation {
    let (arn, cluster_arn) = (task_arn(id), "arn:aws:ecs:eu-west-1:1:cluster/c");
    let document = format!(
        r#"{{"taskArn":"{arn}","clusterArn":"{cluster_arn}","lastStatus":"{status}","version":{ecs_version}}}"#
    );
    let observation = Observation {
        kind: ResourceKind::Task as i32,
        source: "s".to_owned(),
        cluster_arn: cluster_arn.to_owned(),
        arn,
        form: Form::Event as i32,
        ecs_version: Some(ecs_version),
        observed_at_ms: ecs_version,
        document: document.into(),
    };
    Operation::Observe(Observe {
        observations: vec![observation],
        source: "s".to_owned(),
        ..Observe::default()
    })
}

fn forget(id: u32, mod_revision: u64) -> Operation {
    let resource = ForgetResource {
        kind: ResourceKind::Task as i32,
        source: "s".to_owned(),
        cluster_arn: "arn:aws:ecs:eu-west-1:1:cluster/c".to_owned(),
        arn: task_arn(id),
        mod_revision,
    };
    Operation::ForgetResources(ForgetResources {
        resources: vec![resource],
    })
}

/// Tasks change their status, and its case, lose it, go and come back: what stands in the indexes is at every moment what would be built anew. It
/// enters no hash: nodes with and without the index over the status stay equal.
#[test]
fn the_index_over_the_status_keeps_in_step() {
    /// Chained over the same log by a version without that index.
    const HASH: u128 = 101_105_250_379_223_135_031_544_806_592_394_625_640;
    const STATUSES: [&str; 6] = ["PENDING", "Running", "RUNNING", "", "STOPPED", "running"];
    let engine = MemoryEngine::default();
    let mut position = Position::default();
    let mut seen = std::collections::BTreeSet::new();
    for index in 1..=300_u64 {
        let id = (index * 7 % 11) as u32;
        let status = STATUSES[(index * index % 13) as usize % STATUSES.len()];
        let command = match index % 10 {
            8 => forget(id, position.revision.saturating_sub(index % 5)),
            9 => Operation::Expire(Expire { limit: 100 }),
            _ => observe(id, status, index as i64),
        };
        let applied = apply(&engine, position, &[entry(index, vec![command])], FeatureLevel::NEWEST).expect("applies");
        engine.write(&applied.batch).expect("written");
        position = applied.position;
        let kept = everything(&engine, Family::Indexes);
        let by_status = kept.iter().filter(|(key, _)| key[0] == Index::TaskStatus as u8);
        seen.insert(by_status.count());
        let mut older = Position {
            index_generation: 0,
            ..position.clone()
        };
        complete_indexes(&engine, &mut older).expect("built");
        assert_eq!(everything(&engine, Family::Indexes), kept, "after entry {index}");
    }
    assert!(seen.len() > 3, "tasks come and go: {seen:?}");
    let hash: [u8; 16] = position.state_hash.as_ref().try_into().expect("16 bytes");
    assert_eq!(u128::from_be_bytes(hash), HASH);
}

/// Entries that do more than a batch holds are written as several, each of whole entries, and nobody sees a difference.
#[test]
fn large_effects_are_written_in_parts() {
    const VALUE_BYTES: usize = 1 << 20;
    let values = (super::BATCH_BYTES_MAX / VALUE_BYTES) as u32 + 8;
    let large = |key: u32| {
        Operation::PutKey(PutKey {
            key: format!("key-{key}").into(),
            value: vec![7; VALUE_BYTES].into(),
            precondition: None,
        })
    };
    let puts: Vec<LogEntry> = (0..values)
        .map(|key| entry(u64::from(key) + 1, vec![large(key)]))
        .collect();
    let deletes: Vec<LogEntry> = (0..values)
        .map(|key| entry(u64::from(values + key) + 1, vec![delete(key)]))
        .collect();

    let engine = MemoryEngine::default();
    let position = run(&engine, &puts, 1);
    let part = apply(&engine, position, &deletes, FeatureLevel::NEWEST).expect("applies");
    let bytes: usize = part
        .batch
        .iter()
        .map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len))
        .sum();
    assert!(part.outcomes.len() < deletes.len(), "cut between two entries");
    assert!(bytes < super::BATCH_BYTES_MAX + 2 * VALUE_BYTES, "{bytes} bytes");
    assert_eq!(
        part.position.applied_index,
        puts.len() as u64 + part.outcomes.len() as u64
    );

    let together = Store::in_memory();
    let outcomes = [puts.clone(), deletes.clone()].map(|entries| together.apply(&entries).expect("applied").len());
    assert_eq!(outcomes, [puts.len(), deletes.len()]);
    let one_by_one = Store::in_memory();
    for entry in puts.into_iter().chain(deletes) {
        one_by_one.apply(&[entry]).expect("applied");
    }
    assert_eq!(
        together.fingerprint().expect("readable"),
        one_by_one.fingerprint().expect("readable")
    );
}

/// Once swept, what is left is the history from the oldest revision on, and for each key changed since then the one value before.
#[test]
fn sweeping_leaves_one_value_before() {
    let engine = MemoryEngine::default();
    let mut log: Vec<LogEntry> = (1..=90)
        .map(|index| entry(index, vec![put(index as u32 % 3, 0)]))
        .collect();
    log.push(entry(91, vec![delete(0), delete(1)]));
    log.push(entry(92, vec![put(1, 1)]));
    log.push(entry(93, vec![Operation::Compact(Compact { revision: 91 })]));
    log.extend((94..=99).map(|index| entry(index, vec![])));
    let position = run(&engine, &log, 1);
    assert_eq!(
        (position.revision, position.oldest_revision, position.swept_revision),
        (93, 91, 91)
    );
    let history = everything(&engine, Family::History);
    let history: Vec<_> = history
        .into_iter()
        .map(|(_, record)| HistoryRecord::decode(record).expect("a record"))
        .collect();
    assert_eq!(
        history
            .iter()
            .map(|record| record.previous_mod_revision)
            .collect::<Vec<_>>(),
        [90, 88, 0]
    );
    // Values 90 and 88, and the tombstones 91 and 92.
    assert_eq!(everything(&engine, Family::Versions).len(), 4);
    let gone = everything(&engine, Family::Indexes);
    assert_eq!(
        gone.iter().filter(|(key, _)| key[0] == Index::Gone as u8).count(),
        1,
        "key-0; key-1 is back"
    );
    // Compacted further, the tombstones go with their changes.
    let applied = apply(
        &engine,
        position,
        &[
            entry(100, vec![Operation::Compact(Compact { revision: 93 })]),
            entry(101, vec![]),
        ],
        FeatureLevel::NEWEST,
    );
    engine.write(&applied.expect("applies").batch).expect("writes");
    assert_eq!(everything(&engine, Family::History).len(), 1);
    assert_eq!(everything(&engine, Family::Versions).len(), 0);
    assert_eq!(everything(&engine, Family::Indexes).len(), 0);
    assert_eq!(everything(&engine, Family::Latest).len(), 2);
}
