//! What revisions promise beyond one key: one counter for the whole state, each change its own, growing with time.

use std::collections::HashMap;

use serde_json::Value;

use crate::check::history::{History, Operation, Outcome, shortened};
use crate::check::verdict::{Findings, Verdict};

/// Judges the revisions of all `read`, `write`, `cas` and `delete` operations that were answered well and have one, or were refused and told one:
/// - a revision belongs to one change of one key: every answer that names it names the same key and value, and one change at most is
///   acknowledged with it;
/// - what was seen before a change was called has a lower revision than the change;
/// - a value has a revision above 0, and no value has 0;
/// - what is refused did not find what it demanded.
pub fn check(history: &History) -> Verdict {
    let known = history.operations.iter().filter(|one| told(one).is_some());
    let mut answers: Vec<&Operation> = known.filter(|one| Left::of(one).is_some()).collect();
    let mut findings = Findings::default();
    let refused = history.operations.iter().filter(|one| one.observed().is_some());
    // A delete that demands absence finds nothing to delete.
    let refused = refused.filter(|one| *one.function != *"delete" || one.observed() > Some(0));
    for one in refused.filter(|one| one.observed() == one.expected_revision) {
        findings.note(format!("refused, though what it demands was so: {}", one.told()));
    }
    answers.sort_by_key(|one| one.returned());
    owners(&answers, &mut findings);
    let mut calls = answers.clone();
    calls.sort_by_key(|one| one.called);
    // The highest revision answered so far, and by whom.
    let mut highest: Option<&Operation> = None;
    let mut next = answers.iter().peekable();
    for call in calls {
        while let Some(answer) = next.next_if(|answer| answer.precedes(call)) {
            if highest.is_none_or(|highest| told(highest) < told(answer)) {
                highest = Some(answer);
            }
        }
        let changes = *call.function != *"read" && call.observed().is_none() && told(call) > Some(0);
        if let Some(seen) = highest.filter(|seen| changes && told(seen) >= told(call)) {
            findings.note(format!(
                "a change is not after what was there before it was called: {}; {}",
                seen.told(),
                call.told()
            ));
        }
    }
    findings.into()
}

/// The revision that an answer tells: of the change that it acknowledges, or of what was there.
fn told(operation: &Operation) -> Option<u64> {
    operation.revision_told().or(operation.observed())
}

/// What an answer says is there afterwards.
struct Left<'a> {
    value: &'a Value,
    changed: bool,
}

