//! A naive model of the state: every value of every key, for ever.

use std::collections::BTreeMap;

use blox_store::proto::StoredValue;
use blox_store::{Change, Key, Kind, Revision, Store, WatchFrom, WatchRequest};

/// What stood under every key, by the revision it came with; `None`: deleted.
#[derive(Default)]
pub struct Model {
    pub keys: BTreeMap<Key, BTreeMap<Revision, Option<StoredValue>>>,
    pub revision: Revision,
}

impl Model {
    /// Takes in what the head of the store shows now; at most one key has changed since the last call.
    pub fn take(&mut self, store: &Store) {
        let view = store.view().expect("a view");
        assert!(view.revision() <= self.revision + 1, "more than one key changed");
        let mut now: BTreeMap<Key, StoredValue> = BTreeMap::new();
        for kind in Kind::ALL {
            now.extend(view.scan(kind).expect("a scan"));
        }
        for (key, versions) in &mut self.keys {
            if !now.contains_key(key) && versions.last_key_value().is_some_and(|(_, value)| value.is_some()) {
                versions.insert(view.revision(), None);
            }
        }
        for (key, value) in now {
            self.keys
                .entry(key)
                .or_default()
                .insert(value.mod_revision, Some(value));
        }
        self.revision = view.revision();
    }

    /// The state at a revision.
    pub fn at(&self, revision: Revision) -> BTreeMap<Key, StoredValue> {
        let value = |versions: &BTreeMap<Revision, Option<StoredValue>>| {
            versions
                .range(..=revision)
                .next_back()
                .and_then(|(_, value)| value.clone())
        };
        self.keys
            .iter()
            .filter_map(|(key, versions)| Some((key.clone(), value(versions)?)))
            .collect()
    }
}

/// A request for everything from `from` on.
pub fn everything(from: WatchFrom) -> WatchRequest {
    WatchRequest {
        from,
        kinds: Vec::new(),
        prefix: bytes::Bytes::new(),
    }
}

/// A replica built from nothing but what a watch told; it checks that changes come once, in order and without a gap.
#[derive(Default)]
pub struct Replica {
    pub state: BTreeMap<Key, StoredValue>,
    pub revision: Revision,
}

impl Replica {
    pub fn take(&mut self, change: &Change) {
        assert_eq!(
            change.revision,
            self.revision + 1,
            "changes come once, in order and without a gap"
        );
        self.revision = change.revision;
        let before = match &change.current {
            Some(value) => {
                assert_eq!(value.mod_revision, change.revision);
                self.state.insert(change.key.clone(), (**value).clone())
            }
            None => self.state.remove(&change.key),
        };
        assert!(
            change.current.is_some() || before.is_some(),
            "only what was there is deleted"
        );
        assert_eq!(
            change.deleted.as_deref(),
            before.as_ref().filter(|_| change.current.is_none()),
            "what revision {} deleted is told, and nothing else",
            change.revision
        );
    }
}
