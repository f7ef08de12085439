//! Lists: equal on all nodes at one revision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::history::shortened;
use super::verdict::{Findings, Verdict};

/// An answer to a list query.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who answered.
    pub node: String,
    /// Path and query.
    pub query: String,
    /// The state's revision that it was answered from.
    pub revision: u64,
    /// The list, in the order answered.
    pub items: Vec<Value>,
}

/// What was compared, and the judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Pairs of query and revision that were answered by at least two nodes.
    pub groups: usize,
    /// Nodes that occur in one of them.
    pub nodes: usize,
    /// Of all of them.
    pub verdict: Verdict,
}

/// Compares all answers to one query at one revision, item by item, order included; a node that answers twice must repeat itself. Each of
/// `nodes` must occur in a comparison, or it is unknown.
pub fn check(answers: &[Answer], nodes: &[String]) -> Compared {
    let mut groups: BTreeMap<(&str, u64), Vec<&Answer>> = BTreeMap::new();
    for answer in answers {
        groups.entry((&answer.query, answer.revision)).or_default().push(answer);
    }
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    let (mut count, mut seen) = (0, BTreeSet::new());
    for ((query, revision), group) in groups {
        let first = group[0];
        for other in &group[1..] {
            if let Some(difference) = difference(first, other) {
                violations.note(format!("{query} at revision {revision}: {difference}"));
            }
        }
        let names: BTreeSet<&str> = group.iter().map(|answer| &*answer.node).collect();
        if names.len() > 1 {
            count += 1;
            seen.extend(names);
        }
    }
    for node in nodes.iter().filter(|node| !seen.contains(node.as_str())) {
        open.note(format!(
            "no list of {node} is of a revision at which another node was asked the same"
        ));
    }
    if count == 0 {
        open.note("no list was answered by two nodes at one revision");
    }
    Compared {
        groups: count,
        nodes: seen.len(),
        verdict: Verdict::of(violations, open),
    }
}

/// The first difference, for people.
fn difference(one: &Answer, other: &Answer) -> Option<String> {
    let position = (0..one.items.len().max(other.items.len()))
        .find(|position| one.items.get(*position) != other.items.get(*position))?;
    let shown = |answer: &Answer| answer.items.get(position).map_or("nothing".to_owned(), shortened);
    Some(format!(
        "{} answers {} items, {} answers {}; item {position} is {} there and {} here",
        one.node,
        one.items.len(),
        other.node,
        other.items.len(),
        shown(one),
        shown(other)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{refuted, undecided};

    fn answer(node: &str, revision: u64, items: &[&str]) -> Answer {
        Answer {
            node: node.to_owned(),
            query: "/v1/tasks".to_owned(),
            revision,
            items: items.iter().map(|item| Value::from(*item)).collect(),
        }
    }

    fn judged(answers: &[Answer]) -> Verdict {
        check(answers, &["a".to_owned(), "b".to_owned()]).verdict
    }

    /// Equal at one revision, whatever at others.
    #[test]
    fn equal_lists() {
        let answers = [
            answer("a", 5, &["x", "y"]),
            answer("b", 5, &["x", "y"]),
            answer("a", 6, &[]),
            answer("c", 7, &["z"]),
        ];
        let compared = check(&answers, &["a".to_owned(), "b".to_owned()]);
        assert_eq!(
            (compared.groups, compared.nodes, compared.verdict),
            (1, 2, Verdict::Valid)
        );
    }

    /// Another item, one more, another order, and a node that differs from itself.
    #[test]
    fn unequal_lists() {
        let one = answer("a", 5, &["x", "y"]);
        refuted(
            &judged(&[one.clone(), answer("b", 5, &["x", "z"])]),
            "item 1 is \"y\" there and \"z\" here",
        );
        refuted(
            &judged(&[one.clone(), answer("b", 5, &["x"])]),
            "item 1 is \"y\" there and nothing here",
        );
        refuted(&judged(&[one.clone(), answer("b", 5, &["y", "x"])]), "item 0");
        refuted(&judged(&[one, answer("a", 5, &[])]), "a answers 2 items, a answers 0");
    }

    /// Lists of different revisions, and nodes that were never compared, prove nothing.
    #[test]
    fn what_proves_nothing() {
        undecided(
            &judged(&[answer("a", 5, &[]), answer("b", 6, &[])]),
            "no list was answered by two nodes",
        );
        undecided(&judged(&[answer("a", 5, &[]), answer("c", 5, &[])]), "no list of b");
    }
}
