use std::time::Instant;

use rand::Rng;

use super::agreement::agreement;
use super::random::{Shape, draw};
use super::{Limits, check, check_within};
use crate::check::history::{History, Operation};
use crate::check::testing::{history, refuted, seeded, undecided};
use crate::check::verdict::Verdict;

fn judged(text: &str) -> Verdict {
    check(&history(text))
}

/// Overlapping operations may take effect in any order, an unknown one late or never, a failed one never.
#[test]
fn good_histories() {
    for good in [
        "0 invoke write k a\n0 ok write k a @1\n1 invoke read k -\n1 ok read k a @1",
        "0 invoke read k -\n0 ok read k - @0",
        "0 invoke write k a\n1 invoke read k -\n1 ok read k a @1\n2 invoke read k -\n2 ok read k a @1\n0 ok write k a @1",
        "0 invoke write k a\n0 info write k a\n1 invoke read k -\n1 ok read k - @0\n1 invoke read k -\n1 ok read k a @4",
        "0 invoke write k a\n0 fail write k a\n1 invoke read k -\n1 ok read k - @0",
        "0 invoke cas k [null,\"a\"]\n0 ok cas k [null,\"a\"] @3\n0 invoke cas k [\"a\",\"b\"] @3\n0 ok cas k [\"a\",\"b\"] @9\n1 invoke delete k - @9\n1 ok delete k - @12\n1 invoke read k -\n1 ok read k - @0",
        "0 invoke write k 1\n1 invoke write k 2\n0 ok write k 1\n1 ok write k 2\n2 invoke read k -\n2 ok read k 1",
        "0 invoke write k 1\n0 ok write k 1 @2\n0 invoke write l 1\n0 ok write l 1 @3\n0 invoke read k -\n0 ok read k 1 @2",
        "0 invoke enqueue q 1\n0 ok enqueue q 2",
        "0 invoke write k a\n0 ok write k a @3\n0 invoke delete k -\n0 ok delete k - @0 {\"deleted_at\":4}\n0 invoke write k b\n0 ok write k b @5",
        "0 invoke delete k -\n0 fail delete k - {\"observed\":0}\n0 invoke write k a\n1 invoke cas k [\"z\",\"b\"] @2\n1 fail cas k [\"z\",\"b\"] {\"observed\":4}\n0 ok write k a @4",
        "0 invoke add s 1\n0 ok add s 1 @2\n0 invoke read s -\n0 ok read s [1] @2",
    ] {
        assert_eq!(judged(good), Verdict::Valid, "{good}");
    }
}

/// Each way to be wrong, without revisions.
#[test]
fn bad_values() {
    for bad in [
        // Stale.
        "0 invoke write k a\n0 ok write k a\n0 invoke write k b\n0 ok write k b\n1 invoke read k -\n1 ok read k a",
        // Lost.
        "0 invoke write k a\n0 ok write k a\n1 invoke read k -\n1 ok read k -",
        // From nowhere.
        "0 invoke read k -\n0 ok read k a",
        // A failed write shows.
        "0 invoke write k a\n0 fail write k a\n1 invoke read k -\n1 ok read k a",
        // An unknown write, seen, then gone.
        "0 invoke write k a\n0 info write k a\n1 invoke read k -\n1 ok read k a\n1 invoke read k -\n1 ok read k -",
        // Two that compared with the same value.
        "0 invoke write k a\n0 ok write k a\n0 invoke cas k [\"a\",\"b\"]\n1 invoke cas k [\"a\",\"c\"]\n0 ok cas k [\"a\",\"b\"]\n1 ok cas k [\"a\",\"c\"]",
        // Before it was called.
        "0 invoke read k -\n0 ok read k a\n1 invoke write k a\n1 info write k a",
        // Deleted, and there.
        "0 invoke write k a\n0 ok write k a\n0 invoke delete k -\n0 ok delete k -\n0 invoke read k -\n0 ok read k a",
        // Seen in two orders.
        "0 invoke write k 1\n1 invoke write k 2\n2 invoke read k -\n2 ok read k 1\n2 invoke read k -\n2 ok read k 2\n2 invoke read k -\n2 ok read k 1\n0 ok write k 1\n1 ok write k 2",
    ] {
        assert_eq!(judged(bad).word(), "invalid", "{bad}");
    }
}

/// Each way in which only the revisions are wrong.
#[test]
fn bad_revisions() {
    for bad in [
        // A read at another revision than the write's, which nothing explains.
        "0 invoke write k a\n0 ok write k a @3\n1 invoke read k -\n1 ok read k a @4",
        // Applied twice.
        "0 invoke write k a\n0 ok write k a @3\n1 invoke read k -\n1 ok read k a @3\n1 invoke read k -\n1 ok read k a @5",
        // Back.
        "0 invoke write k a\n1 invoke write k a\n0 info write k a\n1 info write k a\n2 invoke read k -\n2 ok read k a @5\n2 invoke read k -\n2 ok read k a @4",
        // A compare-and-set on a revision that was over.
        "0 invoke write k a\n0 ok write k a @3\n0 invoke write k a\n0 ok write k a @4\n1 invoke cas k [\"a\",\"b\"] @3\n1 ok cas k [\"a\",\"b\"] @5",
        // It was to be absent.
        "0 invoke write k a\n0 ok write k a @3\n1 invoke cas k [null,\"b\"] @0\n1 ok cas k [null,\"b\"] @5",
        // A delete that was told there is nothing, and one that had an effect on nothing.
        "0 invoke write k a\n0 ok write k a @3\n1 invoke delete k -\n1 fail delete k - {\"observed\":0}",
        "0 invoke delete k -\n0 ok delete k - @3",
        "0 invoke delete k -\n0 ok delete k - @0 {\"deleted_at\":3}",
        // Deleted before it was written, by its revision.
        "0 invoke write k a\n0 ok write k a @3\n0 invoke delete k -\n0 ok delete k - @0 {\"deleted_at\":2}",
        // Refused by what was over, by what was never there, and by what was not there yet.
        "0 invoke write k a\n0 ok write k a @3\n0 invoke write k a\n0 ok write k a @4\n1 invoke cas k [\"b\",\"c\"] @2\n1 fail cas k [\"b\",\"c\"] {\"observed\":3}",
        "0 invoke write k a\n0 ok write k a @3\n1 invoke cas k [\"b\",\"c\"] @2\n1 fail cas k [\"b\",\"c\"] {\"observed\":4}",
        "1 invoke cas k [\"b\",\"c\"] @2\n1 fail cas k [\"b\",\"c\"] {\"observed\":3}\n0 invoke write k a\n0 ok write k a @3",
        // No room for the unknown write between two.
        "0 invoke write k a\n0 ok write k a @3\n1 invoke write k b\n1 info write k b\n2 invoke read k -\n2 ok read k b\n0 invoke write k c\n0 ok write k c @4",
    ] {
        assert_eq!(judged(bad).word(), "invalid", "{bad}");
    }
}

