//! What a chapter has cost, and which promises it broke: pure, from what was recorded.

use std::ops::Range;
use std::time::Duration;

use crate::clock::{ms, ns};
use crate::compare::{Difference, Fault};
use crate::daemons::Daemons;
use crate::history::{Kind, Operation, Outcome};
use crate::readiness::{self, Look, Refusal};
use crate::story::Chapter;

/// A chapter as it went.
#[derive(Clone, Debug)]
pub struct Span {
    /// Which.
    pub chapter: Chapter,
    /// In which round, from 1.
    pub round: u32,
    /// Its first moment: everything from here to the next chapter's is its own.
    pub began_ns: u64,
    /// When the fault was ordered.
    pub fault_ns: u64,
    /// When its mending was ordered.
    pub healed_ns: u64,
    /// Its last moment.
    pub ended_ns: u64,
    /// Who it was about.
    pub actors: String,
    /// How the fault was seen to have its effect.
    pub evidence: Vec<String>,
    /// From SIGTERM to the end, of each node that was asked to leave.
    pub exits_ns: Vec<u64>,
    /// Promises that were seen broken on the way: sentences.
    pub violations: Vec<String>,
    /// By ECS's count, at its end.
    pub daemons: Daemons,
}

/// Everything that was recorded of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'a> {
    /// What clients did.
    pub operations: &'a [Operation],
    /// 5xx answers to them.
    pub refusals: &'a [Refusal],
    /// What each node said of its readiness.
    pub looks: &'a [Vec<Look>],
    /// How each stream differs from the history.
    pub differences: &'a [Vec<Difference>],
    /// When any stream was taken up again.
    pub breaks_ns: &'a [u64],
    /// When each write was acknowledged that is not there in the end, or not as acknowledged.
    pub lost_ns: &'a [u64],
    /// When each stale read was seen.
    pub stale_ns: &'a [u64],
}

/// A chapter's verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// From the fault to the next acknowledged write: the longest time without one that begins before the mending.
    pub gap_ns: u64,
    /// Longest time without an acknowledged write from the fault to the chapter's end, mending included.
    pub pause_ns: u64,
    /// Operations that began in it.
    pub requests: usize,
    /// Those that asked a second node and were answered well.
    pub retried: usize,
    /// Those that were not.
    pub failed: usize,
    /// Those of them that began when none should fail any more.
    pub failed_late: usize,
    /// 5xx answers of nodes that said ready.
    pub untrue_ready: usize,
    /// Streams taken up again.
    pub resumed: usize,
    /// Changes that a stream passed over, over all streams.
    pub missing: usize,
    /// Changes told twice or too late.
    pub repeated: usize,
    /// Changes that the history does not have.
    pub foreign: usize,
    /// Acknowledged writes that are not there in the end.
    pub lost: usize,
    /// Reads that did not show what had been acknowledged.
    pub stale: usize,
    /// Longest graceful stop.
    pub exit_ns: Option<u64>,
    /// Sentences; none: the chapter is clean.
    pub broken: Vec<String>,
}

