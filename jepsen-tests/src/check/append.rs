//! Lists that only grow, an element at a time: every read is the beginning of the longest one, and the order of elements and reads is that of time.
//!
//! Operations are `append` (its value is the element, its key the list's name) and `read` (it answers the list, null or `[]` while there is none).
//! Each element is appended once. Where answers have revisions, longer lists have higher ones. For such lists this is linearizability: the
//! position of an element is the place of its `append` in the order, a read of n elements stands after the n-th.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::history::{History, Operation, Outcome, shortened};
use super::verdict::{Findings, Verdict};

/// Judges every list.
pub fn check(history: &History) -> Verdict {
    let mut lists: BTreeMap<&str, List<'_>> = BTreeMap::new();
    for operation in &history.operations {
        let list = lists.entry(&operation.key).or_default();
        match &*operation.function {
            "append" => list.appends.push(operation),
            "read" if operation.outcome == Outcome::Ok => list.reads.push(operation),
            _ => {}
        }
    }
    let appended = lists.into_iter().filter(|(_, list)| !list.appends.is_empty());
    appended.map(|(name, list)| list.judge(name)).collect()
}

#[derive(Default)]
struct List<'a> {
    appends: Vec<&'a Operation>,
    reads: Vec<&'a Operation>,
}

/// An answer at its place: after so many elements. An `append` is the n-th itself.
#[derive(Clone, Copy)]
struct Placed<'a> {
    operation: &'a Operation,
    place: usize,
    changes: bool,
}

impl<'a> List<'a> {
    fn judge(self, name: &str) -> Verdict {
        let (mut violations, mut open) = (Findings::default(), Findings::default());
        let mut note = |sentence: String| violations.note(format!("list {name}: {sentence}"));
        let mut read: Vec<(&Operation, &[Value])> = Vec::new();
        for one in &self.reads {
            match &one.answered {
                Value::Array(elements) => read.push((one, elements)),
                Value::Null => read.push((one, &[])),
                other => note(format!(
                    "the answer of line {} is no list: {}",
                    one.returned(),
                    shortened(other)
                )),
            }
        }
        let longest = read.iter().max_by_key(|(_, elements)| elements.len());
        let (longest_line, longest) = longest.map_or((0, &[][..]), |(one, elements)| (one.returned(), *elements));
        let mut placed = Vec::new();
        for (one, elements) in &read {
            match elements.iter().zip(longest).position(|(one, other)| one != other) {
                None => placed.push(Placed {
                    operation: one,
                    place: elements.len(),
                    changes: false,
                }),
                Some(position) => note(format!(
                    "the answers of lines {} and {longest_line} part at element {position}: {} and {}",
                    one.returned(),
                    shortened(&elements[position]),
                    shortened(&longest[position])
                )),
            }
        }
        let mut appended: HashMap<&Value, &Operation> = HashMap::new();
        for append in &self.appends {
            if let Some(other) = appended.insert(&append.asked, append) {
                let element = shortened(&append.asked);
                open.note(format!(
                    "list {name}: {element} is appended on lines {} and {}: elements must be unique",
                    other.called, append.called
                ));
            }
        }
        let mut places: HashMap<&Value, usize> = HashMap::new();
        for (position, element) in longest.iter().enumerate() {
            let shown = shortened(element);
            if let Some(other) = places.insert(element, position + 1) {
                note(format!(
                    "{shown} is element {} and element {position} in the answer of line {longest_line}",
                    other - 1
                ));
            }
            match appended.get(element) {
                None => note(format!(
                    "{shown} is in the answer of line {longest_line}, and was never appended"
                )),
                Some(append) if append.outcome == Outcome::Failed => {
                    note(format!(
                        "{shown} is in the answer of line {longest_line}, though {}",
                        append.told()
                    ));
                }
                Some(append) => placed.push(Placed {
                    operation: append,
                    place: position + 1,
                    changes: true,
                }),
            }
        }
        let last_read = self.reads.iter().max_by_key(|one| one.called);
        for append in self
            .appends
            .iter()
            .filter(|one| one.outcome == Outcome::Ok && !places.contains_key(&one.asked))
        {
            match last_read.filter(|last| append.precedes(last)) {
                Some(last) => note(format!(
                    "{} is lost: {}; {}",
                    shortened(&append.asked),
                    append.told(),
                    last.told()
                )),
                None => open.note(format!("list {name}: no read began after {}", append.told())),
            }
        }
        in_time(&placed, &mut note);
        in_revisions(placed, &mut note);
        if let Some(last) = self.appends.iter().filter_map(|one| one.ended).max()
            && last_read.is_none_or(|read| read.called < last)
        {
            open.note(format!(
                "list {name}: no read began after the last append was answered, on line {last}"
            ));
        }
        Verdict::of(violations, open)
    }
}

