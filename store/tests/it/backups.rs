//! Backups: what comes out of one is what went in, a damaged or cut one is told from a whole one, and a restored state is a new beginning.

use std::fs;
use std::path::Path;

use blox_store::backup::{self, BackupError, BackupOrigin};
use blox_store::proto::command::Operation;
use blox_store::proto::{
    CreateEnvironment, EnvironmentSpec, IntendLaunches, LaunchIntent, LaunchState, RaiseFeatureLevel, ReconcilePass,
    SourceStatus, StoredValue,
};
use blox_store::{FeatureLevel, Key, Kind, LogEntry, Store, StoreError, ViewError, WatchEnd, WatchFrom};

use crate::model::everything;
use crate::support::{
    Fed, RandomLog, cluster_arn, command, log_entry, log_id, observe, open, open_session, put, report, seed,
};
use crate::watches::{next, runtime};

/// As the store raises it.
const RAISED_BY: u64 = 1_000_000_000;

fn state(store: &Store) -> Vec<(Key, StoredValue)> {
    let view = store.view().expect("a view");
    let scan = |kind| view.scan(kind).expect("a scan");
    Kind::ALL.into_iter().flat_map(scan).collect()
}

fn origin() -> BackupOrigin {
    BackupOrigin {
        cluster_id: "cluster".into(),
        node: "a".into(),
        version: "0.1.0".into(),
        created_at_ms: 1_700_000_000_000,
    }
}

/// Saves a store's backup to a file, and gives how many bytes it announced.
fn save(store: &Store, file: &Path, scratch: &Path) -> u64 {
    let backup = store.backup(scratch, origin()).expect("a backup");
    let mut bytes = Vec::new();
    backup
        .write(|piece| {
            bytes.extend_from_slice(&piece);
            Ok(())
        })
        .expect("written");
    fs::write(file, &bytes).expect("written");
    backup.length()
}

/// What was saved comes out: summary, counts by kind, and the state itself, on both engines. The announced length is the file's.
#[test]
fn a_backup_holds_the_state() {
    let seed = seed();
    for disk in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let new = |name: &str| if disk { open(&at(name)) } else { Store::in_memory() };
        let one = new("one");
        one.apply(&RandomLog::new(seed, 5).entries(300)).expect("applies");
        let announced = save(&one, &at("file"), &at("outgoing"));
        assert!(!at("outgoing").exists(), "the checkpoint goes with the backup");
        let taken = one.fingerprint().expect("a fingerprint");
        assert_eq!(announced, fs::metadata(at("file")).expect("a file").len());

        let inspected = backup::inspect(&at("file"), &at("scratch"), |_| {}).expect("whole");
        assert!(!at("scratch").exists(), "nothing is left behind");
        let summary = &inspected.summary;
        assert_eq!(
            (
                summary.applied_index,
                summary.revision,
                summary.state_hash,
                summary.bytes
            ),
            (taken.applied_index, taken.revision, taken.hash, announced)
        );
        let view = one.view().expect("a view");
        for (kind, count) in &inspected.counts {
            assert_eq!(*count, view.scan(*kind).expect("a scan").len() as u64, "{kind:?}");
        }
        let mut last = 0;
        let unpacked = backup::unpack(&at("file"), &at("unpacked"), |bytes| last = bytes).expect("whole");
        assert_eq!((unpacked.summary.hash, last), (summary.hash, announced));
        let two = new("two");
        two.install(&unpacked.checkpoint).expect("installs");
        assert_eq!(two.fingerprint().expect("a fingerprint"), taken, "seed {seed}");
        assert_eq!(state(&two), state(&one));
    }
}

/// A file cut anywhere, with any bit flipped, or with something behind its end is refused, and the message says where it is damaged.
#[test]
fn a_damaged_or_cut_backup_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let mut fed = Fed::new(Store::in_memory());
    fed.puts("key", 20);
    save(&fed.store, &at("file"), &at("outgoing"));
    let whole = fs::read(at("file")).expect("read");
    backup::verify(&at("file"), |_| {}).expect("whole");
    let verify = |bytes: &[u8]| {
        fs::write(at("file"), bytes).expect("written");
        backup::verify(&at("file"), |_| {}).expect_err("refused")
    };
    for length in (0..whole.len()).step_by(7) {
        let error = verify(&whole[..length]);
        match error {
            BackupError::NotABackup { .. } => assert!(length < 9),
            BackupError::Cut { offset, .. } => assert!(offset <= length as u64),
            other => panic!("cut at {length}: {other}"),
        }
    }
    for place in (9..whole.len()).step_by(5) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        // A length that was made longer reads as a cut.
        match verify(&bytes) {
            BackupError::Damaged { offset, .. } | BackupError::Cut { offset, .. } => assert!(offset <= place as u64),
            other => panic!("flipped at {place}: {other}"),
        }
    }
    assert!(matches!(
        verify(&[whole.as_slice(), b"x"].concat()),
        BackupError::Damaged { .. }
    ));
    assert!(matches!(verify(b"something else"), BackupError::NotABackup { .. }));
    let mut newer = whole.clone();
    newer[8] += 1;
    assert!(matches!(verify(&newer), BackupError::Newer { .. }));
    let text = verify(&whole[..whole.len() / 2]).to_string();
    assert!(text.contains("memory-state") && text.contains("was cut"), "{text}");
}

