//! Whether a history of reads and writes of versioned registers is linearizable.
//!
//! Every write has a value of its own, and every answer says the register's mod revision: the order in which the cluster claims to have
//! done things. A history is linearizable exactly if that order is one of values (no two under a revision, no revision twice) and agrees
//! with real time: what ended before another began comes first. Writes without an answer may have happened at any time after they began, or never.

use std::collections::{BTreeMap, HashMap};

/// What was done. Times are nanoseconds of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Operation {
    pub key: String,
    pub begin: u64,
    pub end: u64,
    pub did: Did,
    /// Who and where, for the messages.
    #[allow(dead_code, reason = "shown by Debug")]
    pub by: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// Acknowledged, at this revision.
    Wrote { value: String, revision: u64 },
    /// Its outcome is not known.
    MayHaveWritten { value: String },
    /// Refused: never done.
    NeverWrote { value: String },
    /// What a read found; `None`, 0: nothing.
    Read { value: Option<String>, revision: u64 },
}

/// The first violation found.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    keys.values().try_for_each(|operations| check_register(operations))
}

fn check_register(operations: &[&Operation]) -> Result<(), String> {
    values_are_whole(operations)?;
    reads_saw_what_was_written(operations)?;
    revisions_follow_real_time(operations)
}

/// One value a revision, one revision a value.
fn values_are_whole(operations: &[&Operation]) -> Result<(), String> {
    let mut by_revision: HashMap<u64, &str> = HashMap::new();
    let mut by_value: HashMap<&str, u64> = HashMap::new();
    for operation in operations {
        let (value, revision) = match &operation.did {
            Did::Wrote { value, revision } => (value, *revision),
            Did::Read {
                value: Some(value),
                revision,
            } => (value, *revision),
            Did::Read {
                value: None,
                revision: 0,
            }
            | Did::MayHaveWritten { .. }
            | Did::NeverWrote { .. } => continue,
            Did::Read { value: None, .. } => return Err(format!("nothing was found at a revision: {operation:?}")),
        };
        let (known_value, known_revision) = (
            *by_revision.entry(revision).or_insert(value),
            *by_value.entry(value).or_insert(revision),
        );
        if known_value != value || known_revision != revision {
            return Err(format!(
                "revision {revision} is {known_value:?}, {value:?} is revision {known_revision}: {operation:?}"
            ));
        }
    }
    Ok(())
}

/// Nothing was read that was refused, that nobody wrote, or that was written only later.
fn reads_saw_what_was_written(operations: &[&Operation]) -> Result<(), String> {
    let mut begun: HashMap<&str, u64> = HashMap::new();
    for operation in operations {
        if let Did::Wrote { value, .. } | Did::MayHaveWritten { value } = &operation.did {
            begun.insert(value, operation.begin);
        }
    }
    for operation in operations {
        if let Did::Read { value: Some(value), .. } = &operation.did {
            match begun.get(value.as_str()) {
                Some(begin) if *begin < operation.end => {}
                Some(_) => return Err(format!("read before it was written: {operation:?}")),
                None => return Err(format!("read, and never written: {operation:?}")),
            }
        }
    }
    Ok(())
}

/// What ended before another operation began is at no later revision; before a write, at an earlier one.
fn revisions_follow_real_time(operations: &[&Operation]) -> Result<(), String> {
    let known = operations.iter().filter_map(|operation| match operation.did {
        Did::Wrote { revision, .. } | Did::Read { revision, .. } => Some((*operation, revision)),
        Did::MayHaveWritten { .. } | Did::NeverWrote { .. } => None,
    });
    let mut by_begin: Vec<(&Operation, u64)> = known.collect();
    let mut by_end = by_begin.clone();
    by_begin.sort_by_key(|(operation, _)| operation.begin);
    by_end.sort_by_key(|(operation, _)| operation.end);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<(&Operation, u64)> = None;
    for (operation, revision) in by_begin {
        while let Some((earlier, earlier_revision)) = ended.next_if(|(earlier, _)| earlier.end < operation.begin) {
            if newest.is_none_or(|(_, newest)| newest < earlier_revision) {
                newest = Some((earlier, earlier_revision));
            }
        }
        let Some((earlier, newest)) = newest else { continue };
        let in_order = match operation.did {
            Did::Wrote { .. } => newest < revision,
            _ => newest <= revision,
        };
        if !in_order {
            return Err(format!(
                "{operation:?} began after {earlier:?} had ended, and stands before it"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begin: u64, end: u64, did: Did) -> Operation {
        Operation {
            key: "k".to_owned(),
            begin,
            end,
            did,
            by: "test".to_owned(),
        }
    }

    fn wrote(begin: u64, end: u64, value: &str, revision: u64) -> Operation {
        let value = value.to_owned();
        at(begin, end, Did::Wrote { value, revision })
    }

    fn read(begin: u64, end: u64, value: &str, revision: u64) -> Operation {
        let value = (revision > 0).then(|| value.to_owned());
        at(begin, end, Did::Read { value, revision })
    }

    fn maybe(begin: u64, end: u64, value: &str) -> Operation {
        at(
            begin,
            end,
            Did::MayHaveWritten {
                value: value.to_owned(),
            },
        )
    }

    #[test]
    fn good_histories_are_valid() {
        let histories = [
            vec![read(0, 1, "", 0), wrote(2, 3, "a", 1), read(4, 5, "a", 1)],
            // While a write is under way a read sees either side, in any order among overlapping reads.
            vec![wrote(0, 10, "a", 1), read(1, 4, "", 0), read(3, 5, "a", 1)],
            // What timed out may appear late ...
            vec![maybe(0, 1, "a"), read(2, 3, "", 0), read(5, 6, "a", 1)],
            // ... after a later write too, or never.
            vec![
                maybe(0, 1, "a"),
                wrote(2, 3, "b", 1),
                read(4, 5, "b", 1),
                read(6, 7, "a", 2),
            ],
            vec![maybe(0, 1, "a"), wrote(2, 3, "b", 1), read(4, 5, "b", 1)],
        ];
        for history in histories {
            assert_eq!(check(&history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn bad_histories_are_not() {
        let never = at(0, 1, Did::NeverWrote { value: "a".to_owned() });
        let histories = [
            (
                "a stale read",
                vec![wrote(0, 1, "a", 1), wrote(2, 3, "b", 2), read(4, 5, "a", 1)],
            ),
            ("a lost write", vec![wrote(0, 1, "a", 1), read(2, 3, "", 0)]),
            (
                "time travel between reads",
                vec![maybe(0, 9, "a"), read(1, 2, "a", 1), read(3, 4, "", 0)],
            ),
            ("a read of the future", vec![read(0, 1, "a", 1), wrote(2, 3, "a", 1)]),
            ("out of thin air", vec![read(0, 1, "x", 1)]),
            ("refused and done", vec![never, read(2, 3, "a", 1)]),
            ("done twice", vec![wrote(0, 1, "a", 1), read(2, 3, "a", 2)]),
            (
                "two values at a revision",
                vec![wrote(0, 1, "a", 1), maybe(0, 1, "b"), read(2, 3, "b", 1)],
            ),
            ("writes out of order", vec![wrote(0, 1, "a", 2), wrote(2, 3, "b", 1)]),
        ];
        for (what, history) in histories {
            assert!(check(&history).is_err(), "{what}: {history:?}");
        }
    }
}
