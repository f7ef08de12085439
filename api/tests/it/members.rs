//! `/v2/members`.

use std::time::Duration;

use blox_raft::{
    CandidateEntry, MemberChange, MemberEntry, MemberError, MemberList, MemberProgress, MemberRefusal, MemberStage,
};
use serde_json::json;

use crate::node::Node;

/// Everything the leader knows of members and candidates is shown, numbers as numbers, what is not known as null.
#[tokio::test]
async fn members_are_listed() {
    let node = Node::start().await;
    *node.consensus.members.lock().expect("free") = Ok(MemberList {
        cluster_id: "x".into(),
        leader: 1,
        changing: false,
        members: vec![
            MemberEntry {
                id: 1,
                name: "a".into(),
                peer_address: "a:1".into(),
                http_address: "a:2".into(),
                incarnation: "i".into(),
                voter: true,
                heard: Some(Duration::ZERO),
                entries_behind: Some(0),
            },
            MemberEntry {
                id: 1042,
                name: "d".into(),
                peer_address: "d:1".into(),
                http_address: "d:2".into(),
                incarnation: "j".into(),
                voter: false,
                heard: None,
                entries_behind: None,
            },
        ],
        candidates: vec![CandidateEntry {
            name: "e".into(),
            peer_address: "e:1".into(),
            http_address: "e:2".into(),
            incarnation: "k".into(),
            heard: Duration::from_millis(40),
        }],
    });
    let answer = node.get("/v2/members").await;
    assert_eq!(answer.status(), 200);
    let expected = json!({
        "cluster_id": "x", "leader": 1, "changing": false,
        "members": [
            {"id": 1, "name": "a", "peer_address": "a:1", "http_address": "a:2", "incarnation": "i", "role": "voter",
             "leader": true, "last_heard_ms": 0, "entries_behind": 0},
            {"id": 1042, "name": "d", "peer_address": "d:1", "http_address": "d:2", "incarnation": "j", "role": "learner",
             "leader": false, "last_heard_ms": null, "entries_behind": null},
        ],
        "candidates": [
            {"name": "e", "peer_address": "e:1", "http_address": "e:2", "incarnation": "k", "last_heard_ms": 40},
        ],
    });
    assert_eq!(answer.json(), expected);
}

/// What is not done yet is answered 202 with how far it is, and what is done 200; each route hands on what was asked.
#[tokio::test]
async fn changes_are_handed_on() {
    let node = Node::start().await;
    let progress = |stage, id, behind| {
        Ok(MemberProgress {
            stage,
            id,
            entries_behind: behind,
            detail: "d".into(),
        })
    };
    *node.consensus.change.lock().expect("free") = progress(MemberStage::CatchingUp, 1042, Some(7));
    let answer = node.request("POST", "/v2/members/c/replace", &[], b"").await;
    assert_eq!(answer.status(), 202);
    let expected = json!({"done": false, "stage": "catching up", "id": 1042, "entries_behind": 7, "detail": "d"});
    assert_eq!(answer.json(), expected);
    *node.consensus.change.lock().expect("free") = progress(MemberStage::Done, 0, None);
    for (method, path, body) in [
        ("POST", "/v2/members/c/replace", b"{\"with\":\"d\"}".as_slice()),
        ("DELETE", "/v2/members/c", b""),
        ("POST", "/v2/members/d/promote", b""),
    ] {
        let answer = node.request(method, path, &[], body).await;
        assert_eq!((answer.status(), &answer.json()["done"]), (200, &json!(true)), "{path}");
        assert_eq!(answer.json()["id"], json!(null));
    }
    let name = |name: &str| name.to_owned();
    let expected = [
        MemberChange::Replace {
            name: name("c"),
            with: None,
        },
        MemberChange::Replace {
            name: name("c"),
            with: Some(name("d")),
        },
        MemberChange::Remove { name: name("c") },
        MemberChange::Promote { name: name("d") },
    ];
    assert_eq!(*node.consensus.changes.lock().expect("free"), expected);
    let answer = node
        .request("POST", "/v2/members/c/replace", &[], b"{\"wiht\":\"d\"}")
        .await;
    assert_eq!((answer.status(), &answer.json()["code"]), (400, &json!("invalid_body")));
}

/// Every refusal has a code of its own; what may be different in a moment is answered 503.
#[tokio::test]
async fn refusals_have_codes() {
    let node = Node::start().await;
    let refused = |code| MemberError::Refused {
        code,
        message: "no".into(),
    };
    for (error, status, code) in [
        (refused(MemberRefusal::NoSuchMember), 404, "member_missing"),
        (refused(MemberRefusal::NoCandidate), 409, "candidate_missing"),
        (refused(MemberRefusal::Ambiguous), 409, "member_ambiguous"),
        (refused(MemberRefusal::IsMember), 409, "member_exists"),
        (refused(MemberRefusal::AddressTaken), 409, "address_taken"),
        (refused(MemberRefusal::QuorumAtRisk), 409, "quorum_at_risk"),
        (
            MemberError::NoLeader {
                waited: Duration::from_secs(3),
                reason: "none".into(),
            },
            503,
            "no_leader",
        ),
        (MemberError::NotMember("it waits".into()), 503, "not_a_member"),
        (MemberError::Stopped("gone".into()), 503, "stopping"),
    ] {
        *node.consensus.change.lock().expect("free") = Err(error);
        let answer = node.request("DELETE", "/v2/members/c", &[], b"").await;
        assert_eq!((answer.status(), answer.json()["code"].as_str()), (status, Some(code)));
    }
}

/// A node that waits to be taken in says so on `/readyz`.
#[tokio::test]
async fn readiness_says_what_to_do() {
    let node = Node::start().await;
    node.consensus.status.lock().expect("free").attention = Some("say `blox member replace c`".into());
    let answer = node.get("/readyz").await;
    assert_eq!(answer.status(), 503);
    assert!(
        answer.text().contains("[-]leader failed: say `blox member replace c`"),
        "{}",
        answer.text()
    );
}