fn restored(fed: &Fed, directory: &Path) -> Store {
    save(&fed.store, &directory.join("file"), &directory.join("outgoing"));
    let unpacked = backup::unpack(&directory.join("file"), &directory.join("unpacked"), |_| {}).expect("whole");
    let store = Store::in_memory();
    store.install(&unpacked.checkpoint).expect("installs");
    store
        .begin_anew(log_id(0), unpacked.summary.created_at_ms)
        .expect("begins anew");
    store
}

/// Values and mod revisions stay, the revision is raised, everything before it is compacted, the members are gone, and the state goes on: the
/// same on every node that restores the same backup.
#[test]
fn a_restored_state_begins_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(Store::in_memory());
    fed.store
        .apply(&[LogEntry {
            membership: Some("members".into()),
            ..log_entry(1, 0, Vec::new())
        }])
        .expect("applies");
    fed.next_index += 1;
    fed.puts("key", 3);
    fed.put("other", "1");
    fed.delete("other");
    let before = fed.revision();
    let kept = fed.store.view().expect("a view").user_key(b"key").expect("read");
    let one = restored(&fed, directory.path());
    let raised = before + RAISED_BY;
    assert_eq!(
        (one.oldest_revision(), one.restored_revision().expect("read")),
        (raised, raised)
    );
    let meta = one.applied().expect("applied");
    assert_eq!((meta.applied_index, meta.log_id, meta.revision), (6, log_id(0), raised));
    assert!(meta.membership.is_empty());
    assert_eq!(one.view().expect("a view").user_key(b"key").expect("read"), kept);

    runtime().block_on(async {
        for compacted in [1, before, before + 1, raised - 1] {
            assert!(matches!(one.view_at(compacted), Err(ViewError::Compacted { oldest, .. }) if oldest == raised));
            let watch = one.watch(everything(WatchFrom::Revision(compacted)));
            assert!(matches!(watch.err(), Some(WatchEnd::Compacted { oldest, .. }) if oldest == raised));
        }
        let mut from_the_raised = one
            .watch(everything(WatchFrom::Revision(raised)))
            .expect("the oldest that is kept");
        let mut from_the_next = one
            .watch(everything(WatchFrom::Revision(raised + 1)))
            .expect("what comes next");
        let mut fed = Fed::new(one.clone());
        assert_eq!(fed.put("key", "new"), raised + 1);
        for watcher in [&mut from_the_raised, &mut from_the_next] {
            let mut revisions = Vec::new();
            while revisions.is_empty() {
                revisions = next(watcher)
                    .await
                    .expect("a batch")
                    .changes
                    .iter()
                    .map(|change| change.revision)
                    .collect();
            }
            assert_eq!(revisions, [raised + 1]);
        }
        // The old history goes in its time, and takes nothing else along.
        fed.idle(5);
        assert_eq!(
            one.view()
                .expect("a view")
                .user_keys(b"", None, 10)
                .expect("read")
                .len(),
            1
        );
    });

    let again = tempfile::tempdir().expect("a directory");
    let two = restored(&fed, again.path());
    let mut fed = Fed::new(two.clone());
    fed.put("key", "new");
    fed.idle(5);
    assert_eq!(one.fingerprint().expect("read"), two.fingerprint().expect("read"));
}

