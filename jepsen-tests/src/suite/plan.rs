//! What a run is asked to be, and how that stands in its folder.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::overrides::Settings;
use super::rhythm::Rhythm;
use super::schedule::{Schedule, Wanted};
use crate::workload::Workload;

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of everything that it makes.
    pub project: String,
    /// The shipped compose file.
    pub compose_file: PathBuf,
    /// Compose files over it, before those of the run.
    pub overrides: Vec<PathBuf>,
    /// The image of nodes and simulator.
    pub image: String,
    /// Where everything goes.
    pub folder: PathBuf,
    /// Where disks for the nodes are made.
    pub scratch: PathBuf,
    /// Side by side.
    pub workloads: Vec<Workload>,
    /// In turn.
    pub wanted: Vec<Wanted>,
    /// Faults at once.
    pub lanes: usize,
    /// How they follow each other; dense ones have one lane.
    pub rhythm: Rhythm,
    /// How long the load lasts.
    pub time: Duration,
    /// Requests over all workloads and nodes.
    pub per_second: u32,
    /// Of every choice.
    pub seed: u64,
    /// Times are allowed so many times as long: for builds without optimisation and busy machines.
    pub patience: u32,
    /// Settings of the nodes, beside and before those that the seed draws; all stand in `plan.json`.
    pub settings: Settings,
}

impl Plan {
    /// `plan.json`.
    pub fn to_json(&self, schedule: &Schedule) -> Value {
        let wanted = self.wanted.iter().map(|one| one.word());
        let fault = |fault: &crate::nemesis::Fault| {
            json!({"number": fault.number, "lane": fault.lane, "nemesis": fault.nemesis.word(), "target": fault.target.word(),
                "at_ms": fault.at.as_millis() as u64, "lasts_ms": fault.lasts.as_millis() as u64})
        };
        let workloads: Vec<&str> = self.workloads.iter().map(|one| one.word()).collect();
        json!({
            "seed": self.seed, "image": self.image, "workloads": workloads, "nemeses": wanted.collect::<Vec<_>>(), "lanes": self.lanes,
            "rhythm": self.rhythm.word(), "time_s": self.time.as_secs_f64(), "rate": self.per_second, "patience": self.patience,
            "schedule": schedule.faults.iter().map(fault).collect::<Vec<_>>(),
            "left_out": schedule.left_out.iter().map(|one| one.word()).collect::<Vec<_>>(),
        })
    }

    /// The words that repeat this run.
    pub fn command(&self) -> String {
        let words = self.to_json(&Schedule::default());
        let list = |name: &str| {
            let all = words[name].as_array().into_iter().flatten();
            all.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        };
        let rhythm = match self.rhythm {
            Rhythm::Loose => format!("--mix {}", self.lanes),
            Rhythm::Dense => format!("--rhythm {}", self.rhythm.word()),
        };
        format!(
            "jepsen-tests run --workload {} --nemesis {} {rhythm} --time {}s --rate {} --seed {}",
            list("workloads"),
            if self.wanted.is_empty() {
                "none".to_owned()
            } else {
                list("nemeses")
            },
            self.time.as_secs(),
            self.per_second,
            self.seed
        )
    }
}
