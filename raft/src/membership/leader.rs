//! The leader's part: what it knows of the members, and an operator's wish carried out step by step.

use std::time::Duration;

use blox_runtime::time::{Instant, sleep, timeout_at};
use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};

use super::plan::{Seen, SeenNode, Step, plan};
use super::{
    CandidateEntry, GONE_AFTER_MIN, GONE_ELECTIONS, INITIAL_MEMBERS_MAX, MemberChange, MemberEntry, MemberList,
    MemberProgress, MemberStage, Unanswered,
};
use crate::NodeId;
use crate::consensus::hand_over;
use crate::engine::Engine;
use crate::node::{Leading, Node};
use crate::read::{Asker, NotConfirmed};
use crate::types::{CommittedLeaderId, LogId, NodeInfo, TypeConfig, position};

/// Between two looks at a newcomer that catches up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long handing over may take before somebody else is asked.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(5);

/// A question or wish, and its answer.
pub(crate) enum Asked {
    List,
    Change(MemberChange),
}

/// What came of it.
pub(crate) enum Answered {
    List(MemberList),
    Progress(MemberProgress),
}

/// Answers as the leader; `TryAgain` where this node does not lead.
pub(crate) async fn answer(node: &Node, asked: &Asked, until: Instant) -> Result<Answered, Unanswered> {
    match asked {
        Asked::List => {
            let view = look_confirmed(node, Instant::now(), until).await?;
            Ok(Answered::List(list(&view)))
        }
        Asked::Change(change) => advance(node, change, until).await.map(Answered::Progress),
    }
}

/// What a leader sees at one moment, and what its next change must find unchanged.
pub(super) struct LeadersView<'a> {
    pub engine: &'a Engine,
    pub leading: Leading,
    pub seen: Seen,
    pub membership_at: Option<LogId>,
}

fn not_leader<T>() -> Result<T, Unanswered> {
    Err(Unanswered::TryAgain("not the leader".to_owned()))
}

/// Looks around as the leader, for a wish said at that time.
pub(super) fn look(node: &Node, said: Instant) -> Result<LeadersView<'_>, Unanswered> {
    let leading = node.view.borrow().leading;
    let (Some(engine), Some(leading)) = (node.engine.get(), leading) else {
        return not_leader();
    };
    let metrics = engine.raft.metrics().borrow_watched().clone();
    let (Some(replication), Some(heartbeat)) = (&metrics.replication, &metrics.heartbeat) else {
        return not_leader();
    };
    let last = metrics.last_log_index.map_or(0, |index| index + 1);
    let me = metrics.id;
    let nodes = metrics.membership_config.nodes().map(|(id, info)| {
        let matched = replication.get(id).map(|matched| position(matched.as_ref()));
        let heard = heartbeat.get(id).and_then(Option::as_ref).map(|at| at.elapsed());
        let seen = SeenNode {
            info: info.clone(),
            heard: if *id == me { Some(Duration::ZERO) } else { heard },
            behind: if *id == me {
                Some(0)
            } else {
                matched.map(|matched| last.saturating_sub(matched))
            },
        };
        (*id, seen)
    });
    let nodes: std::collections::BTreeMap<NodeId, SeenNode> = nodes.collect();
    let mut candidates = node.candidates.fresh();
    candidates.retain(|candidate| {
        let incarnation = &candidate.info.incarnation;
        !nodes.values().any(|node| node.info.incarnation == *incarnation)
    });
    let gone_after = (node.config.timing.election_max * GONE_ELECTIONS).max(GONE_AFTER_MIN);
    Ok(LeadersView {
        engine,
        leading,
        seen: Seen {
            me,
            settled: node.clock.monotonic().saturating_sub(leading.since) >= gone_after,
            committed: metrics.committed_membership_config.log_id() == metrics.membership_config.log_id(),
            voter_sets: metrics.membership_config.get_joint_config().clone(),
            nodes,
            candidates,
            gone_after,
            since: said.elapsed(),
        },
        membership_at: *metrics.membership_config.log_id(),
    })
}

