//! Faults that have begun and are not over, so that one may know whether what it saw was its own doing, and a deadline runs only while nothing else
//! stands in the way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Counts them. One that waits for its turn has not begun.
#[derive(Debug, Default)]
pub struct UnderWay {
    begun: AtomicU32,
    ended: AtomicU32,
}

/// Counted until it is dropped.
pub(super) struct Going<'run>(&'run UnderWay);

/// What was under way at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    begun: u32,
    ended: u32,
}

impl UnderWay {
    /// One more, from now on.
    pub(super) fn begins(&self) -> Going<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Going(self)
    }

    /// What is under way now.
    pub(super) fn look(&self) -> Look {
        // In this order one that ends meanwhile counts as there.
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        Look { begun, ended }
    }
}

impl Look {
    /// No other fault was there at that moment.
    pub(super) fn is_alone(self) -> bool {
        self.begun <= self.ended + 1
    }

    /// The same asked by one that had not begun then: some fault was there at that moment, or has come since.
    pub(super) fn saw_any(self, all: &UnderWay) -> bool {
        self.begun > self.ended || all.look().begun != self.begun
    }

    /// Nor has one come since.
    pub(super) fn was_alone(self, all: &UnderWay) -> bool {
        self.is_alone() && all.look().begun == self.begun
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A deadline that begins anew whenever another fault was there: what is waited for has its whole time without any.
#[derive(Debug)]
pub(super) struct Calm {
    within: Duration,
    since: Instant,
    last: Option<Look>,
}

impl Calm {
    /// From now on.
    pub(super) fn new(within: Duration, now: Instant) -> Calm {
        Calm {
            within,
            since: now,
            last: None,
        }
    }

    /// Whether there was calm for all of the time until now.
    pub(super) fn is_over(&mut self, look: Look, now: Instant) -> bool {
        let came = self.last.is_some_and(|last| last.begun != look.begun);
        self.last = Some(look);
        if came || !look.is_alone() {
            self.since = now;
        }
        now.duration_since(self.since) > self.within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was there before or comes later is company; one that has left before is not.
    #[test]
    fn company_is_noticed() {
        let all = UnderWay::default();
        drop(all.begins());
        let own = all.begins();
        let look = all.look();
        assert!(look.is_alone() && look.was_alone(&all));
        let other = all.begins();
        assert!(!look.was_alone(&all), "it has come");
        assert!(!all.look().is_alone(), "it is there");
        let with_it = all.look();
        drop(other);
        assert!(!with_it.was_alone(&all), "it was there");
        assert!(all.look().was_alone(&all));
        drop(own);
        assert!(all.look().is_alone());
        let idle = all.look();
        assert!(!idle.saw_any(&all));
        drop(all.begins());
        assert!(idle.saw_any(&all) && !all.look().saw_any(&all), "one came and went");
        let _other = all.begins();
        assert!(all.look().saw_any(&all), "it is there");
    }

    /// The time runs only while nobody else is there, and anew after anybody was, however short.
    #[test]
    fn calm_is_time_without_others() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let look = |begun, ended| Look { begun, ended };
        let mut calm = Calm::new(Duration::from_secs(10), began);
        assert!(!calm.is_over(look(1, 0), at(9)));
        assert!(!calm.is_over(look(2, 0), at(11)), "another one is there");
        assert!(!calm.is_over(look(2, 1), at(21)), "it has left ten seconds ago");
        assert!(!calm.is_over(look(3, 2), at(22)), "one came and went between");
        assert!(!calm.is_over(look(3, 2), at(32)));
        assert!(calm.is_over(look(3, 2), at(33)));
    }
}