/// What was over before another began does not stand after it.
fn in_time(placed: &[Placed<'_>], note: &mut impl FnMut(String)) {
    let mut calls = placed.to_vec();
    calls.sort_by_key(|one| one.operation.called);
    let mut ends = placed.to_vec();
    ends.sort_by_key(|one| one.operation.returned());
    let mut next = ends.into_iter().peekable();
    let mut highest: Option<Placed<'_>> = None;
    for call in calls {
        while let Some(end) = next.next_if(|end| end.operation.precedes(call.operation)) {
            if highest.is_none_or(|highest| highest.place < end.place) {
                highest = Some(end);
            }
        }
        let Some(over) = highest else { continue };
        // An append at the place of what was over would have been in it.
        if call.place < over.place || (call.changes && call.place == over.place) {
            note(format!(
                "out of order: after {} came {}",
                over.operation.told(),
                call.operation.told()
            ));
        }
    }
}

/// Revisions stand in the order of places, equal ones at equal places.
fn in_revisions(mut placed: Vec<Placed<'_>>, note: &mut impl FnMut(String)) {
    placed.retain(|one| one.operation.outcome == Outcome::Ok && one.operation.revision.is_some());
    placed.sort_by_key(|one| (one.place, one.operation.revision));
    for pair in placed.windows(2) {
        let [one, other] = [pair[0], pair[1]];
        let (low, high) = (one.operation.revision, other.operation.revision);
        if (one.place == other.place) != (low == high) || low > high {
            note(format!(
                "revisions are not in the order of elements: {}; {}",
                one.operation.told(),
                other.operation.told()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{history, refuted, undecided};

    fn judged(text: &str) -> Verdict {
        check(&history(text.trim_end()))
    }

    const APPENDS: &str = "0 invoke append l 1\n0 ok append l 1 @3\n0 invoke append l 2\n0 ok append l 2 @5\n";

    fn read(answer: &str) -> String {
        format!("1 invoke read l -\n1 ok read l {answer}\n")
    }

    /// Reads grow; what is unknown may be there or not, what overlaps may stand in any order.
    #[test]
    fn a_good_list() {
        let good = "1 invoke read l -\n1 ok read l - @0\n0 invoke append l 1\n2 invoke append l 2\n0 ok append l 1 @4\n1 invoke read l -\n1 ok read l [2,1] @4\n2 ok append l 2 @3\n\
                    3 invoke append l 3\n3 info append l 3\n4 invoke append l 4\n4 fail append l 4\n1 invoke read l -\n1 ok read l [2,1] @4\n1 invoke read l -\n1 ok read l [2,1,3] @6";
        assert_eq!(judged(good), Verdict::Valid);
    }

    /// Each way to be wrong.
    #[test]
    fn bad_lists() {
        let both = |reads: &str| judged(&format!("{APPENDS}{reads}"));
        refuted(&both(&read("[1]")), "2 is lost");
        refuted(&both(&(read("[1,2]") + &read("[2]"))), "part at element 0: 2 and 1");
        refuted(&both(&read("[1,2,1]")), "1 is element 0 and element 2");
        refuted(
            &both(&read("[1,2,3]")),
            "3 is in the answer of line 6, and was never appended",
        );
        refuted(&both(&read("7")), "is no list");
        refuted(&both(&read("[2,1]")), "out of order: after line 1");
        let unknown = APPENDS.replace("0 ok append l 2 @5", "0 info append l 2");
        refuted(
            &judged(&format!("{unknown}{}{}", read("[1,2]"), read("[1]"))),
            "out of order: after line 5",
        );
        refuted(
            &judged(&format!("{}{APPENDS}{}", read("[1]"), read("[1,2]"))),
            "out of order: after line 1: process 1 read",
        );
        refuted(&both(&read("[1,2] @4")), "revisions are not in the order of elements");
        let failed = APPENDS.replace("0 ok append l 2 @5", "0 fail append l 2");
        refuted(&judged(&format!("{failed}{}", read("[1,2]"))), "though line 3");
        let back = APPENDS.replace("@5", "@2");
        refuted(
            &judged(&format!("{back}{}", read("[1,2]"))),
            "revisions are not in the order of elements",
        );
    }

    /// Without a read after everything, and with an element appended twice, nothing is proven.
    #[test]
    fn what_proves_nothing() {
        undecided(&judged(APPENDS), "no read began after line 1");
        let early = "0 invoke append l 1\n1 invoke read l -\n1 ok read l [1]\n0 info append l 1";
        undecided(&judged(early), "no read began after the last append");
        let twice = "0 invoke append l 1\n0 ok append l 1\n0 invoke append l 1\n0 info append l 1\n1 invoke read l -\n1 ok read l [1]";
        undecided(&judged(twice), "must be unique");
    }
}
