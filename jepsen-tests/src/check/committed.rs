//! Writes held against the committed changes: what was acknowledged is there, and what is there was asked for.
//!
//! Operations are `write`, `cas`, `delete`, `add`, `append` and `once`. Of an `add` the committed key is the set's name, a slash and the element, its value
//! empty; of an `append` the committed value is a list in JSON whose last element is the appended one; of a deletion there is no value. All others
//! leave what they were asked to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::changes::{Change, Changes};
use super::history::{History, Operation, Outcome, shortened};
use super::verdict::{Findings, Verdict};

/// Judges all writes, and all changes of keys that `own` claims for them:
/// - what was acknowledged at a revision is the change of that revision;
/// - every change is one that was acknowledged there, or one of an unknown outcome, once each: nothing of a failed write, nothing that nobody wrote;
/// - no change has a revision that was answered before it was called;
/// - what was refused because of a revision, or of an absence, was called when the key was so, or before;
/// - what demanded a revision follows on the change that has it; a list grows by its element, and only what is there is deleted.
pub fn check(history: &History, changes: &Changes, own: impl Fn(&str) -> bool) -> Verdict {
    let lists = history.operations.iter().filter(|one| *one.function == *"append");
    let log = Log {
        lists: lists.map(|one| &*one.key).collect(),
        changes,
    };
    let mut wishes: BTreeMap<(String, String), Wish<'_>> = BTreeMap::new();
    for operation in &history.operations {
        if let Some((key, left)) = left(operation) {
            let wish = wishes.entry((key, left.to_string())).or_default();
            wish.operations.push(operation);
        }
    }
    let mut violations = Findings::default();
    for change in changes.all().into_iter().filter(|change| own(&change.key)) {
        let mark = match log.mark(change) {
            Ok(mark) => mark,
            Err(why) => {
                violations.note(why);
                continue;
            }
        };
        match wishes.get_mut(&(change.key.to_string(), mark.to_string())) {
            Some(wish) => wish.changes.push(change),
            None => violations.note(format!("{} was committed, and nobody asked for it", told(change))),
        }
    }
    let answered = Answered::of(history);
    let mut not_kept = 0;
    for wish in wishes.values_mut() {
        not_kept += wish.judge(&log, &answered, &mut violations);
    }
    for one in &history.operations {
        log.refused_rightly(one, &answered, &mut violations);
    }
    let mut open = Findings::default();
    if not_kept > 0 {
        open.note(format!("{not_kept} writes are older than the changes that are kept"));
    }
    Verdict::of(violations, open)
}

/// The key that an operation changes, and what marks its change: the value, of a list the last element; null: it is deleted.
fn left(operation: &Operation) -> Option<(String, Value)> {
    let key = operation.key.to_string();
    let asked = operation.asked.clone();
    match (&*operation.function, &operation.asked) {
        ("write" | "once" | "append", _) => Some((key, asked)),
        ("cas", Value::Array(pair)) if pair.len() == 2 => Some((key, pair[1].clone())),
        ("cas", _) => Some((key, asked)),
        ("delete", _) => Some((key, Value::Null)),
        ("add", element) => {
            let element = element.as_str().map_or_else(|| element.to_string(), str::to_owned);
            Some((format!("{key}/{element}"), Value::from("")))
        }
        _ => None,
    }
}

/// What was committed.
struct Log<'a> {
    /// Keys that hold lists.
    lists: HashSet<&'a str>,
    changes: &'a Changes,
}

impl<'a> Log<'a> {
    /// What marks a change; an error says why it has no mark.
    fn mark(&self, change: &Change) -> Result<Value, String> {
        let Some(value) = &change.value else {
            return Ok(Value::Null);
        };
        if !self.lists.contains(&*change.key) {
            return Ok(value.clone());
        }
        let last = list(value).and_then(|mut list| list.pop());
        last.ok_or_else(|| format!("{} is no list", told(change)))
    }

    /// The change before this one of the same key; an error: it is not kept, if there is one.
    fn before(&self, change: &Change) -> Result<Option<&'a Change>, ()> {
        let all = self.changes.of(&change.key);
        let later = all.partition_point(|other| other.revision < change.revision);
        match later.checked_sub(1) {
            Some(last) => Ok(all.get(last)),
            None if self.changes.are_whole() => Ok(None),
            None => Err(()),
        }
    }
}

