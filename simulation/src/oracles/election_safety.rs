//! At most one leader is elected in a term. Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure 3,
//! Election Safety.

use std::collections::BTreeMap;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, String>,
}

impl Oracle for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Believes { node, now, .. } = fact else {
            return Ok(());
        };
        if !now.leads {
            return Ok(());
        }
        let leader = self.leaders.entry(now.term).or_insert_with(|| (*node).to_owned());
        if leader == node {
            return Ok(());
        }
        Err(format!("{node} leads in term {}, in which {leader} led", now.term))
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::Belief;

    use super::*;

    /// A second leader of a term is noticed; a leader of the next is none of it.
    #[test]
    fn it_can_fail() {
        let mut oracle = ElectionSafety::default();
        let mut leads = |node, term| {
            let now = Belief {
                term,
                leads: true,
                ..Belief::default()
            };
            let before = Belief::default();
            oracle.note(&Fact::Believes { node, before, now }, &Mirrors::new())
        };
        leads("a", 1).expect("the first");
        leads("b", 2).expect("of another term");
        leads("a", 1).expect("the same");
        leads("b", 1).expect_err("a second one");
    }
}
