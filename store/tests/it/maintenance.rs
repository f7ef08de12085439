//! What stands in `meta`: progress of sources, the quarantine; and what age ends.

use blox_store::Kind;
use blox_store::proto::outcome::Result as Answer;
use blox_store::proto::{ReconcilePass, Removed};

use crate::support::{
    Fed, Task, command, expire, keyed, observe, on_both_engines, open, open_session, put, quarantine, report,
};

const HOUR_MS: u64 = 60 * 60 * 1_000;

fn removed(fed: &mut Fed, limit: u32) -> Removed {
    match fed.apply(expire(limit)) {
        Answer::Removed(removed) => removed,
        other => panic!("not removed: {other:?}"),
    }
}

/// Progress of a source is kept without a revision; a watermark never goes back, of each cluster the latest pass stays.
#[test]
fn sources_report() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let pass = |cluster: &str, ended_at_ms, drift| ReconcilePass {
            cluster_arn: cluster.into(),
            ended_at_ms,
            drift_added: drift,
            ..ReconcilePass::default()
        };
        fed.apply(report("one", 500, vec![pass("b", 10, 1), pass("a", 10, 2)], false));
        fed.apply(report("one", 400, vec![pass("b", 20, 3), pass("a", 5, 0)], true));
        fed.apply(report("another", 0, vec![], false));
        let sources = fed.store.sources().expect("readable");
        assert_eq!(
            sources.iter().map(|source| source.source.as_str()).collect::<Vec<_>>(),
            ["another", "one"]
        );
        let one = &sources[1];
        assert_eq!(
            (one.watermark_ms, one.drift_added, one.reconciled_at_ms),
            (500, 6, 1_700_000_000_000)
        );
        let passes: Vec<_> = one
            .passes
            .iter()
            .map(|pass| (pass.cluster_arn.as_str(), pass.ended_at_ms))
            .collect();
        assert_eq!(passes, [("a", 10), ("b", 20)]);
        assert_eq!(fed.revision(), 0);
    });
}

/// The quarantine numbers what it takes, drops the oldest beyond its limit, and is read page by page.
#[test]
fn the_quarantine_is_bounded() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let bodies: Vec<String> = (1..=300).map(|number| format!("body-{number}")).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        for _ in 0..4 {
            fed.apply(quarantine("one", &bodies));
        }
        let first = fed.store.quarantine(0, 2).expect("readable");
        assert_eq!(
            first.iter().map(|message| message.sequence).collect::<Vec<_>>(),
            [201, 202]
        );
        assert_eq!(
            (first[0].body.as_ref(), first[0].source.as_str()),
            (b"body-201".as_slice(), "one")
        );
        let next = fed.store.quarantine(1_198, 10).expect("readable");
        assert_eq!(
            next.iter().map(|message| message.sequence).collect::<Vec<_>>(),
            [1_199, 1_200]
        );
        assert_eq!(fed.store.quarantine(0, usize::MAX).expect("readable").len(), 1_000);
        assert_eq!(fed.store.sources().expect("readable")[0].quarantined, 1_200);
        assert_eq!(fed.revision(), 0);
    });
}

/// It is bounded in bytes too.
#[test]
fn the_quarantine_is_bounded_in_bytes() {
    let mut fed = Fed::new(blox_store::Store::in_memory());
    let body = "x".repeat(1 << 20);
    for _ in 0..70 {
        fed.apply(quarantine("one", &[&body]));
    }
    let kept = fed.store.quarantine(0, usize::MAX).expect("readable");
    assert_eq!((kept.len(), kept[0].sequence), (63, 8));
}

/// A stopped task that ECS forgot stays a day, then goes, in bounded pieces; a late event does not bring it back.
#[test]
fn forgotten_resources_expire() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let mut tasks: Vec<Task> = (0..5).map(|id| Task::new("one", "a", &id.to_string())).collect();
        for task in &mut tasks {
            task.status = "STOPPED".into();
            let revision = fed.command(command(observe(vec![task.observation(3)]))).revision;
            fed.apply(task.forget(revision));
        }
        let count = |fed: &Fed| {
            fed.store
                .view()
                .expect("a view")
                .list(Kind::Task, Default::default())
                .expect("a list")
                .count()
        };
        // The last one is seen again.
        fed.apply(observe(vec![tasks[4].observation(9)]));
        fed.elapsed_ms += 24 * HOUR_MS;
        assert_eq!(removed(&mut fed, 100).count, 0, "not yet: the clock began after 0");
        fed.elapsed_ms += 1;
        let before = fed.revision();
        assert_eq!(removed(&mut fed, 3), Removed { count: 3, more: true });
        assert_eq!((count(&fed), fed.revision()), (2, before + 3));
        assert!(!removed(&mut fed, 3).more);
        assert_eq!(count(&fed), 1);
        fed.apply(observe(vec![tasks[0].observation(2), tasks[0].observation(3)]));
        assert_eq!(count(&fed), 1, "a late event");
        // Fifteen days on nothing is remembered.
        fed.elapsed_ms += 15 * 24 * HOUR_MS;
        assert_eq!(removed(&mut fed, 100).count, 4);
        fed.apply(observe(vec![tasks[0].observation(2)]));
        assert_eq!(count(&fed), 2);
    });
}

/// An idempotency key lasts a day on the replicated clock.
#[test]
fn idempotency_keys_expire() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.command(keyed(put("a", "1"), "first", 1));
        fed.elapsed_ms += HOUR_MS;
        fed.command(keyed(put("a", "2"), "second", 1));
        fed.elapsed_ms += 23 * HOUR_MS - 1;
        assert_eq!(removed(&mut fed, 100).count, 0);
        fed.elapsed_ms += 1;
        assert_eq!(removed(&mut fed, 100), Removed { count: 1, more: false });
        assert!(!fed.command(keyed(put("a", "3"), "first", 2)).replayed);
        assert!(fed.command(keyed(put("a", "2"), "second", 1)).replayed);
    });
}

/// A key's day goes on over leaders and restarts, as the replicated clock does; and nothing but a command ends it.
#[test]
fn idempotency_keys_outlive_leaders_and_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(open(directory.path()));
    fed.apply(open_session());
    let first = fed.command(keyed(put("a", "1"), "key", 1));
    fed.elapsed_ms += 23 * HOUR_MS;
    fed.apply(open_session());
    drop(fed);
    let mut fed = Fed::new(open(directory.path()));
    fed.apply(open_session());
    let again = fed.command(keyed(put("a", "1"), "key", 1));
    assert_eq!((again.revision, &again.result), (first.revision, &first.result));
    fed.elapsed_ms += HOUR_MS;
    assert!(
        fed.command(keyed(put("a", "1"), "key", 1)).replayed,
        "no command has said that its time is over"
    );
    assert_eq!(removed(&mut fed, 100).count, 1);
    let anew = fed.command(keyed(put("a", "1"), "key", 1));
    assert!(!anew.replayed && anew.revision > first.revision);
}

/// Beyond its limit the table forgets the oldest key, and no other.
#[test]
fn the_idempotency_table_is_bounded() {
    let mut fed = Fed::new(blox_store::Store::in_memory());
    let once = |number: usize| keyed(put("a", "1"), &format!("key-{number}"), 1);
    for first in (0..100_000).step_by(1_000) {
        fed.entry((first..first + 1_000).map(once).collect());
    }
    assert!(fed.command(once(0)).replayed, "all fit");
    fed.command(once(100_000));
    assert!(fed.command(once(1)).replayed);
    assert!(!fed.command(once(0)).replayed, "the oldest made room");
}
