//! What is done to the cluster. Each fault picks its nodes, breaks something, proves that it is broken, holds, and mends it again; a fault that was not
//! seen to have its effect fails the run.

mod act;
mod cgroup;
mod clock;
mod clocks;
mod cluster;
pub mod damage;
mod disk;
mod disks;
mod found;
mod lag;
mod launch;
mod links;
mod logs;
mod lossy;
mod member;
mod memory;
mod network;
mod power;
mod process;
mod relays;
mod under_way;

use std::time::Duration;

use clap::ValueEnum;

pub use act::{Committed, commit};
pub use cgroup::is_readable as memory_is_readable;
pub use clocks::{ClockError, Clocks, library as clock_library};
pub use cluster::Cluster;
pub use disks::{DiskError, Disks, remove_all as remove_disks};
pub use found::Found;
pub use links::{LinkError, Links};
pub use lossy::LossyDisks;
pub use memory::Limits;
pub use relays::{Lag, Relays, RelaysError, Told};
pub use under_way::UnderWay;

use crate::command::CommandError;
use crate::compose::ComposeError;
use crate::observe::NotInTime;
use crate::simulator::SimulatorError;
use crate::suite::CollectError;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Nemesis {
    /// kill -9, then started again.
    Kill,
    /// Every process stands still, then goes on.
    Pause,
    /// SIGTERM, then started again.
    Term,
    /// One of the partitions below, drawn by lot.
    Partition,
    /// Each chosen node is cut off from every other one; clients and ECS still reach it.
    Isolate,
    /// Nodes and ECS fall into two halves.
    Halves,
    /// Each node reaches one neighbour only: no two see the same majority.
    Ring,
    /// Packets of one direction of one link are dropped.
    Cut,
    /// Cut off and back, again and again.
    Flap,
    /// Some packets between nodes are dropped.
    Loss,
    /// Packets between nodes are late.
    Delay,
    /// Packets between nodes overtake each other, and some come twice.
    Reorder,
    /// The leader is killed, paused or cut off while a StartTask of its own is under way.
    Launch,
    /// Less memory than it has taken.
    Memory,
    /// Lost with its disk, and replaced by an empty node.
    Replace,
    /// Its disk is full, or nearly.
    DiskFull,
    /// Its disk is read-only from one moment on; what was not synced is lost.
    ReadOnly,
    /// Its disk hangs: whoever writes or syncs waits.
    DiskHang,
    /// Its disk hangs for moments, again and again.
    DiskSlow,
    /// Nobody reads what it says: its log pipe is full.
    LogBlock,
    /// Its wall clock jumps.
    Clock,
    /// Its wall clock jumps to and fro.
    Strobe,
    /// Its machine loses power: processes end and what was not synced is lost, at one moment.
    PowerCut,
    /// The same in the middle of writing: parts of what was not synced have reached the disk.
    TornWrite,
    /// A sync answers EIO, and what it was to write is lost.
    FsyncError,
    /// Bits of a file flip while it does not run.
    BitFlip,
    /// The end of a file is missing when it starts again.
    Truncate,
    /// Blocks of a file are zero when it starts again.
    Zero,
}

/// On whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Target {
    /// Any.
    One,
    /// Who leads when it happens.
    Leader,
    /// As many as the others can do without.
    Minority,
    /// More than that.
    Majority,
    /// Every one.
    All,
}

/// What lies under the nodes' volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// ext4 in a file on a loop device: [`Disks`].
    Ext4,
    /// A file system that loses what was not synced: [`LossyDisks`].
    Lossy,
}

impl DiskKind {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            DiskKind::Ext4 => "ext4",
            DiskKind::Lossy => "lossy",
        }
    }
}

