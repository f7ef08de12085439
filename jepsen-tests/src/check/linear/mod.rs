//! Linearizability of a versioned register, key by key: is there one order of all operations, each between its invocation and its end, that a
//! single copy could have answered so?
//!
//! Operations are `read`, `write`, `cas` and `delete` of [`History`]; others are passed over, and so is every key that is a set, a list or written by
//! `once`. Failed ones are left out, but for what a refusal says of the key (`observed`); unknown ones may have happened at any time after their invocation, or never. A key is absent in the
//! beginning. A `cas` may demand a value, a mod revision (0: absent) or both; a `write` and a `delete` with a revision on their invoke demand it
//! too. Revisions are optional, and checked where they stand: they grow along the order, over all keys ([`revisions`]).
//!
//! The method is that of Wing and Gong with Lowe's memory of configurations (set of linearized operations, state): `search`. Keys are
//! independent, since linearizability is local.

pub mod agreement;
mod brute;
mod explain;
mod list;
mod needs;
mod random;
mod register;
pub mod revisions;
mod search;
mod seen;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use super::history::{History, Operation};
use super::verdict::{Findings, Verdict};
use register::Register;
use search::{Decision, decide};

/// Memory for the configurations seen of one key, bytes.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Keys whose violation is explained; of further ones only the name is told.
const EXPLAINED_MAX: usize = 5;

/// What a check may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the configurations of one key, bytes. Beyond it that key is unknown.
    pub memory_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes_max: MEMORY_BYTES_MAX,
        }
    }
}

/// Judges every key, and the revisions of all together.
pub fn check(history: &History) -> Verdict {
    check_within(history, Limits::default())
}

/// The same within other limits.
pub fn check_within(history: &History, limits: Limits) -> Verdict {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    let others = history.operations.iter().filter(|one| register::is_of_another(one));
    let others: HashSet<&str> = others.map(|one| &*one.key).collect();
    let steps = history.operations.iter().filter(|one| register::is_step(one));
    for operation in steps.filter(|one| !others.contains(&*one.key)) {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let (mut violations, mut open) = (Findings::default(), Findings::default());
    for (key, operations) in keys {
        let register = match Register::of(&operations, usize::MAX) {
            Ok(register) => register,
            Err(why) => {
                open.note(format!("key {key}: {why}"));
                continue;
            }
        };
        match decide(&register, limits) {
            Decision::Linearizable(_) => {}
            Decision::Not { stuck } if violations.count() < EXPLAINED_MAX => {
                violations.note(explain::violation(key, &operations, stuck, limits));
            }
            Decision::Not { .. } => violations.note(format!("key {key}: not linearizable either")),
            Decision::TooMuch => open.note(format!(
                "key {key}: not decided within {} MiB: {} operations, {} of them unknown",
                limits.memory_bytes_max >> 20,
                operations.len(),
                register.unknown.len()
            )),
        }
    }
    Verdict::of(violations, open).merge(revisions::check(history))
}
