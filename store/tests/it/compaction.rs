//! Compaction: what goes, what stays, and when it is due.

use blox_store::proto::command::Operation;
use blox_store::proto::outcome::Result as Answer;
use blox_store::proto::{Compact, RefusalCode};
use blox_store::{HistoryLimits, ViewError};

use crate::support::{Fed, command, on_both_engines, put};

/// Of every key the value that stood at the oldest revision stays readable, however long ago it was written.
#[test]
fn the_newest_value_before_stays() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.put("rare", "first");
        for round in 0..50 {
            fed.put("often", &round.to_string());
        }
        fed.delete("rare");
        fed.put("often", "last");
        fed.compact(40);
        fed.idle(5);
        let view = fed.store.view_at(40).expect("a view");
        assert_eq!(view.user_key(b"rare").expect("readable").expect("there").value, "first");
        assert_eq!(view.user_key(b"often").expect("readable").expect("there").value, "38");
        assert_eq!(view.user_keys(b"", None, 10).expect("readable").len(), 2);
        assert!(matches!(
            fed.store.view_at(39),
            Err(ViewError::Compacted { asked: 39, oldest: 40 })
        ));
    });
}

/// Only the past is compacted, and never back.
#[test]
fn compaction_only_moves_on() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.puts("a", 5);
        let Answer::Refusal(refusal) = fed.apply(Operation::Compact(Compact { revision: 6 })) else {
            panic!("not refused")
        };
        assert_eq!((refusal.code(), refusal.detail.as_str()), (RefusalCode::Invalid, "5"));
        fed.compact(4);
        fed.compact(2);
        assert_eq!(fed.store.oldest_revision(), 4);
        assert_eq!(fed.revision(), 5, "it uses no revision");
        fed.compact(5);
        assert!(fed.store.view_at(5).is_ok(), "the head is always readable");
    });
}

/// A key that was deleted, swept and created anew is a new key, at every revision kept.
#[test]
fn a_key_comes_back_after_it_was_swept() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.put("a", "1");
        fed.delete("a");
        fed.put("b", "1");
        fed.compact(3);
        fed.idle(3);
        let created = fed.put("a", "2");
        let view = fed.store.view_at(3).expect("a view");
        assert_eq!(view.user_key(b"a").expect("readable"), None);
        assert_eq!(view.user_keys(b"", None, 10).expect("readable").len(), 1);
        let now = fed
            .store
            .view()
            .expect("a view")
            .user_key(b"a")
            .expect("readable")
            .expect("there");
        assert_eq!((now.create_revision, now.version), (created, 1));
    });
}

/// What is kept is bounded by revisions, by age and by bytes, whichever ends first.
#[test]
fn limits_become_revisions() {
    const HOUR_MS: u64 = 60 * 60 * 1_000;
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let none = HistoryLimits {
            age_ms: u64::MAX,
            revisions: u64::MAX,
            bytes: u64::MAX,
        };
        let target = |fed: &Fed, limits| fed.store.compaction_target(&limits).expect("readable");
        assert_eq!(target(&fed, HistoryLimits::default()), None);
        for _ in 0..48 {
            fed.elapsed_ms += HOUR_MS;
            fed.entry(vec![command(put("a", &"x".repeat(1_000))), command(put("b", "1"))]);
        }
        assert_eq!(target(&fed, none), None);
        assert_eq!(target(&fed, HistoryLimits { revisions: 10, ..none }), Some(86));
        // 24 hours back: the entry of hour 24 had revisions 47 and 48.
        assert_eq!(
            target(
                &fed,
                HistoryLimits {
                    age_ms: 24 * HOUR_MS,
                    ..none
                }
            ),
            Some(48)
        );
        let by_bytes = target(&fed, HistoryLimits { bytes: 10_000, ..none }).expect("more than that is kept");
        assert!((70..92).contains(&by_bytes), "{by_bytes}");
        fed.compact(48);
        assert_eq!(
            target(
                &fed,
                HistoryLimits {
                    age_ms: 24 * HOUR_MS,
                    ..none
                }
            ),
            None
        );
        fed.idle(3);
        assert_eq!(target(&fed, HistoryLimits { bytes: 10_000, ..none }), Some(by_bytes));
    });
}
