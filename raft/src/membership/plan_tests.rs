//! Situations and the step that follows, as sentences.

use super::*;

const RECENT: Duration = Duration::from_millis(10);

fn info(name: &str, incarnation: &str) -> NodeInfo {
    NodeInfo {
        name: name.into(),
        peer_address: format!("{name}-{incarnation}:1"),
        http_address: format!("{name}:2"),
        incarnation: incarnation.into(),
    }
}

fn node(name: &str, heard: Option<Duration>, behind: u64) -> SeenNode {
    SeenNode {
        info: info(name, "old"),
        heard,
        behind: Some(behind),
    }
}

/// Voters a (the leader), b and c; c has not been heard of for a minute.
fn c_is_lost() -> Seen {
    Seen {
        me: 1,
        settled: true,
        committed: true,
        voter_sets: vec![[1, 2, 3].into()],
        nodes: [
            (1, node("a", Some(Duration::ZERO), 0)),
            (2, node("b", Some(RECENT), 0)),
            (3, node("c", Some(Duration::from_secs(60)), 5_000)),
        ]
        .into(),
        candidates: Vec::new(),
        gone_after: Duration::from_secs(1),
        since: Duration::from_millis(500),
    }
}

impl Seen {
    fn asks(mut self, name: &str, incarnation: &str) -> Seen {
        self.candidates.push(Candidate {
            info: info(name, incarnation),
            heard: RECENT,
        });
        self
    }

    fn learns(mut self, id: NodeId, name: &str, heard: Option<Duration>, behind: u64) -> Seen {
        let learner = SeenNode {
            info: info(name, "new"),
            heard,
            behind: Some(behind),
        };
        self.nodes.insert(id, learner);
        self
    }

    fn alive(mut self, id: NodeId) -> Seen {
        let node = self.nodes.get_mut(&id).expect("it is there");
        (node.heard, node.behind) = (Some(RECENT), Some(0));
        self
    }

    fn lost(mut self, id: NodeId) -> Seen {
        self.nodes.get_mut(&id).expect("it is there").heard = Some(Duration::from_secs(60));
        self
    }

    fn only(mut self, voters: &[NodeId]) -> Seen {
        let voters: BTreeSet<NodeId> = voters.iter().copied().collect();
        self.nodes.retain(|id, _| voters.contains(id));
        self.voter_sets = vec![voters];
        self
    }
}

fn replaces(name: &str, with: Option<&str>) -> MemberChange {
    MemberChange::Replace {
        name: name.into(),
        with: with.map(str::to_owned),
    }
}

fn removes(name: &str) -> MemberChange {
    MemberChange::Remove { name: name.into() }
}

fn promotes(name: &str) -> MemberChange {
    MemberChange::Promote { name: name.into() }
}

fn step(change: &MemberChange, seen: &Seen) -> Step {
    plan(change, seen).unwrap_or_else(|refused| panic!("{refused:?}"))
}

fn refusal(change: &MemberChange, seen: &Seen) -> (MemberRefusal, String) {
    match plan(change, seen) {
        Err(Unanswered::Refused { code, message }) => (code, message),
        other => panic!("not refused: {other:?}"),
    }
}

/// A replacement from its beginning to its end, and begun anew at each point.
#[test]
fn a_lost_node_is_replaced_step_by_step() {
    let change = replaces("c", None);
    let (code, message) = refusal(&change, &c_is_lost());
    assert_eq!(code, MemberRefusal::NoCandidate);
    assert!(message.contains("empty data directory"), "{message}");

    let asked = c_is_lost().asks("c", "new");
    assert_eq!(step(&change, &asked), Step::Admit(info("c", "new")));
    let admitted = c_is_lost().learns(1042, "c", None, 5_000);
    assert_eq!(step(&change, &admitted), Step::CatchUp(1042), "not heard of yet");
    let behind = c_is_lost().learns(1042, "c", Some(RECENT), CAUGHT_UP_ENTRIES_MAX + 1);
    assert_eq!(step(&change, &behind), Step::CatchUp(1042));
    let there = c_is_lost().learns(1042, "c", Some(RECENT), CAUGHT_UP_ENTRIES_MAX);
    let voters = BTreeSet::from([1, 2, 1042]);
    assert_eq!(step(&change, &there), Step::SetVoters { voters, about: 1042 });

    let mut joint = there.clone();
    joint.voter_sets.push([1, 2, 1042].into());
    assert_eq!(step(&change, &joint), Step::Finish, "left half done by a crash");
    let replaced = there.only(&[1, 2, 1042]);
    assert!(
        matches!(step(&change, &replaced), Step::Done { about: 1042, .. }),
        "said again"
    );
}

