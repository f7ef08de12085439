//! Proposals: what waits together travels as one log entry.
//!
//! Callers put encoded commands into a bounded queue ([`queue`]); one task ([`batcher`]) takes what waits and, on the leader, makes one
//! entry of it, on a follower one call to the leader, up to [`IN_FLIGHT_MAX`] at once. A lone proposal waits for nobody.

pub(crate) mod batcher;
mod queue;
mod stages;

use crate::disk::FullDisks;

pub(crate) use queue::{Answer, Origin, Proposal, ProposalQueue, Submitted, queue};
pub(crate) use stages::{Stages, Told};

/// Largest single command, bytes: with its entry it must fit in one gRPC message.
pub const COMMAND_BYTES_MAX: usize = 8 << 20;
/// Commands that wait together become one entry up to this size, bytes (a single larger one is an entry by itself), ...
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// ... and of this many commands: what one does to the state may be far larger than itself (deleting a value moves all of it), and an
/// entry is applied whole.
const ENTRY_COMMANDS_MAX: usize = 128;
/// Entries (or calls to the leader) under way to one leader in one term at once.
const IN_FLIGHT_MAX: usize = 4;
/// Waiting proposals, in count and bytes; beyond, callers are told to come again.
const WAITING_MAX: usize = 16_384;
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Why a proposal has no outcome. Nothing was written, except where it is unknown.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// Nobody could take it at the moment: why.
    TryAgain(String),
    /// Only the leader of a certain term may propose it, and that is not this node.
    NotLeader,
    /// Too much waits.
    Overloaded,
    /// Too little room on disk.
    DiskFull(FullDisks),
    /// It was submitted; what became of it is not known.
    Unknown(String),
    /// Consensus has ended on this node.
    Stopped(String),
}