impl Log<'_> {
    /// A refusal tells where the key was at some time since its call: there, or wherever it came to be later.
    fn refused_rightly(&self, one: &Operation, answered: &Answered, violations: &mut Findings) {
        let Some(observed) = one.observed() else { return };
        let all = self.changes.of(&one.key);
        let before = answered.before(one);
        let later = all.partition_point(|change| change.revision <= before);
        let began_absent = later == 0 && observed == 0;
        if began_absent || (later == 0 && !self.changes.are_whole()) {
            return;
        }
        let is_so = |change: &Change| match observed {
            0 => change.value.is_none(),
            revision => change.revision == revision && change.value.is_some(),
        };
        if !all[later.saturating_sub(1)..].iter().any(is_so) {
            violations.note(format!(
                "refused by what was not so any more at revision {before}, which was answered before: {}",
                one.told()
            ));
        }
    }
}

fn list(value: &Value) -> Option<Vec<Value>> {
    serde_json::from_str(value.as_str()?).ok()
}

fn told(change: &Change) -> String {
    let what = change.value.as_ref().map_or("no value".to_owned(), shortened);
    format!("{} of {} at revision {}", what, change.key, change.revision)
}

/// Operations that leave the same, and the changes that did.
#[derive(Default)]
struct Wish<'a> {
    operations: Vec<&'a Operation>,
    changes: Vec<&'a Change>,
}

impl<'a> Wish<'a> {
    /// How many of its operations are older than what is kept.
    fn judge(&self, log: &Log<'a>, answered: &Answered, violations: &mut Findings) -> usize {
        let mut not_kept = 0;
        let mut acknowledged: BTreeMap<u64, &Operation> = BTreeMap::new();
        // Those of which it is not known what they changed, if anything: that must be there of the first kind, and may be of the second.
        let (mut somewhere, mut unknown): (Vec<&Operation>, Vec<&Operation>) = (Vec::new(), Vec::new());
        for one in &self.operations {
            match (one.outcome, one.revision_told()) {
                (Outcome::Failed, _) => {}
                (Outcome::Unknown, _) => unknown.push(one),
                (Outcome::Ok, None) => somewhere.push(one),
                (Outcome::Ok, Some(revision)) if log.changes.is_kept(revision) => {
                    acknowledged.insert(revision, one);
                }
                (Outcome::Ok, Some(_)) => not_kept += 1,
            }
        }
        let committed: BTreeSet<u64> = self.changes.iter().map(|change| change.revision).collect();
        for one in acknowledged
            .iter()
            .filter(|(revision, _)| !committed.contains(revision))
        {
            violations.note(format!("acknowledged, and not committed there: {}", one.1.told()));
        }
        let changes = self.changes.iter().copied();
        let (known, rest): (Vec<&Change>, Vec<&Change>) =
            changes.partition(|change| acknowledged.contains_key(&change.revision));
        if rest.len() < somewhere.len() {
            violations.note(format!("acknowledged, and never committed: {}", somewhere[0].told()));
        }
        let said_again = self.operations.iter().any(|one| *one.function == *"once");
        let most = match somewhere.len() + unknown.len() {
            // Attempts at one write: any may be the one that was applied, if no answer says which.
            attempts if said_again => attempts.min(usize::from(acknowledged.is_empty())),
            attempts => attempts,
        };
        if rest.len() > most {
            self.too_many(&rest, violations);
        }
        for change in known {
            let made_by = if said_again {
                self.operations[0]
            } else {
                acknowledged[&change.revision]
            };
            judge_pair(change, made_by, log, answered, violations);
        }
        somewhere.extend(unknown);
        if let ([change], [one, others @ ..]) = (&rest[..], &somewhere[..])
            && (said_again || others.is_empty())
        {
            judge_pair(change, one, log, answered, violations);
        }
        not_kept
    }

    fn too_many(&self, rest: &[&Change], violations: &mut Findings) {
        let Some(last) = self.operations.last() else { return };
        let all_failed = self.operations.iter().all(|one| one.outcome == Outcome::Failed);
        let why = if all_failed {
            "though it failed"
        } else {
            "more often than it was asked for"
        };
        for change in rest {
            violations.note(format!("{} was committed, {why}: {}", told(change), last.told()));
        }
    }
}

