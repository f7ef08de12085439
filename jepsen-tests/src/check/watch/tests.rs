use super::*;
use crate::check::testing::{refuted, undecided};

fn change(revision: u64, identity: u64) -> Change {
    Change { revision, identity }
}

/// Revision 3 has two changes, 5 has none.
fn changes() -> Vec<Change> {
    [(1, 10), (2, 20), (3, 30), (3, 31), (4, 40), (6, 60)]
        .map(|(revision, identity)| change(revision, identity))
        .into()
}

/// Words: `r.i` a change, `b` with a number a bookmark, `t` with a number "too old".
fn connection(from: Option<u64>, items: &str) -> Connection {
    let number = |text: &str| text.parse().expect("a number");
    let item = |word: &str| match (word.strip_prefix('b'), word.strip_prefix('t'), word.split_once('.')) {
        (Some(revision), _, _) => Item::Bookmark(number(revision)),
        (_, Some(oldest), _) => Item::TooOld(number(oldest)),
        (_, _, Some((revision, identity))) => Item::Change(change(number(revision), number(identity))),
        _ => panic!("{word}"),
    };
    Connection {
        node: "n".to_owned(),
        from,
        items: items.split_whitespace().map(item).collect(),
        unreadable: None,
    }
}

fn judged(connections: &[(u64, &str)]) -> Verdict {
    judged_from(1, connections)
}

/// Held against a log that is kept from this revision on.
fn judged_from(from: u64, connections: &[(u64, &str)]) -> Verdict {
    let connections = connections
        .iter()
        .map(|(from, items)| connection(Some(*from), items))
        .collect();
    let changes: Vec<Change> = changes().into_iter().filter(|change| change.revision >= from).collect();
    let log = Log {
        from,
        until: 6,
        changes: &changes,
    };
    check(
        log,
        &[Reader {
            name: "r".to_owned(),
            connections,
        }],
    )
}

/// In one go, over connections, torn and asked again, from now on, and anew after "too old".
#[test]
fn good_readers() {
    assert_eq!(
        judged(&[(1, "b0 1.10 2.20 b2 3.30 3.31 4.40 b5 6.60 b6")]),
        Verdict::Valid
    );
    assert_eq!(
        judged(&[
            (1, "1.10 2.20"),
            (3, ""),
            (3, "3.30"),
            (3, "3.30 3.31 4.40"),
            (5, "b4 b5 6.60")
        ]),
        Verdict::Valid
    );
    let anew = [(1, "1.10"), (2, "t3"), (3, "t4"), (4, "4.40 6.60")];
    assert_eq!(judged_from(4, &anew), Verdict::Valid);
    let changes = changes();
    let log = Log {
        from: 1,
        until: 6,
        changes: &changes,
    };
    let late = Reader {
        name: "r".to_owned(),
        connections: vec![connection(None, "b3 4.40 6.60")],
    };
    assert_eq!(check(log, &[late]), Verdict::Valid);
}

/// Each promise broken by itself, and found by its own name.
#[test]
fn broken_promises() {
    let only = |connections: &[(u64, &str)], promise: &str| {
        let verdict = judged(connections);
        refuted(&verdict, promise);
        assert!(
            verdict.sentences().iter().all(|one| one.starts_with(promise)),
            "{verdict}"
        );
    };
    only(&[(1, "1.10 2.20 3.30 3.31 4.41 4.40 6.60")], "committed:");
    only(&[(1, "1.10 2.20 3.30 3.31 4.40 5.50 6.60")], "committed:");
    only(&[(1, "2.20 1.10 3.30 3.31 4.40 6.60")], "ordered:");
    only(&[(1, "1.10 2.20 3.31 3.30 4.40 6.60")], "ordered:");
    only(&[(1, "1.10 2.20 2.20 3.30 3.31 4.40 6.60")], "unique:");
    only(&[(1, "1.10 2.20 3.30 3.31 2.20 4.40 6.60")], "unique:");
    only(&[(1, "1.10 2.20 3.30 4.40 6.60")], "atomic:");
    only(&[(1, "1.10 2.20 3.30"), (4, "4.40 6.60")], "atomic:");
    only(&[(1, "1.10 3.30 3.31 4.40 6.60")], "reliable:");
    only(&[(1, "1.10 2.20"), (3, "4.40 6.60")], "reliable:");
    only(&[(2, "2.20 3.30 3.31"), (4, "t3"), (4, "4.40 6.60")], "resumable:");
    // A refusal that hides a gap: all of it is kept.
    only(&[(1, "1.10"), (2, "t4"), (4, "4.40 6.60")], "resumable:");
    only(&[(4, "3.30 3.31 4.40 6.60")], "resumable:");
    only(&[(1, "1.10 2.20 b4 3.30 3.31 4.40 6.60")], "bookmarkable:");
    only(&[(1, "1.10 2.20 3.30 3.31 4.40 b6")], "bookmarkable:");
    only(&[(1, "1.10 2.20 3.30 3.31 4.40 b4 b3 6.60")], "bookmarkable:");
    only(&[(1, "1.10 2.20 3.30 3.31 4.40 6.60 b7")], "bookmarkable:");
    let mut unreadable = connection(Some(1), "1.10 2.20");
    unreadable.unreadable = Some("unknown line: {}".to_owned());
    let changes = changes();
    let log = Log {
        from: 1,
        until: 2,
        changes: &changes[..2],
    };
    let reader = Reader {
        name: "r".to_owned(),
        connections: vec![unreadable],
    };
    refuted(&check(log, &[reader]), "readable: r on n from 1 tells what is no line");
    refuted(
        &judged(&[(1, "1.10 2.20 3.30 b2 3.31 4.40 6.60")]),
        "atomic: r on n from 1 tells a bookmark within revision 3",
    );
    refuted(
        &judged(&[(1, "1.10 2.20"), (3, "2.20 3.30 3.31 4.40 6.60")]),
        "unique: r on n from 3 tells revision 2 again",
    );
}

/// A reader that stopped early, or passed over something itself, and nobody at all.
#[test]
fn what_proves_nothing() {
    undecided(
        &judged(&[(1, "1.10 2.20 3.30 3.31 4.40")]),
        "r was told revision 4, the log ends at 6",
    );
    undecided(&judged(&[(1, "")]), "was told nothing");
    undecided(
        &judged(&[(1, "1.10"), (4, "4.40 6.60")]),
        "did not ask for what is after 1",
    );
    undecided(
        &check(
            Log {
                from: 1,
                until: 6,
                changes: &changes(),
            },
            &[],
        ),
        "nobody watched",
    );
}
