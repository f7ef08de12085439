//! What every check of a run is made from: the files of its folder, read once.

use std::ops::Range;

use clap::ValueEnum;
use serde_json::Value;

use super::folder::{Folder, FolderError};
use super::truth::{self, Truth};
use crate::check::faults::{self, Fault};
use crate::check::history::History;
use crate::check::{Verdict, availability};
use crate::clock::ms;
use crate::compose::SERVICES;
use crate::workload::Workload;

/// After a fault the cluster may be busy with itself for so long, nanoseconds.
const RECOVERY_NS: u64 = 10_000_000_000;

/// See the module.
pub(super) struct Files<'a> {
    pub(super) folder: &'a Folder,
    pub(super) history: History,
    pub(super) plan: Value,
    pub(super) end: Value,
    pub(super) faults: Vec<Fault>,
    pub(super) nodes: Vec<String>,
    /// `None`: the run did not come so far.
    pub(super) truth: Option<Truth>,
}

impl Files<'_> {
    pub(super) fn read(folder: &Folder) -> Result<Files<'_>, FolderError> {
        let history = folder.read_history()?;
        let nodes: Vec<String> = SERVICES.map(str::to_owned).to_vec();
        let truth = match folder.changes(0, &nodes[0]).exists() {
            true => truth::read(folder, &nodes).map(Some),
            false => Ok(None),
        };
        let end = folder.read_json(&folder.end())?;
        let truth = match truth {
            // It broke off in the middle of this: that is told by itself.
            Err(_) if is_broken_off(&end) => None,
            truth => truth?,
        };
        Ok(Files {
            folder,
            faults: faults::of(&history),
            history,
            plan: folder.read_json(&folder.plan())?,
            end,
            nodes,
            truth,
        })
    }

    pub(super) fn is_broken_off(&self) -> bool {
        is_broken_off(&self.end)
    }

    /// Why the run did not come to its end, through no fault of the cluster's.
    fn obstacle(&self) -> Option<&str> {
        self.end["obstacle"].as_str()
    }

    /// A verdict on what takes a whole run to be seen: where it was cut short, nothing is proven against the cluster.
    pub(super) fn on_the_whole(&self, verdict: Verdict) -> Verdict {
        match self.obstacle() {
            None => verdict,
            Some(_) => verdict.of_a_part(),
        }
    }

    /// Times are allowed so many times as long.
    pub(super) fn patience(&self) -> u64 {
        self.plan["patience"].as_u64().unwrap_or(1).max(1)
    }

    /// When something was done to the cluster, and some time after it, milliseconds since 1970.
    pub(super) fn disturbed(&self) -> Vec<Range<u64>> {
        let zero_ns = self.end["zero_ns"].as_u64().unwrap_or(0);
        let since_1970 = |at_ns: u64| ms(zero_ns.saturating_add(at_ns));
        let span = |fault: &Fault| {
            let until_ns = fault
                .until_ns
                .map_or(u64::MAX, |until_ns| until_ns + RECOVERY_NS * self.patience());
            since_1970(fault.from_ns)..since_1970(until_ns)
        };
        self.faults.iter().map(span).collect()
    }

    /// What each fault has cost, up to when everything was mended.
    pub(super) fn gaps(&self) -> Vec<availability::Gap> {
        let until_ns = self.end["heal_ns"].as_u64().unwrap_or(u64::MAX);
        availability::gaps(&self.history, &self.faults, until_ns)
    }

    pub(super) fn of(&self, workload: Workload) -> History {
        let prefix = format!("{}/", workload.word());
        self.history.only(|operation| operation.key.starts_with(&prefix))
    }

    pub(super) fn workloads(&self) -> Vec<Workload> {
        let words = self.plan["workloads"].as_array().into_iter().flatten();
        words
            .filter_map(|word| Workload::from_str(word.as_str()?, false).ok())
            .collect()
    }
}

fn is_broken_off(end: &Value) -> bool {
    !end["violation"].is_null() || !end["obstacle"].is_null()
}
