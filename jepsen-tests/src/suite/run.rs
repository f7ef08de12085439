//! One run: prepared, played, judged. Whatever goes wrong after the containers run, what they said is kept, and they are removed.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::folder::{Folder, FolderError};
use super::judge::judge;
use super::judgement::Judgement;
use super::overrides::{self, Needs, Settings};
use super::plan::Plan;
use super::rhythm::{self, Rhythm};
use super::schedule::{self, Schedule, Wanted};
use super::spent::Spent;
use super::stage::Stage;
use super::{CollectError, chart, collect, latency, one_disk, probe, sweep};
use crate::clock::Clock;
use crate::compose::{ComposeError, SERVICES};
use crate::nemesis::{ClockError, Clocks, DiskError, DiskKind, Disks, Fault, LossyDisks, Nemesis};
use crate::screen::Screen;
use crate::simulator::SimulatorError;
use crate::workload::Workload;

/// The run could not be done: no word about Blox.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its history.
    #[error("cannot write {path}: {source}")]
    History {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Containers cannot be driven.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// What they said cannot be kept.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// Disks cannot be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Nobody knows which program this is, another process of which serves a disk.
    #[error("this program is not found: {0}")]
    Program(#[source] std::io::Error),
    /// Clocks cannot be made.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The other end does not answer.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// The machine has no room, or no sockets.
    #[error("cannot make a client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Does the run and judges it.
pub async fn run(plan: &Plan, screen: Screen, clock: Clock) -> Result<Judgement, RunError> {
    let folder = Folder::open(&plan.folder);
    sweep::sweep(&plan.project, &[&plan.scratch, &plan.folder]);
    folder.begin_anew()?;
    let (wanted, skipped) = possible(plan, screen).await;
    let schedule = match plan.rhythm {
        Rhythm::Loose => schedule::plan(&wanted, plan.time, plan.seed, plan.lanes),
        Rhythm::Dense => rhythm::dense(&wanted, plan.time, plan.seed),
    };
    for nemesis in &schedule.left_out {
        screen.say(&format!("LEFT OUT for want of time: {}", nemesis.word()));
    }
    let any = |needs: fn(&Fault) -> bool| schedule.faults.iter().any(needs);
    let needs = Needs {
        disk: schedule.faults.iter().find_map(|fault| fault.nemesis.disk()),
        long_logs: any(|fault| fault.nemesis == Nemesis::LogBlock),
        clocks: any(|fault| fault.nemesis.needs_clocks()),
    };
    let settings = overrides::with(overrides::settings(plan.seed, needs), &plan.settings);
    let planned = planned(plan, &schedule, &skipped, &settings);
    folder.write(&folder.plan(), format!("{planned:#}\n"))?;
    let disks = match needs.disk {
        Some(DiskKind::Ext4) => Some(Disks::make(&plan.scratch, &plan.project, &SERVICES).await?),
        _ => None,
    };
    let lossy = match needs.disk {
        Some(DiskKind::Lossy) => {
            let program = std::env::current_exe().map_err(RunError::Program)?;
            Some(LossyDisks::make(&program, &plan.scratch, &plan.project, &SERVICES).await?)
        }
        _ => None,
    };
    let clocks = match needs.clocks {
        true => Some(Clocks::make(&plan.folder, &SERVICES)?),
        false => None,
    };
    let volumes = disks.as_ref().map(Disks::overrides);
    let volumes = volumes.or_else(|| lossy.as_ref().map(LossyDisks::overrides));
    let over = overrides::compose_file(&settings, volumes.as_deref(), clocks.as_ref());
    folder.write(&folder.overrides(), over)?;
    let stage = Stage::set_up(plan, folder.clone(), (disks, lossy, clocks), screen, clock).await?;
    let mut spent = Spent::new(clock);
    let played = stage.play(&schedule).await;
    spent.over("changes");
    let end = stage.end(played.as_ref().err());
    folder.write(&folder.end(), format!("{end:#}\n"))?;
    collect::logs(&stage.cluster.compose, &folder).await?;
    stage.flush()?;
    spent.over("logs");
    drop(stage);
    spent.over("removal");
    screen.say("containers, volumes and network are removed");
    chart::draw(&folder)?;
    latency::draw(&folder)?;
    spent.over("charts");
    let mut judgement = judge(&folder)?;
    spent.over("verdict");
    judgement.figure("seconds", spent.to_json(&end));
    folder.write(&folder.verdict(), format!("{:#}\n", judgement.to_json()))?;
    Ok(judgement)
}

/// The faults that this machine, and one run, can commit, and of the others why not.
async fn possible(plan: &Plan, screen: Screen) -> (Vec<Wanted>, Vec<Value>) {
    let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
    let mut skip = |nemesis: Nemesis, why: String| {
        screen.say(&format!("SKIPPED {}: {why}", nemesis.word()));
        skipped.push(json!({"nemesis": nemesis.word(), "why": why}));
    };
    for one in &plan.wanted {
        let missing = match one.nemesis {
            Nemesis::Launch if !plan.workloads.contains(&Workload::Daemon) => {
                Some("it needs the daemon workload".to_owned())
            }
            nemesis => probe::missing(nemesis).await,
        };
        match missing {
            None => wanted.push(*one),
            Some(why) => skip(one.nemesis, why),
        }
    }
    let (wanted, others) = one_disk::one_disk(wanted);
    for (nemesis, why) in others {
        skip(nemesis, why);
    }
    (wanted, skipped)
}

/// `plan.json`.
fn planned(plan: &Plan, schedule: &Schedule, skipped: &[Value], settings: &Settings) -> Value {
    let mut planned = plan.to_json(schedule);
    planned["skipped"] = json!(skipped);
    planned["settings"] = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    planned
}
