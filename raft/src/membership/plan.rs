//! The next step of an operator's wish, from what the leader sees at this moment. Pure: it decides and does nothing, and planned again after
//! each step it ends at `Done`, wherever an earlier attempt stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::candidates::Candidate;
use super::{
    CAUGHT_UP_ENTRIES_MAX, INITIAL_MEMBERS_MAX, MemberChange, MemberRefusal, Unanswered, VOTER_ENTRIES_BEHIND_MAX,
    named, refused,
};
use crate::NodeId;
use crate::types::NodeInfo;

/// What the leader sees.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The leader itself.
    pub me: NodeId,
    /// It leads for long enough to have heard of everyone who is there.
    pub settled: bool,
    /// A quorum has this membership: no other leader can undo it.
    pub committed: bool,
    /// One set of voters; two while a change is half done.
    pub voter_sets: Vec<BTreeSet<NodeId>>,
    /// Voters and learners.
    pub nodes: BTreeMap<NodeId, SeenNode>,
    /// Those that ask to be taken in, members left out.
    pub candidates: Vec<Candidate>,
    /// A node not heard of for so long is taken for gone.
    pub gone_after: Duration,
    /// Since the wish was said.
    pub since: Duration,
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct SeenNode {
    pub info: NodeInfo,
    /// Since it was last heard of; `None`: never by this leader.
    pub heard: Option<Duration>,
    /// Entries it does not have yet; `None`: not known.
    pub behind: Option<u64>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait until an earlier change is committed.
    Commit,
    /// Wait to hear of the voters.
    Settle,
    /// Finish a joint change that was left half done.
    Finish,
    /// Give a candidate a number and make it a learner.
    Admit(NodeInfo),
    /// Drop a learner.
    Forget(NodeId),
    /// Wait until a learner has what the leader has.
    CatchUp(NodeId),
    /// Let another lead: the leader itself is to go.
    HandOver,
    /// Change the voters in one joint change.
    SetVoters {
        voters: BTreeSet<NodeId>,
        /// The one it is about.
        about: NodeId,
    },
    /// Nothing is left to do: the member it was about (0: gone), and what became of it.
    Done { about: NodeId, detail: String },
}

type Planned = Result<Step, Unanswered>;

/// The next step.
pub(super) fn plan(change: &MemberChange, seen: &Seen) -> Planned {
    if !seen.committed {
        return Ok(Step::Commit);
    }
    if seen.voter_sets.len() > 1 {
        return Ok(Step::Finish);
    }
    let planned = match change {
        MemberChange::Replace { name, with } => replace(seen, name, with.as_deref()),
        MemberChange::Remove { name } => remove(seen, name),
        MemberChange::Promote { name } => promote(seen, name),
    };
    match planned {
        // What a new leader has not heard of yet may be there all the same.
        Err(Unanswered::Refused {
            code: MemberRefusal::QuorumAtRisk | MemberRefusal::NoCandidate,
            ..
        }) if !seen.settled => Ok(Step::Settle),
        planned => planned,
    }
}