/// A fault cannot be committed or mended: no word about Blox, but for [`NemesisError::NotInTime`].
#[derive(Debug, thiserror::Error)]
pub enum NemesisError {
    /// Containers cannot be driven.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Rules cannot be set.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Relays cannot be driven.
    #[error(transparent)]
    Relays(#[from] RelaysError),
    /// Disks cannot be driven.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Clocks cannot be set.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A log cannot be kept.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The other end does not answer.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// Something else happened instead.
    #[error("no effect: {0}")]
    NoEffect(String),
    /// What was done cannot be undone.
    #[error("not mended: {0}")]
    NotMended(String),
    /// The cluster did not come to what it promises.
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
}

/// What was seen of a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// It had one.
    pub seen: bool,
    /// Sentences: what was measured.
    pub evidence: Vec<String>,
}

impl Effect {
    /// Seen, by these sentences.
    pub fn seen(evidence: Vec<String>) -> Effect {
        Effect { seen: true, evidence }
    }

    /// Of several things that must all be seen: what was, or what was instead.
    pub fn of_all(seen: Vec<Result<String, String>>) -> Effect {
        Effect {
            seen: !seen.is_empty() && seen.iter().all(Result::is_ok),
            evidence: seen
                .into_iter()
                .map(|one| one.unwrap_or_else(|instead| instead))
                .collect(),
        }
    }

    /// Not seen: what was instead.
    pub fn none(instead: impl Into<String>) -> Effect {
        Effect {
            seen: false,
            evidence: vec![instead.into()],
        }
    }
}

impl Nemesis {
    /// Those that can be committed by themselves, in the order of the documentation.
    pub const ALL: [Nemesis; 27] = [
        Nemesis::Kill,
        Nemesis::Pause,
        Nemesis::Term,
        Nemesis::Isolate,
        Nemesis::Halves,
        Nemesis::Ring,
        Nemesis::Cut,
        Nemesis::Flap,
        Nemesis::Loss,
        Nemesis::Delay,
        Nemesis::Reorder,
        Nemesis::Launch,
        Nemesis::Memory,
        Nemesis::Replace,
        Nemesis::DiskFull,
        Nemesis::ReadOnly,
        Nemesis::DiskHang,
        Nemesis::DiskSlow,
        Nemesis::LogBlock,
        Nemesis::Clock,
        Nemesis::Strobe,
        Nemesis::PowerCut,
        Nemesis::TornWrite,
        Nemesis::FsyncError,
        Nemesis::BitFlip,
        Nemesis::Truncate,
        Nemesis::Zero,
    ];

    /// Those among which [`Nemesis::Partition`] draws.
    pub const PARTITIONS: [Nemesis; 4] = [Nemesis::Isolate, Nemesis::Halves, Nemesis::Ring, Nemesis::Cut];

