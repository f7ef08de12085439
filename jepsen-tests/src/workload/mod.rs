//! What clients do while the cluster is broken: generators and clients that record everything, on keys of their own, side by side in one cluster.

mod append;
mod crew;
pub mod daemon;
mod ecs;
pub mod http;
mod idempotent;
pub mod ingest;
mod keys;
mod lag;
mod listing;
mod queries;
mod register;
mod set;
mod stale;
pub mod v1_streams;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use futures::future::BoxFuture;

pub use crew::{Crew, Pace, Worker, until_answered};
pub use ecs::Ecs;
pub use http::Http;
pub use keys::Keys;

use crate::client::Node;
use crate::observe::NotInTime;
use crate::simulator::{Simulator, SimulatorError};
use crate::suite::Recorder;

/// All there are. A workload's keys begin with its name and a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Reads, writes, deletes and compare-and-set by `If-Match` of single keys.
    Register,
    /// Unique elements, each a key.
    Set,
    /// Lists that grow by compare-and-set.
    Append,
    /// Reads from a node's own state.
    Stale,
    /// One write said many times.
    Idempotent,
    /// Readers of every change.
    Watch,
    /// Events through a queue that misbehaves.
    Ingest,
    /// Roll-outs while StartTask misbehaves.
    Daemon,
    /// Lists, compared between nodes.
    Queries,
}

/// Something that a workload needs did not go as it must, faults or not.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The cluster is whole and does not answer: a verdict.
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
    /// The other end does not answer: no verdict.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// A file of the run.
    #[error("cannot write {path}: {source}")]
    NotWritten {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where a workload works.
#[derive(Clone)]
pub struct Site {
    /// All of them.
    pub nodes: Arc<Vec<Node>>,
    /// Asks them.
    pub http: Http,
    /// Is told everything.
    pub recorder: Arc<Recorder>,
    /// The other end of the nodes.
    pub simulator: Simulator,
    /// Of the run.
    pub folder: PathBuf,
    /// Of all choices.
    pub seed: u64,
    /// Times are allowed so many times as long.
    pub patience: u32,
}

/// A workload under way.
pub trait Work: Send {
    /// Sends nothing more; returns when what is under way has ended.
    fn stop(&mut self) -> BoxFuture<'_, ()>;
    /// Called when the cluster is whole again: reads everything that the verdict needs.
    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>>;
    /// Called when nothing changes any more: the last revision.
    fn end(&mut self, _revision: u64) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Workload {
    /// As it is named on the command line, and before the slash of its keys.
    pub fn word(self) -> &'static str {
        match self {
            Workload::Register => "register",
            Workload::Set => "set",
            Workload::Append => "append",
            Workload::Stale => "stale",
            Workload::Idempotent => "idempotent",
            Workload::Watch => "watch",
            Workload::Ingest => "ingest",
            Workload::Daemon => "daemon",
            Workload::Queries => "queries",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Workload::Register => "reads, writes, deletes, compare-and-set of single keys: linearizable, revisions too",
            Workload::Set => "unique elements: nothing acknowledged is lost",
            Workload::Append => "lists that grow by compare-and-set: one order for all",
            Workload::Stale => "reads of a node's own state: old is allowed, wrong is not",
            Workload::Idempotent => "one write said many times: applied once, answered alike",
            Workload::Watch => "19 readers that change nodes and resume, three of /v1: ordered, unique, gapless",
            Workload::Ingest => "events repeated, late, in disorder; lost answers to deletions: all there in the end",
            Workload::Daemon => "roll-outs while StartTask fails: one task an instance, never two",
            Workload::Queries => "lists of tasks and instances: equal on all nodes at one revision",
        }
    }

    /// Its part of the requests beside others.
    pub fn weight(self) -> u32 {
        match self {
            Workload::Register => 8,
            Workload::Set | Workload::Append | Workload::Stale => 4,
            Workload::Idempotent => 3,
            Workload::Watch => 2,
            Workload::Ingest | Workload::Queries => 1,
            Workload::Daemon => 0,
        }
    }

    /// Functions of which at least one operation must succeed.
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Workload::Register => &["read", "write", "cas", "delete"],
            Workload::Set => &["add", "read"],
            Workload::Append => &["append", "read"],
            Workload::Stale => &["write", "stale"],
            Workload::Idempotent => &["once"],
            Workload::Watch => &["write"],
            Workload::Ingest => &["list"],
            Workload::Daemon => &[],
            Workload::Queries => &["query"],
        }
    }

    /// It needs to know what the simulated ECS knows.
    pub fn is_of_ecs(self) -> bool {
        matches!(self, Workload::Ingest | Workload::Daemon)
    }

    /// Begins at once, with so many requests a second.
    pub async fn begin(self, site: &Site, per_second: u32) -> Result<Box<dyn Work>, WorkloadError> {
        Ok(match self {
            Workload::Register => Box::new(register::begin(site, per_second)),
            Workload::Set => Box::new(set::begin(site, per_second)),
            Workload::Append => Box::new(append::begin(site, per_second)),
            Workload::Stale => Box::new(stale::begin(site, per_second)),
            Workload::Idempotent => Box::new(idempotent::begin(site, per_second)),
            Workload::Watch => Box::new(watch::begin(site, per_second)),
            Workload::Ingest => Box::new(ingest::begin(site, per_second).await?),
            Workload::Daemon => Box::new(daemon::begin(site).await?),
            Workload::Queries => Box::new(queries::begin(site, per_second)),
        })
    }
}

/// How the requests of a second are shared out: by weight, one at least.
pub fn shares(workloads: &[Workload], per_second: u32) -> Vec<u32> {
    let all: u32 = workloads.iter().map(|one| one.weight()).sum();
    let share = |one: &Workload| (per_second * one.weight() / all.max(1)).max(1);
    workloads.iter().map(share).collect()
}

/// How long a last read may take to succeed on a whole cluster.
const LAST_READ: Duration = Duration::from_secs(30);

impl Site {
    /// How long a last read may take to succeed.
    pub fn last_read(&self) -> Duration {
        LAST_READ * self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words are those of the command line, and the requests of a second are shared out by weight.
    #[test]
    fn workloads_are_complete() {
        for workload in Workload::value_variants() {
            let value = workload.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), workload.word());
        }
        let all = shares(Workload::value_variants(), 200);
        assert!(
            all.iter().sum::<u32>() <= 201 && all.iter().all(|share| *share > 0),
            "{all:?}"
        );
        assert_eq!(shares(&[Workload::Set, Workload::Register], 120), [40, 80]);
    }
}
