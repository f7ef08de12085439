//! What the log holds, as its readers see it: the newest entries in memory, where they are readable before they are on disk.
//!
//! Everything here changes at the moment openraft asks for it; the disk follows in order. An entry leaves memory only once it is written,
//! oldest first, when the tail holds more than its bound. So entries below the tail's first are on disk, those in it need no disk.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::LogIdOptionExt;

use super::record;
use super::sizes::Sizes;
use crate::types::{Entry, LogId, Vote};

/// Written entries kept in memory for replication and apply, bytes.
pub(super) const TAIL_BYTES_MAX: usize = 16 << 20;

/// Numbers the writes: an entry is on disk once the write that carries it is done.
pub(super) type Ticket = u64;

/// A broken promise of the caller: a hole.
#[derive(Debug, thiserror::Error)]
#[error("entry {found} cannot follow a log that ends at {last}: that would leave a hole")]
pub(crate) struct Hole {
    last: u64,
    found: u64,
}

struct Slot {
    entry: Entry,
    bytes: usize,
    ticket: Ticket,
}

/// What a range is made of.
pub(super) struct Found {
    /// Indexes to read from disk first.
    pub on_disk: Range<u64>,
    /// What follows them, from memory.
    pub in_memory: Vec<Entry>,
}

/// The log as its readers see it.
#[derive(Default)]
pub(super) struct Tail {
    purged: Option<LogId>,
    /// Index of the first entry it holds, if it holds any. Zero in a cluster's life; openraft's test suite begins anywhere.
    first: u64,
    last: Option<LogId>,
    vote: Option<Vote>,
    slots: VecDeque<Slot>,
    bytes: usize,
    sizes: Sizes,
}

impl Tail {
    /// A log that was found on disk.
    pub(super) fn recovered(
        purged: Option<LogId>,
        entries: Option<(u64, LogId)>,
        vote: Option<Vote>,
        sizes: Sizes,
    ) -> Tail {
        let first = entries.map_or_else(|| purged.map_or(0, |purged| purged.index + 1), |(first, _)| first);
        let last = entries.map(|(_, last)| last).or(purged);
        Tail {
            purged,
            first,
            last,
            vote,
            sizes,
            ..Tail::default()
        }
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry's id; without entries the purged one's.
    pub(super) fn last(&self) -> Option<LogId> {
        self.last
    }

    pub(super) fn vote(&self) -> Option<Vote> {
        self.vote
    }

    pub(super) fn set_vote(&mut self, vote: Vote) {
        self.vote = Some(vote);
    }

    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Adds entries that the write `ticket` will carry.
    pub(super) fn append(&mut self, entries: &[Entry], ticket: Ticket) -> Result<(), Hole> {
        for entry in entries {
            let index = entry.log_id.index;
            if let Some(last) = self.last
                && last.index + 1 != index
            {
                return Err(Hole {
                    last: last.index,
                    found: index,
                });
            }
            if self.last.is_none() {
                self.first = index;
            }
            let bytes = record::size(entry);
            self.slots.push_back(Slot {
                entry: entry.clone(),
                bytes,
                ticket,
            });
            self.bytes += bytes;
            self.sizes.add(index, bytes);
            self.last = Some(entry.log_id);
        }
        Ok(())
    }

    /// Removes everything after `id` and says which indexes that were.
    pub(super) fn truncate_after(&mut self, id: Option<LogId>) -> Option<Range<u64>> {
        let first = id.map_or(0, |id| id.index + 1);
        let end = self.last.map_or(0, |last| last.index + 1);
        if first >= end {
            return None;
        }
        while self.slots.back().is_some_and(|slot| slot.entry.log_id.index >= first) {
            self.bytes -= self.slots.pop_back().map_or(0, |slot| slot.bytes);
        }
        self.sizes.truncate(first);
        self.last = further(id, self.purged);
        Some(first..end)
    }

    /// Removes everything up to `id` and says which indexes that were, those of an earlier purge left out.
    pub(super) fn purge(&mut self, id: LogId) -> Option<Range<u64>> {
        if self.purged.is_some_and(|purged| purged.index >= id.index) {
            return None;
        }
        let first = self.purged.map_or(0, |purged| purged.index + 1);
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.entry.log_id.index <= id.index)
        {
            self.bytes -= self.slots.pop_front().map_or(0, |slot| slot.bytes);
        }
        self.sizes.purge(id.index);
        self.purged = Some(id);
        self.first = id.index + 1;
        self.last = further(Some(id), self.last);
        Some(first..id.index + 1)
    }

    /// The write `ticket` and all before it are on disk: lets go of the oldest entries beyond the bound.
    pub(super) fn written(&mut self, ticket: Ticket) {
        while self.bytes > TAIL_BYTES_MAX && self.slots.front().is_some_and(|slot| slot.ticket <= ticket) {
            self.bytes -= self.slots.pop_front().map_or(0, |slot| slot.bytes);
        }
    }