/// A node that has taken a place and is lost in its turn: nobody says that it is done because the dead one was heard of a moment ago.
#[test]
fn a_replacement_lost_a_moment_ago_is_not_taken_for_done() {
    let change = replaces("c", None);
    let mut seen = c_is_lost().learns(1042, "c", Some(RECENT), 0).only(&[1, 2, 1042]);
    seen.since = RECENT;
    assert_eq!(step(&change, &seen), Step::Settle, "it may be dead or alive");
    assert_eq!(
        step(&change, &seen.clone().asks("c", "newer")),
        Step::Admit(info("c", "newer"))
    );
    assert_eq!(refusal(&change, &seen.lost(1042)).0, MemberRefusal::NoCandidate);
}

/// Another name takes the place, also where the one that goes is alive or leads.
#[test]
fn another_name_takes_the_place() {
    let change = replaces("c", Some("d"));
    let alive = c_is_lost().alive(3);
    assert_eq!(
        step(&change, &alive.clone().asks("d", "new")),
        Step::Admit(info("d", "new"))
    );
    let there = alive.learns(1042, "d", Some(RECENT), 0);
    let voters = BTreeSet::from([1, 2, 1042]);
    assert_eq!(step(&change, &there), Step::SetVoters { voters, about: 1042 });
    let replaced = there.clone().only(&[1, 2, 1042]);
    assert!(
        matches!(step(&change, &replaced), Step::Done { about: 1042, .. }),
        "said again"
    );
    assert_eq!(step(&replaces("a", Some("d")), &there), Step::HandOver);
    assert_eq!(
        refusal(&replaces("x", Some("d")), &there).0,
        MemberRefusal::NoSuchMember
    );
    assert_eq!(refusal(&replaces("c", Some("b")), &there).0, MemberRefusal::IsMember);
    // An initial member has taken nobody's place: the name is wrong.
    let (code, message) = refusal(&replaces("typo", Some("b")), &replaced);
    assert!(
        code == MemberRefusal::NoSuchMember && message.contains("there is no voter `typo`"),
        "{message}"
    );
    let Step::Done { detail, .. } = step(&replaces("typo", Some("d")), &replaced) else {
        panic!("it may have been said again")
    };
    assert!(detail.contains("unless the name is wrong"), "{detail}");
}

/// A newcomer whose disk is lost again before it is a voter comes back as another candidate: its first number goes, if nobody has it.
#[test]
fn a_newcomer_lost_again_begins_anew() {
    let dead = c_is_lost()
        .learns(1042, "c", Some(Duration::from_secs(9)), 7)
        .asks("c", "newer");
    for change in [replaces("c", None), promotes("c")] {
        assert_eq!(step(&change, &dead), Step::Forget(1042));
        let two = dead.clone().alive(1042);
        assert_eq!(refusal(&change, &two).0, MemberRefusal::Ambiguous);
    }
    let twins = c_is_lost().asks("c", "new").asks("c", "newer");
    let (code, message) = refusal(&replaces("c", None), &twins);
    assert!(
        code == MemberRefusal::Ambiguous && message.contains("Stop all but one"),
        "{message}"
    );
}

/// Whatever would leave less than a majority of the voters, before or after, is refused, and says who is missing.
#[test]
fn what_would_lose_the_quorum_is_refused() {
    let (code, message) = refusal(&removes("b"), &c_is_lost());
    assert_eq!(code, MemberRefusal::QuorumAtRisk);
    assert!(
        message.contains("`c` (node 3 at c-old:1): last heard of 60 s ago"),
        "{message}"
    );
    let lone = c_is_lost().alive(3).lost(2).lost(3).asks("c", "new");
    assert_eq!(refusal(&replaces("c", None), &lone).0, MemberRefusal::QuorumAtRisk);
    assert_eq!(refusal(&removes("c"), &lone).0, MemberRefusal::QuorumAtRisk);
    assert_eq!(
        refusal(&promotes("d"), &lone.asks("d", "new")).0,
        MemberRefusal::QuorumAtRisk
    );
    let last = c_is_lost().only(&[1]);
    let (code, message) = refusal(&removes("a"), &last);
    assert!(
        code == MemberRefusal::QuorumAtRisk && message.contains("last voter"),
        "{message}"
    );
    // A voter that answers but is far behind would hold up every write.
    let mut lags = c_is_lost().alive(3);
    lags.nodes.get_mut(&3).expect("it is there").behind = Some(VOTER_ENTRIES_BEHIND_MAX + 1);
    assert!(refusal(&removes("b"), &lags).1.contains("10001 entries behind"));

    let voters = BTreeSet::from([1, 2]);
    assert_eq!(step(&removes("c"), &c_is_lost()), Step::SetVoters { voters, about: 3 });
    let two = c_is_lost().only(&[1, 2]);
    let voters = BTreeSet::from([1]);
    assert_eq!(step(&removes("b"), &two), Step::SetVoters { voters, about: 2 });
}

