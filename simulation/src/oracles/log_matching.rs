//! Two logs that hold an entry of the same index and term hold the same entry there, and before it. Source: the Raft paper, figure 3, Log
//! Matching. Checked by induction: an entry's index and term say what it is, and which term stands before it.

use std::collections::BTreeMap;

use blox_raft::simulation::Durable;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct LogMatching {
    /// (Position, term) to hash, and the term before, where it was seen.
    entries: BTreeMap<(u64, u64), (u64, Option<u64>)>,
}

impl Oracle for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn note(&mut self, fact: &Fact<'_>, mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Durable(node, Durable::Entry { position, term, hash }) = fact else {
            return Ok(());
        };
        let before = mirrors
            .get(*node)
            .and_then(|mirror| mirror.entries.get(&(position - 1)))
            .map(|(term, _)| *term);
        let known = self.entries.entry((*position, *term)).or_insert((*hash, before));
        if known.0 != *hash {
            return Err(format!("entry {position} of term {term} is another one on {node}"));
        }
        match (known.1, before) {
            (Some(known), Some(found)) if known != found => Err(format!(
                "before entry {position} of term {term} stands one of term {found} on {node}, and of term {known} elsewhere"
            )),
            (None, Some(found)) => {
                known.1 = Some(found);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another entry under the same index and term is noticed, and so is another past.
    #[test]
    fn it_can_fail() {
        let mut oracle = LogMatching::default();
        let mut mirrors = Mirrors::new();
        let mut entry = |node: &'static str, position, term, hash| {
            let change = Durable::Entry { position, term, hash };
            mirrors.entry(node.to_owned()).or_default().change(&change);
            oracle.note(&Fact::Durable(node, &change), &mirrors)
        };
        entry("a", 1, 1, 10).expect("the first");
        entry("a", 2, 2, 20).expect("the next");
        entry("b", 1, 1, 10).expect("the same");
        entry("b", 1, 1, 11).expect_err("another one");
        entry("c", 1, 3, 30).expect("of another term");
        entry("c", 2, 2, 20).expect_err("with another past");
    }
}
