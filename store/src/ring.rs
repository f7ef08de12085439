//! The newest changes, in memory, bounded in bytes: what watchers that keep up are served from.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;

use crate::Revision;
use crate::key::Key;
use crate::proto::{HistoryRecord, StoredValue};
use crate::store::StoreError;
use crate::watch::{Cause, Change};

/// Keys and values the ring holds, bytes. Whoever falls behind it reads the history on disk.
pub(crate) const RING_BYTES_MAX: usize = 16 << 20;
/// What a change costs beside its key and values, bytes.
const CHANGE_OVERHEAD_BYTES: usize = 256;
/// The newest changes whose lines are kept: whoever keeps up has been told of older ones.
const LINES_KEPT: usize = 1_024;
/// A longer line is made anew for each watcher.
const LINE_KEPT_BYTES_MAX: usize = 4 << 10;

impl Cause {
    /// The cause a history record names.
    pub(crate) fn of(record: HistoryRecord) -> Cause {
        Cause {
            actor: record.actor,
            request_id: record.request_id,
            reason: record.cause,
            session: record.session,
            wall_time_ms: record.wall_time_ms,
        }
    }
}

/// A stored value that is decoded once, by the first watcher that wants it.
#[derive(Debug)]
pub(crate) struct SharedValue {
    stored: Bytes,
    decoded: OnceLock<Arc<StoredValue>>,
}

impl SharedValue {
    pub fn new(stored: Bytes) -> SharedValue {
        SharedValue {
            stored,
            decoded: OnceLock::new(),
        }
    }

    fn get(&self) -> Result<Arc<StoredValue>, StoreError> {
        if let Some(decoded) = self.decoded.get() {
            return Ok(Arc::clone(decoded));
        }
        let value = StoredValue::decode(self.stored.clone())
            .map_err(|error| StoreError::Corrupt(format!("a changed value: {error}")))?;
        Ok(Arc::clone(self.decoded.get_or_init(|| Arc::new(value))))
    }
}

/// One change of one key, as it is kept for watchers.
#[derive(Debug)]
pub(crate) struct RingChange {
    pub key: Key,
    pub revision: Revision,
    pub current: Option<SharedValue>,
    /// Of a deletion: the last value.
    pub deleted: Option<SharedValue>,
    pub cause: Arc<Cause>,
    pub line: Line,
}

/// How a change is told, kept for the next watcher while the change is new.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Kept>);

#[derive(Debug, Default)]
enum Kept {
    #[default]
    NotYet,
    Line(Bytes),
    NoMore,
}

impl Line {
    /// The line, made by `make` unless it is kept. Two watchers at one moment may both make it; it is the same.
    pub fn or_make(&self, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        if let Kept::Line(kept) = &*self.0.lock() {
            return kept.clone();
        }
        let mut made = make();
        if made.len() > LINE_KEPT_BYTES_MAX {
            return made.into();
        }
        made.shrink_to_fit();
        let made = Bytes::from(made);
        let mut kept = self.0.lock();
        if matches!(&*kept, Kept::NotYet) {
            *kept = Kept::Line(made.clone());
        }
        made
    }

    fn forget(&self) {
        *self.0.lock() = Kept::NoMore;
    }
}

impl RingChange {
    /// What it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let value = |value: &Option<SharedValue>| value.as_ref().map_or(0, |value| value.stored.len());
        CHANGE_OVERHEAD_BYTES + self.key.as_bytes().len() + value(&self.current) + value(&self.deleted)
    }

    /// As a watcher is told.
    pub fn to_change(self: &Arc<RingChange>) -> Result<Change, StoreError> {
        Ok(Change {
            key: self.key.clone(),
            revision: self.revision,
            current: self.current.as_ref().map(SharedValue::get).transpose()?,
            deleted: self.deleted.as_ref().map(SharedValue::get).transpose()?,
            cause: Arc::clone(&self.cause),
            shared: Arc::clone(self),
        })
    }
}

/// How much a watcher is given at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimit {
    /// Changes given.
    pub changes: usize,
    /// Bytes of changes given.
    pub bytes: usize,
    /// Changes looked at.
    pub looked_at: usize,
}

/// What the ring has from some revision on.
pub(crate) enum FromRing {
    /// Everything wanted up to and including a revision.
    Changes {
        wanted: Vec<Arc<RingChange>>,
        through: Revision,
    },
    /// That revision has left the ring.
    Behind,
}

/// See the module.
pub(crate) struct Ring {
    changes: VecDeque<Arc<RingChange>>,
    bytes: usize,
    bytes_max: usize,
    /// The oldest revision held whole; `last + 1`: none.
    first: Revision,
    last: Revision,
    /// Grows when the state is replaced, as revisions may go back then.
    epoch: u64,
}

impl Ring {
    /// An empty ring behind a state that stands at `revision`.
    pub fn new(revision: Revision, bytes_max: usize) -> Ring {
        Ring {
            changes: VecDeque::new(),
            bytes: 0,
            bytes_max,
            first: revision + 1,
            last: revision,
            epoch: 0,
        }
    }

    /// The state was replaced by one that stands at `revision`.
    pub fn restart(&mut self, revision: Revision) {
        *self = Ring {
            epoch: self.epoch + 1,
            ..Ring::new(revision, self.bytes_max)
        };
    }