/// What a leader elected a moment ago has not heard of may be there: nothing is refused for that yet.
#[test]
fn a_new_leader_waits_before_it_refuses() {
    let mut young = c_is_lost();
    young.settled = false;
    for change in [removes("b"), replaces("c", None), promotes("d")] {
        assert_eq!(step(&change, &young), Step::Settle);
    }
    assert_eq!(refusal(&removes("x"), &young).0, MemberRefusal::NoSuchMember);
}

/// What no quorum has yet may never have been: nothing is done, refused or said to be done on it.
#[test]
fn an_earlier_change_is_waited_for() {
    let mut begun = c_is_lost().alive(3).learns(1042, "d", Some(RECENT), 0);
    begun.committed = false;
    for change in [
        promotes("d"),
        promotes("b"),
        removes("c"),
        removes("x"),
        replaces("c", Some("d")),
    ] {
        assert_eq!(step(&change, &begun), Step::Commit);
    }
    begun.voter_sets.push([1, 2, 3, 1042].into());
    assert_eq!(step(&promotes("d"), &begun), Step::Commit, "half of a change");
    begun.committed = true;
    assert_eq!(step(&promotes("d"), &begun), Step::Finish);
}

/// Voters, learners and the leader itself go; whoever is no member is said to be none.
#[test]
fn members_are_removed() {
    let well = c_is_lost().alive(3).learns(1042, "d", None, 9);
    assert_eq!(step(&removes("d"), &well), Step::Forget(1042));
    assert_eq!(step(&removes("1042"), &well), Step::Forget(1042));
    assert_eq!(step(&removes("a"), &well), Step::HandOver);
    let voters = BTreeSet::from([1, 2]);
    assert_eq!(step(&removes("3"), &well), Step::SetVoters { voters, about: 3 });
    assert!(refusal(&removes("x"), &well).1.contains("there is no member `x`"));
    assert!(
        refusal(&removes("e"), &well.clone().asks("e", "new"))
            .1
            .contains("only asks")
    );
    let both = well.learns(1043, "c", Some(RECENT), 0);
    let (code, message) = refusal(&removes("c"), &both);
    assert!(
        code == MemberRefusal::Ambiguous && message.contains("node 1043"),
        "{message}"
    );
}

/// A candidate becomes a learner, and a learner a voter once it has caught up.
#[test]
fn newcomers_are_promoted() {
    let change = promotes("d");
    let well = c_is_lost().alive(3);
    assert_eq!(refusal(&change, &well).0, MemberRefusal::NoCandidate);
    assert_eq!(
        step(&change, &well.clone().asks("d", "new")),
        Step::Admit(info("d", "new"))
    );
    let behind = well.clone().learns(1042, "d", Some(RECENT), 50_000);
    assert_eq!(step(&change, &behind), Step::CatchUp(1042), "far behind");
    let there = well.clone().learns(1042, "d", Some(RECENT), 1);
    let voters = BTreeSet::from([1, 2, 3, 1042]);
    assert_eq!(step(&change, &there), Step::SetVoters { voters, about: 1042 });
    assert!(
        matches!(step(&promotes("b"), &well), Step::Done { about: 2, .. }),
        "said again"
    );
    let (code, message) = refusal(&promotes("b"), &well.clone().asks("b", "new"));
    assert!(
        code == MemberRefusal::IsMember && message.contains("blox member replace b"),
        "{message}"
    );
    let mut squatter = well.asks("d", "new");
    squatter.candidates[0].info.peer_address = "b-old:1".into();
    assert_eq!(refusal(&change, &squatter).0, MemberRefusal::AddressTaken);
}