/// A change and the operation that made it.
fn judge_pair(change: &Change, one: &Operation, log: &Log<'_>, answered: &Answered, violations: &mut Findings) {
    let before = answered.before(one);
    if before >= change.revision {
        violations.note(format!(
            "revision {before} was answered before that was called: {}; it is committed at revision {}",
            one.told(),
            change.revision
        ));
    }
    let Ok(previous) = log.before(change) else { return };
    let was_at = previous
        .filter(|previous| previous.value.is_some())
        .map_or(0, |previous| previous.revision);
    if one.expected_revision.is_some_and(|expected| expected != was_at) {
        violations.note(format!(
            "committed at revision {}, though the key was at {was_at}: {}",
            change.revision,
            one.told()
        ));
    }
    if change.value.is_none() && was_at == 0 {
        violations.note(format!("{}, though nothing was there: {}", told(change), one.told()));
    }
    if *one.function == *"append" {
        let was = previous
            .and_then(|previous| previous.value.as_ref())
            .and_then(list)
            .unwrap_or_default();
        let is = change.value.as_ref().and_then(list).unwrap_or_default();
        if is.split_last().map(|(_, was)| was) != Some(&was[..]) {
            violations.note(format!(
                "{} is not the list of revision {was_at} with one element more: {}",
                told(change),
                one.told()
            ));
        }
    }
}

/// The highest revision that was answered up to each line.
struct Answered {
    /// Line and revision, both ascending.
    highest: Vec<(usize, u64)>,
}

impl Answered {
    fn of(history: &History) -> Answered {
        let good = history.operations.iter().filter(|one| one.outcome == Outcome::Ok);
        let mut answers: Vec<(usize, u64)> = good.filter_map(|one| Some((one.ended?, one.reached()?))).collect();
        answers.sort_unstable();
        let mut highest: Vec<(usize, u64)> = Vec::new();
        for (line, revision) in answers {
            if highest.last().is_none_or(|(_, last)| *last < revision) {
                highest.push((line, revision));
            }
        }
        Answered { highest }
    }