fn replace(seen: &Seen, name: &str, with: Option<&str>) -> Planned {
    let voters = seen.voters();
    let Some(old) = seen.find(name, true)? else {
        let taken = with.map_or(Ok(None), |with| seen.find(with, true))?;
        return match taken {
            // Said again after it was done? Only one whose number was given later can have taken a place; whose it was nobody remembers.
            Some(new) if new > INITIAL_MEMBERS_MAX as NodeId => Ok(Step::Done {
                about: new,
                detail: format!(
                    "{} is a voter, and there is no voter `{name}`: it has that place already, unless the name is wrong. {}",
                    seen.named(new),
                    seen.who_is_there()
                ),
            }),
            _ => refused(
                MemberRefusal::NoSuchMember,
                format!("there is no voter `{name}`. {}", seen.who_is_there()),
            ),
        };
    };
    let newcomer = with.unwrap_or(&seen.nodes[&old].info.name);
    match seen.newcomer(newcomer)? {
        Some(Newcomer::Candidate(candidate)) => {
            let mut then = voters.clone();
            then.remove(&old);
            seen.check_quorum(voters, &then, 1)?;
            seen.admit(candidate, Some(old))
        }
        Some(Newcomer::Usurped(dead)) => Ok(Step::Forget(dead)),
        Some(Newcomer::Learner(new)) => {
            let mut then = voters.clone();
            then.remove(&old);
            seen.check_quorum(voters, &then, 1)?;
            then.insert(new);
            seen.once_caught_up(new, then, old)
        }
        // Said again after it was done? Whoever has the place was given its number later than the founders, and was heard of since this was
        // said: until then it may be the one that was lost.
        None if with.is_none() && old > INITIAL_MEMBERS_MAX as NodeId && seen.is_live(old) => {
            let heard = if old == seen.me {
                Some(Duration::ZERO)
            } else {
                seen.nodes[&old].heard
            };
            if heard.is_none_or(|heard| heard >= seen.since) {
                return Ok(Step::Settle);
            }
            Ok(Step::Done {
                about: old,
                detail: format!(
                    "{} has taken that place already, and no candidate `{newcomer}` asks for it",
                    seen.named(old)
                ),
            })
        }
        None if newcomer != name && seen.find(newcomer, true)?.is_some_and(|taken| taken != old) => refused(
            MemberRefusal::IsMember,
            format!("`{newcomer}` is a voter already: say `blox member remove {name}` instead"),
        ),
        None => refused(
            MemberRefusal::NoCandidate,
            format!(
                "no candidate `{newcomer}` asks to be taken in: start the new node under that name with an empty data directory and the \
                 addresses of the members as its initial members, then say this again. {}",
                seen.who_asks()
            ),
        ),
    }
}

fn remove(seen: &Seen, name: &str) -> Planned {
    let Some(target) = seen.find(name, false)? else {
        let asks = seen.candidates.iter().any(|candidate| candidate.info.name == name);
        let why = if asks {
            format!("`{name}` is no member, it only asks to be one: stop it")
        } else {
            format!("there is no member `{name}`. {}", seen.who_is_there())
        };
        return refused(MemberRefusal::NoSuchMember, why);
    };
    let voters = seen.voters();
    if !voters.contains(&target) {
        return Ok(Step::Forget(target));
    }
    let mut then = voters.clone();
    then.remove(&target);
    if then.is_empty() {
        return refused(
            MemberRefusal::QuorumAtRisk,
            format!(
                "{} is the last voter: without it there is no cluster",
                seen.named(target)
            ),
        );
    }
    seen.check_quorum(voters, &then, 0)?;
    if target == seen.me {
        return Ok(Step::HandOver);
    }
    Ok(Step::SetVoters {
        voters: then,
        about: target,
    })
}

fn promote(seen: &Seen, name: &str) -> Planned {
    let voters = seen.voters();
    match seen.newcomer(name)? {
        Some(Newcomer::Usurped(dead)) => Ok(Step::Forget(dead)),
        Some(Newcomer::Candidate(candidate)) => {
            if let Some(taken) = seen.find(name, true)? {
                return refused(
                    MemberRefusal::IsMember,
                    format!(
                        "there is a voter {} already, and a candidate of the same name: say `blox member replace {name}` if the candidate is \
                         to take its place",
                        seen.named(taken)
                    ),
                );
            }
            seen.check_quorum(voters, voters, 1)?;
            seen.admit(candidate, None)
        }
        Some(Newcomer::Learner(new)) => {
            seen.check_quorum(voters, voters, 1)?;
            let mut then = voters.clone();
            then.insert(new);
            seen.once_caught_up(new, then, new)
        }
        None => match seen.find(name, true)? {
            Some(already) => Ok(Step::Done {
                about: already,
                detail: format!("{} is a voter", seen.named(already)),
            }),
            None => refused(
                MemberRefusal::NoCandidate,
                format!("no candidate or learner `{name}` is known. {}", seen.who_asks()),
            ),
        },
    }
}

