//! What each fault cost its users: for how long no write was acknowledged.

use std::collections::BTreeMap;

use super::faults::Fault;
use super::history::{History, Name, Operation, Outcome};
use super::verdict::{Findings, Verdict};
use crate::clock::ms;
use crate::percentile::percentile;

/// Functions whose acknowledgement counts.
const WRITES: [&str; 6] = ["write", "cas", "delete", "add", "append", "once"];
/// Those whose answer says that its node has a leader and keeps up with it.
const IN_TOUCH: [&str; 9] = [
    "write", "cas", "delete", "add", "append", "once", "read", "list", "query",
];
/// A write that began so long before the end of a pause, nanoseconds, would have been acknowledged if there had been none.
const TRIED_NS: u64 = 1_000_000_000;

/// The cost of one fault, nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which.
    pub fault: Fault,
    /// From the fault to the first acknowledgement of a write that was called after it; `None`: there was none.
    pub next_ns: Option<u64>,
    /// The longest time without any acknowledged write that begins before the mending, counted from the fault; without a next write, up to the
    /// end.
    pub pause_ns: u64,
    /// Nothing else was done to the cluster from the fault to the end of that pause, and of what was done before every node had recovered: each had
    /// answered something that it must ask its leader for.
    pub alone: bool,
    /// Writes that were called within that pause, [`TRIED_NS`] before its end at the latest, at nodes that the fault did not fall on.
    pub tried: usize,
    /// The longest time without any fault from the mending to the end.
    pub calm_ns: u64,
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

/// The gap of each fault, in their order. What is later than `until_ns` does not count: the load is over, and everything is mended at once.
pub fn gaps(history: &History, faults: &[Fault], until_ns: u64) -> Vec<Gap> {
    let times = history
        .operations
        .iter()
        .flat_map(|one| [Some(one.began_ns), one.ended_ns])
        .flatten();
    let last_ns = times.chain(history.events.iter().map(|event| event.at_ns)).max();
    let until_ns = until_ns.min(last_ns.unwrap_or(0));
    let writes = history
        .operations
        .iter()
        .filter(|one| WRITES.contains(&&*one.function) && one.began_ns < until_ns);
    let acknowledged = writes.clone().filter(|one| one.outcome == Outcome::Ok);
    let mut acknowledged: Vec<(u64, u64)> = acknowledged
        .filter_map(|one| Some((one.ended_ns?, one.began_ns)))
        .filter(|(ended_ns, _)| *ended_ns <= until_ns)
        .collect();
    acknowledged.sort_unstable();
    let mut writes: Vec<&Operation> = writes.collect();
    writes.sort_by_key(|one| one.began_ns);
    let in_touch = InTouch::of(history);
    let recovered_ns: Vec<u64> = faults.iter().map(|fault| in_touch.all_after(fault)).collect();
    let gap = |(position, fault): (usize, &Fault)| {
        let end_ns = until_ns.max(fault.from_ns);
        let first = acknowledged.partition_point(|(ended_ns, _)| *ended_ns < fault.from_ns);
        let later = &acknowledged[first..];
        let next = later.iter().find(|(_, began_ns)| *began_ns >= fault.from_ns);
        let mended_ns = fault.until_ns.unwrap_or(end_ns);
        let mut pause = fault.from_ns..fault.from_ns;
        let mut last_ns = fault.from_ns;
        for at_ns in later.iter().map(|(ended_ns, _)| *ended_ns).chain([end_ns]) {
            if last_ns > mended_ns {
                break;
            }
            if at_ns - last_ns > pause.end - pause.start {
                pause = last_ns..at_ns;
            }
            last_ns = at_ns;
        }
        let others = faults.iter().zip(&recovered_ns).enumerate();
        let mut others = others.filter(|(other, _)| *other != position);
        let early = writes.partition_point(|write| write.began_ns < pause.start);
        let within = writes[early..]
            .iter()
            .take_while(|write| write.began_ns + TRIED_NS <= pause.end);
        let tried = within.filter(|write| write.node.as_ref().is_some_and(|node| !fault.fell_on(node)));
        Gap {
            fault: fault.clone(),
            next_ns: next.map(|(ended_ns, _)| ended_ns - fault.from_ns),
            pause_ns: pause.end - pause.start,
            alone: others
                .all(|(_, (other, recovered_ns))| other.from_ns >= pause.end || *recovered_ns <= fault.from_ns),
            tried: tried.count(),
            calm_ns: calm(faults, mended_ns, end_ns),
        }
    };
    faults.iter().enumerate().map(gap).collect()
}

