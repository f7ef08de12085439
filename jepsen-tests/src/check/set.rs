//! Sets of unique elements: nothing acknowledged is lost, nothing appears that was not added, nothing appears twice.
//!
//! Operations are `add` (its value is the element, its key the set's name) and `read` (it answers a list). Each element is added once. Final reads
//! are those that began after the last answer to an `add`.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::history::{History, Operation, Outcome, shortened};
use super::verdict::{Findings, Verdict};

/// Judges every set.
pub fn check(history: &History) -> Verdict {
    let mut sets: BTreeMap<&str, Set<'_>> = BTreeMap::new();
    for operation in &history.operations {
        let set = sets.entry(&operation.key).or_default();
        match &*operation.function {
            "add" => set.adds.push(operation),
            "read" if operation.outcome == Outcome::Ok => set.reads.push(operation),
            _ => {}
        }
    }
    let added = sets.into_iter().filter(|(_, set)| !set.adds.is_empty());
    added.map(|(name, set)| set.judge(name)).collect()
}

#[derive(Default)]
struct Set<'a> {
    adds: Vec<&'a Operation>,
    reads: Vec<&'a Operation>,
}

/// An element, and what reads say of it.
struct Element<'a> {
    add: &'a Operation,
    /// Of the reads that show it, the one that ended first: whatever is called after that shows it too.
    first: Option<&'a Operation>,
    /// The last read that shows it, and the last one that should have and does not, by their invocations.
    seen: Option<&'a Operation>,
    missed: Option<&'a Operation>,
}

impl<'a> Set<'a> {
    fn judge(mut self, name: &str) -> Verdict {
        let (mut violations, mut open) = (Findings::default(), Findings::default());
        let mut elements: HashMap<&Value, Element<'_>> = HashMap::new();
        for add in &self.adds {
            let element = Element {
                add,
                first: None,
                seen: None,
                missed: None,
            };
            if let Some(other) = elements.insert(&add.asked, element) {
                let element = shortened(&add.asked);
                open.note(format!(
                    "set {name}: {element} is added on lines {} and {}: elements must be unique",
                    other.add.called, add.called
                ));
            }
        }
        self.reads.sort_by_key(|read| read.called);
        for read in &self.reads {
            judge_read(name, read, &mut elements, &mut violations);
        }
        let last_answer = self.adds.iter().filter_map(|add| add.ended).max().unwrap_or(0);
        if !self.reads.iter().any(|read| read.called > last_answer) {
            open.note(format!(
                "set {name}: no read began after the last add was answered, on line {last_answer}"
            ));
        }
        for add in self.adds {
            let Some(Element {
                seen,
                missed: Some(missed),
                ..
            }) = elements.get(&add.asked)
            else {
                continue;
            };
            let what = match seen {
                None => "was never read",
                Some(seen) if seen.called > missed.called => "is stale",
                Some(_) => "is lost",
            };
            violations.note(format!(
                "set {name}: {} {what}: {}; it is not in the answer of line {}",
                shortened(&add.asked),
                add.told(),
                missed.returned()
            ));
        }
        Verdict::of(violations, open)
    }
}

