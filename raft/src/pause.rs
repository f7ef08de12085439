//! Pauses of random length, so that nodes that wait for the same thing do not move in step.

use std::ops::RangeInclusive;

/// A random number of that range. Decides nothing but how long to wait.
pub(crate) fn between(range: RangeInclusive<u64>) -> u64 {
    rand::random_range(range)
}
