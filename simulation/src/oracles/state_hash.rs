//! Nodes that have applied the same entries hold the same state: the chained hash over every write is equal at an equal index, after
//! snapshots and restarts too. Source: design.md, invariant 2 ("same log, same bytes") and "State".

use std::collections::BTreeMap;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct StateHash {
    hashes: BTreeMap<u64, (u128, String)>,
}

impl Oracle for StateHash {
    fn name(&self) -> &'static str {
        "state hash"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Applied(applied) = fact else { return Ok(()) };
        let Some(hash) = applied.state_hash else { return Ok(()) };
        let (known, by) = self
            .hashes
            .entry(applied.position)
            .or_insert_with(|| (hash, applied.node.clone()));
        if *known == hash {
            return Ok(());
        }
        Err(format!(
            "after entry {} the state of {} has hash {hash:032x}, that of {by} had {known:032x}",
            applied.position, applied.node
        ))
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::Applied;

    use super::*;

    /// Another hash at the same index is noticed.
    #[test]
    fn it_can_fail() {
        let mut oracle = StateHash::default();
        let mut apply = |node: &str, position, hash| {
            let applied = Applied {
                node: node.to_owned(),
                position,
                term: 1,
                payload: None,
                outcomes: Vec::new(),
                state_hash: Some(hash),
            };
            oracle.note(&Fact::Applied(&applied), &Mirrors::new())
        };
        apply("a", 1, 7).expect("the first");
        apply("b", 1, 7).expect("the same");
        apply("b", 2, 8).expect("the next");
        apply("a", 2, 9).expect_err("another state");
    }
}
