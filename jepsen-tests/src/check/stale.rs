//! Stale reads: old is allowed, wrong is not.
//!
//! Operations are `stale` (a read with `consistency=stale`). Their `ok` has the value, the key's mod revision as `revision`, and `at`: the state's
//! revision from which the node answered (`X-Blox-Revision`). The invoke may have `min_revision`, if it was asked for. A node that restarts may
//! begin further back: its lines then carry another `life`.

use std::collections::HashMap;

use super::changes::{Changes, Truth};
use super::history::{History, Operation, Outcome, shortened};
use super::verdict::{Findings, Verdict};

/// Judges every stale read:
/// - the state from which a node answers never goes back, for all its clients together, and is not before what was asked for;
/// - it is never newer than what was committed: not past the end of the changes, and not at a change that was called only after the answer;
/// - value and mod revision are those that the key had at that revision.
pub fn check(history: &History, changes: &Changes) -> Verdict {
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    let mut reads = Vec::new();
    for read in history.operations.iter().filter(|one| one.succeeded("stale")) {
        match read.more.get("at").and_then(serde_json::Value::as_u64) {
            Some(at) => reads.push(Read { read, at }),
            None => open.note(format!("the answer does not say its state: {}", read.told())),
        }
    }
    if reads.is_empty() {
        open.note("no stale read was answered");
    }
    reads.sort_by_key(|one| one.read.returned());
    monotonic(&reads, &mut violations);
    committed(&reads, history, changes, &mut violations);
    let mut not_kept = 0;
    for one in &reads {
        let least = one.read.more.get("min_revision").and_then(serde_json::Value::as_u64);
        if let Some(least) = least.filter(|least| *least > one.at) {
            violations.note(format!(
                "revision {least} was asked for at least, the state was at {}: {}",
                one.at,
                one.read.told()
            ));
        }
        match changes.at(&one.read.key, one.at) {
            Truth::NotKept => not_kept += 1,
            truth => one.is_true(truth, &mut violations),
        }
    }
    if not_kept > 0 {
        open.note(format!("{not_kept} reads are older than the changes that are kept"));
    }
    Verdict::of(violations, open)
}

/// The same history with its stale reads as linearizable ones: a checker of those must refuse it, or it would not notice staleness.
pub fn as_linearizable(history: &History) -> History {
    let mut changed = history.clone();
    for operation in changed.operations.iter_mut().filter(|one| *one.function == *"stale") {
        operation.function = "read".into();
    }
    changed
}

#[derive(Clone, Copy)]
struct Read<'a> {
    read: &'a Operation,
    /// The state's revision.
    at: u64,
}

impl Read<'_> {
    fn is_true(&self, truth: Truth<'_>, violations: &mut Findings) {
        let (value, revision) = match truth {
            Truth::Changed(change) => match &change.value {
                Some(value) => (value, change.revision),
                None => (&serde_json::Value::Null, 0),
            },
            Truth::Never | Truth::NotKept => (&serde_json::Value::Null, 0),
        };
        if self.read.answered != *value || self.read.revision.is_some_and(|told| told != revision) {
            violations.note(format!(
                "at revision {} the key was {} at revision {revision}: {}",
                self.at,
                shortened(value),
                self.read.told()
            ));
        }
    }
}

