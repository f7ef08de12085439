//! What was committed is in the log of every later leader. Source: the Raft paper, figure 3, Leader Completeness.

use std::collections::BTreeMap;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct LeaderCompleteness {
    /// Position to the committed entry's term: applied means committed.
    committed: BTreeMap<u64, u64>,
}

impl Oracle for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn note(&mut self, fact: &Fact<'_>, mirrors: &Mirrors) -> Result<(), String> {
        match fact {
            Fact::Applied(applied) => {
                self.committed.entry(applied.position).or_insert(applied.term);
                Ok(())
            }
            Fact::Believes { node, before, now } if now.leads && (!before.leads || before.term != now.term) => {
                let last = self
                    .committed
                    .iter()
                    .rev()
                    .find(|(_, term)| **term < now.term)
                    .map_or(0, |(position, _)| *position);
                if now.last < last {
                    return Err(format!(
                        "{node} leads in term {} with a log that ends at {}, and {last} is committed",
                        now.term, now.last
                    ));
                }
                let Some(mirror) = mirrors.get(*node) else {
                    return Ok(());
                };
                for (position, (term, _)) in mirror.entries.range(..=last) {
                    if self.committed.get(position).is_some_and(|committed| committed != term) {
                        return Err(format!(
                            "{node} leads in term {} with another entry at {position} than the committed one",
                            now.term
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::{Applied, Belief};

    use super::*;

    /// A leader without what is committed is noticed.
    #[test]
    fn it_can_fail() {
        let mut oracle = LeaderCompleteness::default();
        let applied = Applied {
            node: "a".to_owned(),
            position: 7,
            term: 1,
            payload: None,
            outcomes: Vec::new(),
            state_hash: None,
        };
        let mirrors = Mirrors::new();
        oracle.note(&Fact::Applied(&applied), &mirrors).expect("it may");
        let mut leads = |term, last| {
            let now = Belief {
                term,
                last,
                leads: true,
                ..Belief::default()
            };
            let before = Belief::default();
            oracle.note(&Fact::Believes { node: "b", before, now }, &mirrors)
        };
        leads(2, 7).expect("it has it");
        leads(3, 6).expect_err("it has it not");
    }
}
