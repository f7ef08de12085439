//! Sessions: one node's time as leader. Once a later one has changed something, an earlier one changes nothing any more: what a deposed leader still
//! sends is refused.

use super::verdict::{Findings, Verdict};

/// A change that names the session of who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of the change.
    pub revision: u64,
    /// Of the leader whose duty asked for it.
    pub session: u64,
}

/// Judges marks in the order of their revisions.
pub fn check(marks: &[Mark]) -> Verdict {
    let mut findings = Findings::default();
    let mut latest: Option<Mark> = None;
    for mark in marks {
        match latest {
            Some(later) if mark.session < later.session => findings.note(format!(
                "session {} changed revision {}, though session {} had begun by {}",
                mark.session, mark.revision, later.session, later.revision
            )),
            Some(later) if mark.session == later.session => {}
            _ => latest = Some(*mark),
        }
    }
    findings.into()
}

/// The session in the request id of a leader's duty: `feed-SOURCE-SESSION-NUMBER`, `reconcile-SOURCE-SESSION-PASS`, `launch SESSION-NUMBER`; `None`:
/// another's. (A look-up is named after the launch that it looks up, which may be of an earlier session.)
pub fn session_of(actor: &str, request_id: &str) -> Option<u64> {
    let before_last = |id: &str| id.rsplit('-').nth(1).and_then(|number| number.parse().ok());
    match actor {
        "feed" | "reconcile" => before_last(request_id),
        "scheduler" => before_last(request_id.strip_prefix("launch ")?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::refuted;

    fn judged(sessions: &[u64]) -> Verdict {
        let mark = |(revision, session): (u64, &u64)| Mark {
            revision,
            session: *session,
        };
        check(&(1..).zip(sessions).map(mark).collect::<Vec<_>>())
    }

    /// Each may follow its own and every earlier one, and no later one.
    #[test]
    fn sessions_follow_each_other() {
        assert_eq!(judged(&[]), Verdict::Valid);
        assert_eq!(judged(&[1, 1, 2, 5, 5]), Verdict::Valid);
        refuted(
            &judged(&[1, 2, 2, 1, 2]),
            "session 1 changed revision 4, though session 2 had begun by 2",
        );
    }

    /// Names of requests, and of sources, as the duties make them.
    #[test]
    fn requests_name_their_session() {
        assert_eq!(session_of("feed", "feed-main-7-123"), Some(7));
        assert_eq!(session_of("reconcile", "reconcile-eu-west-12-3"), Some(12));
        assert_eq!(session_of("scheduler", "launch 4-19"), Some(4));
        for (actor, request_id) in [
            ("scheduler", "look up 4-19"),
            ("scheduler", "launch none"),
            ("scheduler", "stop arn:aws:ecs:r:1:task/c/4-19"),
            ("api", "feed-main-7-123"),
            ("feed", "feed"),
        ] {
            assert_eq!(session_of(actor, request_id), None, "{actor} {request_id}");
        }
    }
}
