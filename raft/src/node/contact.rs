//! When this node last heard of a leader, and how old what it has applied is.

use std::collections::VecDeque;
use std::time::Duration;

use blox_runtime::time::Instant;
use parking_lot::Mutex;

use crate::types::{LogId, Vote, position};

/// Contacts remembered until what they tell of is applied. When there are more, every other one is forgotten: ages come out a little too
/// large then, never too small.
const NOTES_MAX: usize = 512;
/// Contacts closer together than this share one note.
const NOTE_INTERVAL: Duration = Duration::from_millis(2);

/// When this node last accepted something of a leader, and what was committed then.
#[derive(Default)]
pub(crate) struct Contact {
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    last: Option<Instant>,
    /// Oldest first; times and positions both grow.
    waiting: VecDeque<Note>,
}

/// At this time everything committed stood at or below this log position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    at: Instant,
    committed: u64,
}

/// The log position that a message says is committed, if its leader can know: one that has committed nothing in its own term yet may be
/// behind what its predecessor has acknowledged (section 8 of the Raft paper).
pub(crate) fn known_committed(vote: &Vote, commit: Option<&LogId>) -> Option<u64> {
    commit
        .filter(|commit| commit.leader_id.term == vote.leader_id.term)
        .map(|commit| position(Some(commit)))
}

impl Contact {
    /// Something of a leader was accepted, which said that `committed` is.
    pub(crate) fn touch(&self, committed: Option<u64>) {
        self.notes.lock().touch(Instant::now(), committed);
    }

    /// Time since the last contact.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.notes.lock().last.map(|last| last.elapsed())
    }

    /// How long ago the state at log position `applied` was as new as any: the time since the newest contact whose committed entries are
    /// all in it.
    pub(crate) fn age_of(&self, applied: u64) -> Option<Duration> {
        self.notes.lock().newest_within(applied).map(|at| at.elapsed())
    }
}

impl Notes {
    fn touch(&mut self, now: Instant, committed: Option<u64>) {
        self.last = Some(now);
        let Some(committed) = committed else { return };
        let only_one = self.waiting.len() == 1;
        match self.waiting.back_mut() {
            // Nothing new since: what was as new as any still is.
            Some(newest) if committed <= newest.committed => {
                newest.at = now;
                return;
            }
            Some(newest) if now.saturating_duration_since(newest.at) < NOTE_INTERVAL && !only_one => return,
            _ => {}
        }
        if self.waiting.len() >= NOTES_MAX {
            let mut keep = false;
            self.waiting.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.waiting.push_back(Note { at: now, committed });
    }

    fn newest_within(&mut self, applied: u64) -> Option<Instant> {
        while self.waiting.get(1).is_some_and(|next| next.committed <= applied) {
            self.waiting.pop_front();
        }
        self.waiting
            .front()
            .filter(|note| note.committed <= applied)
            .map(|note| note.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    /// However recent the contact: what was not applied does not count, and the age is that of what was.
    #[test]
    fn an_age_is_that_of_what_is_applied() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut notes = Notes::default();
        assert_eq!(notes.newest_within(9), None);
        notes.touch(after(1), Some(10));
        assert_eq!(notes.newest_within(9), None, "never as new as any");
        for second in 2..60 {
            notes.touch(after(second), Some(10 * second));
        }
        assert_eq!(notes.newest_within(25), Some(after(2)), "apply lags");
        assert_eq!(notes.newest_within(500), Some(after(50)));
        notes.touch(after(70), Some(590));
        notes.touch(after(80), None);
        assert_eq!(notes.newest_within(590), Some(after(70)), "nothing new since");
        assert_eq!(notes.last, Some(after(80)));
    }

    /// However far apply lags, notes stay bounded, and ages are never too small.
    #[test]
    fn notes_are_bounded() {
        let start = Instant::now();
        let at = |number: u64| start + NOTE_INTERVAL * u32::try_from(number).expect("small");
        let mut notes = Notes::default();
        for number in 0..100_000 {
            notes.touch(at(number), Some(number));
            assert!(notes.waiting.len() <= NOTES_MAX);
        }
        for applied in [10, 5_000, 99_000, 99_999] {
            let newest = notes.newest_within(applied).expect("the oldest is kept");
            assert!(newest <= at(applied), "{applied}");
        }
        assert!(notes.newest_within(99_999).expect("there") > at(99_000));
    }

    /// A new leader does not know what its predecessor has committed until it has committed something itself.
    #[test]
    fn a_new_leader_does_not_know_yet() {
        let vote = Vote::new_committed(3, 1);
        assert_eq!(known_committed(&vote, Some(&log_id(2, 8))), None);
        assert_eq!(known_committed(&vote, Some(&log_id(3, 9))), Some(10));
        assert_eq!(known_committed(&vote, None), None);
    }
}
