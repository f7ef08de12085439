//! What is measured, a family of rows a file. Most take both sides in turn, round by round; `budget`, `steady` and what is of tasks are of ours alone.

pub mod budget;
pub mod failover;
pub mod fleet;
pub mod growth;
pub mod growth_of_tasks;
pub mod keys;
pub mod memory;
mod simulated;
pub mod snapshot;
pub mod steady;
pub mod watches;

use std::path::PathBuf;
use std::time::Duration;

use crate::client::CallError;
use crate::figure::Figure;
use crate::floor::Floor;
use crate::load::{LoadError, Times};
use crate::process::ProcessError;
use crate::server::{Server, ServerError, Side};

/// How long a measure goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The main rows: some ten minutes.
    Quick,
    /// All: about an hour.
    Full,
}

/// How everything is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which rows, and how often what is counted by times.
    pub extent: Extent,
    /// Of each row, on each side.
    pub rounds: usize,
    /// How long each round is.
    pub times: Times,
    /// Of keys, values and fleets.
    pub seed: u64,
    /// `blox`.
    pub blox: PathBuf,
    /// `etcd`.
    pub etcd: PathBuf,
    /// Where data and logs are while it runs.
    pub directory: PathBuf,
}

/// Both sides, whole, and the machine's floor.
#[derive(Debug)]
pub struct Sides {
    /// Blox, without a source.
    pub ours: Server,
    /// etcd.
    pub peer: Server,
    /// Measured in this run.
    pub floor: Floor,
}

/// A row cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// A load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A side.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A process beside the sides.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The disk.
    #[error("{what}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The simulator does not do what it is told.
    #[error("{what} is answered by the simulator with {answer}")]
    Simulator {
        /// What it was told.
        what: &'static str,
        /// What it said.
        answer: String,
    },
    /// Something that must come does not.
    #[error("{what} does not come within {within:?}: {seen}")]
    Late {
        /// What.
        what: &'static str,
        /// How long it was waited for.
        within: Duration,
        /// What was seen instead.
        seen: String,
    },
}

impl Sides {
    /// One of them.
    pub fn side(&self, side: Side) -> &Server {
        match side {
            Side::Ours => &self.ours,
            Side::Peer => &self.peer,
        }
    }

    /// The one that is not measured.
    pub fn other(&self, side: Side) -> &Server {
        match side {
            Side::Ours => &self.peer,
            Side::Peer => &self.ours,
        }
    }

    /// One of them, to be broken.
    pub fn side_mut(&mut self, side: Side) -> &mut Server {
        match side {
            Side::Ours => &mut self.ours,
            Side::Peer => &mut self.peer,
        }
    }
}

/// Both sides so many times in turn, each time another one first: what slows the machine down for a while meets both.
pub fn turns(rounds: usize) -> impl Iterator<Item = (usize, Side)> {
    (0..rounds).flat_map(|round| {
        let order = match round % 2 {
            0 => [Side::Ours, Side::Peer],
            _ => [Side::Peer, Side::Ours],
        };
        order.map(|side| (round, side))
    })
}

/// Adds one round's value.
pub fn add(figure: &mut Figure, side: Side, value: f64) {
    match side {
        Side::Ours => figure.ours.push(value),
        Side::Peer => figure.peer.push(value),
    }
}

/// A line while it runs.
pub fn say(line: &str) {
    println!("{line}");
}

/// `1 client`, `64 clients`.
pub fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
