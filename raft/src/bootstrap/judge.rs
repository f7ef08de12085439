//! What the answers of peers mean to a node that begins.

use super::{Outsider, Place, Refused, Round, list_from_proto};
use crate::codec;
use crate::config::InitialMember;
use crate::identity::NewIdentity;
use crate::proto::{self, identify_reply};
use crate::restore::RestoredMark;
use crate::types::NodeInfo;

/// All initial members came out of the same backup, or none out of any.
pub(super) fn check_restored(
    peer: &str,
    ours: Option<&RestoredMark>,
    theirs: Option<proto::RestoredMark>,
) -> Result<(), Refused> {
    let theirs = theirs.map(RestoredMark::from_proto);
    if theirs.as_ref() == ours {
        return Ok(());
    }
    Err(Refused::RestoredDiffers {
        peer: peer.to_owned(),
        ours: RestoredMark::describe(ours),
        theirs: RestoredMark::describe(theirs.as_ref()),
    })
}

/// What one answer says.
#[derive(Debug)]
pub(super) enum Answer {
    Joined(Place),
    /// A cluster that does not know this node, and where its members are.
    Outside(Outsider, Vec<String>),
    /// One more that is new and agrees.
    New(NodeInfo),
    /// Who has not answered, or knows nothing yet.
    Nothing(String),
}

/// What a round's answers come to. That a cluster exists outweighs whatever new nodes say of their lists.
pub(super) fn conclude(answers: Vec<Result<Answer, Refused>>) -> Result<Round, Refused> {
    let (mut outside, mut refused) = (None, None);
    let (mut new, mut silent) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(Answer::Joined(place)) => return Ok(Round::Joined(place)),
            Ok(Answer::Outside(outsider, _)) => outside = outside.or(Some(outsider)),
            Ok(Answer::New(info)) => new.push(info),
            Ok(Answer::Nothing(name)) => silent.push(name),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match (outside, refused) {
        (Some(outsider), _) => Ok(Round::Outside(outsider)),
        (None, Some(refusal)) => Err(refusal),
        (None, None) if silent.is_empty() => Ok(Round::AllNew(new)),
        (None, None) => Ok(Round::Waiting(format!(
            "not there, or in no cluster yet: {}. A cluster begins when all its initial members are there",
            silent.join(", ")
        ))),
    }
}

/// What an initial member's answer means.
pub(super) fn judge(
    new: &NewIdentity,
    member: &InitialMember,
    members: &[InitialMember],
    reply: proto::IdentifyReply,
) -> Result<Answer, Refused> {
    if let Some(answer) = judge_cluster(new, &reply) {
        return Ok(answer);
    }
    if reply.name != member.name {
        return Err(Refused::AnotherName {
            name: reply.name,
            address: member.peer_address.clone(),
            expected: member.name.clone(),
        });
    }
    let Some(identify_reply::State::Uninitialised(theirs)) = reply.state else {
        return Ok(Answer::Nothing(reply.name));
    };
    // One that is not among them itself founds nothing, and need not agree.
    let founding = members.iter().any(|member| member.name == new.name);
    let mark = theirs.restored;
    let theirs = list_from_proto(theirs.initial_members);
    if founding && theirs != members {
        return Err(Refused::ListDiffers {
            peer: reply.name,
            ours: list(members),
            theirs: list(&theirs),
        });
    }
    if !founding {
        return Ok(Answer::Nothing(reply.name));
    }
    check_restored(&reply.name, new.restored.as_ref(), mark)?;
    Ok(Answer::New(NodeInfo {
        name: reply.name,
        peer_address: member.peer_address.clone(),
        http_address: reply.http_address,
        incarnation: reply.incarnation,
    }))
}

/// What a member's answer means; `None`: it is none, or has not received the first entry yet and knows nobody.
pub(super) fn judge_cluster(new: &NewIdentity, reply: &proto::IdentifyReply) -> Option<Answer> {
    let Some(identify_reply::State::Member(cluster)) = &reply.state else {
        return None;
    };
    if cluster.nodes.is_empty() {
        return None;
    }
    let cluster_id = cluster.cluster_id.clone();
    if let Some(known) = cluster.nodes.iter().find(|known| known.incarnation == new.incarnation) {
        return Some(Answer::Joined(Place {
            cluster_id,
            node_id: known.id,
            position: cluster.position,
            // Only who came out of the same backup writes them down: whoever joins later learns its members by the snapshot.
            founders: new
                .restored
                .as_ref()
                .map(|_| cluster.founders.iter().map(codec::node_from_proto).collect()),
        }));
    }
    let name = new.name.clone();
    let outsider = match cluster.nodes.iter().find(|known| known.name == new.name) {
        Some(known) => Outsider::DiskLost {
            cluster_id,
            name,
            node_id: known.id,
        },
        None => Outsider::NotAMember { cluster_id, name },
    };
    let addresses = cluster.nodes.iter().map(|known| known.peer_address.clone()).collect();
    Some(Answer::Outside(outsider, addresses))
}

/// What a member's call to this node means. One for this very incarnation is of the cluster that takes it in, which its questions will tell.
pub(super) fn judge_call(new: &NewIdentity, envelope: &proto::Envelope) -> Option<Outsider> {
    let of_a_member = !envelope.cluster_id.is_empty() && envelope.to_incarnation != new.incarnation;
    of_a_member.then(|| Outsider::Called {
        cluster_id: envelope.cluster_id.clone(),
        from: envelope.from,
        name: new.name.clone(),
    })
}

pub(super) fn list(members: &[InitialMember]) -> String {
    let shown: Vec<String> = members
        .iter()
        .map(|member| format!("{}={}", member.name, member.peer_address))
        .collect();
    shown.join(", ")
}
