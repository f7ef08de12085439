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

/// Candidates heard of lately.
#[derive(Default)]
pub(crate) struct Candidates(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    /// By incarnation.
    asked: HashMap<String, (NodeInfo, Instant)>,
    /// The incarnation at each address, by the membership last seen.
    taken_in: HashMap<String, String>,
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
        let asked = &mut self.0.lock().asked;
        // Another one of that name at that address: its disk was lost once more, and what it was before will not ask again.
        let is_before = |older: &NodeInfo| {
            older.incarnation != info.incarnation
                && (&older.name, &older.peer_address) == (&info.name, &info.peer_address)
        };
        asked.retain(|_, (older, at)| now.saturating_duration_since(*at) < FORGOTTEN_AFTER && !is_before(older));
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

    /// These are all that have been taken in. Whoever loses its disk after that comes back as another one: what it was must not be taken in once
    /// more, nor what it was before it was taken in, of which the others may have heard nothing. (Who comes at that address from then on is
    /// heard again.)
    pub(crate) fn taken_in<'a>(&self, members: impl Iterator<Item = &'a NodeInfo>) {
        let heard = &mut *self.0.lock();
        let mut taken_in = HashMap::with_capacity(heard.taken_in.len());
        for member in members {
            if heard.taken_in.get(&member.peer_address) != Some(&member.incarnation) {
                heard
                    .asked
                    .retain(|_, (candidate, _)| candidate.peer_address != member.peer_address);
            }
            heard.asked.remove(&member.incarnation);
            taken_in.insert(member.peer_address.clone(), member.incarnation.clone());
        }
        heard.taken_in = taken_in;
    }

    /// Those heard of lately, by name.
    pub(crate) fn fresh(&self) -> Vec<Candidate> {
        self.fresh_at(Instant::now())
    }

    fn fresh_at(&self, now: Instant) -> Vec<Candidate> {
        let mut fresh: Vec<Candidate> = self
            .0
            .lock()
            .asked
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
        at("h:1", name, incarnation)
    }

    fn at(address: &str, name: &str, incarnation: &str) -> NodeInfo {
        NodeInfo {
            name: name.into(),
            peer_address: address.into(),
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
        candidates.heard_at(at("h:1", "b", "1"), start);
        candidates.heard_at(at("h:2", "b", "2"), start);
        candidates.heard_at(at("h:3", "c", "before 3"), start);
        let members = [at("h:1", "b", "1"), at("h:3", "c", "3"), at("h:4", "d", "other")];
        candidates.taken_in(members.iter());
        assert_eq!(incarnations(&candidates, start), ["2"]);
        // A member's place is asked for again by whoever stands there now.
        candidates.heard_at(at("h:3", "c", "4"), start);
        candidates.taken_in(members.iter());
        assert_eq!(incarnations(&candidates, start), ["2", "4"]);
    }

    /// A node that loses its disk twice is one candidate, the last one; two of a name at two addresses are two.
    #[test]
    fn the_last_one_at_an_address_counts() {
        let start = Instant::now();
        let candidates = Candidates::default();
        candidates.heard_at(at("h:1", "b", "1"), start);
        candidates.heard_at(at("h:2", "b", "2"), start);
        candidates.heard_at(at("h:1", "b", "3"), start);
        assert_eq!(incarnations(&candidates, start), ["2", "3"]);
    }

    fn incarnations(candidates: &Candidates, now: Instant) -> Vec<String> {
        let fresh = candidates.fresh_at(now);
        fresh.into_iter().map(|candidate| candidate.info.incarnation).collect()
    }

    /// However many ask, and whatever they say, memory stays bounded.
    #[test]
    fn candidates_are_bounded() {
        let start = Instant::now();
        let candidates = Candidates::default();
        for number in 0..10 * CANDIDATES_MAX {
            candidates.heard_at(at(&format!("h:{number}"), "c", &number.to_string()), start);
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
