//! Wishes and answers as followers hand them to the leader.

use std::time::Duration;

use super::leader::{Answered, Asked};
use super::{
    CandidateEntry, MemberChange, MemberEntry, MemberList, MemberProgress, MemberRefusal, MemberStage, Unanswered,
};
use crate::proto::{self, members_reply, members_request};

/// A wish as it travels.
pub(super) fn request(asked: &Asked, deadline: Duration) -> proto::MembersRequest {
    let action = match asked {
        Asked::List => members_request::Action::List(proto::ListMembers {}),
        Asked::Change(MemberChange::Replace { name, with }) => members_request::Action::Replace(proto::ReplaceMember {
            name: name.clone(),
            with: with.clone().unwrap_or_default(),
        }),
        Asked::Change(MemberChange::Remove { name }) => {
            members_request::Action::Remove(proto::RemoveMember { name: name.clone() })
        }
        Asked::Change(MemberChange::Promote { name }) => {
            members_request::Action::Promote(proto::PromoteMember { name: name.clone() })
        }
    };
    proto::MembersRequest {
        action: Some(action),
        deadline_ms: millis(deadline),
    }
}

/// The inverse; `None`: a wish of a newer version.
pub(crate) fn asked(request: proto::MembersRequest) -> Option<Asked> {
    Some(match request.action? {
        members_request::Action::List(proto::ListMembers {}) => Asked::List,
        members_request::Action::Replace(proto::ReplaceMember { name, with }) => Asked::Change(MemberChange::Replace {
            name,
            with: Some(with).filter(|with| !with.is_empty()),
        }),
        members_request::Action::Remove(proto::RemoveMember { name }) => Asked::Change(MemberChange::Remove { name }),
        members_request::Action::Promote(proto::PromoteMember { name }) => {
            Asked::Change(MemberChange::Promote { name })
        }
    })
}

/// The leader's answer as it travels.
pub(crate) fn reply(answer: Result<Answered, Unanswered>) -> proto::MembersReply {
    let result = match answer {
        Ok(Answered::List(list)) => members_reply::Result::List(list_to_proto(list)),
        Ok(Answered::Progress(progress)) => members_reply::Result::Progress(proto::MemberProgress {
            stage: stage_to_proto(progress.stage).into(),
            node_id: progress.id,
            entries_behind: progress.entries_behind,
            detail: progress.detail,
        }),
        Err(Unanswered::Refused { code, message }) => members_reply::Result::Refusal(proto::MemberRefusal {
            code: code_to_proto(code).into(),
            message,
        }),
        Err(Unanswered::TryAgain(reason)) => members_reply::Result::TryAgain(reason),
    };
    proto::MembersReply { result: Some(result) }
}

