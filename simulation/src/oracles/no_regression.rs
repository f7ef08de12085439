//! While a node lives, its term and what it holds for committed only grow, and it never purges what is not committed. Source: the Raft
//! paper, figure 2 (`commitIndex` "increases monotonically"), section 7 (only committed entries are compacted).

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct NoRegression;

impl Oracle for NoRegression {
    fn name(&self) -> &'static str {
        "no regression"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Believes { node, before, now } = fact else {
            return Ok(());
        };
        if now.term < before.term {
            return Err(format!("{node} goes from term {} to term {}", before.term, now.term));
        }
        if now.committed < before.committed {
            return Err(format!(
                "{node} held entry {} for committed, and now {}",
                before.committed, now.committed
            ));
        }
        if now.snapshot < before.snapshot {
            return Err(format!(
                "the snapshot of {node} stood at {}, and now at {}",
                before.snapshot, now.snapshot
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::Belief;

    use super::*;

    /// A term or a commit that goes back is noticed.
    #[test]
    fn it_can_fail() {
        let belief = |term, committed| Belief {
            term,
            committed,
            ..Belief::default()
        };
        let judge = |before, now| {
            let node = "a";
            NoRegression.note(&Fact::Believes { node, before, now }, &Mirrors::new())
        };
        judge(belief(1, 5), belief(2, 5)).expect("forward");
        judge(belief(2, 5), belief(1, 5)).expect_err("an older term");
        judge(belief(2, 5), belief(2, 4)).expect_err("a commit taken back");
    }
}