/// Judges a chapter. `patience`: times are allowed so many times as long.
pub fn judge(span: &Span, records: &Records<'_>, patience: u32) -> Verdict {
    let within = |at_ns: u64| (span.began_ns..span.ended_ns).contains(&at_ns);
    let operations: Vec<&Operation> = records.operations.iter().filter(|one| within(one.began_ns)).collect();
    let fault = |wanted: Fault| {
        let all = records.differences.iter().flatten();
        all.filter(|one| one.fault == wanted && within(one.at_ns)).count()
    };
    let failed = || operations.iter().filter(|one| one.outcome != Outcome::Ok);
    let calm_ns = match span.chapter.promise().fails_until {
        None => u64::MAX,
        Some(Duration::ZERO) => 0,
        Some(time) => span.fault_ns + ns(time * patience),
    };
    let untrue = |refusal: &&Refusal| {
        let looks = records.looks.get(refusal.node).map_or(&[][..], Vec::as_slice);
        within(refusal.began_ns) && readiness::was_ready(refusal, looks)
    };
    let mut verdict = Verdict {
        gap_ns: longest_pause(records.operations, span.fault_ns..span.healed_ns, span.ended_ns),
        pause_ns: longest_pause(records.operations, span.fault_ns..span.ended_ns, span.ended_ns),
        requests: operations.len(),
        retried: operations
            .iter()
            .filter(|one| one.outcome == Outcome::Ok && one.attempts > 1)
            .count(),
        failed: failed().count(),
        failed_late: failed().filter(|one| one.began_ns >= calm_ns).count(),
        untrue_ready: records.refusals.iter().filter(untrue).count(),
        resumed: records.breaks_ns.iter().filter(|at_ns| within(**at_ns)).count(),
        missing: fault(Fault::Missing),
        repeated: fault(Fault::Repeated),
        foreign: fault(Fault::Foreign),
        lost: records.lost_ns.iter().filter(|at_ns| within(**at_ns)).count(),
        stale: records.stale_ns.iter().filter(|at_ns| within(**at_ns)).count(),
        exit_ns: span.exits_ns.iter().max().copied(),
        broken: Vec::new(),
    };
    verdict.broken = broken(span, &verdict, patience);
    verdict
}

