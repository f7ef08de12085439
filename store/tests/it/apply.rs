//! Applying: the same log gives the same state, whatever the engine and however it is cut; what cannot be is refused.

use blox_store::proto::outcome::Result as Answer;
use blox_store::proto::{Command, RefusalCode};
use blox_store::{Kind, LogEntry, Store, StoreError};

use crate::support::{Fed, RandomLog, command, keyed, log_entry, of_session, on_both_engines, open_session, put, seed};

fn state(store: &Store) -> Vec<(String, String)> {
    let view = store.view().expect("a view");
    let values = Kind::ALL.into_iter().flat_map(|kind| view.scan(kind).expect("a scan"));
    values
        .map(|(key, value)| (format!("{key:?}"), format!("{value:?}")))
        .collect()
}

/// One log, applied entry by entry, all at once and in odd groups, on both engines: the same hash, the same values, the same outcomes.
#[test]
fn the_same_log_gives_the_same_state() {
    let seed = seed();
    let log = RandomLog::new(seed, 5).entries(600);
    let directory = tempfile::tempdir().expect("a directory");
    let mut results = Vec::new();
    for (name, group) in [("single", 1), ("odd", 7), ("whole", log.len())] {
        for store in [Store::in_memory(), crate::support::open(&directory.path().join(name))] {
            let mut outcomes = Vec::new();
            for entries in log.chunks(group) {
                outcomes.extend(
                    store
                        .apply(entries)
                        .expect("applies")
                        .into_iter()
                        .map(|applied| applied.outcomes),
                );
            }
            results.push((
                name,
                store.fingerprint().expect("a fingerprint"),
                outcomes,
                state(&store),
                store.sources().expect("sources"),
            ));
        }
    }
    let (_, first_hash, first_outcomes, first_state, first_sources) = &results[0];
    for (name, hash, outcomes, state, sources) in &results[1..] {
        assert_eq!(hash, first_hash, "{name}, seed {seed}");
        assert_eq!(outcomes, first_outcomes, "{name}, seed {seed}");
        assert_eq!(state, first_state, "{name}, seed {seed}");
        assert_eq!(sources, first_sources, "{name}, seed {seed}");
    }
}

/// The hash depends on every byte and on the order of writes.
#[test]
fn another_log_gives_another_hash() {
    let hash = |entries: &[LogEntry]| {
        let store = Store::in_memory();
        store.apply(entries).expect("applies");
        store.state_hash().expect("a hash").1
    };
    let log = |values: [&str; 2]| {
        let entry = |(index, value): (usize, &str)| log_entry(index as u64 + 1, 0, vec![command(put("k", value))]);
        values.into_iter().enumerate().map(entry).collect::<Vec<_>>()
    };
    let hashes = [hash(&log(["a", "b"])), hash(&log(["a", "c"])), hash(&log(["b", "a"]))];
    assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
}

/// An entry comes once and in order; a refused call changes nothing.
#[test]
fn entries_come_once_and_in_order() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.put("a", "1");
        fed.put("a", "2");
        let before = fed.store.fingerprint().expect("a fingerprint");
        for index in [1, 2, 4] {
            let refused = fed.store.apply(&[log_entry(index, 0, vec![command(put("a", "3"))])]);
            assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
        }
        assert_eq!(fed.store.fingerprint().expect("a fingerprint"), before);
        assert_eq!(fed.put("a", "3"), 3, "the next one is still welcome");
    });
}

/// The log of a fresh cluster begins with index 0.
#[test]
fn the_first_entry_may_have_index_0() {
    on_both_engines(|store| {
        let first = LogEntry {
            index: 0,
            log_id: "zero".into(),
            membership: Some("members".into()),
            payload: None,
        };
        store.apply(std::slice::from_ref(&first)).expect("applies");
        let applied = store.applied().expect("applied");
        assert_eq!(
            (applied.applied_index, applied.log_id, applied.membership),
            (0, "zero".into(), "members".into())
        );
        assert!(store.apply(&[first]).is_err(), "once");
        store.apply(&[log_entry(1, 0, vec![])]).expect("the next");
    });
}

