//! The same question answered by trying every order, and knowing nothing of states, bounds or configurations: the judge of the search.

use serde_json::Value;

use crate::check::history::{Operation, Outcome};

/// Whether some order of the operations of one key explains them all. For a dozen operations at most.
pub(super) fn linearizable(operations: &[Operation]) -> bool {
    let counts = |one: &&Operation| one.is_answer() || (one.outcome == Outcome::Unknown && *one.function != *"read");
    let left: Vec<&Operation> = operations.iter().filter(counts).collect();
    extends(&mut Vec::new(), &left)
}

fn extends<'a>(order: &mut Vec<&'a Operation>, left: &[&'a Operation]) -> bool {
    if left.iter().all(|one| one.outcome == Outcome::Unknown) {
        return true;
    }
    for (position, next) in left.iter().enumerate() {
        if left.iter().any(|other| other.precedes(next)) {
            continue;
        }
        let mut rest = left.to_vec();
        rest.remove(position);
        order.push(next);
        let found = explains(order) && extends(order, &rest);
        order.pop();
        if found {
            return true;
        }
    }
    false
}

/// Whether one copy answers so in this order: values by running it, revisions by numbering its changes.
fn explains(order: &[&Operation]) -> bool {
    let mut value = &Value::Null;
    // Changes so far, and what is known of their revisions.
    let mut changes = 0;
    let mut known: Vec<(u64, u64)> = Vec::new();
    for one in order {
        if let Some(observed) = one.observed() {
            let as_demanded = one.expected_revision == Some(observed);
            let deletes_nothing = *one.function == *"delete" && observed == 0;
            if (observed == 0) != value.is_null() || (as_demanded && !deletes_nothing) {
                return false;
            }
            known.extend((observed > 0).then_some((changes, observed)));
            continue;
        }
        let answer = one.revision_told();
        if *one.function == *"read" {
            let fits = match answer {
                Some(0) => one.answered.is_null(),
                Some(revision) => {
                    known.push((changes, revision));
                    !one.answered.is_null()
                }
                None => true,
            };
            if !fits || one.answered != *value {
                return false;
            }
            continue;
        }
        let (old, new) = match (&*one.function, &one.asked) {
            ("delete", _) => (None, &Value::Null),
            ("cas", Value::Array(pair)) => (Some(&pair[0]), &pair[1]),
            (_, asked) => (None, asked),
        };
        match one.expected_revision {
            Some(0) if !value.is_null() => return false,
            Some(revision) if revision > 0 => {
                if value.is_null() || old.is_some_and(|old| !old.is_null() && old != value) {
                    return false;
                }
                known.push((changes, revision));
            }
            _ if old.is_some_and(|old| old != value) => return false,
            _ => {}
        }
        let deletes_nothing = new.is_null() && value.is_null();
        if deletes_nothing && answer.unwrap_or(0) > 0 {
            return false;
        }
        if !deletes_nothing {
            changes += 1;
        }
        match answer {
            Some(0) if !new.is_null() => return false,
            Some(revision) if revision > 0 => known.push((changes, revision)),
            _ => {}
        }
        value = new;
    }
    numbered(known)
}

/// Whether changes can have such revisions: each its own, growing from 1.
fn numbered(mut known: Vec<(u64, u64)>) -> bool {
    known.push((0, 0));
    known.sort_unstable();
    known.windows(2).all(|pair| {
        let ((change, revision), (later, higher)) = (pair[0], pair[1]);
        if change == later {
            revision == higher
        } else {
            higher >= revision + (later - change)
        }
    })
}