    /// The part of `wanted` that the log holds: at most `bytes_max` of it from memory, but one entry at least.
    pub(super) fn find(&self, wanted: Range<u64>, bytes_max: usize) -> Found {
        let first = wanted.start.max(self.first);
        let end = wanted.end.min(self.last.map_or(0, |last| last.index + 1));
        let memory_first = self.slots.front().map_or(end, |slot| slot.entry.log_id.index);
        let on_disk = first..end.min(memory_first).max(first);
        let mut in_memory = Vec::new();
        let mut bytes = 0;
        let skip = usize::try_from(first.saturating_sub(memory_first)).unwrap_or(usize::MAX);
        for slot in self.slots.iter().skip(skip) {
            if slot.entry.log_id.index >= end || (bytes + slot.bytes > bytes_max && !in_memory.is_empty()) {
                break;
            }
            bytes += slot.bytes;
            in_memory.push(slot.entry.clone());
        }
        Found { on_disk, in_memory }
    }
}

/// The one that stands further on in the log, `one` if both stand at the same place. (Log ids themselves compare terms first: an entry that
/// was never committed may have a higher term than a snapshot that reaches beyond it.)
fn further(one: Option<LogId>, other: Option<LogId>) -> Option<LogId> {
    if one.next_index() >= other.next_index() {
        one
    } else {
        other
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Commands, EntryPayload, log_id};

    fn entries(indexes: Range<u64>, bytes: usize) -> Vec<Entry> {
        indexes
            .map(|index| Entry {
                log_id: log_id(1, index),
                payload: EntryPayload::Normal(Commands(Bytes::from(vec![0; bytes]))),
            })
            .collect()
    }

    fn indexes(found: &Found) -> Vec<u64> {
        found.in_memory.iter().map(|entry| entry.log_id.index).collect()
    }

    /// Entries leave memory only once written, and a range across the border names both parts without a gap.
    #[test]
    fn written_entries_beyond_the_bound_are_read_from_disk() {
        let mut tail = Tail::default();
        for ticket in 0..5 {
            tail.append(&entries(ticket * 10..ticket * 10 + 10, 1 << 20), ticket)
                .expect("no hole");
        }
        assert!(
            tail.find(0..50, usize::MAX).on_disk.is_empty(),
            "nothing is written yet"
        );
        tail.written(2);
        let found = tail.find(0..50, usize::MAX);
        assert!(!found.on_disk.is_empty() && found.on_disk.end <= 30);
        assert_eq!(indexes(&found), (found.on_disk.end..50).collect::<Vec<_>>());
    }

    /// A hole is refused; the first entry of an empty log may stand anywhere.
    #[test]
    fn a_hole_is_refused() {
        let mut tail = Tail::default();
        tail.append(&entries(5..7, 1), 0).expect("an empty log");
        assert!(tail.append(&entries(8..9, 1), 1).is_err());
        tail.append(&entries(7..8, 1), 1).expect("consecutive");
    }

    /// Cutting at both ends says which indexes went, and a range is clipped to what is left.
    #[test]
    fn cutting_at_both_ends() {
        let mut tail = Tail::default();
        tail.append(&entries(0..10, 1), 0).expect("no hole");
        assert_eq!(tail.truncate_after(Some(log_id(1, 11))), None);
        assert_eq!(tail.truncate_after(Some(log_id(1, 7))), Some(8..10));
        assert_eq!(tail.purge(log_id(1, 2)), Some(0..3));
        assert_eq!(tail.purge(log_id(1, 2)), None);
        assert_eq!(indexes(&tail.find(0..100, usize::MAX)), vec![3, 4, 5, 6, 7]);
        assert_eq!(tail.purge(log_id(1, 20)), Some(3..21));
        assert_eq!((tail.purged(), tail.last()), (Some(log_id(1, 20)), Some(log_id(1, 20))));
        tail.append(&entries(21..22, 1), 1).expect("follows the purged one");
    }

    /// A purge beyond the end counts by index: what it passes may have had a higher term.
    #[test]
    fn a_purge_passes_entries_of_a_higher_term() {
        let mut tail = Tail::default();
        tail.append(&entries(0..3, 1), 0).expect("no hole");
        let uncommitted = Entry {
            log_id: log_id(5, 3),
            payload: EntryPayload::Blank,
        };
        tail.append(&[uncommitted], 0).expect("no hole");
        assert_eq!(tail.purge(log_id(4, 20)), Some(0..21));
        assert_eq!(tail.last(), Some(log_id(4, 20)));
        assert_eq!(tail.purge(log_id(6, 10)), None);
        tail.append(&entries(21..22, 1), 1).expect("follows the purged one");
    }

    /// A byte limit gives the first entries, one at least.
    #[test]
    fn a_byte_limit_gives_one_entry_at_least() {
        let mut tail = Tail::default();
        tail.append(&entries(0..10, 1000), 0).expect("no hole");
        assert_eq!(indexes(&tail.find(2..8, 1)), vec![2]);
        assert_eq!(indexes(&tail.find(2..8, 2500)), vec![2, 3]);
    }
}
