//! Nodes that ask to be taken in: each member remembers those it heard of lately, in memory only.

use std::collections::HashMap;
use std::time::Duration;

use blox_runtime::time::Instant;
use parking_lot::Mutex;

use crate::types::NodeInfo;

/// Candidates remembered at once: anybody who reaches the peer interface can be one.
const CANDIDATES_MAX: usize = 64;
/// Longest name, address or incarnation of one, bytes.
const TEXT_BYTES_MAX: usize = 256;
/// A candidate that has not asked for so long is gone.
pub(crate) const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// A node that asks to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub info: NodeInfo,
    /// Since it last asked.
    pub heard: Duration,
}

/// Candidates heard of lately, by incarnation.
#[derive(Default)]
pub(crate) struct Candidates {
    asked: Mutex<HashMap<String, (NodeInfo, Instant)>>,
}

impl Candidates {
    /// A candidate has asked.
    pub(crate) fn heard(&self, info: NodeInfo) {
        self.heard_at(info, Instant::now());
    }

    fn heard_at(&self, info: NodeInfo, now: Instant) {
        let texts = [&info.name, &info.peer_address, &info.http_address, &info.incarnation];
        if texts.iter().any(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
            return;
        }
        let mut asked = self.asked.lock();
        asked.retain(|_, (_, at)| now.saturating_duration_since(*at) < FORGOTTEN_AFTER);
        let known = asked.contains_key(&info.incarnation);
        if !known && asked.len() >= CANDIDATES_MAX {
            tracing::warn!(
                name = info.name,
                "too many candidates ask to be taken in; this one is not remembered"
            );
            return;
        }
        if !known {
            tracing::info!(
                name = info.name,
                peer_address = info.peer_address,
                incarnation = info.incarnation,
                "a candidate asks to be taken in"
            );
        }
        asked.insert(info.incarnation.clone(), (info, now));
    }

    /// These have been taken in. Whoever loses its disk after that comes back as another one: what it was must not be taken in once more.
    pub(crate) fn taken_in<'a>(&self, incarnations: impl Iterator<Item = &'a str>) {
        let mut asked = self.asked.lock();
        if asked.is_empty() {
            return;
        }
        for incarnation in incarnations {
            asked.remove(incarnation);
        }
    }

    /// Those heard of lately, by name.
    pub(crate) fn fresh(&self) -> Vec<Candidate> {
        self.fresh_at(Instant::now())
    }

    fn fresh_at(&self, now: Instant) -> Vec<Candidate> {
        let mut fresh: Vec<Candidate> = self
            .asked
            .lock()
            .values()
            .map(|(info, at)| Candidate {
                info: info.clone(),
                heard: now.saturating_duration_since(*at),
            })
            .filter(|candidate| candidate.heard < FORGOTTEN_AFTER)
            .collect();
        fresh.sort_by(|one, other| {
            (&one.info.name, &one.info.incarnation).cmp(&(&other.info.name, &other.info.incarnation))
        });
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, incarnation: &str) -> NodeInfo {
        NodeInfo {
            name: name.into(),
            peer_address: "h:1".into(),
            http_address: "h:2".into(),
            incarnation: incarnation.into(),
        }
    }

    /// Who asks no more is forgotten; who asks again is not.
    #[test]
    fn a_silent_candidate_is_forgotten() {
        let start = Instant::now();
        let candidates = Candidates::default();
        candidates.heard_at(info("d", "1"), start);
        candidates.heard_at(info("c", "2"), start);
        candidates.heard_at(info("c", "2"), start + FORGOTTEN_AFTER / 2);
        let names = |at: Instant| -> Vec<String> {
            let fresh = candidates.fresh_at(at);
            fresh.into_iter().map(|candidate| candidate.info.name).collect()
        };
        assert_eq!(names(start), ["c", "d"]);
        assert_eq!(names(start + FORGOTTEN_AFTER), ["c"]);
        assert!(names(start + 2 * FORGOTTEN_AFTER).is_empty());
    }

    /// Who was taken in is no candidate any more, also once it is no member either.
    #[test]
    fn who_is_taken_in_is_forgotten() {
        let start = Instant::now();
        let candidates = Candidates::default();
        candidates.heard_at(info("b", "1"), start);
        candidates.heard_at(info("b", "2"), start);
        candidates.taken_in(["1", "other"].into_iter());
        let left = candidates.fresh_at(start);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].info.incarnation, "2");
    }

    /// However many ask, and whatever they say, memory stays bounded.
    #[test]
    fn candidates_are_bounded() {
        let start = Instant::now();
        let candidates = Candidates::default();
        for number in 0..10 * CANDIDATES_MAX {
            candidates.heard_at(info("c", &number.to_string()), start);
        }
        assert_eq!(candidates.fresh_at(start).len(), CANDIDATES_MAX);
        let later = start + FORGOTTEN_AFTER;
        candidates.heard_at(info(&"x".repeat(TEXT_BYTES_MAX + 1), "long"), later);
        candidates.heard_at(info("", "nameless"), later);
        assert!(candidates.fresh_at(later).is_empty());
        candidates.heard_at(info("d", "new"), later);
        assert_eq!(candidates.fresh_at(later).len(), 1);
    }
}
