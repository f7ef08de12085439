//! A node votes for one candidate a term, never in an older term, and what its log has of it never goes back, whatever restarts come between.
//! Source: the Raft paper, figure 2 (`currentTerm` and `votedFor` are persistent, and only grow).

use std::collections::BTreeMap;

use blox_raft::simulation::Durable;

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct Votes {
    last: BTreeMap<String, (u64, u64, bool)>,
}

impl Oracle for Votes {
    fn name(&self) -> &'static str {
        "votes"
    }

    fn note(&mut self, fact: &Fact<'_>, _mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Durable(node, Durable::Vote { term, candidate, won }) = fact else {
            return Ok(());
        };
        let vote = (*term, *candidate, *won);
        let Some(last) = self.last.insert((*node).to_owned(), vote) else {
            return Ok(());
        };
        if vote.0 < last.0 {
            return Err(format!("{node} votes in term {term} after term {}", last.0));
        }
        // A leader that was elected without this node's vote is acknowledged by it all the same.
        let learns_who_won = vote.2 && !last.2;
        if vote.0 == last.0 && vote.1 != last.1 && !learns_who_won {
            return Err(format!(
                "{node} votes for {} and for {candidate} in term {term}",
                last.1
            ));
        }
        if vote.0 == last.0 && last.2 && !vote.2 {
            return Err(format!("{node} forgets who leads in term {term}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second vote in a term and a vote in an older one are noticed.
    #[test]
    fn it_can_fail() {
        let mut oracle = Votes::default();
        let mut vote = |term, candidate, won| {
            let change = Durable::Vote { term, candidate, won };
            oracle.note(&Fact::Durable("a", &change), &Mirrors::new())
        };
        vote(2, 1, false).expect("the first");
        vote(2, 1, true).expect("it won");
        vote(3, 2, false).expect("a later term");
        vote(3, 3, false).expect_err("a second one");
        vote(2, 1, true).expect_err("an older term");
    }
}