/// Who is to be taken in.
enum Newcomer<'a> {
    /// It asks, and has no number yet.
    Candidate(&'a NodeInfo),
    /// It has one already.
    Learner(NodeId),
    /// A learner whose name a candidate bears now: its disk was lost before it became a voter.
    Usurped(NodeId),
}

impl Seen {
    fn voters(&self) -> &BTreeSet<NodeId> {
        static NOBODY: BTreeSet<NodeId> = BTreeSet::new();
        self.voter_sets.last().unwrap_or(&NOBODY)
    }

    fn is_voter(&self, id: NodeId) -> bool {
        self.voter_sets.iter().any(|set| set.contains(&id))
    }

    fn named(&self, id: NodeId) -> String {
        self.nodes
            .get(&id)
            .map_or_else(|| format!("node {id}"), |node| named(id, &node.info))
    }

    fn learners_called<'a>(&'a self, name: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        self.nodes
            .iter()
            .filter(move |(id, node)| !self.is_voter(**id) && node.info.name == name)
            .map(|(id, _)| *id)
    }

    /// The member of that name or number.
    fn find(&self, name: &str, voters_only: bool) -> Result<Option<NodeId>, Unanswered> {
        let fits = |id: &NodeId| !voters_only || self.is_voter(*id);
        let called: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(id, node)| node.info.name == name && fits(id))
            .map(|(id, _)| *id)
            .collect();
        match called.as_slice() {
            [] => Ok(name.parse().ok().filter(|id| self.nodes.contains_key(id) && fits(id))),
            [one] => Ok(Some(*one)),
            several => {
                let shown: Vec<String> = several.iter().map(|id| self.named(*id)).collect();
                refused(
                    MemberRefusal::Ambiguous,
                    format!(
                        "several members are called `{name}`: {}. Say the number of the one that is meant",
                        shown.join(", ")
                    ),
                )
            }
        }
    }

    fn newcomer(&self, name: &str) -> Result<Option<Newcomer<'_>>, Unanswered> {
        let candidates: Vec<&Candidate> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.info.name == name)
            .collect();
        let learners: Vec<NodeId> = self.learners_called(name).collect();
        match (candidates.as_slice(), learners.as_slice()) {
            ([], []) => {
                let number = name.parse().ok();
                Ok(number
                    .filter(|id| self.nodes.contains_key(id) && !self.is_voter(*id))
                    .map(Newcomer::Learner))
            }
            ([], [learner]) => Ok(Some(Newcomer::Learner(*learner))),
            ([candidate], []) => Ok(Some(Newcomer::Candidate(&candidate.info))),
            ([_], [learner]) if !self.is_live(*learner) => Ok(Some(Newcomer::Usurped(*learner))),
            _ => {
                let asking = candidates.iter().map(|candidate| {
                    format!(
                        "a candidate at {} (incarnation {})",
                        candidate.info.peer_address, candidate.info.incarnation
                    )
                });
                let learning = learners.iter().map(|id| format!("learner {}", self.named(*id)));
                let shown: Vec<String> = asking.chain(learning).collect();
                refused(
                    MemberRefusal::Ambiguous,
                    format!(
                        "several nodes are called `{name}`: {}. Stop all but one",
                        shown.join(", ")
                    ),
                )
            }
        }
    }

    /// Takes a candidate in, unless it stands where another member is looked for. (The one it replaces may have had its place.)
    fn admit(&self, candidate: &NodeInfo, instead_of: Option<NodeId>) -> Planned {
        let taken = self
            .nodes
            .iter()
            .find(|(id, node)| Some(**id) != instead_of && node.info.peer_address == candidate.peer_address);
        match taken {
            Some((id, _)) => refused(
                MemberRefusal::AddressTaken,
                format!(
                    "the candidate `{}` says it is reached at {}, which is where {} is looked for: give it an address of its own",
                    candidate.name,
                    candidate.peer_address,
                    self.named(*id)
                ),
            ),
            None => Ok(Step::Admit(candidate.clone())),
        }
    }

    /// Changes the voters once the newcomer has what the leader has; a leader that is to go hands over first.
    fn once_caught_up(&self, new: NodeId, voters: BTreeSet<NodeId>, leaving: NodeId) -> Planned {
        let caught_up = self.is_live(new)
            && self.nodes[&new]
                .behind
                .is_some_and(|behind| behind <= CAUGHT_UP_ENTRIES_MAX);
        if !caught_up {
            return Ok(Step::CatchUp(new));
        }
        if leaving == self.me {
            return Ok(Step::HandOver);
        }
        Ok(Step::SetVoters { voters, about: new })
    }

    fn is_live(&self, id: NodeId) -> bool {
        id == self.me
            || self
                .nodes
                .get(&id)
                .and_then(|node| node.heard)
                .is_some_and(|heard| heard <= self.gone_after)
    }

    /// Whether a voter answers, and soon enough to be counted on.
    fn counts(&self, id: NodeId) -> bool {
        let follows = |node: &SeenNode| node.behind.is_some_and(|behind| behind <= VOTER_ENTRIES_BEHIND_MAX);
        id == self.me || (self.is_live(id) && self.nodes.get(&id).is_some_and(follows))
    }

    /// Refuses where those that answer are no majority of the voters before or after. `staying` are those of before that stay; `newcomers` join
    /// them once they have caught up.
    fn check_quorum(
        &self,
        before: &BTreeSet<NodeId>,
        staying: &BTreeSet<NodeId>,
        newcomers: usize,
    ) -> Result<(), Unanswered> {
        let counting = |voters: &BTreeSet<NodeId>| voters.iter().filter(|id| self.counts(**id)).count();
        let after = staying.len() + newcomers;
        let (answer_before, answer_after) = (counting(before), counting(staying) + newcomers);
        let majority = |voters: usize| voters / 2 + 1;
        if answer_before >= majority(before.len()) && answer_after >= majority(after) {
            return Ok(());
        }
        let missing: Vec<String> = before
            .iter()
            .filter(|id| !self.counts(**id))
            .map(|id| {
                let node = &self.nodes[id];
                let why = match (node.heard, node.behind) {
                    (Some(heard), Some(behind)) if heard <= self.gone_after => format!("{behind} entries behind"),
                    (Some(heard), _) => format!("last heard of {} s ago", heard.as_secs()),
                    (None, _) => "not heard of".to_owned(),
                };
                format!("{}: {why}", self.named(*id))
            })
            .collect();
        refused(
            MemberRefusal::QuorumAtRisk,
            format!(
                "this would lose the quorum: of the {} voters now {answer_before} can be counted on, of the {after} voters afterwards \
                 {answer_after}, and a majority of both is needed. Bring back who is missing first, or replace it ({})",
                before.len(),
                if missing.is_empty() {
                    "nobody is missing now".to_owned()
                } else {
                    missing.join("; ")
                }
            ),
        )
    }

    fn who_is_there(&self) -> String {
        let members: Vec<String> = self.nodes.keys().map(|id| self.named(*id)).collect();
        format!("Members are {}", members.join(", "))
    }

    fn who_asks(&self) -> String {
        if self.candidates.is_empty() {
            return "Nobody asks at the moment".to_owned();
        }
        let asking: Vec<String> = self
            .candidates
            .iter()
            .map(|candidate| format!("`{}` at {}", candidate.info.name, candidate.info.peer_address))
            .collect();
        format!("Those that ask are {}", asking.join(", "))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
