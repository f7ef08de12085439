//! What a leader holds for committed is durable on a majority at that moment. Source: openraft issue 1802 (a commit that counted a leader's
//! own entry before it was on disk); the Raft paper, section 5.3; design.md: "nothing is acknowledged before it is durable on a majority".

use super::{Fact, Mirrors, Oracle};

/// See the module.
#[derive(Default)]
pub struct CommittedOnQuorum;

impl Oracle for CommittedOnQuorum {
    fn name(&self) -> &'static str {
        "committed on a quorum"
    }

    fn note(&mut self, fact: &Fact<'_>, mirrors: &Mirrors) -> Result<(), String> {
        let Fact::Believes { node, before, now } = fact else {
            return Ok(());
        };
        if !now.leads || now.committed <= before.committed {
            return Ok(());
        }
        let position = now.committed;
        // Which entry it is, the majority says: another one may be left in the log of a node that is away.
        let entries = mirrors.values().filter_map(|mirror| mirror.entries.get(&position));
        let holders_of = |entry| mirrors.values().filter(|mirror| mirror.holds(position, entry)).count();
        let in_snapshots = mirrors.values().filter(|mirror| position <= mirror.purged).count();
        let holders = entries.map(|entry| holders_of(*entry)).max().unwrap_or(in_snapshots);
        if holders * 2 > mirrors.len() {
            return Ok(());
        }
        Err(format!(
            "{node} holds entry {position} for committed, which is durable on {holders} of {} nodes",
            mirrors.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use blox_raft::simulation::{Belief, Durable};

    use super::super::Mirror;
    use super::*;

    /// A commit that one disk holds is noticed; one that two hold is well.
    #[test]
    fn it_can_fail() {
        let mut mirrors: Mirrors = ["a", "b", "c"]
            .into_iter()
            .map(|name| (name.to_owned(), Mirror::default()))
            .collect();
        let entry = Durable::Entry {
            position: 1,
            term: 1,
            hash: 9,
        };
        let now = Belief {
            leads: true,
            term: 1,
            committed: 1,
            ..Belief::default()
        };
        let fact = Fact::Believes {
            node: "a",
            before: Belief::default(),
            now,
        };
        mirrors.get_mut("a").expect("there").change(&entry);
        CommittedOnQuorum.note(&fact, &mirrors).expect_err("one disk");
        mirrors.get_mut("c").expect("there").change(&entry);
        CommittedOnQuorum.note(&fact, &mirrors).expect("two disks");
        let other = Durable::Entry {
            position: 1,
            term: 2,
            hash: 8,
        };
        mirrors.get_mut("a").expect("there").change(&other);
        CommittedOnQuorum.note(&fact, &mirrors).expect_err("one disk each");
    }
}
