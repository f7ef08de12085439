//! What every run must show before its verdicts mean anything: operations succeeded, each fault took effect, and they went on during it.

use std::collections::BTreeMap;

use super::faults::Fault;
use super::history::{History, Outcome};
use super::verdict::{Findings, Verdict};

/// What a run was to contain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// Functions of operations.
    pub functions: &'a [&'a str],
    /// Names of faults.
    pub faults: &'a [&'a str],
}

/// Judges a run:
/// - of each function that occurs or is expected, at least one operation succeeded;
/// - each expected fault was done;
/// - each fault was seen to take effect, unless another one may have hindered it;
/// - an operation was under way during each that took effect.
pub fn check(history: &History, faults: &[Fault], expected: Expected<'_>) -> Verdict {
    let mut findings = Findings::default();
    let mut succeeded: BTreeMap<&str, bool> = expected.functions.iter().map(|function| (*function, false)).collect();
    for operation in &history.operations {
        *succeeded.entry(&operation.function).or_default() |= operation.outcome == Outcome::Ok;
    }
    for (function, _) in succeeded.iter().filter(|(_, succeeded)| !**succeeded) {
        findings.note(format!("no {function} succeeded"));
    }
    for name in expected
        .faults
        .iter()
        .filter(|name| !faults.iter().any(|fault| *fault.name == ***name))
    {
        findings.note(format!("there was no {name}"));
    }
    let spans = history.operations.iter();
    let mut spans: Vec<(u64, u64)> = spans
        .map(|one| (one.began_ns, one.ended_ns.unwrap_or(u64::MAX)))
        .collect();
    spans.sort_unstable();
    // Of each and all before it: the last end.
    let mut last_ns = 0;
    for (_, ended_ns) in &mut spans {
        last_ns = last_ns.max(*ended_ns);
        *ended_ns = last_ns;
    }
    for fault in faults {
        // One that was called before and is answered only now is a client that feels the fault.
        let begun = spans.partition_point(|(began_ns, _)| fault.until_ns.is_none_or(|until_ns| *began_ns < until_ns));
        let last = begun.checked_sub(1).map(|last| spans[last].1);
        // What had no effect needs nobody who felt it.
        if !fault.effects.is_empty() && last.is_none_or(|ended_ns| ended_ns < fault.from_ns) {
            findings.note(format!("no operation was under way during the {}", fault.told()));
        }
        if fault.effects.is_empty() && !fault.hindered {
            findings.note(format!("it was not seen to take effect: {}", fault.told()));
        }
    }
    findings.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::faults;
    use crate::check::testing::{history, refuted};

    const GOOD: &str = "nemesis invoke kill - {\"value\":\"a\"}\n0 invoke write k 1\nnemesis info kill - {\"value\":\"a\",\"effect\":\"exited 137\"}\n0 fail write k 1\nnemesis ok kill - {\"value\":\"a\"}\n0 invoke write k 2\n0 ok write k 2";

    fn judged(text: &str, functions: &[&str], names: &[&str]) -> Verdict {
        let history = history(text);
        check(
            &history,
            &faults::of(&history),
            Expected {
                functions,
                faults: names,
            },
        )
    }

    /// One success of each kind is enough, an attempt during the fault too.
    #[test]
    fn a_good_run() {
        assert_eq!(judged(GOOD, &["write"], &["kill"]), Verdict::Valid);
    }

    /// A client that waits all the time has felt the fault, answered or not.
    #[test]
    fn waiting_counts() {
        let waits = "0 invoke write k 1\nnemesis invoke kill - {\"value\":\"a\",\"effect\":\"gone\"}\nnemesis ok kill - {\"value\":\"a\"}\n0 ok write k 1";
        assert_eq!(judged(waits, &[], &[]), Verdict::Valid);
        let within = "1 invoke write k 2\n1 ok write k 2\n0 invoke write k 1\nnemesis invoke kill - {\"value\":\"a\",\"effect\":\"gone\"}\n0 info write k 1\nnemesis ok kill - {\"value\":\"a\"}";
        assert_eq!(judged(within, &[], &[]), Verdict::Valid);
    }

    /// What another fault may have hindered is no finding.
    #[test]
    fn hindered_faults_are_excused() {
        let hindered = GOOD.replace(",\"effect\":\"exited 137\"", ",\"hindered\":\"it was down\"");
        assert_eq!(judged(&hindered, &["write"], &["kill"]), Verdict::Valid);
    }

    /// Each way to prove nothing fails the run.
    #[test]
    fn bad_runs() {
        refuted(&judged(GOOD, &["read"], &[]), "no read succeeded");
        refuted(&judged(GOOD, &[], &["pause"]), "there was no pause");
        refuted(
            &judged(&GOOD.replace("0 ok write", "0 info write"), &[], &[]),
            "no write succeeded",
        );
        refuted(
            &judged(&GOOD.replace(",\"effect\":\"exited 137\"", ""), &[], &[]),
            "not seen to take effect: kill of a",
        );
        let idle = "nemesis invoke kill - {\"value\":\"a\",\"effect\":\"gone\"}\nnemesis ok kill - {\"value\":\"a\"}\n0 invoke write k 2\n0 ok write k 2";
        refuted(
            &judged(idle, &[], &[]),
            "no operation was under way during the kill of a",
        );
        let over = format!("1 invoke write k 1\n1 ok write k 1\n{idle}");
        refuted(
            &judged(&over, &[], &[]),
            "no operation was under way during the kill of a",
        );
        refuted(&judged("", &["write"], &[]), "no write succeeded");
    }
}
