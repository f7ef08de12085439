//! What a node must never say in its log, whatever is done to it.

use std::io::{BufRead, Read};

use super::verdict::{Findings, Verdict};

/// Words that fail a run, in any case.
const NEVER: [&str; 8] = [
    "panicked",
    "assertion",
    "state differs from a majority",
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

    /// No log is no proof.
    #[test]
    fn what_proves_nothing() {
        undecided(&judged(""), "is empty");
    }
}