/// The longest time from one acknowledged write to the next that begins in `begins`; what begins before counts from there, what does not end
/// by `until_ns` ends there.
pub fn longest_pause(operations: &[Operation], begins: Range<u64>, until_ns: u64) -> u64 {
    let acknowledged = operations
        .iter()
        .filter(|one| one.kind == Kind::Write && one.outcome == Outcome::Ok);
    let mut moments: Vec<u64> = acknowledged
        .map(|one| one.ended_ns)
        .filter(|at_ns| (begins.start..until_ns).contains(at_ns))
        .collect();
    moments.extend([begins.start, until_ns]);
    moments.sort_unstable();
    let pauses = moments.windows(2).filter(|pair| pair[0] < begins.end);
    pauses.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

fn broken(span: &Span, verdict: &Verdict, patience: u32) -> Vec<String> {
    let promise = span.chapter.promise();
    let mut broken = span.violations.clone();
    let mut none = |count: usize, what: &str| {
        if count > 0 {
            broken.push(format!("{count} {what}"));
        }
    };
    none(verdict.lost, "acknowledged writes are lost");
    none(verdict.stale, "reads did not show what had been acknowledged");
    none(verdict.missing, "changes are missing in streams");
    none(verdict.repeated, "changes are repeated in streams");
    none(verdict.foreign, "changes in streams never happened");
    none(span.daemons.doubles.len(), "instances had two daemons at once");
    none(verdict.failed_late, "requests failed on two nodes");
    if promise.ready_is_true {
        none(verdict.untrue_ready, "5xx answers of nodes that said ready");
    }
    let pause_max = promise.pause_max * patience;
    if verdict.pause_ns > ns(pause_max) {
        broken.push(format!(
            "no write was acknowledged for {} ms, allowed are {}",
            ms(verdict.pause_ns),
            pause_max.as_millis()
        ));
    }
    if let (Some(exit_ns), Some(exit_max)) = (verdict.exit_ns, promise.exit_max.map(|time| time * patience))
        && exit_ns > ns(exit_max)
    {
        broken.push(format!(
            "a node took {} ms to leave, allowed are {}",
            ms(exit_ns),
            exit_max.as_millis()
        ));
    }
    // A chapter in which nothing happened proves nothing.
    for (kind, word) in [
        (verdict.requests, "no request was sent"),
        (span.evidence.len(), "the fault was not seen to have an effect"),
    ] {
        if kind == 0 {
            broken.push(word.to_owned());
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn write(ended_ms: u64, outcome: Outcome, attempts: u8) -> Operation {
        Operation {
            kind: Kind::Write,
            node: 0,
            began_ns: (ended_ms - 1) * MS,
            ended_ns: ended_ms * MS,
            outcome,
            attempts,
            revision: 1,
        }
    }

    /// Acknowledged every ten milliseconds, but for these.
    fn writes(missing: std::ops::Range<u64>) -> Vec<Operation> {
        let moments = (1_001..6_000).step_by(10).filter(|at| !missing.contains(at));
        moments.map(|at| write(at, Outcome::Ok, 1)).collect()
    }

    fn span(chapter: Chapter) -> Span {
        Span {
            chapter,
            round: 1,
            began_ns: 1_000 * MS,
            fault_ns: 2_000 * MS,
            healed_ns: 4_000 * MS,
            ended_ns: 6_000 * MS,
            actors: "node-1".to_owned(),
            evidence: vec!["it exited".to_owned()],
            exits_ns: Vec::new(),
            violations: Vec::new(),
            daemons: Daemons::default(),
        }
    }

    fn verdict(chapter: Chapter, records: &Records<'_>) -> Verdict {
        judge(&span(chapter), records, 1)
    }

    /// The pause is the longest time without an acknowledged write after the fault; reads and failures do not end it, what was before does not count.
    #[test]
    fn the_pause_is_what_a_client_feels() {
        let mut operations = writes(2_005..2_700);
        operations.retain(|one| one.ended_ns > 1_500 * MS);
        operations.push(write(2_300, Outcome::Unknown, 2));
        operations.push(Operation {
            kind: Kind::Read,
            ..write(2_400, Outcome::Ok, 1)
        });
        assert_eq!(longest_pause(&operations, 2_000 * MS..6_000 * MS, 6_000 * MS), 700 * MS);
        assert_eq!(
            longest_pause(&[], 2_000 * MS..3_000 * MS, 6_000 * MS),
            4_000 * MS,
            "none at all"
        );
    }

    /// What a restart costs afterwards is not the gap after the fault, and no chapter's cost is hidden by that.
    #[test]
    fn the_gap_begins_before_the_mending() {
        let mut operations = writes(4_500..5_500);
        operations.retain(|one| !(2_005 * MS..2_105 * MS).contains(&one.ended_ns));
        let records = Records {
            operations: &operations,
            ..Records::default()
        };
        let stop = verdict(Chapter::Stop, &records);
        assert_eq!((stop.gap_ns, stop.pause_ns), (110 * MS, 1_010 * MS));
        assert!(stop.broken[0].contains("for 1010 ms"), "{stop:?}");
        let down = writes(2_005..5_905);
        assert_eq!(
            longest_pause(&down, 2_000 * MS..3_000 * MS, 6_000 * MS),
            3_910 * MS,
            "it lasts over the mending"
        );
    }

    /// A clean chapter is clean; patience lengthens what is allowed.
    #[test]
    fn a_clean_chapter() {
        let operations = writes(2_005..2_605);
        let clean = verdict(
            Chapter::Kill,
            &Records {
                operations: &operations,
                ..Records::default()
            },
        );
        assert_eq!(
            (clean.broken.as_slice(), clean.requests, clean.failed),
            (&[][..], operations.len(), 0)
        );
        let slow = writes(2_005..5_905);
        let records = Records {
            operations: &slow,
            ..Records::default()
        };
        assert!(verdict(Chapter::Kill, &records).broken[0].contains("no write was acknowledged for 39"));
        assert_eq!(judge(&span(Chapter::Kill), &records, 2).broken, Vec::<String>::new());
    }

    /// Each promise by itself, and the moment of another chapter is none of this one's.
    #[test]
    fn every_promise_can_be_broken() {
        let operations = writes(0..0);
        let base = Records {
            operations: &operations,
            ..Records::default()
        };
        let difference = |fault, at_ms: u64| {
            vec![Difference {
                fault,
                revision: 5,
                at_ns: at_ms * MS,
            }]
        };
        for (fault, word) in [
            (Fault::Missing, "missing"),
            (Fault::Repeated, "repeated"),
            (Fault::Foreign, "never happened"),
        ] {
            let found = verdict(
                Chapter::KillAll,
                &Records {
                    differences: &[difference(fault, 3_000)],
                    ..base
                },
            );
            assert!(found.broken.len() == 1 && found.broken[0].contains(word), "{found:?}");
            let later = verdict(
                Chapter::KillAll,
                &Records {
                    differences: &[difference(fault, 7_000)],
                    ..base
                },
            );
            assert!(later.broken.is_empty(), "{later:?}");
        }
        let lost = verdict(
            Chapter::KillAll,
            &Records {
                lost_ns: &[3_000 * MS],
                ..base
            },
        );
        assert_eq!(lost.broken, ["1 acknowledged writes are lost"]);
        let stale = verdict(
            Chapter::KillAll,
            &Records {
                stale_ns: &[3_000 * MS],
                ..base
            },
        );
        assert!(stale.broken[0].contains("did not show"), "{stale:?}");
        let mut doubled = span(Chapter::KillAll);
        doubled.daemons.doubles.push("two on i1".to_owned());
        assert!(judge(&doubled, &base, 1).broken[0].contains("two daemons"));
        let mut slow = span(Chapter::Stop);
        slow.exits_ns = vec![100 * MS, 5_100 * MS];
        assert!(judge(&slow, &base, 1).broken[0].contains("5100 ms to leave"));
        let mut free = span(Chapter::Stop);
        free.violations.push("it is privileged".to_owned());
        assert_eq!(judge(&free, &base, 1).broken, ["it is privileged"]);
        let mut unseen = span(Chapter::Kill);
        unseen.evidence.clear();
        assert_eq!(
            judge(&unseen, &base, 1).broken,
            ["the fault was not seen to have an effect"]
        );
        assert!(
            verdict(Chapter::KillAll, &Records::default())
                .broken
                .contains(&"no request was sent".to_owned())
        );
    }

    /// A request that failed on two nodes breaks a hand-over, and not the death of all nodes; one that was answered by the second is only counted.
    #[test]
    fn failures_count_where_none_are_allowed() {
        let mut operations = writes(0..0);
        operations.push(write(3_000, Outcome::Failed, 2));
        operations.push(write(3_001, Outcome::Unknown, 2));
        operations.push(write(3_002, Outcome::Ok, 2));
        let records = Records {
            operations: &operations,
            ..Records::default()
        };
        let stop = verdict(Chapter::Stop, &records);
        assert_eq!(
            (stop.failed, stop.retried, stop.broken.as_slice()),
            (2, 1, &["2 requests failed on two nodes".to_owned()][..])
        );
        assert!(verdict(Chapter::KillAll, &records).broken.is_empty());
        assert!(
            verdict(Chapter::Kill, &records).broken.is_empty(),
            "under way when the leader died"
        );
        operations.push(write(5_002, Outcome::Failed, 2));
        let records = Records {
            operations: &operations,
            ..Records::default()
        };
        assert_eq!(
            verdict(Chapter::Kill, &records).broken,
            ["1 requests failed on two nodes"],
            "three seconds later"
        );
    }

    /// A 5xx of a node that says ready breaks a rolling restart, and no election.
    #[test]
    fn ready_must_be_true_where_nothing_breaks() {
        let operations = writes(0..0);
        let refusals = [Refusal {
            node: 0,
            began_ns: 3_000 * MS,
            ended_ns: 3_001 * MS,
            status: 503,
        }];
        let records = Records {
            operations: &operations,
            refusals: &refusals,
            ..Records::default()
        };
        assert_eq!(
            verdict(Chapter::Rolling, &records).broken,
            ["1 5xx answers of nodes that said ready"]
        );
        assert!(verdict(Chapter::Kill, &records).broken.is_empty());
    }
}