    /// The newest revision, and the epoch it belongs to.
    pub fn head(&self) -> (u64, Revision) {
        (self.epoch, self.last)
    }

    /// Takes in the changes of whole revisions, in order.
    pub fn push(&mut self, changes: Vec<Arc<RingChange>>) {
        #[cfg(feature = "zoo")]
        let changes = crate::zoo::not_told_early(changes, self.last);
        for change in changes {
            debug_assert!(
                change.revision == self.last || change.revision == self.last + 1,
                "revisions are consecutive"
            );
            self.bytes += change.bytes();
            self.last = change.revision;
            self.changes.push_back(change);
            let told = self.changes.len().checked_sub(LINES_KEPT + 1);
            if let Some(told) = told.and_then(|index| self.changes.get(index)) {
                told.line.forget();
            }
        }
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.changes.front().map(|change| change.revision) else {
                break;
            };
            while let Some(change) = self.changes.pop_front_if(|change| change.revision == oldest) {
                self.bytes -= change.bytes();
            }
            self.first = oldest + 1;
        }
    }

    /// What is wanted from `revision` on, whole revisions only.
    pub fn read(&self, revision: Revision, limit: BatchLimit, wants: impl Fn(&Key) -> bool) -> FromRing {
        if revision < self.first {
            return FromRing::Behind;
        }
        let start = self.changes.partition_point(|change| change.revision < revision);
        let mut wanted: Vec<Arc<RingChange>> = Vec::new();
        let (mut bytes, mut through) = (0, revision - 1);
        for (looked_at, change) in self.changes.range(start..).enumerate() {
            let full = wanted.len() >= limit.changes || bytes >= limit.bytes || looked_at >= limit.looked_at;
            if full && change.revision != through {
                break;
            }
            through = change.revision;
            if wants(&change.key) {
                bytes += change.bytes();
                wanted.push(Arc::clone(change));
            }
        }
        FromRing::Changes { wanted, through }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: Revision, key: &[u8]) -> Arc<RingChange> {
        Arc::new(RingChange {
            key: Key::user(key),
            revision,
            current: None,
            deleted: None,
            cause: Arc::default(),
            line: Line::default(),
        })
    }

    const ALL: BatchLimit = BatchLimit {
        changes: usize::MAX,
        bytes: usize::MAX,
        looked_at: usize::MAX,
    };

    /// A revision of several changes leaves the ring whole, and is given whole, however small the limits are.
    #[test]
    fn revisions_stay_whole() {
        let one = change(1, b"a").bytes();
        let mut ring = Ring::new(0, 3 * one);
        ring.push(vec![change(1, b"a"), change(1, b"b"), change(2, b"a"), change(2, b"b")]);
        assert!(matches!(ring.read(1, ALL, |_| true), FromRing::Behind));
        let small = BatchLimit { changes: 1, ..ALL };
        let FromRing::Changes { wanted, through } = ring.read(2, small, |_| true) else {
            panic!("revision 2 is held")
        };
        assert_eq!((wanted.len(), through), (2, 2));
    }

    /// What nobody wants still moves the reader on.
    #[test]
    fn unwanted_changes_are_passed() {
        let mut ring = Ring::new(4, RING_BYTES_MAX);
        ring.push(vec![change(5, b"a"), change(6, b"a")]);
        let FromRing::Changes { wanted, through } = ring.read(5, ALL, |_| false) else {
            panic!("revision 5 is held")
        };
        assert_eq!((wanted.len(), through), (0, 6));
    }

    /// A line is made once while its change is new and the line is short, and let go of later.
    #[test]
    fn lines_of_new_changes_are_kept() {
        let mut ring = Ring::new(0, usize::MAX);
        let first = change(1, b"a");
        ring.push(vec![Arc::clone(&first)]);
        let line = |text: &'static [u8]| first.line.or_make(|| text.to_vec());
        assert_eq!((line(b"made"), line(b"again")), ("made".into(), "made".into()));
        let newer = |count| {
            (2..)
                .map(|revision| change(revision, b"b"))
                .take(count)
                .collect::<Vec<_>>()
        };
        ring.push(newer(LINES_KEPT - 1));
        assert_eq!(line(b"again"), "made");
        ring.push(vec![change(LINES_KEPT as u64 + 1, b"b")]);
        assert_eq!((line(b"anew"), line(b"each time")), ("anew".into(), "each time".into()));
        let long = change(1, b"c");
        long.line.or_make(|| vec![b'x'; LINE_KEPT_BYTES_MAX + 1]);
        assert_eq!(long.line.or_make(|| b"short".to_vec()), "short");
    }

    /// After the state was replaced nothing old is given.
    #[test]
    fn a_restart_empties_it() {
        let mut ring = Ring::new(0, RING_BYTES_MAX);
        ring.push(vec![change(1, b"a")]);
        ring.restart(7);
        assert_eq!(ring.head(), (1, 7));
        assert!(matches!(ring.read(7, ALL, |_| true), FromRing::Behind));
        assert!(matches!(
            ring.read(8, ALL, |_| true),
            FromRing::Changes { through: 7, .. }
        ));
    }
}
