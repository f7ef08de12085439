//! No 5xx from a node that says ready: what each node's `/readyz` said around each refusal.

use std::time::Duration;

use crate::clock::ns;

/// Looks further away than this from a refusal say nothing of it.
const NEAR: Duration = Duration::from_secs(1);

/// One look at `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was asked.
    pub began_ns: u64,
    /// When it had answered, or had not.
    pub ended_ns: u64,
    /// It answered 200.
    pub ready: bool,
}

/// An answer with a status of 500 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Position of the node.
    pub node: usize,
    /// When the attempt began.
    pub began_ns: u64,
    /// When the answer came.
    pub ended_ns: u64,
    /// HTTP's.
    pub status: u16,
}

/// Whether the node said ready before the attempt began and after its answer, and nothing else between: `looks` in order of time. Where nobody
/// looked near enough there is no saying, and it counts as ready: silence excuses nobody.
pub fn was_ready(refusal: &Refusal, looks: &[Look]) -> bool {
    let first_after = looks.partition_point(|look| look.ended_ns <= refusal.began_ns);
    let before = looks[..first_after].last();
    let since = looks[first_after..]
        .iter()
        .take_while(|look| look.began_ns < refusal.ended_ns);
    if since.clone().any(|look| !look.ready) {
        return false;
    }
    let after = looks[first_after..]
        .iter()
        .find(|look| look.began_ns >= refusal.ended_ns);
    let near = |look: &&Look| {
        refusal.began_ns.saturating_sub(look.ended_ns) <= ns(NEAR)
            && look.began_ns.saturating_sub(refusal.ended_ns) <= ns(NEAR)
    };
    [before, after]
        .into_iter()
        .flatten()
        .filter(near)
        .all(|look| look.ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(all: &[(u64, bool)]) -> Vec<Look> {
        let look = |(ms, ready): &(u64, bool)| Look {
            began_ns: ms * 1_000_000,
            ended_ns: (ms + 5) * 1_000_000,
            ready: *ready,
        };
        all.iter().map(look).collect()
    }

    fn refusal(began_ms: u64, ended_ms: u64) -> Refusal {
        Refusal {
            node: 0,
            began_ns: began_ms * 1_000_000,
            ended_ns: ended_ms * 1_000_000,
            status: 503,
        }
    }

    /// Ready before and after: the refusal breaks the promise.
    #[test]
    fn a_ready_node_has_no_excuse() {
        assert!(was_ready(
            &refusal(110, 120),
            &looks(&[(50, true), (100, true), (150, true)])
        ));
        assert!(was_ready(&refusal(110, 120), &[]));
    }

    /// Not ready before, after, or meanwhile: it had said so.
    #[test]
    fn a_node_that_said_not_ready_is_excused() {
        assert!(!was_ready(
            &refusal(110, 120),
            &looks(&[(50, true), (100, false), (150, true)])
        ));
        assert!(!was_ready(
            &refusal(110, 120),
            &looks(&[(50, true), (100, true), (150, false)])
        ));
        assert!(!was_ready(
            &refusal(110, 300),
            &looks(&[(100, true), (150, false), (200, true), (310, true)])
        ));
    }

    /// An old excuse is none.
    #[test]
    fn a_look_of_long_ago_excuses_nothing() {
        assert!(was_ready(
            &refusal(5_000, 5_010),
            &looks(&[(100, false), (9_000, false)])
        ));
    }
}