/// Looks around once a quorum has confirmed that this node leads: one that is cut off says nothing of what may have changed since.
async fn look_confirmed(node: &Node, said: Instant, until: Instant) -> Result<LeadersView<'_>, Unanswered> {
    let confirmed = timeout_at(until, node.reads.ask(Asker::Peer)).await;
    let confirmed = confirmed.unwrap_or_else(|_| Err(NotConfirmed::silence("no quorum answered in time")));
    let index = confirmed.map_err(|refusal| Unanswered::TryAgain(refusal.why))?;
    let view = look(node, said)?;
    if view.leading.term != index.term {
        return not_leader();
    }
    Ok(view)
}

fn list(view: &LeadersView<'_>) -> MemberList {
    let seen = &view.seen;
    let member = |(id, node): (&NodeId, &SeenNode)| MemberEntry {
        id: *id,
        name: node.info.name.clone(),
        peer_address: node.info.peer_address.clone(),
        http_address: node.info.http_address.clone(),
        incarnation: node.info.incarnation.clone(),
        voter: seen.voter_sets.iter().any(|set| set.contains(id)),
        heard: node.heard,
        entries_behind: node.behind,
    };
    MemberList {
        cluster_id: view.engine.identity.cluster_id.clone(),
        leader: seen.me,
        changing: seen.voter_sets.len() > 1 || !seen.committed,
        members: seen.nodes.iter().map(member).collect(),
        candidates: seen
            .candidates
            .iter()
            .map(|candidate| CandidateEntry {
                name: candidate.info.name.clone(),
                peer_address: candidate.info.peer_address.clone(),
                http_address: candidate.info.http_address.clone(),
                incarnation: candidate.info.incarnation.clone(),
                heard: candidate.heard,
            })
            .collect(),
    }
}

