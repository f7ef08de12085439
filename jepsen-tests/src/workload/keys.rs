//! The keys that a workload works on at the moment: a few at a time, so that its clients meet on them, and each only so long that its history can be
//! judged quickly.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::Rng;
use serde_json::Value;

/// When a key has had enough.
#[derive(Clone, Copy, Debug)]
pub struct Wear {
    /// Operations on one key at most, or a few more that are under way.
    pub operations_max: u32,
    /// Of them with unknown outcome: each doubles what a judge may have to try.
    pub unknown_max: u32,
}

/// What was last known of a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Its value; null: absent.
    pub value: Value,
    /// Its mod revision; 0: absent.
    pub revision: u64,
    /// The state's revision when this was so: what is newer counts.
    pub at: u64,
}

/// A key for one operation.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Its whole name.
    pub key: String,
    /// What is known of it.
    pub seen: Seen,
    slot: usize,
    number: u64,
}

/// See the module. Shared by all workers of a crew.
pub struct Keys {
    prefix: String,
    wear: Wear,
    inner: Mutex<Inner>,
}

struct Inner {
    slots: Vec<Slot>,
    made: u64,
}

struct Slot {
    number: u64,
    operations: u32,
    unknown: u32,
    seen: Seen,
}

impl Slot {
    fn new(number: u64) -> Slot {
        Slot {
            number,
            operations: 0,
            unknown: 0,
            seen: Seen::default(),
        }
    }
}

impl Keys {
    /// So many at a time, named `prefix` and a number.
    pub fn new(prefix: &str, at_a_time: usize, wear: Wear) -> Keys {
        Keys {
            prefix: prefix.to_owned(),
            wear,
            inner: Mutex::new(Inner {
                slots: (0..at_a_time as u64).map(Slot::new).collect(),
                made: at_a_time as u64,
            }),
        }
    }

    /// One of them.
    pub fn draw(&self, random: &mut impl Rng) -> Drawn {
        let mut inner = self.lock();
        let slot = random.random_range(0..inner.slots.len());
        let next = inner.made;
        let one = &mut inner.slots[slot];
        let worn = one.operations >= self.wear.operations_max || one.unknown >= self.wear.unknown_max;
        if worn {
            *one = Slot::new(next);
        }
        one.operations += 1;
        let drawn = Drawn {
            key: format!("{}{}", self.prefix, one.number),
            seen: one.seen.clone(),
            slot,
            number: one.number,
        };
        if worn {
            inner.made += 1;
        }
        drawn
    }

    /// What an answer told of a key.
    pub fn learned(&self, drawn: &Drawn, seen: Seen) {
        self.with(drawn, |slot| {
            if seen.at >= slot.seen.at {
                slot.seen = seen;
            }
        });
    }

    /// Nobody knows what became of an operation on a key.
    pub fn unknown(&self, drawn: &Drawn) {
        self.with(drawn, |slot| slot.unknown += 1);
    }

    /// Names of all that were ever drawn from.
    pub fn all(&self) -> Vec<String> {
        let made = self.lock().made;
        (0..made).map(|number| format!("{}{number}", self.prefix)).collect()
    }

    fn with(&self, drawn: &Drawn, change: impl FnOnce(&mut Slot)) {
        let mut inner = self.lock();
        let slot = &mut inner.slots[drawn.slot];
        // Another key may stand there by now.
        if slot.number == drawn.number {
            change(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A key goes after so many operations, or so many unknown ones, and takes what is known of it along.
    #[test]
    fn keys_wear_out() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let wear = Wear {
            operations_max: 3,
            unknown_max: 2,
        };
        let keys = Keys::new("k/", 1, wear);
        let first = keys.draw(&mut random);
        let seen = |revision, at| Seen {
            value: Value::Null,
            revision,
            at,
        };
        keys.learned(&first, seen(7, 9));
        keys.learned(&first, seen(5, 8));
        assert_eq!(
            (
                keys.draw(&mut random).key.as_str(),
                keys.draw(&mut random).seen.revision
            ),
            ("k/0", 7)
        );
        let second = keys.draw(&mut random);
        assert_eq!((second.key.as_str(), second.seen.revision), ("k/1", 0));
        keys.unknown(&first);
        keys.unknown(&second);
        assert_eq!(keys.draw(&mut random).key, "k/1");
        keys.unknown(&second);
        assert_eq!(keys.draw(&mut random).key, "k/2");
        assert_eq!(keys.all(), ["k/0", "k/1", "k/2"]);
    }
}
