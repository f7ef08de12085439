//! Writes said many times: applied once, answered alike.
//!
//! Operations are `once`: a write of `value` to `key` under the idempotency key in the member `token`, said by any number of processes to any node.
//! Each token has a value of its own, so that the committed changes show how often it was applied.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::changes::{Change, Changes};
use super::history::{History, Operation, Outcome, shortened};
use super::verdict::{Findings, Verdict};

/// Judges every token:
/// - applied at most once; exactly once if any attempt was answered well; not at all if every attempt surely failed;
/// - all good answers are the same, and name the revision at which it was applied.
pub fn check(history: &History, changes: &Changes) -> Verdict {
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    let mut tokens: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for one in history.operations.iter().filter(|one| *one.function == *"once") {
        match one.more.get("token").and_then(Value::as_str) {
            Some(token) => tokens.entry(token).or_default().push(one),
            None => open.note(format!("no token: {}", one.told())),
        }
    }
    if tokens.is_empty() {
        open.note("nothing was said under an idempotency key");
    }
    if !changes.are_whole() {
        open.note("the changes do not go back to the beginning");
    }
    let mut values: HashMap<(&str, &Value), &str> = HashMap::new();
    let mut applied: HashMap<(&str, &Value), Vec<&Change>> = HashMap::new();
    for (token, attempts) in &tokens {
        let first = attempts[0];
        if attempts
            .iter()
            .any(|one| (&one.key, &one.asked) != (&first.key, &first.asked))
        {
            open.note(format!("token {token} stands for two writes: {}", first.told()));
        }
        if let Some(other) = values.insert((&first.key, &first.asked), token) {
            open.note(format!("tokens {other} and {token} write the same: {}", first.told()));
        }
        for change in changes.of(&first.key) {
            if change.value.as_ref() == Some(&first.asked) {
                applied.entry((&first.key, &first.asked)).or_default().push(change);
            }
        }
    }
    if !open.is_empty() {
        return Verdict::Unknown(open);
    }
    for (token, attempts) in tokens {
        let applied = applied.get(&(&*attempts[0].key, &attempts[0].asked));
        judge(token, &attempts, applied.map_or(&[], Vec::as_slice), &mut violations);
    }
    violations.into()
}

fn judge(token: &str, attempts: &[&Operation], applied: &[&Change], violations: &mut Findings) {
    let what = format!(
        "token {token}, {} of {}",
        shortened(&attempts[0].asked),
        attempts[0].key
    );
    let mut good = attempts.iter().filter(|one| one.outcome == Outcome::Ok);
    let first = good.next();
    for other in good {
        if first.is_some_and(|first| (first.revision, &first.answered) != (other.revision, &other.answered)) {
            violations.note(format!("{what}: two answers: {}; {}", attempts[0].told(), other.told()));
        }
    }
    let revisions: Vec<u64> = applied.iter().map(|change| change.revision).collect();
    let failed = attempts.iter().all(|one| one.outcome == Outcome::Failed);
    match (first, &revisions[..]) {
        (_, [_, _, ..]) => violations.note(format!(
            "{what}: applied {} times, at revisions {revisions:?}",
            revisions.len()
        )),
        (Some(answer), []) => violations.note(format!("{what}: acknowledged and never applied: {}", answer.told())),
        (Some(answer), [revision]) if answer.revision.is_some_and(|told| told != *revision) => {
            violations.note(format!("{what}: applied at revision {revision}: {}", answer.told()));
        }
        (None, [revision]) if failed => violations.note(format!(
            "{what}: applied at revision {revision}, though all attempts failed"
        )),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::changes::tests::changes;
    use crate::check::testing::{history, refuted, undecided};

    /// Said to three nodes: unknown, then twice acknowledged.
    const SAID: &str = "0 invoke once k a {\"token\":\"t\"}\n1 invoke once k a {\"token\":\"t\"}\n0 info once k a\n1 ok once k a @3\n2 invoke once k a {\"token\":\"t\"}\n2 ok once k a @3";

    fn judged(text: &str, applied: &[(u64, &str, &str)]) -> Verdict {
        check(&history(text), &changes(1, 9, applied))
    }

    /// Applied once; what only failed not at all, what is unknown perhaps.
    #[test]
    fn applied_once() {
        assert_eq!(judged(SAID, &[(3, "k", "a"), (4, "k", "other")]), Verdict::Valid);
        let unknown = SAID.replace("1 ok", "1 info").replace("2 ok", "2 info");
        assert_eq!(judged(&unknown, &[]), Verdict::Valid);
        assert_eq!(judged(&unknown, &[(3, "k", "a")]), Verdict::Valid);
        let failed = "0 invoke once k a {\"token\":\"t\"}\n0 fail once k a";
        assert_eq!(judged(failed, &[]), Verdict::Valid);
        refuted(&judged(failed, &[(3, "k", "a")]), "though all attempts failed");
    }

    /// Each way to be wrong.
    #[test]
    fn applied_wrongly() {
        refuted(
            &judged(SAID, &[(3, "k", "a"), (5, "k", "a")]),
            "applied 2 times, at revisions [3, 5]",
        );
        refuted(&judged(SAID, &[(3, "l", "a")]), "acknowledged and never applied");
        refuted(&judged(SAID, &[(4, "k", "a")]), "applied at revision 4");
        refuted(
            &judged(&SAID.replace("2 ok once k a @3", "2 ok once k a @4"), &[(3, "k", "a")]),
            "two answers",
        );
        let unknown = SAID.replace("1 ok", "1 info").replace("2 ok", "2 info");
        refuted(&judged(&unknown, &[(3, "k", "a"), (4, "k", "a")]), "applied 2 times");
    }

    /// Values that cannot be told apart, and changes that were not kept, prove nothing.
    #[test]
    fn what_proves_nothing() {
        undecided(&judged("0 invoke read k -\n0 ok read k -", &[]), "nothing was said");
        let same = "0 invoke once k a {\"token\":\"t\"}\n0 ok once k a @3\n0 invoke once k a {\"token\":\"u\"}\n0 ok once k a @4";
        undecided(&judged(same, &[]), "write the same");
        undecided(&judged("0 invoke once k a\n0 ok once k a @3", &[]), "no token");
        undecided(
            &judged(
                &SAID
                    .replacen("k a", "k b", 2)
                    .replacen("info once k a", "info once k b", 1),
                &[],
            ),
            "stands for two writes",
        );
        undecided(&check(&history(SAID), &changes(4, 9, &[])), "do not go back");
    }
}
