//! The committed changes of keys, as a watch of one node told them after the run: the truth that answers are held against.

use std::collections::HashMap;

use serde_json::Value;

use super::history::Name;

/// A change of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its own.
    pub revision: u64,
    /// Which key.
    pub key: Name,
    /// What is there from then on; `None`: nothing.
    pub value: Option<Value>,
}

/// Every change from one revision up to another.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    from: u64,
    until: u64,
    by_key: HashMap<Name, Vec<Change>>,
}

/// What is known of a key at a revision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth<'a> {
    /// This change was the last one.
    Changed(&'a Change),
    /// It was never there.
    Never,
    /// The changes do not reach back so far.
    NotKept,
}

impl Changes {
    /// All changes with `from` <= revision <= `until`, in order; `from` is 1 unless the beginning was compacted away. An error says which is out of place.
    pub fn new(from: u64, until: u64, all: Vec<Change>) -> Result<Changes, String> {
        let mut by_key: HashMap<Name, Vec<Change>> = HashMap::new();
        let mut last = from;
        for change in all {
            if change.revision < last || change.revision > until {
                return Err(format!(
                    "the change of {} at revision {} stands after {last}, in changes from {from} to {until}",
                    change.key, change.revision
                ));
            }
            last = change.revision;
            by_key.entry(Name::clone(&change.key)).or_default().push(change);
        }
        Ok(Changes { from, until, by_key })
    }

    /// The last revision that they cover: nothing later was committed when they were read.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Whether they go back to the beginning.
    pub fn are_whole(&self) -> bool {
        self.from <= 1
    }

    /// Whether a change of this revision would be among them, if it had been committed.
    pub fn is_kept(&self, revision: u64) -> bool {
        self.are_whole() || revision >= self.from
    }

    /// All, in order.
    pub fn all(&self) -> Vec<&Change> {
        let mut all: Vec<&Change> = self.by_key.values().flatten().collect();
        all.sort_by(|one, other| (one.revision, &one.key).cmp(&(other.revision, &other.key)));
        all
    }

    /// Those of a key, in order.
    pub fn of(&self, key: &str) -> &[Change] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// The last change of a key at or before a revision.
    pub fn at(&self, key: &str, revision: u64) -> Truth<'_> {
        let changes = self.of(key);
        let later = changes.partition_point(|change| change.revision <= revision);
        match later.checked_sub(1) {
            Some(last) => Truth::Changed(&changes[last]),
            None if self.are_whole() => Truth::Never,
            None => Truth::NotKept,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `revision key value`, a value of `-` is a deletion.
    pub(crate) fn changes(from: u64, until: u64, text: &[(u64, &str, &str)]) -> Changes {
        let change = |(revision, key, value): &(u64, &str, &str)| Change {
            revision: *revision,
            key: Name::from(*key),
            value: (*value != "-").then(|| Value::from(*value)),
        };
        Changes::new(from, until, text.iter().map(change).collect()).expect("in order")
    }

    /// The state at any revision, and what is not known of it.
    #[test]
    fn the_past_can_be_asked() {
        let changes = changes(1, 9, &[(2, "k", "a"), (4, "l", "x"), (5, "k", "-")]);
        let at = |revision| match changes.at("k", revision) {
            Truth::Changed(change) => Some((change.revision, change.value.is_some())),
            Truth::Never | Truth::NotKept => None,
        };
        assert_eq!(
            (at(1), at(2), at(4), at(5)),
            (None, Some((2, true)), Some((2, true)), Some((5, false)))
        );
        assert_eq!(changes.at("m", 9), Truth::Never);
        let compacted = Changes::new(3, 9, Vec::new()).expect("in order");
        assert_eq!(compacted.at("k", 9), Truth::NotKept);
    }

    /// A record out of order proves nothing and is refused.
    #[test]
    fn disorder_is_refused() {
        let change = |revision| Change {
            revision,
            key: Name::from("k"),
            value: None,
        };
        assert!(Changes::new(1, 9, vec![change(4), change(3)]).is_err());
        assert!(Changes::new(1, 9, vec![change(10)]).is_err());
        assert!(Changes::new(5, 9, vec![change(4)]).is_err());
    }
}
