//! What each fault cost its users: for how long no write was acknowledged.

use std::collections::BTreeMap;

use super::faults::Fault;
use super::history::{History, Name, Outcome};
use super::verdict::{Findings, Verdict};
use crate::clock::ms;
use crate::percentile::percentile;

/// Functions whose acknowledgement counts.
const WRITES: [&str; 6] = ["write", "cas", "delete", "add", "append", "once"];

/// The cost of one fault, nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which.
    pub fault: Fault,
    /// From the fault to the first acknowledgement of a write that was called after it; `None`: there was none.
    pub next_ns: Option<u64>,
    /// The longest time without any acknowledged write that begins before the mending, counted from the fault; without a next write, up to the
    /// end of the history.
    pub pause_ns: u64,
}

/// Many gaps, nanoseconds, by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// The median.
    pub p50_ns: u64,
    /// Nine of ten are not above.
    pub p90_ns: u64,
    /// 99 of 100 are not above.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Spread {
    /// Of these; of nothing all are 0.
    pub fn of(values: &[u64]) -> Spread {
        let at = |percent| percentile(values, percent).unwrap_or(0);
        Spread {
            count: values.len(),
            p50_ns: at(50),
            p90_ns: at(90),
            p99_ns: at(99),
            max_ns: at(100),
        }
    }
}

/// The gap of each fault, in their order.
pub fn gaps(history: &History, faults: &[Fault]) -> Vec<Gap> {
    let acknowledged = history
        .operations
        .iter()
        .filter(|one| one.outcome == Outcome::Ok && WRITES.contains(&&*one.function));
    let mut writes: Vec<(u64, u64)> = acknowledged
        .filter_map(|one| Some((one.ended_ns?, one.began_ns)))
        .collect();
    writes.sort_unstable();
    let times = history
        .operations
        .iter()
        .flat_map(|one| [Some(one.began_ns), one.ended_ns])
        .flatten();
    let end_ns = times
        .chain(history.events.iter().map(|event| event.at_ns))
        .max()
        .unwrap_or(0);
    let gap = |fault: &Fault| {
        let first = writes.partition_point(|(ended_ns, _)| *ended_ns < fault.from_ns);
        let later = &writes[first..];
        let next = later.iter().find(|(_, began_ns)| *began_ns >= fault.from_ns);
        let until_ns = fault.until_ns.unwrap_or(end_ns);
        let (mut pause_ns, mut last_ns) = (0, fault.from_ns);
        for at_ns in later
            .iter()
            .map(|(ended_ns, _)| *ended_ns)
            .chain([end_ns.max(fault.from_ns)])
        {
            if last_ns > until_ns {
                break;
            }
            pause_ns = pause_ns.max(at_ns - last_ns);
            last_ns = at_ns;
        }
        Gap {
            fault: fault.clone(),
            next_ns: next.map(|(ended_ns, _)| ended_ns - fault.from_ns),
            pause_ns,
        }
    };
    faults.iter().map(gap).collect()
}

/// Pauses by the name of the fault.
pub fn by_fault(gaps: &[Gap]) -> BTreeMap<Name, Spread> {
    let mut pauses: BTreeMap<Name, Vec<u64>> = BTreeMap::new();
    for gap in gaps {
        pauses
            .entry(Name::clone(&gap.fault.name))
            .or_default()
            .push(gap.pause_ns);
    }
    pauses
        .into_iter()
        .map(|(name, values)| (name, Spread::of(&values)))
        .collect()
}

/// Judges the gaps: after each fault a write is acknowledged again, and no pause is longer than allowed for its name, nanoseconds; `None`: as long as
/// it likes.
pub fn check(gaps: &[Gap], allowed_ns: impl Fn(&str) -> Option<u64>) -> Verdict {
    let mut findings = Findings::default();
    for gap in gaps {
        if gap.next_ns.is_none() {
            findings.note(format!(
                "no write was acknowledged any more after the {}",
                gap.fault.told()
            ));
        }
        if let Some(allowed) = allowed_ns(&gap.fault.name).filter(|allowed| gap.pause_ns > *allowed) {
            findings.note(format!(
                "no write was acknowledged for {} ms, allowed are {}: {}",
                ms(gap.pause_ns),
                ms(allowed),
                gap.fault.told()
            ));
        }
    }
    findings.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::faults;
    use crate::check::testing::{history, refuted};

    const MS: u64 = 1_000_000;

    /// A line is a millisecond: the fault on line 4, mended on line 10.
    const TEXT: &str = "0 invoke write k 1\n1 invoke write k 2\n0 ok write k 1\nnemesis invoke kill - {\"value\":\"a\"}\n1 ok write k 2\n0 invoke write k 3\n2 invoke read k -\n2 ok read k 2\n0 ok write k 3\nnemesis ok kill - {\"value\":\"a\"}\n0 invoke write k 4\n0 ok write k 4\n0 invoke write k 5\n0 info write k 5";

    fn judged(text: &str, allowed_ms: u64) -> (Vec<Gap>, Verdict) {
        let history = history(text);
        let gaps = gaps(&history, &faults::of(&history));
        let verdict = check(&gaps, |_| Some(allowed_ms * MS));
        (gaps, verdict)
    }

    /// What was under way at the fault ends no wait for a new write, but it ends a pause; reads end neither.
    #[test]
    fn gaps_are_what_a_client_feels() {
        let (gaps, verdict) = judged(TEXT, 4);
        assert_eq!(
            gaps.iter().map(|gap| (gap.next_ns, gap.pause_ns)).collect::<Vec<_>>(),
            [(Some(5 * MS), 4 * MS)]
        );
        assert_eq!(verdict, Verdict::Valid);
    }

    /// A pause that began in the fault counts whole, and one without an end up to the end of the history.
    #[test]
    fn gaps_that_are_too_long() {
        refuted(
            &judged(TEXT, 3).1,
            "no write was acknowledged for 4 ms, allowed are 3: kill of a",
        );
        let over = TEXT.replace("0 ok write k 3", "0 fail write k 3");
        assert_eq!(judged(&over, 9).0[0].pause_ns, 7 * MS);
        let none = over.replace("0 ok write k 4", "0 fail write k 4");
        let (gaps, verdict) = judged(&none, 9);
        assert_eq!((gaps[0].next_ns, gaps[0].pause_ns), (None, 9 * MS));
        refuted(&verdict, "no write was acknowledged any more after the kill of a");
    }

    /// Percentiles by name.
    #[test]
    fn spreads() {
        let fault = |name: &str| Fault {
            name: name.into(),
            target: String::new(),
            from_ns: 0,
            until_ns: None,
            effects: Vec::new(),
        };
        let gap = |name: &str, pause_ns| Gap {
            fault: fault(name),
            next_ns: None,
            pause_ns,
        };
        let spreads = by_fault(&[gap("kill", 10), gap("kill", 30), gap("cut", 7), gap("kill", 20)]);
        assert_eq!(
            spreads["kill"],
            Spread {
                count: 3,
                p50_ns: 20,
                p90_ns: 30,
                p99_ns: 30,
                max_ns: 30
            }
        );
        assert_eq!(spreads["cut"].max_ns, 7);
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
