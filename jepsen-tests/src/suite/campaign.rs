//! Many runs, one after the other, each with a seed that follows from the campaign's: every kind of fault in turn, then mixes of three at once. What is
//! over stands in `campaign.json`: a campaign that was stopped goes on there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::folder::{Folder, FolderError};
use super::judgement::Judgement;
use super::plan::Plan;
use super::run::{RunError, run};
use super::schedule::Wanted;
use crate::clock::Clock;
use crate::nemesis::Nemesis;
use crate::screen::Screen;
use crate::workload::Workload;

/// Kinds of faults in a run of those in turn.
const KINDS_IN_TURN: usize = 3;
/// Kinds of faults in a run of mixes, and faults at once.
const KINDS_MIXED: std::ops::RangeInclusive<usize> = 3..=6;
const LANES_MIXED: usize = 3;
/// Of the runs that kept every promise so many keep all their files; of the others a verdict and a picture.
const WHOLE_SAMPLES: usize = 2;
/// What only whole samples keep.
const BULKY: [&str; 4] = ["history.jsonl", "changes.jsonl", "watch", "ecs"];

/// What is asked of a campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// As each of its runs is, but for folder, seed, faults and lanes.
    pub usual: Plan,
    /// Kinds of faults among which it chooses.
    pub nemeses: Vec<Nemesis>,
    /// Where its runs go, each in a folder of its own, and its state.
    pub folder: PathBuf,
    /// No run is begun after so long, all its sessions together.
    pub time: Duration,
}

/// One run of a campaign, as its seed decides it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// From 1.
    pub number: usize,
    /// Of the run.
    pub seed: u64,
    /// What is done.
    pub wanted: Vec<Wanted>,
    /// Faults at once.
    pub lanes: usize,
}

/// Why a campaign cannot be run, or go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// A run cannot be done.
    #[error("run {number}: {source}")]
    Run {
        /// Which.
        number: usize,
        /// Why.
        source: RunError,
    },
    /// Its state.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It was begun in another way.
    #[error("{path} is of a campaign with {what} {then}, not {now}: name another folder, or remove it")]
    Another {
        /// Its state.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// In its state.
        then: String,
        /// Asked for now.
        now: String,
    },
}

/// The run of a number. The first ones take each kind once, in an order of the seed's; all others mix.
pub fn part(seed: u64, nemeses: &[Nemesis], number: usize) -> Part {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order = nemeses.to_vec();
    order.shuffle(&mut random);
    let in_turn: Vec<&[Nemesis]> = order.chunks(KINDS_IN_TURN).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ (number as u64) << 20);
    let (kinds, lanes) = match in_turn.get(number - 1) {
        Some(kinds) => (kinds.to_vec(), 1),
        None => {
            order.shuffle(&mut random);
            let count = random.random_range(KINDS_MIXED).min(order.len());
            (order[..count].to_vec(), LANES_MIXED)
        }
    };
    let wanted = kinds.into_iter().map(|nemesis| Wanted { nemesis, target: None });
    Part {
        number,
        seed: u64::from(random.random::<u32>()),
        wanted: wanted.collect(),
        lanes,
    }
}

/// Runs until the time is over; the state, as it stands in `campaign.json`.
pub async fn campaign(asked: &Campaign, told: impl Fn(&Part, &Judgement)) -> Result<Value, CampaignError> {
    let folder = Folder::open(&asked.folder);
    let mut state = begun(asked, &folder)?;
    loop {
        let runs = state["runs"].as_array().cloned().unwrap_or_default();
        let spent_s: f64 = runs.iter().filter_map(|run| run["took_s"].as_f64()).sum();
        if spent_s >= asked.time.as_secs_f64() {
            return Ok(state);
        }
        let part = part(asked.usual.seed, &asked.nemeses, runs.len() + 1);
        let plan = Plan {
            folder: asked.folder.join(format!("run-{:03}", part.number)),
            seed: part.seed,
            wanted: part.wanted.clone(),
            lanes: part.lanes,
            ..asked.usual.clone()
        };
        let (clock, began) = (Clock::start(), Instant::now());
        println!("\nrun {}: {}", part.number, plan.command());
        let judgement = run(&plan, Screen::new(clock), clock)
            .await
            .map_err(|source| CampaignError::Run {
                number: part.number,
                source,
            })?;
        told(&part, &judgement);
        let valid = judgement.verdict() == crate::check::Verdict::Valid;
        let samples = runs.iter().filter(|run| run["verdict"] == "valid").count();
        if valid && samples >= WHOLE_SAMPLES {
            lighten(&plan.folder)?;
        }
        let planned = Folder::open(&plan.folder).read_json(&Folder::open(&plan.folder).plan())?;
        let run = json!({
            "number": part.number, "seed": part.seed, "command": plan.command(), "lanes": part.lanes, "took_s": began.elapsed().as_secs_f64(),
            "verdict": judgement.verdict().word(), "sentences": judgement.verdict().sentences(), "figures": judgement.figures,
            "skipped": planned["skipped"], "left_out": planned["left_out"], "settings": planned["settings"],
        });
        if let Value::Array(runs) = &mut state["runs"] {
            runs.push(run);
        }
        keep(&folder, &state)?;
    }
}

