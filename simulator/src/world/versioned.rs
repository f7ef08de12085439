//! One resource with its recent past, so that a lagging answer can show it as it was.

use std::collections::VecDeque;
use std::sync::Arc;

/// Past states kept of one resource, whatever their age.
const PAST_STATES_MAX: usize = 64;

/// The current state and those before it, newest first.
#[derive(Debug)]
pub(crate) struct Versioned<T> {
    current: Arc<T>,
    since_ms: u64,
    born_ms: u64,
    past: VecDeque<(u64, Arc<T>)>,
}

impl<T> Versioned<T> {
    pub(crate) fn new(now_ms: u64, value: T) -> Self {
        Self {
            current: Arc::new(value),
            since_ms: now_ms,
            born_ms: now_ms,
            past: VecDeque::new(),
        }
    }

    pub(crate) fn current(&self) -> &Arc<T> {
        &self.current
    }

    /// The state at a moment, or the oldest one kept when that is forgotten; none when the resource did not exist yet.
    pub(crate) fn as_of(&self, at_ms: u64) -> Option<&Arc<T>> {
        if self.since_ms <= at_ms {
            return Some(&self.current);
        }
        if at_ms < self.born_ms {
            return None;
        }
        let kept = self
            .past
            .iter()
            .find(|(since_ms, _)| *since_ms <= at_ms)
            .or(self.past.back());
        Some(kept.map_or(&self.current, |(_, value)| value))
    }

    /// Takes a new state; what ended more than `history_ms` ago is forgotten.
    pub(crate) fn replace(&mut self, now_ms: u64, value: T, history_ms: u64) -> &Arc<T> {
        let old = std::mem::replace(&mut self.current, Arc::new(value));
        self.past.push_front((self.since_ms, old));
        self.since_ms = now_ms;
        self.past.truncate(PAST_STATES_MAX);
        self.forget(now_ms, history_ms);
        &self.current
    }

    /// Whether anything but the current state is known.
    pub(crate) fn has_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// What ended more than `history_ms` ago is forgotten.
    pub(crate) fn forget(&mut self, now_ms: u64, history_ms: u64) {
        // A state ends where the next newer one begins.
        let ended_ms = |one: &Self| {
            let newer = one.past.len().checked_sub(2)?;
            Some(one.past[newer].0)
        };
        while !self.past.is_empty() && ended_ms(self).unwrap_or(self.since_ms) + history_ms < now_ms {
            self.past.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each moment shows the state that held then, and the time before birth shows nothing.
    #[test]
    fn shows_the_state_of_a_moment() {
        let mut resource = Versioned::new(100, 'a');
        resource.replace(200, 'b', 1_000);
        resource.replace(300, 'c', 1_000);
        let at = |at_ms| resource.as_of(at_ms).map(|value| **value);
        assert_eq!(
            [at(99), at(100), at(199), at(200), at(300), at(900)],
            [None, Some('a'), Some('a'), Some('b'), Some('c'), Some('c')]
        );
        resource.replace(5_000, 'd', 1_000);
        let at = |at_ms| resource.as_of(at_ms).map(|value| **value);
        assert_eq!(at(150), Some('c'), "of what is forgotten, the oldest kept is shown");
        assert_eq!((at(4_500), at(99)), (Some('c'), None));
        resource.forget(6_000, 1_000);
        assert!(resource.has_past(), "it ended a second ago");
        resource.forget(6_001, 1_000);
        assert_eq!(resource.as_of(6_000).map(|value| **value), Some('d'));
        assert!(!resource.has_past());
    }
}