/// The inverse.
pub(super) fn answered(reply: proto::MembersReply) -> Result<Answered, Unanswered> {
    let unclear = |what: &str| Unanswered::TryAgain(format!("the leader's answer {what}"));
    match reply.result.ok_or_else(|| unclear("is empty"))? {
        members_reply::Result::List(list) => Ok(Answered::List(list_from_proto(list))),
        members_reply::Result::Progress(progress) => Ok(Answered::Progress(MemberProgress {
            stage: stage_from_proto(progress.stage()).ok_or_else(|| unclear("tells of a stage of a newer version"))?,
            id: progress.node_id,
            entries_behind: progress.entries_behind,
            detail: progress.detail,
        })),
        members_reply::Result::Refusal(refusal) => Err(Unanswered::Refused {
            code: code_from_proto(refusal.code()),
            message: refusal.message,
        }),
        members_reply::Result::TryAgain(reason) => Err(Unanswered::TryAgain(reason)),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn list_to_proto(list: MemberList) -> proto::MemberList {
    let member = |member: MemberEntry| proto::MemberEntry {
        node: Some(proto::Node {
            id: member.id,
            name: member.name,
            peer_address: member.peer_address,
            http_address: member.http_address,
            incarnation: member.incarnation,
        }),
        voter: member.voter,
        heard_ms: member.heard.map(millis),
        entries_behind: member.entries_behind,
    };
    let candidate = |candidate: CandidateEntry| proto::MemberEntry {
        node: Some(proto::Node {
            id: 0,
            name: candidate.name,
            peer_address: candidate.peer_address,
            http_address: candidate.http_address,
            incarnation: candidate.incarnation,
        }),
        heard_ms: Some(millis(candidate.heard)),
        ..proto::MemberEntry::default()
    };
    proto::MemberList {
        cluster_id: list.cluster_id,
        leader: list.leader,
        changing: list.changing,
        members: list.members.into_iter().map(member).collect(),
        candidates: list.candidates.into_iter().map(candidate).collect(),
    }
}

fn list_from_proto(list: proto::MemberList) -> MemberList {
    let member = |entry: proto::MemberEntry| {
        let node = entry.node.unwrap_or_default();
        MemberEntry {
            id: node.id,
            name: node.name,
            peer_address: node.peer_address,
            http_address: node.http_address,
            incarnation: node.incarnation,
            voter: entry.voter,
            heard: entry.heard_ms.map(Duration::from_millis),
            entries_behind: entry.entries_behind,
        }
    };
    let candidate = |entry: proto::MemberEntry| {
        let node = entry.node.unwrap_or_default();
        CandidateEntry {
            name: node.name,
            peer_address: node.peer_address,
            http_address: node.http_address,
            incarnation: node.incarnation,
            heard: Duration::from_millis(entry.heard_ms.unwrap_or_default()),
        }
    };
    MemberList {
        cluster_id: list.cluster_id,
        leader: list.leader,
        changing: list.changing,
        members: list.members.into_iter().map(member).collect(),
        candidates: list.candidates.into_iter().map(candidate).collect(),
    }
}

fn stage_to_proto(stage: MemberStage) -> proto::MemberStage {
    match stage {
        MemberStage::Settling => proto::MemberStage::Settling,
        MemberStage::CatchingUp => proto::MemberStage::CatchingUp,
        MemberStage::Changing => proto::MemberStage::Changing,
        MemberStage::Done => proto::MemberStage::Done,
    }
}

fn stage_from_proto(stage: proto::MemberStage) -> Option<MemberStage> {
    Some(match stage {
        proto::MemberStage::Unspecified => return None,
        proto::MemberStage::Settling => MemberStage::Settling,
        proto::MemberStage::CatchingUp => MemberStage::CatchingUp,
        proto::MemberStage::Changing => MemberStage::Changing,
        proto::MemberStage::Done => MemberStage::Done,
    })
}

fn code_to_proto(code: MemberRefusal) -> proto::MemberRefusalCode {
    match code {
        MemberRefusal::NoSuchMember => proto::MemberRefusalCode::NoSuchMember,
        MemberRefusal::NoCandidate => proto::MemberRefusalCode::NoCandidate,
        MemberRefusal::Ambiguous => proto::MemberRefusalCode::Ambiguous,
        MemberRefusal::QuorumAtRisk => proto::MemberRefusalCode::QuorumAtRisk,
        MemberRefusal::AddressTaken => proto::MemberRefusalCode::AddressTaken,
        MemberRefusal::IsMember => proto::MemberRefusalCode::IsMember,
    }
}

/// A refusal of a newer version is none that this one could act on: its message says what it is.
fn code_from_proto(code: proto::MemberRefusalCode) -> MemberRefusal {
    match code {
        proto::MemberRefusalCode::NoSuchMember => MemberRefusal::NoSuchMember,
        proto::MemberRefusalCode::NoCandidate => MemberRefusal::NoCandidate,
        proto::MemberRefusalCode::Unspecified | proto::MemberRefusalCode::Ambiguous => MemberRefusal::Ambiguous,
        proto::MemberRefusalCode::QuorumAtRisk => MemberRefusal::QuorumAtRisk,
        proto::MemberRefusalCode::AddressTaken => MemberRefusal::AddressTaken,
        proto::MemberRefusalCode::IsMember => MemberRefusal::IsMember,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a follower hands on arrives as it was said, and so does the answer.
    #[test]
    fn travels_unchanged() {
        let name = "c".to_owned();
        for change in [
            MemberChange::Replace {
                name: name.clone(),
                with: None,
            },
            MemberChange::Replace {
                name: name.clone(),
                with: Some("d".into()),
            },
            MemberChange::Remove { name: name.clone() },
            MemberChange::Promote { name },
        ] {
            let sent = request(&Asked::Change(change.clone()), Duration::from_secs(1));
            assert!(matches!(asked(sent), Some(Asked::Change(arrived)) if arrived == change));
        }
        assert!(matches!(
            asked(request(&Asked::List, Duration::ZERO)),
            Some(Asked::List)
        ));
        let progress = MemberProgress {
            stage: MemberStage::CatchingUp,
            id: 1042,
            entries_behind: Some(7),
            detail: "d".into(),
        };
        let arrived = answered(reply(Ok(Answered::Progress(progress.clone()))));
        assert!(matches!(arrived, Ok(Answered::Progress(arrived)) if arrived == progress));
        let list = MemberList {
            cluster_id: "x".into(),
            leader: 1,
            changing: true,
            members: vec![MemberEntry {
                id: 1,
                name: "a".into(),
                peer_address: "a:1".into(),
                http_address: "a:2".into(),
                incarnation: "i".into(),
                voter: true,
                heard: Some(Duration::from_millis(3)),
                entries_behind: None,
            }],
            candidates: vec![CandidateEntry {
                name: "d".into(),
                peer_address: "d:1".into(),
                http_address: "d:2".into(),
                incarnation: "j".into(),
                heard: Duration::from_millis(4),
            }],
        };
        let arrived = answered(reply(Ok(Answered::List(list.clone()))));
        assert!(matches!(arrived, Ok(Answered::List(arrived)) if arrived == list));
        for code in [
            MemberRefusal::NoSuchMember,
            MemberRefusal::NoCandidate,
            MemberRefusal::Ambiguous,
            MemberRefusal::QuorumAtRisk,
            MemberRefusal::AddressTaken,
            MemberRefusal::IsMember,
        ] {
            let refusal = Unanswered::Refused {
                code,
                message: "m".into(),
            };
            assert!(matches!(answered(reply(Err(refusal.clone()))), Err(arrived) if arrived == refusal));
        }
    }
}
