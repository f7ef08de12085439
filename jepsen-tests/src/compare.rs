//! Streams compared with the history: each must have told exactly the changes that there were, once, in order.

/// A change: its revision, and a hash of what it is (kind, key, put or delete).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state's counter.
    pub revision: u64,
    /// Equal for equal changes.
    pub identity: u64,
}

/// A change as a stream told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub change: Change,
    /// When.
    pub at_ns: u64,
}

/// How a stream differs from the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The history has it, the stream passed it over.
    Missing,
    /// It was told already, or told after a later one.
    Repeated,
    /// The history has another change at that revision, or none.
    Foreign,
}

/// One difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is wrong.
    pub fault: Fault,
    /// With which revision.
    pub revision: u64,
    /// When the stream told it, or of a missing one what came in its place.
    pub at_ns: u64,
}

/// Every difference between a stream and the history, which is in order. `end_ns`: when the stream was last looked at.
pub fn differences(history: &[Change], stream: &[Told], end_ns: u64) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut next = 0;
    for told in stream {
        let note = |fault, revision| Difference {
            fault,
            revision,
            at_ns: told.at_ns,
        };
        // Passed over: everything before it that was not told yet.
        let passed = history[next..]
            .iter()
            .take_while(|change| change.revision < told.change.revision);
        let missing: Vec<Difference> = passed.map(|change| note(Fault::Missing, change.revision)).collect();
        next += missing.len();
        found.extend(missing);
        // Changes of one revision come in one order, but are all of that moment.
        let same = history[next..]
            .iter()
            .take_while(|change| change.revision == told.change.revision);
        if let Some(ahead) = same.clone().position(|change| *change == told.change) {
            found.extend(same.take(ahead).map(|change| note(Fault::Missing, change.revision)));
            next += ahead + 1;
        } else if history[..next].contains_change(told.change) {
            found.push(note(Fault::Repeated, told.change.revision));
        } else {
            found.push(note(Fault::Foreign, told.change.revision));
        }
    }
    found.extend(history[next..].iter().map(|change| Difference {
        fault: Fault::Missing,
        revision: change.revision,
        at_ns: end_ns,
    }));
    found
}

trait InOrder {
    fn contains_change(&self, change: Change) -> bool;
}

impl InOrder for [Change] {
    fn contains_change(&self, change: Change) -> bool {
        let begin = self.partition_point(|other| other.revision < change.revision);
        self[begin..]
            .iter()
            .take_while(|other| other.revision == change.revision)
            .any(|other| *other == change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> Vec<Change> {
        [(1, 10), (2, 20), (3, 30), (3, 31), (4, 40)]
            .map(|(revision, identity)| Change { revision, identity })
            .into()
    }

    fn told(changes: &[(u64, u64)]) -> Vec<Told> {
        let at = |(position, (revision, identity)): (usize, &(u64, u64))| Told {
            change: Change {
                revision: *revision,
                identity: *identity,
            },
            at_ns: position as u64,
        };
        changes.iter().enumerate().map(at).collect()
    }

    fn faults(changes: &[(u64, u64)]) -> Vec<(Fault, u64, u64)> {
        let found = differences(&history(), &told(changes), 99);
        found
            .into_iter()
            .map(|one| (one.fault, one.revision, one.at_ns))
            .collect()
    }

    /// The same changes in the same order, two of one revision too.
    #[test]
    fn a_stream_that_tells_all_is_well() {
        assert_eq!(faults(&[(1, 10), (2, 20), (3, 30), (3, 31), (4, 40)]), []);
    }

    /// In the middle, inside a revision, at the end.
    #[test]
    fn a_gap_is_found_where_it_is() {
        assert_eq!(faults(&[(1, 10), (3, 30), (3, 31), (4, 40)]), [(Fault::Missing, 2, 1)]);
        assert_eq!(faults(&[(1, 10), (2, 20), (3, 31), (4, 40)]), [(Fault::Missing, 3, 2)]);
        assert_eq!(faults(&[(1, 10), (2, 20), (3, 30), (3, 31)]), [(Fault::Missing, 4, 99)]);
        assert_eq!(faults(&[]).len(), 5);
    }

    /// A resumed stream that begins too early.
    #[test]
    fn a_repeat_is_found() {
        let twice = [(1, 10), (2, 20), (2, 20), (3, 30), (3, 31), (4, 40)];
        assert_eq!(faults(&twice), [(Fault::Repeated, 2, 2)]);
        let again = [(1, 10), (2, 20), (3, 30), (3, 31), (2, 20), (4, 40)];
        assert_eq!(faults(&again), [(Fault::Repeated, 2, 4)]);
    }

    /// Told too late, it was missing and comes out of order.
    #[test]
    fn disorder_is_a_gap_and_a_repeat() {
        let swapped = [(1, 10), (3, 30), (3, 31), (2, 20), (4, 40)];
        assert_eq!(faults(&swapped), [(Fault::Missing, 2, 1), (Fault::Repeated, 2, 3)]);
    }

    /// Another content under a known revision, and a revision that never was.
    #[test]
    fn what_never_happened_is_foreign() {
        let other = [(1, 10), (2, 21), (3, 30), (3, 31), (4, 40)];
        assert_eq!(faults(&other), [(Fault::Foreign, 2, 1), (Fault::Missing, 2, 2)]);
        let more = [(1, 10), (2, 20), (3, 30), (3, 31), (4, 40), (5, 50)];
        assert_eq!(faults(&more), [(Fault::Foreign, 5, 5)]);
    }
}
