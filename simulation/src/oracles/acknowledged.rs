//! Every write that was acknowledged is there in the end, on every node; none that was refused is. Source: Jepsen's set workload; design.md,
//! invariants 9 and 10 (an unknown outcome is a variant of its own, so that everything else is certain).

use std::collections::BTreeSet;

/// What became of writes of keys that are each written once.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Their answer said so.
    pub acknowledged: BTreeSet<String>,
    /// Their answer said that nothing was written.
    pub refused: BTreeSet<String>,
}

impl Written {
    /// Compares with what is there.
    pub fn judge(&self, node: &str, found: &BTreeSet<String>) -> Vec<String> {
        let lost = self.acknowledged.difference(found);
        let lost = lost.map(|key| format!("acknowledged writes: {key} was acknowledged and is not on {node}"));
        let there = self.refused.intersection(found);
        let there = there.map(|key| format!("acknowledged writes: {key} was refused and is on {node}"));
        lost.chain(there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lost write and a refused one that is there are noticed; an unknown one may be there or not.
    #[test]
    fn it_can_fail() {
        let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
        let written = Written {
            acknowledged: set(&["a", "b"]),
            refused: set(&["r"]),
        };
        assert!(written.judge("n", &set(&["a", "b", "unknown"])).is_empty());
        assert_eq!(written.judge("n", &set(&["a"])).len(), 1);
        assert_eq!(written.judge("n", &set(&["a", "b", "r"])).len(), 1);
    }
}
