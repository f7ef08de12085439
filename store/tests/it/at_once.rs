//! Entries applied without waiting, where that can be, and in the ordinary way where it cannot.

use blox_store::{AppliedEntry, LogEntry, Store};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Fed, RandomLog, command, log_entry, open, put, seed};

/// Applies an entry, at once if that can be; whether it was.
fn apply(store: &Store, entry: &LogEntry) -> (Vec<AppliedEntry>, bool) {
    let entries = std::slice::from_ref(entry);
    if let Some(applied) = store.apply_at_once(entries).expect("applies") {
        return (applied, true);
    }
    (store.apply(entries).expect("applies"), false)
}

/// Whichever way each entry takes, over restarts and checkpoints at random places, outcomes and state are those of a store that never waits;
/// and who could not apply an entry at once has done nothing.
#[test]
fn either_way_leads_to_the_same_state() {
    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let (mut store, expected) = (open(&state), Store::in_memory());
    let mut log = RandomLog::new(seed, 3);
    let (mut at_once, mut refused) = (0, 0);
    for number in 0..1_500 {
        let entry = log.entry();
        let before = store.fingerprint().expect("readable");
        if let Some(applied) = store.apply_at_once(std::slice::from_ref(&entry)).expect("applies") {
            at_once += 1;
            assert_eq!(
                outcomes(&applied),
                outcomes(&expected.apply(&[entry]).expect("applies"))
            );
        } else {
            refused += 1;
            assert_eq!(
                store.fingerprint().expect("readable"),
                before,
                "entry {number}, seed {seed}"
            );
            let applied = store.apply(std::slice::from_ref(&entry)).expect("applies");
            assert_eq!(
                outcomes(&applied),
                outcomes(&expected.apply(&[entry]).expect("applies"))
            );
        }
        assert_eq!(
            store.fingerprint().expect("readable"),
            expected.fingerprint().expect("readable"),
            "entry {number}, seed {seed}"
        );
        match random.random_range(0..40) {
            0 => {
                drop(store);
                store = open(&state);
            }
            1 => {
                let checkpoint = directory.path().join(format!("checkpoint-{number}"));
                store.checkpoint(&checkpoint).expect("a checkpoint");
            }
            2 => store.hand_over().expect("written"),
            _ => {}
        }
    }
    println!("{at_once} at once, {refused} not");
    assert!(at_once > 100 && refused > 100, "{at_once} at once, {refused} not");
}

fn outcomes(applied: &[AppliedEntry]) -> Vec<&[blox_store::proto::Outcome]> {
    applied.iter().map(|entry| entry.outcomes.as_slice()).collect()
}

/// While a piece of history is deleted with each entry, none is short work.
#[test]
fn nothing_is_applied_at_once_while_history_is_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(open(directory.path()));
    fed.puts("a", 2_000);
    fed.compact(1_900);
    // One write in 16 is an ordinary one in any case.
    for _ in 0..2 {
        let entry = log_entry(fed.next_index, fed.elapsed_ms, vec![command(put("b", "value"))]);
        assert!(fed.store.apply_at_once(&[entry]).expect("applies").is_none());
        fed.put("b", "value");
    }
    fed.idle(10);
    assert!(is_applied_at_once(&mut fed, "b"));
}

/// A short command may replace a large value, which is written once more: no short work.
#[test]
fn a_large_value_is_not_replaced_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut fed = Fed::new(open(directory.path()));
    fed.put("large", &"v".repeat(40 << 10));
    for _ in 0..2 {
        let entry = log_entry(fed.next_index, fed.elapsed_ms, vec![command(put("large", "value"))]);
        assert!(fed.store.apply_at_once(&[entry]).expect("applies").is_none());
        fed.put("small", "value");
    }
    assert!(is_applied_at_once(&mut fed, "small"));
}

/// Whether one of two short writes is; they are applied either way.
fn is_applied_at_once(fed: &mut Fed, key: &str) -> bool {
    (0..2).fold(false, |before, _| {
        let entry = log_entry(fed.next_index, fed.elapsed_ms, vec![command(put(key, "value"))]);
        fed.next_index += 1;
        let (_, at_once) = apply(&fed.store, &entry);
        before || at_once
    })
}
