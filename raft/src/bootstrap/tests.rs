//! What each answer of a peer means to a node that begins.

use super::introduce::disagreement;
use super::*;
use crate::proto::identify_reply;

fn members(names: &[&str]) -> Vec<InitialMember> {
    names
        .iter()
        .map(|name| InitialMember {
            name: (*name).into(),
            peer_address: format!("{name}:1"),
        })
        .collect()
}

fn new_node(directory: &std::path::Path) -> NewIdentity {
    match crate::identity::open(directory, "b", true)
        .expect("an empty directory")
        .0
    {
        Identity::New(new) => new,
        Identity::Member(_) => panic!("an empty directory is new"),
    }
}

fn uninitialised(name: &str, list: &[&str]) -> proto::IdentifyReply {
    proto::IdentifyReply {
        name: name.into(),
        incarnation: "theirs".into(),
        state: Some(identify_reply::State::Uninitialised(proto::Uninitialised {
            initial_members: list_to_proto(&members(list)),
            ..proto::Uninitialised::default()
        })),
        ..proto::IdentifyReply::default()
    }
}

fn member_of(name: &str, nodes: Vec<proto::Node>) -> proto::IdentifyReply {
    proto::IdentifyReply {
        name: name.into(),
        state: Some(identify_reply::State::Member(proto::InCluster {
            cluster_id: "c".into(),
            node_id: 1,
            nodes,
            position: 1,
            ..proto::InCluster::default()
        })),
        ..proto::IdentifyReply::default()
    }
}

/// A question ends a new node only where one of its own list asks, with a list that differs.
#[test]
fn strangers_questions_change_nothing() {
    let ours = members(&["a", "b", "c"]);
    let asked = |name: &str, names: &[&str]| {
        let request = proto::IdentifyRequest {
            name: name.into(),
            initial_members: list_to_proto(&members(names)),
            ..proto::IdentifyRequest::default()
        };
        disagreement(&ours, None, request)
    };
    assert!(asked("a", &["a", "b", "c"]).is_none());
    assert!(asked("z", &["a", "z"]).is_none(), "a stranger");
    assert!(asked("", &[]).is_none());
    assert!(asked("a", &[]).is_none(), "no list at all");
    assert!(matches!(asked("a", &["a", "b"]), Some(Refused::ListDiffers { .. })));
}

fn known(name: &str, incarnation: &str) -> proto::Node {
    proto::Node {
        id: 2,
        name: name.into(),
        peer_address: format!("{name}:1"),
        incarnation: incarnation.into(),
        ..proto::Node::default()
    }
}

/// Each answer an asked node can give, and what follows from it.
#[test]
fn answers_are_judged() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let new = new_node(directory.path());
    let ours = members(&["a", "b", "c"]);
    let judge = |reply| judge(&new, &ours[0], &ours, reply);

    assert!(matches!(
        judge(uninitialised("a", &["a", "b", "c"])),
        Ok(Answer::New(_))
    ));
    assert!(matches!(
        judge(uninitialised("a", &["a", "b"])),
        Err(Refused::ListDiffers { .. })
    ));
    assert!(matches!(
        judge(uninitialised("c", &["a", "b", "c"])),
        Err(Refused::AnotherName { .. })
    ));
    assert!(matches!(judge(member_of("a", vec![])), Ok(Answer::Nothing(_))));
    // While it is replaced the cluster knows the name twice: the incarnation decides.
    let both = vec![known("b", "another"), known("b", &new.incarnation)];
    assert!(matches!(
        judge(member_of("a", both)),
        Ok(Answer::Joined(Place { node_id: 2, .. }))
    ));
    let Ok(Answer::Outside(lost, addresses)) = judge(member_of("a", vec![known("b", "another")])) else {
        panic!("another incarnation")
    };
    assert!(lost.to_string().contains("blox member replace b"), "{lost}");
    assert_eq!(addresses, ["b:1"]);
    let Ok(Answer::Outside(stranger, _)) = judge(member_of("a", vec![known("z", "z")])) else {
        panic!("not a member")
    };
    assert!(stranger.to_string().contains("blox member promote b"), "{stranger}");
}

/// One member that answers outweighs all who are new: no second cluster is founded beside it, whatever they were told. And nothing is
/// founded while somebody is silent.
#[test]
fn nothing_is_founded_beside_a_cluster() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let new = new_node(directory.path());
    let ours = members(&["a", "b", "c"]);
    let answers = |replies: Vec<proto::IdentifyReply>| {
        let others = [&ours[0], &ours[2]];
        let judged = others
            .iter()
            .zip(replies)
            .map(|(member, reply)| judge(&new, member, &ours, reply));
        conclude(judged.collect())
    };
    let exists = member_of("c", vec![known("b", "another")]);
    let round = answers(vec![uninitialised("a", &["a", "b", "c"]), exists.clone()]);
    assert!(matches!(round, Ok(Round::Outside(_))), "{round:?}");
    let round = answers(vec![uninitialised("a", &["a", "b"]), exists]);
    assert!(matches!(round, Ok(Round::Outside(_))), "{round:?}");
    let round = answers(vec![uninitialised("a", &["a", "b", "c"]), member_of("c", vec![])]);
    assert!(matches!(round, Ok(Round::Waiting(_))), "{round:?}");
    let round = answers(vec![
        uninitialised("a", &["a", "b", "c"]),
        uninitialised("c", &["a", "b", "c"]),
    ]);
    assert!(matches!(round, Ok(Round::AllNew(_))), "{round:?}");
}

/// A member's call makes a candidate of a node it knows under another incarnation, and of nobody else: not of those that a cluster has just
/// begun with, and not where no cluster calls.
#[test]
fn only_a_members_call_to_another_incarnation_counts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let new = new_node(directory.path());
    let call = |cluster_id: &str, to_incarnation: &str| proto::Envelope {
        cluster_id: cluster_id.into(),
        from: 1,
        from_incarnation: "theirs".into(),
        to: 2,
        to_incarnation: to_incarnation.into(),
    };
    let lost = judge_call(&new, &call("c", "lost")).expect("a member calls");
    assert!(lost.to_string().contains("blox member replace b"), "{lost}");
    assert_eq!(judge_call(&new, &call("c", &new.incarnation)), None);
    assert_eq!(judge_call(&new, &call("", "lost")), None);
    let called = Ok(Answer::Outside(lost.clone(), Vec::new()));
    assert!(
        matches!(conclude(vec![called]), Ok(Round::Outside(_))),
        "alone, it founds nothing"
    );
    // Whoever answers knows more.
    let ours = members(&["a", "b"]);
    let asked = judge(
        &new,
        &ours[0],
        &ours,
        member_of("a", vec![known("b", &new.incarnation)]),
    );
    let called = Ok(Answer::Outside(lost, Vec::new()));
    assert!(matches!(conclude(vec![asked, called]), Ok(Round::Joined(_))));
}

/// Only who has nobody to ask listens before it founds, and the longer the slower elections are.
#[test]
fn who_is_alone_listens_first() {
    let second = Duration::from_secs(1);
    assert_eq!(listens_before_founding(&members(&["a", "b"]), second), Duration::ZERO);
    let alone = members(&["a"]);
    assert_eq!(
        listens_before_founding(&alone, second / 4),
        LISTEN_BEFORE_FOUNDING_ALONE
    );
    assert_eq!(listens_before_founding(&alone, 10 * second), 30 * second);
}