impl<'a> Left<'a> {
    fn of(operation: &'a Operation) -> Option<Left<'a>> {
        let (value, changed) = match (&*operation.function, &operation.asked) {
            ("read", _) => (&operation.answered, false),
            ("write", value) => (value, true),
            ("delete", _) => (&Value::Null, true),
            ("cas", Value::Array(pair)) if pair.len() == 2 => (&pair[1], true),
            ("cas", value) => (value, true),
            _ => return None,
        };
        Some(Left { value, changed })
    }
}

fn owners(answers: &[&Operation], findings: &mut Findings) {
    let mut first: HashMap<u64, &Operation> = HashMap::new();
    let mut acknowledged: HashMap<u64, &Operation> = HashMap::new();
    for answer in answers.iter().filter(|one| one.outcome == Outcome::Ok) {
        let (Some(Left { value, changed }), Some(revision)) = (Left::of(answer), told(answer)) else {
            continue;
        };
        if revision == 0 || (value.is_null() && !changed) {
            if value.is_null() != (revision == 0) {
                findings.note(format!(
                    "{} at revision {revision} cannot be: {}",
                    shortened(value),
                    answer.told()
                ));
            }
            continue;
        }
        let known = *first.entry(revision).or_insert(*answer);
        let same = known.key == answer.key && Left::of(known).is_some_and(|left| left.value == value);
        if !same {
            findings.note(format!(
                "revision {revision} is of two changes: {}; {}",
                known.told(),
                answer.told()
            ));
        } else if changed && let Some(other) = acknowledged.insert(revision, *answer) {
            findings.note(format!(
                "revision {revision} acknowledges two changes: {}; {}",
                other.told(),
                answer.told()
            ));
        }
    }
    for refused in answers.iter().filter(|one| one.observed() > Some(0)) {
        let known = refused.observed().and_then(|revision| first.get(&revision));
        if let Some(known) =
            known.filter(|known| known.key != refused.key || Left::of(known).is_some_and(|left| left.value.is_null()))
        {
            findings.note(format!(
                "revision {} is of two changes: {}; {}",
                refused.observed().unwrap_or(0),
                known.told(),
                refused.told()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{history, refuted};

    fn judged(text: &str) -> Verdict {
        check(&history(text))
    }

    /// Changes of two keys that overlap may have their revisions in any order; reads repeat them; absence has none.
    #[test]
    fn a_good_history() {
        let good = "0 invoke read k -\n0 ok read k - @0\n0 invoke write k a\n1 invoke write l b\n1 ok write l b @4\n0 ok write k a @3\n\
                    0 invoke read k -\n0 ok read k a @3\n1 invoke delete k -\n1 ok delete k - @0 {\"deleted_at\":5}\n1 invoke delete k -\n1 fail delete k - {\"observed\":0}\n\
                    0 invoke cas l [null,\"c\"] @3\n0 fail cas l [null,\"c\"] {\"observed\":4}\n0 invoke cas k [null,\"c\"] @0\n0 ok cas k [null,\"c\"] @7";
        assert_eq!(judged(good), Verdict::Valid);
    }

    /// Each way to be wrong.
    #[test]
    fn bad_histories() {
        let two_keys = "0 invoke write k a\n1 invoke write l a\n0 ok write k a @3\n1 ok write l a @3";
        refuted(&judged(two_keys), "revision 3 is of two changes");
        let two_values = "0 invoke write k a\n1 invoke read k -\n0 ok write k a @3\n1 ok read k b @3";
        refuted(&judged(two_values), "revision 3 is of two changes");
        let twice = "0 invoke write k a\n1 invoke write k a\n0 ok write k a @3\n1 ok write k a @3";
        refuted(&judged(twice), "revision 3 acknowledges two changes");
        let back = "0 invoke write k a\n0 ok write k a @3\n0 invoke write l b\n0 ok write l b @2";
        refuted(&judged(back), "not after what was there before");
        let ahead = "0 invoke read k -\n0 ok read k a @3\n0 invoke write k a\n0 ok write k a @3";
        refuted(&judged(ahead), "not after what was there before");
        let refused = "0 invoke write k a\n0 ok write k a @3\n0 invoke cas l [null,\"b\"] @2\n0 fail cas l [null,\"b\"] {\"observed\":3}";
        refuted(&judged(refused), "revision 3 is of two changes");
        let seen = "0 invoke cas k [null,\"b\"] @2\n0 fail cas k [null,\"b\"] {\"observed\":5}\n0 invoke write l a\n0 ok write l a @4";
        refuted(&judged(seen), "not after what was there before");
        let deleted = "0 invoke delete k -\n1 invoke cas k [null,\"b\"] @2\n0 ok delete k - @4\n1 fail cas k [null,\"b\"] {\"observed\":4}";
        refuted(&judged(deleted), "revision 4 is of two changes");
        let deleted =
            "0 invoke write k a\n0 ok write k a @4\n0 invoke delete k -\n0 ok delete k - @0 {\"deleted_at\":4}";
        refuted(&judged(deleted), "revision 4 is of two changes");
        let as_demanded = "0 invoke append l x @2\n0 fail append l x {\"observed\":2}";
        refuted(&judged(as_demanded), "refused, though what it demands was so: line 1");
        refuted(
            &judged("0 invoke read k -\n0 ok read k a @0"),
            "\"a\" at revision 0 cannot be",
        );
        refuted(
            &judged("0 invoke read k -\n0 ok read k - @4"),
            "null at revision 4 cannot be",
        );
        refuted(
            &judged("0 invoke write k a\n0 ok write k a @0"),
            "\"a\" at revision 0 cannot be",
        );
    }
}