/// By node: when each operation began whose answer takes the leader, and the first end of it and all later ones; in the order of their beginning.
struct InTouch<'a>(BTreeMap<&'a Name, Vec<(u64, u64)>>);

impl InTouch<'_> {
    fn of(history: &History) -> InTouch<'_> {
        let mut nodes: BTreeMap<&Name, Vec<(u64, u64)>> = BTreeMap::new();
        for one in &history.operations {
            let Some(node) = &one.node else { continue };
            let answers = nodes.entry(node).or_default();
            let in_touch = one.outcome == Outcome::Ok && IN_TOUCH.contains(&&*one.function);
            answers.extend(
                one.ended_ns
                    .filter(|_| in_touch)
                    .map(|ended_ns| (one.began_ns, ended_ns)),
            );
        }
        for answers in nodes.values_mut() {
            answers.sort_unstable();
            let mut first_ns = u64::MAX;
            for (_, ended_ns) in answers.iter_mut().rev() {
                first_ns = first_ns.min(*ended_ns);
                *ended_ns = first_ns;
            }
        }
        InTouch(nodes)
    }

    /// When every node had answered something that was called after a fault was mended; `u64::MAX`: never.
    fn all_after(&self, fault: &Fault) -> u64 {
        let Some(mended_ns) = fault.until_ns else {
            return u64::MAX;
        };
        let first = |answers: &Vec<(u64, u64)>| {
            let later = answers.partition_point(|(began_ns, _)| *began_ns < mended_ns);
            answers.get(later).map_or(u64::MAX, |(_, ended_ns)| *ended_ns)
        };
        self.0.values().map(first).max().unwrap_or(mended_ns)
    }
}

