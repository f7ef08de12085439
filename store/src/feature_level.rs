//! Feature levels: what may be written to log and state while nodes of different versions run.
//!
//! A release that writes something older ones cannot read (a command, a field they would have to understand) raises [`FeatureLevel::NEWEST`]
//! and asks [`crate::Store::may_write`] before it writes it. The state's level rises by a command, which the leader proposes once every
//! member says that it knows the level. A node refuses a state, a snapshot, a backup and a command above its own.

use std::fmt;

/// What may be written. Levels only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeatureLevel(u32);

impl FeatureLevel {
    /// What the first release writes.
    pub const FIRST: FeatureLevel = FeatureLevel(1);
    /// The newest this version knows.
    pub const NEWEST: FeatureLevel = FeatureLevel(1);

    /// The level of a stored number; 0 stands for the first.
    pub const fn new(level: u32) -> FeatureLevel {
        match level {
            0 => FeatureLevel::FIRST,
            level => FeatureLevel(level),
        }
    }

    /// As it is stored.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
