//! Nodes that apply an entry at the same index apply the same one, with the same outcomes, once and in order. Source: the Raft paper,
//! figure 3, State Machine Safety.

use std::collections::BTreeMap;

use blox_store::proto::Outcome;
use bytes::Bytes;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct StateMachineSafety {
    applied: BTreeMap<u64, (u64, Option<Bytes>, Vec<Outcome>)>,
    /// Where each node stands in its present life.
    last: BTreeMap<String, u64>,
}

impl Oracle for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        match fact {
            Fact::Starts(node) => {
                self.last.remove(*node);
                Ok(())
            }
            Fact::Applied(applied) => {
                let position = applied.position;
                let last = self.last.insert(applied.node.clone(), position);
                // A snapshot may have brought it further meanwhile.
                if last.is_some_and(|last| last >= position) {
                    return Err(format!("{} applies entry {position} after {last:?}", applied.node));
                }
                let (term, payload, outcomes) = self
                    .applied
                    .entry(position)
                    .or_insert_with(|| (applied.term, applied.payload.clone(), applied.outcomes.clone()));
                if (*term, &*payload) != (applied.term, &applied.payload) {
                    return Err(format!(
                        "{} applies another entry {position} (term {}) than others (term {term})",
                        applied.node, applied.term
                    ));
                }
                if *outcomes != applied.outcomes {
                    return Err(format!(
                        "entry {position} does something else on {} than elsewhere",
                        applied.node
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::Applied;

    use super::*;

    /// Another entry, another outcome and a second time are noticed.
    #[test]
    fn it_can_fail() {
        let mut oracle = StateMachineSafety::default();
        let mut apply = |node: &str, position, payload: &'static [u8], revision| {
            let applied = Applied {
                node: node.to_owned(),
                position,
                term: 1,
                payload: Some(Bytes::from_static(payload)),
                outcomes: vec![Outcome {
                    revision,
                    ..Outcome::default()
                }],
                state_hash: None,
            };
            oracle.note(&Fact::Applied(&applied), &Mirrors::new())
        };
        apply("a", 1, b"x", 1).expect("the first");
        apply("b", 1, b"x", 1).expect("the same");
        apply("a", 1, b"x", 1).expect_err("twice");
        apply("b", 2, b"y", 2).expect("the next");
        apply("a", 2, b"z", 2).expect_err("another one");
        apply("c", 2, b"y", 3).expect_err("another outcome");
    }
}