/// The longest time without a fault between two moments.
fn calm(faults: &[Fault], from_ns: u64, until_ns: u64) -> u64 {
    let mut spans: Vec<(u64, u64)> = faults
        .iter()
        .map(|fault| (fault.from_ns, fault.until_ns.unwrap_or(u64::MAX)))
        .filter(|(_, end_ns)| *end_ns > from_ns)
        .collect();
    spans.sort_unstable();
    let (mut longest_ns, mut free_from_ns) = (0, from_ns);
    for (begin_ns, end_ns) in spans.into_iter().chain([(until_ns, until_ns)]) {
        longest_ns = longest_ns.max(begin_ns.min(until_ns).saturating_sub(free_from_ns));
        free_from_ns = free_from_ns.max(end_ns);
    }
    longest_ns
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

/// Writes that must have been tried in vain before a pause is taken for one: clients that all wait for one node see a pause that nobody else does.
const TRIED_MIN: usize = 3;

/// Judges the gaps: after each fault a write is acknowledged again, if there was calm for `calm_ns_min` nanoseconds; and no pause is longer than
/// allowed for its fault, nanoseconds (`None`: as long as it likes), where it can be put down to that fault alone.
pub fn check(gaps: &[Gap], calm_ns_min: u64, allowed_ns: impl Fn(&Fault) -> Option<u64>) -> Verdict {
    let mut findings = Findings::default();
    for gap in gaps {
        if gap.next_ns.is_none() && gap.calm_ns >= calm_ns_min {
            findings.note(format!(
                "no write was acknowledged any more after the {}",
                gap.fault.told()
            ));
        }
        let allowed_ns = allowed_ns(&gap.fault).filter(|_| gap.alone && gap.tried >= TRIED_MIN);
        if let Some(allowed_ns) = allowed_ns.filter(|allowed_ns| gap.pause_ns > *allowed_ns) {
            findings.note(format!(
                "no write was acknowledged for {} ms, allowed are {}, and {} were tried elsewhere: {}",
                ms(gap.pause_ns),
                ms(allowed_ns),
                gap.tried,
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

    fn gaps_of(text: &str, until_ms: u64) -> Vec<Gap> {
        let history = history(text);
        gaps(&history, &faults::of(&history), until_ms * MS)
    }

    /// What was under way at the fault ends no wait for a new write, but it ends a pause; reads end neither.
    #[test]
    fn gaps_are_what_a_client_feels() {
        let felt = |text: &str, until_ms| {
            let gaps = gaps_of(text, until_ms);
            (gaps[0].next_ns.map(ms), ms(gaps[0].pause_ns))
        };
        assert_eq!(felt(TEXT, 14), (Some(5), 4));
        // A pause that began in the fault counts whole, and one without an end up to the end.
        let over = TEXT.replace("0 ok write k 3", "0 fail write k 3");
        assert_eq!(felt(&over, 14), (Some(8), 7));
        let none = over.replace("0 ok write k 4", "0 fail write k 4");
        assert_eq!(felt(&none, 14), (None, 9));
        // What comes when the load is over is no next write.
        assert_eq!(felt(&over, 11), (None, 6));
    }

    const SECOND: u64 = 1_000 * MS;
    const BEFORE: &str = "0 invoke write k 0 {\"node\":\"a\"}\n0 ok write k 0 @1\n";
    const KILL: &str = "nemesis invoke kill - {\"value\":\"one a #1\"}\n";
    const MENDED: &str = "nemesis ok kill - {\"value\":\"one a #1\",\"effect\":\"gone\"}\n";
    const AFTER: &str = "0 invoke write k 9 {\"node\":\"a\"}\n0 ok write k 9 @9\n";

    /// Four writes on a node.
    fn four(outcome: &str, node: &str) -> String {
        let write = |value| format!("0 invoke write k {value} {{\"node\":\"{node}\"}}\n0 {outcome} write k {value}\n");
        (1..=4).map(write).collect()
    }

    /// Judges a history whose lines are a second each, up to its end: a kill may cost five seconds.
    fn judged(parts: &[&str]) -> Verdict {
        let mut history = history(parts.concat().trim_end());
        for operation in &mut history.operations {
            operation.began_ns *= 1_000;
            operation.ended_ns = operation.ended_ns.map(|ended_ns| ended_ns * 1_000);
        }
        for event in &mut history.events {
            event.at_ns *= 1_000;
        }
        let end_s = parts.concat().lines().count() as u64;
        let gaps = gaps(&history, &faults::of(&history), end_s * SECOND);
        check(&gaps, 5 * SECOND, |fault| {
            (*fault.name == *"kill").then_some(5 * SECOND)
        })
    }

    /// Writes that the rest of the cluster does not take for longer than it may; and each thing that excuses it.
    #[test]
    fn a_majority_goes_on() {
        let (vain, well) = (four("fail", "b"), four("ok", "b"));
        refuted(
            &judged(&[BEFORE, KILL, &vain, MENDED, AFTER]),
            "no write was acknowledged for 11000 ms, allowed are 5000, and 4 were tried elsewhere: kill of one a #1",
        );
        assert_eq!(judged(&[BEFORE, KILL, &well, MENDED, AFTER]), Verdict::Valid);
        // Another fault meanwhile, or one before of which `b` has not recovered.
        let (pause, go_on) = (
            "nemesis invoke pause - {\"value\":\"one b #2\"}\n",
            "nemesis ok pause - {\"value\":\"one b #2\",\"effect\":\"silent\"}\n",
        );
        assert_eq!(
            judged(&[BEFORE, KILL, pause, &vain, go_on, MENDED, AFTER]),
            Verdict::Valid
        );
        assert_eq!(
            judged(&[BEFORE, pause, go_on, AFTER, KILL, &vain, MENDED, AFTER]),
            Verdict::Valid
        );
        let both_answer = [BEFORE, pause, go_on, AFTER, &well, KILL, &vain, MENDED, AFTER];
        refuted(&judged(&both_answer), "no write was acknowledged for 11000 ms");
        // Another kind of fault may cost what it likes, and nobody tried but at the node that was hurt.
        let paused = [BEFORE, KILL, &vain, MENDED, AFTER].map(|part| part.replace("kill", "pause"));
        assert_eq!(judged(&paused.each_ref().map(String::as_str)), Verdict::Valid);
        assert_eq!(
            judged(&[BEFORE, KILL, &four("fail", "a"), MENDED, AFTER]),
            Verdict::Valid
        );
    }

    /// Nothing was acknowledged any more although there was time for it; and where there was none.
    #[test]
    fn writes_come_back() {
        let vain = four("fail", "b");
        let words = "no write was acknowledged any more after the pause of one a #1";
        let paused = |parts: &[&str]| {
            let parts: Vec<String> = parts.iter().map(|part| part.replace("kill", "pause")).collect();
            judged(&parts.iter().map(String::as_str).collect::<Vec<_>>())
        };
        refuted(&paused(&[BEFORE, KILL, MENDED, &vain]), words);
        assert_eq!(paused(&[BEFORE, KILL, &vain, MENDED]), Verdict::Valid);
        let other = "nemesis invoke loss - {\"value\":\"one b #2\"}\n";
        assert_eq!(paused(&[BEFORE, KILL, MENDED, other, &vain]), Verdict::Valid);
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
            hindered: false,
        };
        let gap = |name: &str, pause_ns| Gap {
            fault: fault(name),
            next_ns: None,
            pause_ns,
            alone: true,
            tried: 0,
            calm_ns: 0,
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