/// Carries a wish on until it is done, or until the time is up; what is not done yet goes on when it is said again.
async fn advance(node: &Node, change: &MemberChange, until: Instant) -> Result<MemberProgress, Unanswered> {
    let Ok(_one_at_a_time) = timeout_at(until, node.changing.lock()).await else {
        return Err(Unanswered::TryAgain(
            "another change of the members is under way".to_owned(),
        ));
    };
    let said = Instant::now();
    loop {
        let view = look_confirmed(node, said, until).await?;
        let step = plan(change, &view.seen)?;
        if !waits(&step) && !matches!(step, Step::Done { .. }) {
            tracing::info!(?change, ?step, "changes the members");
        }
        let about = about(&step);
        let carried_out = match &step {
            Step::Done { detail, .. } => return Ok(progress(MemberStage::Done, about, None, detail)),
            Step::Commit | Step::Settle | Step::CatchUp(_) => Ok(()),
            Step::HandOver => return Err(leave(node).await),
            Step::Finish => timeout_at(until, view.change(ChangeMembers::AddVoterIds([].into()), false))
                .await
                .unwrap_or_else(slow),
            Step::Admit(info) => timeout_at(until, view.admit(info)).await.unwrap_or_else(slow),
            Step::Forget(id) => {
                let forgotten = timeout_at(until, view.change(ChangeMembers::RemoveNodes([*id].into()), true));
                forgotten.await.unwrap_or_else(slow)
            }
            Step::SetVoters { voters, .. } => {
                fail::fail_point!("raft::before-membership-change");
                let changed = timeout_at(
                    until,
                    view.change(ChangeMembers::ReplaceAllVoters(voters.clone()), false),
                );
                let changed = changed.await.unwrap_or_else(slow);
                fail::fail_point!("raft::after-membership-change");
                changed
            }
        };
        let pause = match carried_out {
            Ok(()) if is_last(change, &step) => return Ok(done(change, about, &view.seen)),
            Ok(()) => waits(&step),
            // What was decided from is not so any more, or not yet: look again.
            Err(Unanswered::TryAgain(reason)) => {
                tracing::debug!(reason, ?step, "a step is tried again");
                true
            }
            Err(refused) => return Err(refused),
        };
        if pause {
            if Instant::now() + LOOK_AGAIN > until {
                return Ok(waiting(&step, &view.seen));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Whether others have to do something first.
fn waits(step: &Step) -> bool {
    matches!(step, Step::Commit | Step::Settle | Step::CatchUp(_))
}

/// Whether nothing is left to do after that step.
fn is_last(change: &MemberChange, step: &Step) -> bool {
    match step {
        Step::SetVoters { .. } => true,
        Step::Forget(_) => matches!(change, MemberChange::Remove { .. }),
        _ => false,
    }
}

fn about(step: &Step) -> NodeId {
    match step {
        Step::Forget(id) | Step::CatchUp(id) => *id,
        Step::SetVoters { about, .. } | Step::Done { about, .. } => *about,
        Step::Commit | Step::Settle | Step::Finish | Step::Admit(_) | Step::HandOver => 0,
    }
}

fn slow<T, E>(_: E) -> Result<T, Unanswered> {
    Err(Unanswered::TryAgain("it takes longer".to_owned()))
}

/// The leader is to go: another one goes on with it.
async fn leave(node: &Node) -> Unanswered {
    Unanswered::TryAgain(match hand_over(node, HAND_OVER_DEADLINE).await {
        Ok(()) => "the leader that is to go has handed over".to_owned(),
        Err(error) => format!("the leader is to go, and has not handed over yet: {error}"),
    })
}

fn progress(stage: MemberStage, id: NodeId, entries_behind: Option<u64>, detail: &str) -> MemberProgress {
    MemberProgress {
        stage,
        id,
        entries_behind,
        detail: detail.to_owned(),
    }
}

fn done(change: &MemberChange, about: NodeId, seen: &Seen) -> MemberProgress {
    let named = seen
        .nodes
        .get(&about)
        .map_or_else(String::new, |node| super::named(about, &node.info));
    match change {
        MemberChange::Replace { name, .. } => progress(
            MemberStage::Done,
            about,
            None,
            &format!("{named} is a voter now, in the place of `{name}`"),
        ),
        MemberChange::Remove { .. } => progress(MemberStage::Done, 0, None, &format!("{named} is no member any more")),
        MemberChange::Promote { .. } => progress(MemberStage::Done, about, None, &format!("{named} is a voter now")),
    }
}

fn waiting(step: &Step, seen: &Seen) -> MemberProgress {
    match step {
        Step::CatchUp(id) => {
            let node = seen.nodes.get(id);
            let named = node.map_or_else(String::new, |node| super::named(*id, &node.info));
            let behind = node.and_then(|node| node.behind);
            let detail = match node.and_then(|node| node.heard) {
                Some(heard) if heard <= seen.gone_after => format!("{named} receives the state and the log"),
                Some(heard) => format!("waits for {named}, last heard of {} s ago", heard.as_secs()),
                None => format!("waits to hear of {named}"),
            };
            progress(MemberStage::CatchingUp, *id, behind, &detail)
        }
        Step::Settle => progress(MemberStage::Settling, 0, None, "waits to hear of the others"),
        step => progress(
            MemberStage::Changing,
            about(step),
            None,
            "waits for the change to be committed",
        ),
    }
}

impl LeadersView<'_> {
    /// Gives a candidate its number, from an entry committed for that alone, and makes it a learner.
    async fn admit(&self, info: &NodeInfo) -> Result<(), Unanswered> {
        let given = self.engine.raft.write_blank().await.map_err(failed)?;
        let id = INITIAL_MEMBERS_MAX as NodeId + position(Some(&given.log_id));
        self.change(ChangeMembers::AddNodes([(id, info.clone())].into()), true)
            .await
    }

    /// Changes the membership, if it still is what was looked at and this node still leads in the same term.
    pub(super) async fn change(&self, change: ChangeMembers<NodeId, NodeInfo>, retain: bool) -> Result<(), Unanswered> {
        let unchanged = [
            Precondition::CommittedLeaderId {
                committed_leader_id: CommittedLeaderId::new(self.leading.term),
            },
            Precondition::LastMembershipLogId {
                last_membership_log_id: self.membership_at,
            },
        ];
        let changed = self.engine.raft.change_membership_if(change, retain, unchanged).await;
        changed.map(|_: ClientWriteResponse<TypeConfig>| ()).map_err(failed)
    }
}

/// What a failed change means. Whatever it was, the next look shows what became of it.
fn failed(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Unanswered {
    let reason = match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_)) => {
            "leadership was lost".to_owned()
        }
        RaftError::APIError(ClientWriteError::PreconditionFailed(failed)) => failed.to_string(),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            "an earlier change is not committed yet".to_owned()
        }
        other => other.to_string(),
    };
    Unanswered::TryAgain(reason)
}