/// The state of a campaign that goes on, or of a new one.
fn begun(asked: &Campaign, folder: &Folder) -> Result<Value, CampaignError> {
    let workloads: Vec<&str> = asked.usual.workloads.iter().map(|one: &Workload| one.word()).collect();
    let nemeses: Vec<&str> = asked.nemeses.iter().map(|one| one.word()).collect();
    let new = json!({
        "seed": asked.usual.seed, "image": asked.usual.image, "workloads": workloads, "nemeses": nemeses,
        "time_s": asked.usual.time.as_secs(), "rate": asked.usual.per_second, "runs": [],
    });
    let path = folder.campaign();
    if !path.exists() {
        return Ok(new);
    }
    let state = folder.read_json(&path)?;
    for what in ["seed", "workloads", "nemeses", "time_s", "rate"] {
        if state[what] != new[what] {
            return Err(CampaignError::Another {
                path,
                what,
                then: state[what].to_string(),
                now: new[what].to_string(),
            });
        }
    }
    Ok(state)
}

/// The old state counts until the new one is whole.
fn keep(folder: &Folder, state: &Value) -> Result<(), FolderError> {
    let path = folder.campaign();
    let new = path.with_extension("new");
    folder.write(&new, format!("{state:#}\n"))?;
    std::fs::rename(&new, &path).map_err(|source| FolderError::NotWritten { path, source })
}

fn lighten(folder: &Path) -> Result<(), FolderError> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let bulky = BULKY.contains(&name.as_str()) || name.starts_with("changes-");
        let removed = match (bulky, path.is_dir()) {
            (false, _) => Ok(()),
            (true, true) => std::fs::remove_dir_all(&path),
            (true, false) => std::fs::remove_file(&path),
        };
        removed.map_err(|source| FolderError::NotWritten { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The same seed gives the same runs; each kind comes before anything is mixed, and mixes go on for ever.
    #[test]
    fn every_kind_comes_first() {
        let first: Vec<Part> = (1..=20).map(|number| part(7, &Nemesis::ALL, number)).collect();
        let again: Vec<Part> = (1..=20).map(|number| part(7, &Nemesis::ALL, number)).collect();
        assert_eq!(first, again);
        let in_turn = first.iter().take_while(|part| part.lanes == 1);
        let kinds: Vec<Nemesis> = in_turn
            .flat_map(|part| &part.wanted)
            .map(|wanted| wanted.nemesis)
            .collect();
        assert_eq!(kinds.len(), Nemesis::ALL.len());
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), Nemesis::ALL.len());
        let mixed: Vec<&Part> = first.iter().filter(|part| part.lanes > 1).collect();
        assert!(
            mixed.len() >= 10 && mixed.iter().all(|part| part.wanted.len() >= 3),
            "{mixed:?}"
        );
        let seeds: BTreeSet<u64> = first.iter().map(|part| part.seed).collect();
        assert_eq!(seeds.len(), 20);
    }

    /// Of a run that is well only the small files stay.
    #[test]
    fn only_small_files_stay() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-campaign-{}", std::process::id())));
        for path in [
            folder.history(),
            folder.verdict(),
            folder.reader(1),
            folder.changes(1, "node-2"),
            folder.plan(),
        ] {
            folder.write(&path, "{}").expect("writable");
        }
        lighten(folder.path()).expect("removable");
        let left = std::fs::read_dir(folder.path())
            .expect("there")
            .flatten()
            .map(|entry| entry.file_name());
        let left: BTreeSet<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        std::fs::remove_dir_all(folder.path()).expect("removable");
        assert_eq!(left.into_iter().collect::<Vec<_>>(), ["plan.json", "verdict.json"]);
    }
}