    /// 0: none was answered before it was called.
    fn before(&self, one: &Operation) -> u64 {
        let count = self.highest.partition_point(|(line, _)| *line < one.called);
        count.checked_sub(1).map_or(0, |last| self.highest[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::changes::tests::changes;
    use crate::check::testing::{history, refuted, undecided};

    /// Every kind of write, acknowledged or unknown, beside what does not count.
    const TEXT: &str = "0 invoke write k a\n0 ok write k a @2\n0 invoke cas k [\"a\",\"b\"] @2\n0 ok cas k [\"a\",\"b\"] @3\n0 invoke delete k -\n0 ok delete k - @0 {\"deleted_at\":4}\n\
        1 invoke add s x\n1 ok add s x @5\n1 invoke append l x\n1 ok append l x @6\n1 invoke append l y @6\n1 info append l y\n\
        2 invoke once t v {\"token\":\"v\"}\n2 info once t v\n3 invoke once t v {\"token\":\"v\"}\n3 ok once t v @7\n\
        4 invoke write k c\n4 info write k c\n5 invoke write k d\n5 fail write k d\n6 invoke delete k -\n6 info delete k -\n0 invoke read k -\n0 ok read k c @9";

    fn log() -> Vec<(u64, &'static str, &'static str)> {
        vec![
            (1, "foreign/key", "?"),
            (2, "k", "a"),
            (3, "k", "b"),
            (4, "k", "-"),
            (5, "s/x", ""),
            (6, "l", r#"["x"]"#),
            (7, "t", "v"),
            (8, "l", r#"["x","y"]"#),
            (9, "k", "c"),
        ]
    }

    fn judged(text: &str, log: &[(u64, &str, &str)]) -> Verdict {
        check(&history(text), &changes(1, 20, log), |key| !key.starts_with("foreign/"))
    }

    /// Nothing is missing and nothing is too much, whether unknown writes were applied or not.
    #[test]
    fn what_was_asked_for_is_there() {
        assert_eq!(judged(TEXT, &log()), Verdict::Valid);
        let mut less = log();
        less.retain(|(revision, ..)| *revision < 8);
        assert_eq!(judged(TEXT, &less), Verdict::Valid);
        let mut deleted = log();
        deleted.push((10, "k", "-"));
        assert_eq!(judged(TEXT, &deleted), Verdict::Valid);
    }

    /// Each kind of acknowledged write that is lost, or that is there at another revision than its own.
    #[test]
    fn what_was_acknowledged_is_there() {
        for (revision, words) in [
            (2, "not committed there: line 1: process 0 write k"),
            (3, "not committed there: line 3: process 0 cas k"),
            (4, "not committed there: line 5: process 0 delete k"),
            (5, "not committed there: line 7: process 1 add s"),
            (6, "not committed there: line 9: process 1 append l"),
            (7, "not committed there: line 15: process 3 once t"),
        ] {
            let mut lost = log();
            lost.retain(|(other, ..)| *other != revision);
            refuted(&judged(TEXT, &lost), words);
            let mut moved = log();
            for change in moved.iter_mut().filter(|(other, ..)| *other == revision) {
                change.0 = 12;
            }
            moved.sort_unstable();
            refuted(&judged(TEXT, &moved), words);
        }
        refuted(
            &judged(&TEXT.replace("write k a @2", "write k a"), &log()[2..]),
            "acknowledged, and never committed: line 1",
        );
    }

    /// Changes of a failed write, of nobody, and of one write twice.
    #[test]
    fn nothing_else_is_there() {
        let with = |revision, key, value| {
            let mut log = log();
            log.push((revision, key, value));
            judged(TEXT, &log)
        };
        refuted(&with(11, "k", "d"), "was committed, though it failed: line 19");
        refuted(&with(11, "k", "e"), "nobody asked for it");
        refuted(&with(11, "s/y", ""), "nobody asked for it");
        refuted(&with(11, "l", r#"["x","y","z"]"#), "nobody asked for it");
        refuted(&with(11, "l", "nonsense"), "is no list");
        refuted(&with(11, "k", "a"), "more often than it was asked for: line 1");
        refuted(&with(11, "k", "c"), "more often than it was asked for: line 17");
        refuted(&with(11, "t", "v"), "more often than it was asked for: line 15");
        let failed = TEXT.replace("6 info delete", "6 fail delete");
        let mut deleted = log();
        deleted.push((10, "k", "-"));
        refuted(
            &judged(&failed, &deleted),
            "no value of k at revision 10 was committed, more often",
        );
    }

    /// What an operation demanded was so when it was applied, and it was applied after it was called.
    #[test]
    fn changes_are_at_their_place() {
        refuted(
            &judged(&TEXT.replace("[\"a\",\"b\"] @2", "[\"a\",\"b\"] @1"), &log()),
            "committed at revision 3, though the key was at 2: line 3",
        );
        refuted(
            &judged(&TEXT.replace("append l y @6", "append l y @5"), &log()),
            "committed at revision 8, though the key was at 6: line 11",
        );
        let mut shorter = log();
        shorter[7].2 = r#"["y"]"#;
        refuted(
            &judged(TEXT, &shorter),
            "is not the list of revision 6 with one element more",
        );
        let mut nothing = log();
        nothing.splice(1..3, []);
        refuted(&judged(TEXT, &nothing), "though nothing was there: line 5");
        // An unknown write that others have overtaken before it was called.
        let late = "0 invoke write k a\n0 ok write k a @3\n1 invoke write k b\n1 info write k b";
        refuted(
            &judged(late, &[(2, "k", "b"), (3, "k", "a")]),
            "revision 3 was answered before that was called: line 3",
        );
        assert_eq!(judged(late, &[(3, "k", "a"), (4, "k", "b")]), Verdict::Valid);
        let state = "2 invoke stale k -\n2 ok stale k - @0 {\"at\":3}\n1 invoke add s b\n1 ok add s b @3";
        refuted(
            &judged(state, &[(3, "s/b", "")]),
            "revision 3 was answered before that was called: line 3",
        );
    }

    /// A refusal tells what was so when it was called, or later; not what was over before, or never was.
    #[test]
    fn refusals_are_right() {
        let refused = |call: &str, observed: u64| {
            let text = format!(
                "0 invoke write k a\n0 ok write k a @2\n0 invoke write k b\n0 ok write k b @4\n1 invoke {call}\n1 fail {call} {{\"observed\":{observed}}}\n\
                 0 invoke write k c\n0 ok write k c @6\n0 invoke delete k -\n0 ok delete k - @7"
            );
            judged(&text, &[(2, "k", "a"), (4, "k", "b"), (6, "k", "c"), (7, "k", "-")])
        };
        for observed in [4, 6, 0] {
            assert_eq!(refused("cas k [\"x\",\"y\"]", observed), Verdict::Valid, "{observed}");
        }
        for observed in [2, 3, 5, 7] {
            refuted(
                &refused("cas k [\"x\",\"y\"]", observed),
                "refused by what was not so any more at revision 4",
            );
        }
        assert_eq!(refused("append m x", 0), Verdict::Valid);
        refuted(&refused("append m x", 3), "refused by what was not so any more");
    }

    /// What was compacted away proves nothing.
    #[test]
    fn what_proves_nothing() {
        let kept = changes(3, 20, &log()[2..]);
        let verdict = check(&history(TEXT), &kept, |key| !key.starts_with("foreign/"));
        undecided(&verdict, "1 writes are older");
    }
}
