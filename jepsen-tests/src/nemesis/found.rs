//! What faults come upon that is none of their doing: a node that has ended by itself, one that does not leave as it should. It speaks against the
//! cluster, and the run goes on.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Found {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sentences: Vec<String>,
    /// Nodes, by position, that may end by themselves: something was done to their disk, their files or their memory.
    excused: BTreeSet<usize>,
}

impl Found {
    /// Keeps a sentence.
    pub(super) fn note(&self, sentence: String) {
        self.lock().sentences.push(sentence);
    }

    /// From here on these may end by themselves.
    pub(super) fn excuse(&self, positions: &[usize]) {
        self.lock().excused.extend(positions);
    }

    /// Keeps a sentence about a node that has ended by itself, unless something was done to it that explains it.
    pub(super) fn ended(&self, position: usize, sentence: String) {
        let mut inner = self.lock();
        if !inner.excused.contains(&position) {
            inner.sentences.push(sentence);
        }
    }

    /// All that was kept.
    pub fn sentences(&self) -> Vec<String> {
        self.lock().sentences.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node whose disk was damaged may end, another one may not, and what is said of others is kept either way.
    #[test]
    fn some_ends_are_excused() {
        let found = Found::default();
        found.excuse(&[1]);
        found.ended(1, "n2 ended".to_owned());
        found.ended(2, "n3 ended".to_owned());
        found.note("n2 left with exit code 1".to_owned());
        assert_eq!(found.sentences(), ["n3 ended", "n2 left with exit code 1"]);
    }
}
