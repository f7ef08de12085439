//! What has happened: the log of a node, replayed into a state of its own that never forgets.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::path::Path;

use blox_store::proto::stored_value::Body;
use blox_store::proto::{Entry, command};
use blox_store::{Change as StoreChange, Kind, LogEntry, Store, WatchFrom, WatchRequest};
use bytes::Bytes;
use prost::Message;

use crate::deliveries::Change;
use crate::forms::Form;

/// Entries applied at once.
const APPLY_ENTRIES: usize = 500;

/// Everything that happened.
#[derive(Default)]
pub struct Truth {
    by_form: BTreeMap<Form, Vec<Change>>,
    /// Keys of users and hashes of their values, by the revision that wrote them.
    pub written: HashMap<u64, (Vec<u8>, u64)>,
    /// The last revision.
    pub end: u64,
}

impl Truth {
    /// Replays the log of a stopped node up to an index. Compactions are left out: this history is to be whole.
    pub async fn replay(data_directory: &Path, through: u64, scratch: &Path) -> Truth {
        std::fs::create_dir_all(scratch).expect("the test's directory can be written");
        let store = Store::open(scratch).expect("an empty directory");
        let mut waiting = Vec::new();
        let apply = |waiting: &mut Vec<LogEntry>| {
            // An entry that is missing is refused here.
            store
                .apply(waiting)
                .expect("the log is whole, and what a node has applied can be applied");
            waiting.clear();
        };
        blox_raft::for_each_log_entry(data_directory, |mut entry| {
            if entry.index > through {
                return;
            }
            assert!(
                store.progress().borrow().applied_index > 0 || !waiting.is_empty() || entry.index == 1,
                "the log is whole"
            );
            entry.payload = entry.payload.map(without_compactions);
            waiting.push(entry);
            if waiting.len() >= APPLY_ENTRIES {
                apply(&mut waiting);
            }
        })
        .expect("a stopped node's log can be read");
        apply(&mut waiting);
        let progress = store.progress().borrow().clone();
        assert_eq!(progress.applied_index, through, "the log is whole");
        Truth::of(&store, progress.revision).await
    }

    /// Everything, from the history of a state that has forgotten nothing and does not change.
    async fn of(store: &Store, end: u64) -> Truth {
        let everything = WatchRequest {
            from: WatchFrom::Revision(1),
            kinds: Vec::new(),
            prefix: Bytes::new(),
        };
        let mut watcher = store.watch(everything).expect("nothing was compacted");
        let mut truth = Truth {
            end,
            ..Truth::default()
        };
        let mut next = 1;
        while watcher.delivered() < end {
            for change in watcher.next().await.expect("nothing was compacted").changes {
                // Each changed key has a revision of its own, and none is left out: this does not rest on the watch.
                assert_eq!(change.revision, next, "revisions are consecutive");
                next += 1;
                truth.take(&change);
            }
        }
        assert_eq!(next, end + 1, "every revision is there");
        truth
    }

    fn take(&mut self, change: &StoreChange) {
        for form in Form::ALL {
            self.by_form.entry(form).or_default().extend(wanted_by(form, change));
        }
        if let Some(Body::User(value)) = body(change) {
            let written = (change.key.tail().to_vec(), hash(value));
            self.written.insert(change.revision, written);
        }
    }

    /// What a watcher of this form is to be told.
    pub fn wanted(&self, form: Form) -> &[Change] {
        &self.by_form[&form]
    }
}

fn without_compactions(payload: Bytes) -> Bytes {
    let mut entry = Entry::decode(payload).expect("a log entry's payload");
    entry
        .commands
        .retain(|command| !matches!(command.operation, Some(command::Operation::Compact(_))));
    entry.encode_to_vec().into()
}

fn body(change: &StoreChange) -> Option<&Body> {
    change.current.as_ref().and_then(|value| value.body.as_ref())
}

fn wanted_by(form: Form, change: &StoreChange) -> Option<Change> {
    let kind = change.key.kind();
    if !form.kinds().contains(&kind) {
        return None;
    }
    if form.is_v1() {
        // Streams of the old contract tell of no deletions.
        let Some(Body::Resource(resource)) = body(change) else {
            return None;
        };
        return (!resource.v1_entity.is_empty()).then(|| Change {
            revision: change.revision,
            subject: 0,
            deleted: false,
            content: hash(&resource.v1_entity),
        });
    }
    let content = match body(change) {
        Some(Body::Resource(resource)) if resource.shown.is_empty() => hash(b"null"),
        Some(Body::Resource(resource)) => hash(&resource.shown),
        Some(Body::User(value)) => hash(base64(value).as_bytes()),
        _ => 0,
    };
    Some(Change {
        revision: change.revision,
        subject: hash(key_text(change, kind).as_bytes()),
        deleted: change.current.is_none(),
        content,
    })
}

/// The key as a line has it, from its kind to its last part.
fn key_text(change: &StoreChange, kind: Kind) -> String {
    let parts = change.key.parts();
    match kind {
        Kind::User => {
            let key = String::from_utf8_lossy(change.key.tail());
            format!("\"kv\",\"key\":\"{key}\",\"key_base64\":\"{}\"", base64(key.as_bytes()))
        }
        Kind::Cluster => format!("\"cluster\",\"source\":\"{}\",\"arn\":\"{}\"", parts[0], parts[1]),
        other => format!(
            "\"{}\",\"source\":\"{}\",\"cluster_arn\":\"{}\",\"arn\":\"{}\"",
            other.name(),
            parts[0],
            parts[1],
            parts[2]
        ),
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The same on both sides of the comparison; nothing else rests on it.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
