//! What a node must never say in its log, whatever is done to it; and that its process ends only where something was done to it.

use std::io::{BufRead, Read};
use std::ops::Range;

use super::verdict::{Findings, Verdict};
use crate::clock::seconds;

/// Words that fail a run, in any case.
const NEVER: [&str; 11] = [
    "panicked",
    "assertion",
    "alarm:",
    "states of nodes differ",
    "differs from that of a majority",
    "terminate called",
    "fatal",
    "stack overflow",
    "segmentation fault",
    "double free",
    "memory allocation of",
];
/// Bytes of a line that are looked at; the rest of a longer one counts as another line.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Characters of a line that are told.
const TOLD_MAX: usize = 400;

/// Looks through a node's log. Lines that contain one of `expected` are passed over: what the fault at hand is to make a node say. A log that
/// cannot be read, or is empty, is unknown.
pub fn check(node: &str, mut log: impl BufRead, expected: &[&str]) -> Verdict {
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        match (&mut log).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
            Err(error) => {
                open.note(format!("the log of {node} cannot be read at line {number}: {error}"));
                break;
            }
            Ok(0) if number == 1 => {
                open.note(format!("the log of {node} is empty"));
                break;
            }
            Ok(0) => break,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        let lower = line.to_lowercase();
        let bad = NEVER.iter().any(|word| lower.contains(word)) && !lower.contains("non-fatal");
        if bad && !expected.iter().any(|word| line.contains(word)) {
            let told: String = line.trim().chars().take(TOLD_MAX).collect();
            violations.note(format!("{node} said on line {number}: {told}"));
        }
    }
    Verdict::of(violations, open)
}

/// Judges the starts of a node's process, nanoseconds of the history's clock: each after the first lies in a span in which something was done to the node
/// that may end it. Without a first one the log is not whole, and nothing is proven.
pub fn starts(node: &str, starts_ns: &[u64], may_start_ns: &[Range<u64>]) -> Verdict {
    let Some((_, later)) = starts_ns.split_first() else {
        return Verdict::unknown(format!("the log of {node} does not show its start: it is not whole"));
    };
    let mut violations = Findings::default();
    for at_ns in later
        .iter()
        .filter(|at_ns| !may_start_ns.iter().any(|span| span.contains(at_ns)))
    {
        violations.note(format!(
            "{node} started again at {:.1} s, though nothing was done to it that ends a process",
            seconds(*at_ns)
        ));
    }
    violations.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{refuted, undecided};

    fn judged(log: &str) -> Verdict {
        check("node-1", log.as_bytes(), &["the disk is broken"])
    }

    /// Ordinary lines, and those that the fault is to cause.
    #[test]
    fn a_good_log() {
        let good = "INFO starts\nWARN the leader is gone\nERROR fatal: the disk is broken\nINFO a non-fatal answer\n";
        assert_eq!(judged(good), Verdict::Valid);
    }

    /// Each word, in any case, without an end of line too, and bytes that are no text.
    #[test]
    fn bad_logs() {
        for word in NEVER {
            refuted(
                &judged(&format!("INFO starts\nERROR {}", word.to_uppercase())),
                "node-1 said on line 2",
            );
        }
        let bytes = [
            b"\xff\xfe thread 'main' panicked at x.rs:1\n".as_slice(),
            b"INFO ends\n",
        ]
        .concat();
        refuted(&check("n", &bytes[..], &[]), "n said on line 1");
    }

    /// What nodes say when their states differ, word for word.
    #[test]
    fn states_that_differ_are_found() {
        for line in [
            "ERROR node-1 blox_raft::compare: ALARM: the states of nodes differ though they have applied the same log: the state of `node-3` differs",
            "ERROR node-3 blox_raft::compare: ALARM: the state of `node-3` differs from that of a majority of nodes at log entry 16. This node ends",
            "the state of `node-3` differs from that of a majority of nodes at log entry 16. It stays out of the cluster: replace it",
            "terminate called after throwing an instance of 'std::system_error'",
        ] {
            refuted(&judged(&format!("INFO starts\n{line}\n")), "node-1 said on line 2");
        }
        let over = "INFO the states of all nodes are equal again: the alarm is over\n";
        assert_eq!(judged(over), Verdict::Valid);
    }

    /// A process that comes back after a fault is expected; one that comes back by itself has ended by itself.
    #[test]
    fn starts_need_a_reason() {
        let second = |count: u64| count * 1_000_000_000;
        let may = [second(10)..second(20), second(15)..second(25)];
        assert_eq!(starts("n", &[second(1), second(11), second(24)], &may), Verdict::Valid);
        refuted(
            &starts("n", &[second(1), second(26)], &may),
            "n started again at 26.0 s",
        );
        refuted(&starts("n", &[second(1), second(9)], &may), "n started again at 9.0 s");
    }

    /// No log is no proof, nor is one without its beginning.
    #[test]
    fn what_proves_nothing() {
        undecided(&judged(""), "is empty");
        undecided(&starts("n", &[], &[]), "is not whole");
    }
}
