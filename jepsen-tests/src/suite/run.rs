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
use super::{CollectError, chart, collect, latency, probe, sweep};
use crate::clock::Clock;
use crate::compose::{ComposeError, SERVICES};
use crate::nemesis::{ClockError, Clocks, DiskError, Disks, Fault, Nemesis};
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
        small_disks: any(|fault| fault.nemesis.needs_disks()),
        long_logs: any(|fault| fault.nemesis == Nemesis::LogBlock),
        clocks: any(|fault| fault.nemesis.needs_clocks()),
    };
    let settings = overrides::settings(plan.seed, needs);
    let planned = planned(plan, &schedule, &skipped, &settings);
    folder.write(&folder.plan(), format!("{planned:#}\n"))?;
    let disks = match needs.small_disks {
        true => Some(Disks::make(&plan.scratch, &plan.project, &SERVICES).await?),
        false => None,
    };
    let clocks = match needs.clocks {
        true => Some(Clocks::make(&plan.folder, &SERVICES)?),
        false => None,
    };
    let over = overrides::compose_file(&settings, disks.as_ref(), clocks.as_ref());
    folder.write(&folder.overrides(), over)?;
    let stage = Stage::set_up(plan, folder.clone(), (disks, clocks), screen, clock).await?;
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

/// The faults that this machine can commit, and of the others why not.
async fn possible(plan: &Plan, screen: Screen) -> (Vec<Wanted>, Vec<Value>) {
    let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
    for one in &plan.wanted {
        let missing = match one.nemesis {
            Nemesis::Launch if !plan.workloads.contains(&Workload::Daemon) => {
                Some("it needs the daemon workload".to_owned())
            }
            nemesis => probe::missing(nemesis).await,
        };
        match missing {
            None => wanted.push(*one),
            Some(why) => {
                screen.say(&format!("SKIPPED {}: {why}", one.nemesis.word()));
                skipped.push(json!({"nemesis": one.nemesis.word(), "why": why}));
            }
        }
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