/// Open launches are unknown, as if none had been looked up yet; passes are forgotten, the sources' counters are not.
#[test]
fn a_restored_state_trusts_no_outcome() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = cluster_arn("us-east-1", "one");
    let mut fed = Fed::new(Store::in_memory());
    fed.elapsed_ms = 1_000;
    fed.apply(open_session());
    let instance = format!("{}/i-1", cluster.replace(":cluster/", ":container-instance/"));
    fed.apply(observe(vec![blox_store::proto::Observation {
        kind: blox_store::proto::ResourceKind::Instance as i32,
        source: "one".into(),
        cluster_arn: cluster.clone(),
        arn: instance.clone(),
        form: blox_store::proto::Form::Describe as i32,
        ecs_version: Some(1),
        observed_at_ms: 1,
        document: format!("{{\"containerInstanceArn\":\"{instance}\",\"status\":\"ACTIVE\",\"version\":1}}").into(),
    }]));
    let spec = EnvironmentSpec {
        source: "one".into(),
        cluster_arn: cluster.clone(),
        task_definition_arn: "arn:aws:ecs:us-east-1:123456789012:task-definition/d:1".into(),
        max_unavailable: 1,
        ..EnvironmentSpec::default()
    };
    fed.apply(Operation::CreateEnvironment(CreateEnvironment {
        id: "e".into(),
        name: "env".into(),
        spec: Some(spec.clone()),
        deployment_token: "t".into(),
        deployment_id: "d".into(),
    }));
    fed.apply(Operation::IntendLaunches(IntendLaunches {
        intents: vec![LaunchIntent {
            launch_id: "1-1".into(),
            environment_id: "e".into(),
            deployment_id: "d".into(),
            source: "one".into(),
            cluster_arn: cluster.clone(),
            instance_arn: instance,
            task_definition_arn: spec.task_definition_arn,
            call_deadline_elapsed_ms: 5_000,
            ..LaunchIntent::default()
        }],
    }));
    assert_eq!(
        fed.store.view().expect("a view").all_launches().expect("read").len(),
        1,
        "it was taken"
    );
    let pass = |missing| ReconcilePass {
        cluster_arn: cluster.clone(),
        ended_at_ms: 7,
        missing,
        ..ReconcilePass::default()
    };
    fed.apply(report("one", 5, vec![pass(0)], true));

    let store = restored(&fed, directory.path());
    let launches = store.view().expect("a view").all_launches().expect("read");
    assert_eq!(launches[0].state(), LaunchState::Unknown);
    assert_eq!(launches[0].first_empty_lookup_elapsed_ms, 0);
    let sources: Vec<SourceStatus> = store.sources().expect("read");
    assert_eq!(sources.len(), 1);
    assert_eq!((sources[0].watermark_ms, sources[0].reconciled_at_ms), (5, 0));
    assert!(sources[0].passes.is_empty());

    // A cluster is settled by the first pass that leaves nothing to be judged, and stays so.
    let mut fed = Fed::new(store.clone());
    let settled = |store: &Store| store.sources().expect("read")[0].passes[0].settled;
    fed.apply(report("one", 0, vec![pass(2)], false));
    assert!(!settled(&store));
    fed.apply(report("one", 0, vec![pass(0)], false));
    assert!(settled(&store));
    fed.apply(report("one", 0, vec![pass(1)], false));
    assert!(settled(&store));
}

/// A node that knows less than the state's level refuses the state, a snapshot of it, the command that raises it, and commands it does not know.
#[test]
fn a_newer_feature_level_is_refused() {
    let newer = FeatureLevel::new(FeatureLevel::NEWEST.number() + 1);
    let raise = || {
        command(Operation::RaiseFeatureLevel(RaiseFeatureLevel {
            level: newer.number(),
        }))
    };
    let unknown = |error: StoreError| match error {
        StoreError::Unknown(what) => what,
        other => panic!("another error: {other}"),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let store = Store::open_knowing(&at("newer"), newer).expect("opens");
    assert!(!store.may_write(newer) && store.may_write(FeatureLevel::FIRST));
    let mut fed = Fed::new(store.clone());
    fed.command(raise());
    assert!(store.may_write(newer));
    store.checkpoint(&at("checkpoint")).expect("a checkpoint");
    let older = open(&at("older"));
    let refused = unknown(older.install(&at("checkpoint")).expect_err("refused"));
    assert!(refused.contains("the snapshot has feature level 2"), "{refused}");
    assert!(at("checkpoint").exists(), "nothing was moved");
    assert_eq!(older.view().expect("a view").revision(), 0);
    save(&store, &at("file"), &at("outgoing"));
    let refused = backup::verify(&at("file"), |_| {}).expect_err("refused").to_string();
    assert!(
        refused.contains("feature level 2") && refused.contains("newer version"),
        "{refused}"
    );
    drop((fed, store));
    let refused = unknown(Store::open(&at("newer")).err().expect("refused"));
    assert!(refused.contains("the state has feature level 2"), "{refused}");

    let refused = unknown(older.apply(&[log_entry(1, 0, vec![raise()])]).expect_err("refused"));
    assert!(refused.contains("raises the feature level to 2"), "{refused}");
    let nothing = blox_store::proto::Command {
        actor: "newer".into(),
        ..command(put("key", "1"))
    };
    let nothing = blox_store::proto::Command {
        operation: None,
        ..nothing
    };
    let refused = unknown(older.apply(&[log_entry(1, 0, vec![nothing])]).expect_err("refused"));
    assert!(
        refused.contains("log entry 1") && refused.contains("does not know"),
        "{refused}"
    );
    assert_eq!(older.view().expect("a view").scan(Kind::User).expect("a scan").len(), 0);
}