    /// As it is named on the command line and in the record of a run.
    pub fn word(self) -> &'static str {
        match self {
            Nemesis::Kill => "kill",
            Nemesis::Pause => "pause",
            Nemesis::Term => "term",
            Nemesis::Partition => "partition",
            Nemesis::Isolate => "isolate",
            Nemesis::Halves => "halves",
            Nemesis::Ring => "ring",
            Nemesis::Cut => "cut",
            Nemesis::Flap => "flap",
            Nemesis::Loss => "loss",
            Nemesis::Delay => "delay",
            Nemesis::Reorder => "reorder",
            Nemesis::Launch => "launch",
            Nemesis::Memory => "memory",
            Nemesis::Replace => "replace",
            Nemesis::DiskFull => "disk-full",
            Nemesis::ReadOnly => "read-only",
            Nemesis::DiskHang => "disk-hang",
            Nemesis::DiskSlow => "disk-slow",
            Nemesis::LogBlock => "log-block",
            Nemesis::Clock => "clock",
            Nemesis::Strobe => "strobe",
            Nemesis::PowerCut => "power-cut",
            Nemesis::TornWrite => "torn-write",
            Nemesis::FsyncError => "fsync-error",
            Nemesis::BitFlip => "bit-flip",
            Nemesis::Truncate => "truncate",
            Nemesis::Zero => "zero",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Nemesis::Kill => "kill -9, then started again",
            Nemesis::Pause => "every process stands still, then goes on",
            Nemesis::Term => "SIGTERM, then started again",
            Nemesis::Partition => "one of isolate, halves, ring and cut",
            Nemesis::Isolate => "cut off from all other nodes",
            Nemesis::Halves => "nodes and ECS fall into two halves",
            Nemesis::Ring => "each node reaches one neighbour only",
            Nemesis::Cut => "one direction of one link is cut",
            Nemesis::Flap => "cut off and back, again and again",
            Nemesis::Loss => "some packets between nodes are dropped",
            Nemesis::Delay => "packets between nodes are late",
            Nemesis::Reorder => "packets overtake each other, some come twice",
            Nemesis::Launch => "struck while a StartTask is under way",
            Nemesis::Memory => "less memory than it has taken",
            Nemesis::Replace => "lost with its disk, and replaced",
            Nemesis::DiskFull => "its disk is full, or nearly",
            Nemesis::ReadOnly => "its disk is read-only from one moment on",
            Nemesis::DiskHang => "its disk hangs",
            Nemesis::DiskSlow => "its disk hangs for moments, again and again",
            Nemesis::LogBlock => "nobody reads what it says",
            Nemesis::Clock => "its wall clock jumps, by seconds to a month",
            Nemesis::Strobe => "its wall clock jumps to and fro",
            Nemesis::PowerCut => "killed, and what was not synced is lost",
            Nemesis::TornWrite => "the same, and parts of it are not lost",
            Nemesis::FsyncError => "a sync fails, and loses what it was to keep",
            Nemesis::BitFlip => "bits of a file flip before it starts",
            Nemesis::Truncate => "the end of a file is missing at its start",
            Nemesis::Zero => "blocks of a file are zero at its start",
        }
    }

    /// On whom it can fall.
    pub fn targets(self) -> &'static [Target] {
        use Target::{All, Leader, Majority, Minority, One};
        match self {
            Nemesis::Kill | Nemesis::Pause | Nemesis::Term => &[One, Leader, Minority, Majority, All],
            Nemesis::Isolate | Nemesis::Flap | Nemesis::Clock | Nemesis::Strobe => {
                &[One, Leader, Minority, Majority, All]
            }
            Nemesis::Loss | Nemesis::Delay | Nemesis::Reorder => &[One, Leader, All],
            Nemesis::Halves | Nemesis::Cut | Nemesis::Partition => &[One, Leader],
            Nemesis::Ring => &[All],
            Nemesis::Launch => &[Leader],
            Nemesis::DiskFull | Nemesis::PowerCut | Nemesis::TornWrite => &[One, Leader, Minority, Majority, All],
            Nemesis::Memory | Nemesis::ReadOnly | Nemesis::DiskHang | Nemesis::LogBlock => {
                &[One, Leader, Minority, Majority, All]
            }
            Nemesis::FsyncError => &[One, Leader],
            Nemesis::DiskSlow => &[One, Leader, All],
            Nemesis::Replace | Nemesis::BitFlip | Nemesis::Truncate | Nemesis::Zero => &[One, Leader],
        }
    }

    /// It needs relays in the containers' networks.
    pub fn needs_relays(self) -> bool {
        matches!(self, Nemesis::Delay | Nemesis::Reorder)
    }

    /// A node may end by itself for it, then or later. All others leave disks, files and memory alone, and nothing excuses a node that ends.
    pub fn may_end_nodes(self) -> bool {
        let of_links = self == Nemesis::Partition || Nemesis::PARTITIONS.contains(&self);
        let of_processes = matches!(
            self,
            Nemesis::Kill | Nemesis::Pause | Nemesis::Term | Nemesis::Launch | Nemesis::LogBlock
        );
        let others = matches!(
            self,
            Nemesis::Flap
                | Nemesis::Loss
                | Nemesis::Delay
                | Nemesis::Reorder
                | Nemesis::Clock
                | Nemesis::Strobe
                | Nemesis::DiskHang
                | Nemesis::DiskSlow
        );
        !(of_links || of_processes || others)
    }

    /// It needs clocks that can be set.
    pub fn needs_clocks(self) -> bool {
        matches!(self, Nemesis::Clock | Nemesis::Strobe)
    }

    /// The kind of disk that it needs under the nodes' volumes; `None`: any. A run has one kind.
    pub fn disk(self) -> Option<DiskKind> {
        match self {
            Nemesis::DiskFull | Nemesis::ReadOnly | Nemesis::DiskHang | Nemesis::DiskSlow => Some(DiskKind::Ext4),
            Nemesis::PowerCut | Nemesis::TornWrite | Nemesis::FsyncError => Some(DiskKind::Lossy),
            _ => None,
        }
    }

    /// How long it is held, seconds: at least and at most.
    pub fn lasts_s(self) -> (f64, f64) {
        match self {
            Nemesis::Kill | Nemesis::Term => (0.5, 5.0),
            Nemesis::Pause | Nemesis::Launch => (1.0, 7.0),
            Nemesis::Flap | Nemesis::Loss | Nemesis::Memory | Nemesis::DiskSlow => (5.0, 10.0),
            Nemesis::Delay | Nemesis::Reorder => (5.0, 10.0),
            Nemesis::Clock | Nemesis::Strobe => (3.0, 8.0),
            Nemesis::PowerCut | Nemesis::TornWrite | Nemesis::FsyncError | Nemesis::ReadOnly => (0.5, 3.0),
            Nemesis::DiskFull | Nemesis::DiskHang | Nemesis::LogBlock => (2.0, 6.0),
            // Over when the node is back.
            Nemesis::Replace | Nemesis::BitFlip | Nemesis::Truncate | Nemesis::Zero => (3.0, 6.0),
            Nemesis::Partition | Nemesis::Isolate | Nemesis::Halves | Nemesis::Ring | Nemesis::Cut => (3.0, 8.0),
        }
    }
}

