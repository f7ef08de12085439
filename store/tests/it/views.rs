//! Views at older revisions, against a model that keeps everything.

use blox_store::{Key, Kind, Store, ViewError};
use std::collections::BTreeMap;

use crate::model::Model;
use crate::support::{Fed, RandomLog, on_both_engines, seed};

fn shown(store: &Store, revision: u64) -> BTreeMap<Key, blox_store::proto::StoredValue> {
    let view = store.view_at(revision).expect("a view");
    assert_eq!(view.revision(), revision);
    let mut state = BTreeMap::new();
    for kind in Kind::ALL {
        let values = view.scan(kind).expect("a scan");
        assert!(
            values.is_sorted_by_key(|(key, _)| key.clone()),
            "scans are in key order"
        );
        state.extend(values);
    }
    for (key, value) in &state {
        assert_eq!(
            view.get(key).expect("readable").as_ref(),
            Some(value),
            "a point read and a scan agree"
        );
    }
    state
}

/// After random commands, compactions among them, every revision still kept shows what the model remembers of it, key by key; and each
/// one that is not kept is refused with the oldest that is.
#[test]
fn every_revision_kept_shows_its_state() {
    let seed = seed();
    on_both_engines(|store| {
        let mut log = RandomLog::new(seed, 1);
        let mut model = Model::default();
        for round in 0..500 {
            store.apply(&[log.entry()]).expect("applies");
            model.take(&store);
            if round % 50 != 49 {
                continue;
            }
            let oldest = store.oldest_revision();
            for revision in oldest..=model.revision {
                let state = shown(&store, revision);
                assert_eq!(
                    state,
                    model.at(revision),
                    "revision {revision}, round {round}, seed {seed}"
                );
                let view = store.view_at(revision).expect("a view");
                for key in model.keys.keys() {
                    assert_eq!(
                        view.get(key).expect("readable").as_ref(),
                        state.get(key),
                        "{key:?} at {revision}, seed {seed}"
                    );
                }
            }
            if oldest > 0 {
                let refused = store.view_at(oldest - 1);
                assert!(matches!(refused, Err(ViewError::Compacted { oldest: told, .. }) if told == oldest));
            }
            let ahead = store.view_at(model.revision + 1);
            assert!(matches!(ahead, Err(ViewError::Future { current, .. }) if current == model.revision));
        }
        assert!(
            store.oldest_revision() > 0 && model.revision > 200,
            "the log did something, seed {seed}"
        );
    });
}

/// A view does not move, whatever is applied, compacted or swept after it was taken.
#[test]
fn a_view_does_not_move() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        fed.put("a", "1");
        fed.put("b", "1");
        fed.delete("b");
        let head = fed.store.view().expect("a view");
        let older = fed.store.view_at(2).expect("a view");
        for round in 0..100 {
            fed.put("a", &round.to_string());
        }
        fed.delete("a");
        fed.compact(fed.revision());
        fed.idle(5);
        for (view, keys) in [(&head, 1), (&older, 2)] {
            assert_eq!(view.user_key(b"a").expect("readable").expect("there").value, "1");
            assert_eq!(view.user_keys(b"", None, 10).expect("readable").len(), keys);
        }
        assert_eq!(
            fed.store
                .view()
                .expect("a view")
                .user_keys(b"", None, 10)
                .expect("readable"),
            []
        );
    });
}

/// Users' keys are listed by prefix, in order, page by page, at older revisions too.
#[test]
fn user_keys_are_listed_page_by_page() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        for key in ["a", "b/", "b/1", "b/2", "b/3", "c"] {
            fed.put(key, key);
        }
        let revision = fed.revision();
        fed.delete("b/2");
        fed.put("b/0", "later");
        let names = |view: &blox_store::View, after: Option<&[u8]>, limit| {
            let keys = view.user_keys(b"b/", after, limit).expect("readable");
            keys.into_iter()
                .map(|key| String::from_utf8_lossy(&key.key).into_owned())
                .collect::<Vec<_>>()
        };
        let now = fed.store.view().expect("a view");
        assert_eq!(names(&now, None, 10), ["b/", "b/0", "b/1", "b/3"]);
        let then = fed.store.view_at(revision).expect("a view");
        assert_eq!(names(&then, None, 2), ["b/", "b/1"]);
        assert_eq!(names(&then, Some(b"b/1"), 2), ["b/2", "b/3"]);
        assert_eq!(names(&then, Some(b"b/3"), 2), Vec::<String>::new());
        assert_eq!(
            names(&then, Some(b"a"), 1),
            ["b/"],
            "a start before the prefix begins with the prefix"
        );
    });
}