/// Reads in the order of their answers.
fn monotonic(reads: &[Read<'_>], violations: &mut Findings) {
    let mut nodes: HashMap<_, Vec<Read<'_>>> = HashMap::new();
    for one in reads {
        let life = one.read.more.get("life").map(ToString::to_string);
        nodes.entry((one.read.node.clone(), life)).or_default().push(*one);
    }
    let mut nodes: Vec<_> = nodes.into_iter().collect();
    nodes.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (_, answers) in nodes {
        let mut calls = answers.clone();
        calls.sort_by_key(|one| one.read.called);
        let mut next = answers.into_iter().peekable();
        let mut highest: Option<Read<'_>> = None;
        for call in calls {
            while let Some(answer) = next.next_if(|answer| answer.read.precedes(call.read)) {
                if highest.is_none_or(|highest| highest.at < answer.at) {
                    highest = Some(answer);
                }
            }
            if let Some(before) = highest.filter(|before| before.at > call.at) {
                violations.note(format!(
                    "a node went back from revision {} to {}: {}; {}",
                    before.at,
                    call.at,
                    before.read.told(),
                    call.read.told()
                ));
            }
        }
    }
}

/// Reads in the order of their answers.
fn committed(reads: &[Read<'_>], history: &History, changes: &Changes, violations: &mut Findings) {
    let changed = |one: &&Operation| {
        one.outcome == Outcome::Ok && matches!(&*one.function, "write" | "cas") && one.revision.is_some()
    };
    let mut writes: Vec<&Operation> = history.operations.iter().filter(changed).collect();
    writes.sort_by_key(|one| one.called);
    // From the last answer back: the lowest revision of what was called after it.
    let mut lowest: Option<&Operation> = None;
    for one in reads.iter().rev() {
        while let Some(write) = writes.pop_if(|write| one.read.precedes(write)) {
            if lowest.is_none_or(|lowest| write.revision < lowest.revision) {
                lowest = Some(write);
            }
        }
        if one.at > changes.until() {
            violations.note(format!(
                "the state was at {}, the last committed revision is {}: {}",
                one.at,
                changes.until(),
                one.read.told()
            ));
        }
        if let Some(write) = lowest.filter(|write| write.revision <= Some(one.at)) {
            violations.note(format!(
                "the state was at {} before that was called: {}; {}",
                one.at,
                one.read.told(),
                write.told()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::changes::tests::changes;
    use crate::check::linear;
    use crate::check::testing::{history, refuted, undecided};

    fn truth() -> Changes {
        changes(1, 9, &[(2, "k", "a"), (4, "k", "b"), (6, "k", "-"), (7, "l", "x")])
    }

    fn judged(text: &str) -> Verdict {
        check(&history(text), &truth())
    }

    const OLD: &str = "0 invoke write k a\n0 ok write k a @2\n0 invoke write k b\n0 ok write k b @4\n1 invoke stale k - {\"node\":\"n\"}\n1 ok stale k a @2 {\"at\":3}";

    /// An old answer is well, and the same as a linearizable read is not.
    #[test]
    fn old_is_not_wrong() {
        let more = "\n1 invoke stale k - {\"node\":\"n\",\"min_revision\":6}\n1 ok stale k - @0 {\"at\":6}\n2 invoke stale k - {\"node\":\"o\"}\n2 ok stale k - @0 {\"at\":1}\n\
                    3 invoke stale k - {\"node\":\"n\",\"life\":2}\n3 ok stale k a @2 {\"at\":2}";
        assert_eq!(judged(&format!("{OLD}{more}")), Verdict::Valid);
        refuted(
            &linear::check(&as_linearizable(&history(OLD))),
            "no order of its operations explains line 5",
        );
    }

    /// Each way to be wrong.
    #[test]
    fn wrong_answers() {
        refuted(
            &judged(&OLD.replace("k a @2 {", "k b @4 {")),
            "at revision 3 the key was \"a\" at revision 2",
        );
        refuted(
            &judged(&OLD.replace("k a @2 {", "k a @3 {")),
            "at revision 3 the key was",
        );
        refuted(
            &judged(&OLD.replace("\"at\":3", "\"at\":1")),
            "at revision 1 the key was null at revision 0",
        );
        refuted(
            &judged(&OLD.replace("\"at\":3", "\"at\":10")),
            "the last committed revision is 9",
        );
        refuted(
            &judged(&OLD.replace("{\"node\":\"n\"}", "{\"node\":\"n\",\"min_revision\":4}")),
            "revision 4 was asked for at least",
        );
        let back = "\n2 invoke stale k - {\"node\":\"n\"}\n2 ok stale k a @2 {\"at\":2}";
        refuted(
            &judged(&format!("{OLD}{back}")),
            "a node went back from revision 3 to 2",
        );
        let ahead =
            "1 invoke stale k - {\"node\":\"n\"}\n1 ok stale k a @2 {\"at\":2}\n0 invoke write k a\n0 ok write k a @2";
        refuted(&judged(ahead), "the state was at 2 before that was called");
    }

    /// Nothing read, nothing said, nothing kept: nothing proven.
    #[test]
    fn what_proves_nothing() {
        undecided(
            &judged("0 invoke write k a\n0 ok write k a @2"),
            "no stale read was answered",
        );
        undecided(&judged(&OLD.replace("{\"at\":3}", "")), "does not say its state");
        undecided(&check(&history(OLD), &changes(8, 9, &[])), "1 reads are older");
    }
}