impl Target {
    /// As it is named on the command line and in the record of a run.
    pub fn word(self) -> &'static str {
        match self {
            Target::One => "one",
            Target::Leader => "leader",
            Target::Minority => "minority",
            Target::Majority => "majority",
            Target::All => "all",
        }
    }

    /// How many of so many nodes.
    pub fn count(self, nodes: usize) -> usize {
        match self {
            Target::One | Target::Leader => 1,
            Target::Minority => (nodes - 1) / 2,
            Target::Majority => nodes / 2 + 1,
            Target::All => nodes,
        }
    }
}

/// A fault as it was planned: nothing in it depends on how the run goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// From 1, in the order of their times.
    pub number: u32,
    /// Faults of one lane follow each other, those of several happen at once.
    pub lane: usize,
    /// What.
    pub nemesis: Nemesis,
    /// On whom.
    pub target: Target,
    /// When it begins, counted from when all workloads have begun.
    pub at: Duration,
    /// How long it is held once it was seen to have its effect.
    pub lasts: Duration,
    /// Of further choices.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was not seen is enough, and nothing at all proves nothing.
    #[test]
    fn all_must_be_seen() {
        let (good, bad) = (Ok("gone".to_owned()), Err("it runs".to_owned()));
        assert!(Effect::of_all(vec![good.clone(), good.clone()]).seen);
        let mixed = Effect::of_all(vec![good, bad]);
        assert_eq!(
            (mixed.seen, mixed.evidence),
            (false, vec!["gone".to_owned(), "it runs".to_owned()])
        );
        assert!(!Effect::of_all(Vec::new()).seen);
    }

    /// Words are those of the command line, each kind has somebody to fall on, and targets count as Raft does.
    #[test]
    fn kinds_are_complete() {
        for nemesis in Nemesis::value_variants() {
            let value = nemesis.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), nemesis.word());
            assert!(!nemesis.targets().is_empty());
            let (least, most) = nemesis.lasts_s();
            assert!(least > 0.0 && least < most);
        }
        for target in Target::value_variants() {
            assert_eq!(
                target.to_possible_value().expect("none is hidden").get_name(),
                target.word()
            );
        }
        let counts = |target: Target| [3, 5].map(|nodes| target.count(nodes));
        assert_eq!((counts(Target::Minority), counts(Target::Majority)), ([1, 2], [2, 3]));
        assert_eq!((counts(Target::Leader), counts(Target::All)), ([1, 1], [3, 5]));
    }
}