fn judge_read<'a>(
    name: &str,
    read: &'a Operation,
    elements: &mut HashMap<&Value, Element<'a>>,
    violations: &mut Findings,
) {
    let line = read.returned();
    let Some(answered) = read.answered.as_array() else {
        violations.note(format!(
            "set {name}: the answer of line {line} is no list: {}",
            shortened(&read.answered)
        ));
        return;
    };
    // What is there must be seen; what was acknowledged, or seen before this read began, must be there.
    let mut before: HashMap<&Value, bool> = HashMap::new();
    for (value, element) in elements.iter() {
        let acknowledged = element.add.outcome == Outcome::Ok && element.add.precedes(read);
        let seen = element.first.is_some_and(|first| first.precedes(read));
        before.insert(value, acknowledged || seen);
    }
    let mut shown: HashMap<&Value, usize> = HashMap::new();
    for value in answered {
        *shown.entry(value).or_default() += 1;
        if shown[value] == 2 {
            violations.note(format!(
                "set {name}: {} is twice in the answer of line {line}",
                shortened(value)
            ));
        }
        match elements.get_mut(value) {
            None => violations.note(format!(
                "set {name}: {} is in the answer of line {line}, and was never added",
                shortened(value)
            )),
            Some(element) if element.add.outcome == Outcome::Failed => {
                violations.note(format!(
                    "set {name}: {} is in the answer of line {line}, though {}",
                    shortened(value),
                    element.add.told()
                ));
            }
            Some(element) if line < element.add.called => {
                violations.note(format!(
                    "set {name}: {} is in the answer of line {line}, before it was added on line {}",
                    shortened(value),
                    element.add.called
                ));
            }
            Some(element) => {
                element.seen = Some(read);
                element.first = element.first.filter(|first| first.returned() <= line).or(Some(read));
            }
        }
    }
    for (value, element) in elements.iter_mut() {
        if before.get(value) == Some(&true) && !shown.contains_key(value) {
            element.missed = Some(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{history, refuted, undecided};

    fn judged(text: &str) -> Verdict {
        check(&history(text))
    }

    /// Unknown adds may show or not, overlapping ones too; failed ones do not.
    #[test]
    fn a_good_set() {
        let good = "0 invoke add s 1\n1 invoke add s 2\n0 ok add s 1\n2 invoke read s -\n2 ok read s [1]\n1 info add s 2\n3 invoke add s 3\n3 fail add s 3\n2 invoke read s -\n2 ok read s [2,1]";
        assert_eq!(judged(good), Verdict::Valid);
        assert_eq!(judged(&good.replace("[2,1]", "[1]")), Verdict::Valid);
        assert_eq!(judged("0 invoke read k -\n0 ok read k 7"), Verdict::Valid, "not a set");
    }

    /// Each way to be wrong.
    #[test]
    fn bad_sets() {
        let add = "0 invoke add s 1\n0 ok add s 1\n";
        let read = |answer: &str| format!("1 invoke read s -\n1 ok read s {answer}\n");
        let judged = |text: String| judged(text.trim_end());
        refuted(
            &judged(format!("{add}{}", read("[]"))),
            "1 was never read: line 1: process 0 add s 1",
        );
        refuted(&judged(format!("{add}{}{}", read("[1]"), read("[]"))), "1 is lost");
        refuted(&judged(format!("{add}{}{}", read("[]"), read("[1]"))), "1 is stale");
        refuted(
            &judged(format!("{add}{}", read("[1,2]"))),
            "2 is in the answer of line 4, and was never added",
        );
        refuted(
            &judged(format!("{add}{}", read("[1,1]"))),
            "1 is twice in the answer of line 4",
        );
        refuted(&judged(format!("{add}{}", read("7"))), "is no list");
        refuted(
            &judged(format!("{}{}", add.replace(" ok", " fail"), read("[1]"))),
            "though line 1",
        );
        refuted(
            &judged(format!("{}{add}{}", read("[1]"), read("[1]"))),
            "before it was added",
        );
        // Of unknown outcome, seen by a read that is over, and again by one that is not: the third must show it.
        let (seen, missed) = (
            "1 ok read s [1]\n",
            "3 invoke read s -\n3 ok read s []\n2 ok read s [1]\n",
        );
        let overlapping =
            format!("0 invoke add s 1\n1 invoke read s -\n{seen}2 invoke read s -\n{missed}0 info add s 1\n");
        refuted(&judged(overlapping.clone()), "1 is lost");
        let allowed = format!(
            "0 invoke add s 1\n2 invoke read s -\n{missed}0 info add s 1\n{}",
            read("[1]")
        );
        assert_eq!(judged(allowed), Verdict::Valid, "the third may have been first");
        let unknown = add.replace(" ok", " info");
        refuted(&judged(format!("{unknown}{}{}", read("[1]"), read("[]"))), "1 is lost");
    }

    /// Without a read after everything, and with an element added twice, nothing is proven.
    #[test]
    fn what_proves_nothing() {
        undecided(
            &judged("0 invoke read s -\n0 ok read s []\n0 invoke add s 1\n0 ok add s 1"),
            "no read began after the last add",
        );
        undecided(
            &judged(
                "0 invoke add s 1\n0 ok add s 1\n0 invoke add s 1\n0 ok add s 1\n0 invoke read s -\n0 ok read s [1]",
            ),
            "must be unique",
        );
    }
}