/// A read that is one write behind, in the middle of a good history of two keys: the message says where, and is short.
#[test]
fn a_violation_can_be_read() {
    let mut text = String::new();
    for round in 1..=40 {
        let revision = 2 * round;
        text += &format!(
            "0 invoke write k {round}\n1 invoke read l -\n0 ok write k {round} @{revision}\n1 ok read l - @0\n2 invoke read k -\n"
        );
        let seen = if round == 30 { 29 } else { round };
        text += &format!("2 ok read k {seen} @{}\n", 2 * seen);
    }
    let verdict = judged(text.trim_end());
    println!("{verdict}");
    refuted(
        &verdict,
        "key k: no order of its operations explains line 179: process 2 read k -> ok 29 at revision 58 on line 180",
    );
    refuted(&verdict, "59 of 80 answers; then the key can be 30 at revision 60");
    refuted(
        &verdict,
        "line 175: process 0 write k 30 -> ok at revision 60 on line 177",
    );
    assert!(verdict.to_string().lines().count() < 16, "{verdict}");
}

/// What cannot be read as a register, or costs too much, is unknown and not valid.
#[test]
fn what_is_not_decided_is_unknown() {
    undecided(
        &judged("0 invoke cas k b\n0 ok cas k b @7"),
        "line 1 asks \"b\": neither",
    );
    // Many writes at once, then a value that was never written: every subset is a configuration.
    let mut text: String = (0..14)
        .map(|process| format!("{process} invoke write k {process}\n"))
        .collect();
    text += "20 invoke read k -\n20 ok read k 99\n";
    text.extend((0..14).map(|process| format!("{process} ok write k {process}\n")));
    let history = history(text.trim_end());
    undecided(
        &check_within(
            &history,
            Limits {
                memory_bytes_max: 100_000,
            },
        ),
        "key k: not decided within 0 MiB",
    );
    assert_eq!(check(&history).word(), "invalid", "with room it is decided");
}

/// The search and the trial of every order agree on small random histories, good and bad; and what is wrong with revisions alone is wrong.
#[test]
fn the_search_agrees_with_brute_force() {
    let seed = seeded().random();
    let soak = std::env::var_os("BLOX_SOAK").is_some_and(|value| !value.is_empty());
    let found = agreement(seed, if soak { 100_000 } else { 2_000 });
    println!(
        "{} histories: {} good, {} bad ({} by revisions alone), {} with unknown outcomes, {} with refusals",
        found.histories,
        found.good,
        found.histories - found.good,
        found.by_revisions,
        found.unknowns,
        found.refusals
    );
    assert_eq!(found.differ, 0, "{}", found.told.join("\n\n"));
    assert!(found.means_something(), "{found:?}");
}

const LARGE: Shape = Shape {
    processes: 300,
    operations: 100_000,
    keys: 100,
    values: 5,
    unknown: 0.01,
    revisions: 1.0,
    lies: 0.0,
};

fn timed(name: &str, history: &History) -> Verdict {
    let began = Instant::now();
    let verdict = check(history);
    println!(
        "{name}: {} operations: {} after {:?}",
        history.operations.len(),
        verdict.word(),
        began.elapsed()
    );
    verdict
}

/// Different values of most histories: as many as there are writes, nearly.
const UNIQUE: u64 = 1 << 40;

/// 100,000 operations over 100 keys, three under way on each, one in a hundred unknown, are decided: with all revisions, half of them, none; few values
/// and many; good ones and those with one wrong read.
#[test]
fn large_histories_are_decided() {
    let mut random = seeded();
    for (revisions, values) in [(1.0, 5), (1.0, UNIQUE), (0.5, UNIQUE), (0.0, UNIQUE), (0.0, 5)] {
        let shape = Shape {
            revisions,
            values,
            ..LARGE
        };
        let mut history = draw(shape, &mut random);
        let name = format!("{revisions} of all revisions, {values} values");
        assert_eq!(timed(&name, &history), Verdict::Valid);
        if (revisions, values) == (0.0, 5) {
            // Without revisions, and with unknown writes of every value, a wrong one may take too long to be refuted.
            continue;
        }
        let late = |one: &&mut Operation| one.succeeded("read") && one.called > LARGE.operations;
        let mut reads: Vec<&mut Operation> = history.operations.iter_mut().filter(late).collect();
        let chosen = random.random_range(0..reads.len());
        reads[chosen].answered = serde_json::json!("never written");
        refuted(&timed(&format!("{name}, one wrong"), &history), "never written");
    }
}
