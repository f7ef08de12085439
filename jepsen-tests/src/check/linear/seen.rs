//! Configurations that were tried.

use std::collections::HashMap;

/// Bytes of a remembered configuration, and of each set of used unknown operations with it, besides their contents.
const REMEMBERED_BYTES: usize = 80;
const USED_BYTES: usize = 32;
/// Sets of used unknown operations that a new one is compared with: the latest.
const COMPARED_MAX: usize = 64;

/// Used unknown operations: class and count of each, in the order of classes.
type Used = Box<[(u32, u32)]>;

/// Configurations: what is placed and the state, with the sets of used unknown operations.
#[derive(Default)]
pub(super) struct Seen {
    all: HashMap<Box<[u64]>, Vec<Used>>,
    /// What they take.
    pub(super) bytes: usize,
}

impl Seen {
    /// Notes one; `false`: it, or one with less used, was there already.
    pub(super) fn note(&mut self, key: Vec<u64>, used: Used) -> bool {
        let (key_bytes, used_bytes) = (key.len() * 8 + REMEMBERED_BYTES, used.len() * 8 + USED_BYTES);
        let known = self.all.entry(key.into_boxed_slice()).or_insert_with(|| {
            self.bytes += key_bytes;
            Vec::new()
        });
        if known.iter().rev().take(COMPARED_MAX).any(|less| is_within(less, &used)) {
            return false;
        }
        self.bytes += used_bytes;
        known.push(used);
        true
    }
}

/// Whether nothing is used more in the one than in the other; both in the order of classes.
fn is_within(one: &[(u32, u32)], other: &[(u32, u32)]) -> bool {
    let mut rest = other.iter();
    one.iter().all(|(class, count)| {
        rest.find(|(other, _)| other >= class)
            .is_some_and(|(other, more)| other == class && more >= count)
    })
}