/// A command this version does not know stops the node: nothing of its entry, nor of its call, is written.
#[test]
fn an_unknown_command_is_fatal() {
    on_both_engines(|store| {
        let unknown = Command {
            actor: "newer".into(),
            ..Command::default()
        };
        let entries = [
            log_entry(1, 0, vec![command(put("a", "1"))]),
            log_entry(2, 0, vec![unknown]),
        ];
        assert!(matches!(store.apply(&entries), Err(StoreError::Unknown(_))));
        assert_eq!(store.view().expect("a view").user_key(b"a").expect("readable"), None);
    });
}

/// Commands of one entry see what those before them wrote, each changed key gets a revision of its own.
#[test]
fn commands_of_one_entry_follow_one_another() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let outcomes = fed.entry(vec![
            command(put("a", "1")),
            command(put("a", "2")),
            command(put("b", "1")),
        ]);
        assert_eq!(
            outcomes.iter().map(|outcome| outcome.revision).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        let Some(Answer::KeyWritten(written)) = &outcomes[1].result else {
            panic!("{outcomes:?}")
        };
        let previous = written.previous.as_ref().expect("the first write is seen");
        assert_eq!((previous.mod_revision, previous.value.as_ref()), (1, b"1".as_slice()));
    });
}

fn refusal(answer: Option<Answer>) -> RefusalCode {
    match answer {
        Some(Answer::Refusal(refusal)) => refusal.code(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Commands of a session that is not the current one change nothing; those of users always pass.
#[test]
fn only_the_current_session_writes() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.elapsed_ms = 500;
        let Answer::SessionOpened(opened) = fed.apply(open_session()) else {
            panic!("no session")
        };
        assert_eq!((opened.session, opened.elapsed_ms), (1, 500));
        assert_eq!(fed.command(of_session(1, put("a", "1"))).revision, 1);
        // The new session's opening and a command of the old one in one entry: the old one is refused already.
        let outcomes = fed.entry(vec![
            command(open_session()),
            of_session(1, put("a", "2")),
            of_session(2, put("a", "3")),
        ]);
        assert_eq!(refusal(outcomes[1].result.clone()), RefusalCode::StaleSession);
        assert_eq!(outcomes[2].revision, 2);
        assert_eq!(
            refusal(fed.command(of_session(3, put("a", "4"))).result),
            RefusalCode::StaleSession,
            "nor one of the future"
        );
        assert_eq!(fed.put("a", "5"), 3);
        let session = fed.store.session().expect("a session");
        assert_eq!(
            (
                session.session,
                session.node.as_str(),
                session.term,
                session.opened_at_elapsed_ms
            ),
            (2, "one", 3, 500)
        );
        assert_eq!(fed.store.progress().borrow().session, 2);
    });
}

/// The replicated clock never goes back.
#[test]
fn the_clock_never_goes_back() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.elapsed_ms = 9_000;
        fed.put("a", "1");
        fed.elapsed_ms = 100;
        fed.put("a", "2");
        assert_eq!(fed.store.view().expect("a view").elapsed_ms(), 9_000);
        assert_eq!(fed.store.progress().borrow().elapsed_ms, 9_000);
    });
}

/// Under the same key a command is answered from memory, another body is a conflict, another scope is another key.
#[test]
fn idempotency_keys_replay_and_conflict() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let first = fed.command(keyed(put("a", "1"), "key", 1));
        fed.put("a", "2");
        // Twice in one entry too.
        let again = fed.entry(vec![
            keyed(put("a", "1"), "key", 1),
            keyed(put("a", "1"), "key", 2),
            keyed(put("b", "1"), "new", 1),
            keyed(put("b", "1"), "new", 1),
        ]);
        assert!(again[0].replayed && !first.replayed);
        assert_eq!((again[0].revision, &again[0].result), (first.revision, &first.result));
        assert_eq!(refusal(again[1].result.clone()), RefusalCode::IdempotencyConflict);
        assert!(!again[2].replayed && again[3].replayed);
        let kept = fed
            .store
            .view()
            .expect("a view")
            .user_key(b"a")
            .expect("readable")
            .expect("there");
        assert_eq!(kept.value, "2");
        assert_eq!(fed.revision(), 3);
    });
}
