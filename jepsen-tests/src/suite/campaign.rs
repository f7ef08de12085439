//! Many runs, one after the other, each with a seed that follows from the campaign's: every kind of fault in turn, then mixes of three at once; and when
//! that part is over, runs that serve the goals that are not reached. What is over stands in the [`State`]: a campaign that was stopped goes on there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::folder::{Folder, FolderError};
use super::goals::{Family, Goal};
use super::judgement::Judgement;
use super::plan::Plan;
use super::progress::{Progress, progress};
use super::rhythm::Rhythm;
use super::run::{RunError, run};
use super::samples;
use super::schedule::Wanted;
use super::state::State;
use super::{machine, one_disk};
use crate::check::linear::agreement::agreement;
use crate::clock::Clock;
use crate::nemesis::Nemesis;
use crate::screen::Screen;
use crate::workload::Workload;

/// Kinds of faults in a run of those in turn.
const KINDS_IN_TURN: usize = 3;
/// Kinds of faults in a run of mixes, and faults at once.
const KINDS_MIXED: std::ops::RangeInclusive<usize> = 3..=6;
const LANES_MIXED: usize = 3;
/// The load of a run that serves goals lasts so many times as long as of others: set-up and last reads are paid once.
const GOAL_TIMES: u32 = 3;
/// Histories that are judged by brute force before it is said how far that is.
const HISTORIES_AT_ONCE: u64 = 100_000;
/// A run that cannot be done is tried so often: containers may not start where Docker is busy.
const TRIES: usize = 3;

/// What is asked of a campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// As each of its runs is, but for folder, seed, faults, their rhythm and lanes.
    pub usual: Plan,
    /// Kinds of faults among which it chooses.
    pub nemeses: Vec<Nemesis>,
    /// Where its runs go, each in a folder of its own.
    pub folder: PathBuf,
    /// Its state: from it, it goes on.
    pub state: PathBuf,
    /// No run of the first part is begun after so long, all sessions together.
    pub time: Duration,
    /// What is to be reached after that.
    pub goals: Vec<Goal>,
    /// No run is begun after so long in this session.
    pub session: Option<Duration>,
}

/// Somebody who is told how a campaign goes.
pub trait Told {
    /// A run is over.
    fn run(&self, part: &Part, judgement: &Judgement);
    /// So far it is now.
    fn progress(&self, first_part: Duration, progress: &Progress);
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
    /// The goals that it serves; `None`: it is of the first part.
    pub serves: Option<Family>,
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
    let in_turn = one_disk::groups(&order, KINDS_IN_TURN);
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ (number as u64) << 20);
    let (kinds, lanes) = match in_turn.get(number - 1) {
        Some(kinds) => (kinds.clone(), 1),
        None => {
            order.shuffle(&mut random);
            (one_disk::first(&order, random.random_range(KINDS_MIXED)), LANES_MIXED)
        }
    };
    let wanted = kinds.into_iter().map(|nemesis| Wanted { nemesis, target: None });
    Part {
        number,
        seed: u64::from(random.random::<u32>()),
        wanted: wanted.collect(),
        lanes,
        serves: None,
    }
}

/// A run of a number that serves a family of goals.
fn part_of_goals(seed: u64, nemeses: &[Nemesis], number: usize, (family, wanted): (Family, Vec<Wanted>)) -> Part {
    if family == Family::Operations {
        // They come with any fault: mixes, then.
        return Part {
            serves: Some(family),
            ..part(seed, nemeses, number + nemeses.len())
        };
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x60A1 ^ (number as u64) << 20);
    Part {
        number,
        seed: u64::from(random.random::<u32>()),
        wanted,
        lanes: 1,
        serves: Some(family),
    }
}

/// Runs until the time is over and the goals are reached, or the session ends; the state, and how far it is.
pub async fn campaign(asked: &Campaign, told: impl Told) -> Result<(State, Progress), CampaignError> {
    let mut state = begun(asked)?;
    let met = machine::machine().await;
    let machine = state.place("machines", met);
    let met = machine::image(&asked.usual.image).await;
    let image = state.place("images", met);
    let began = Instant::now();
    loop {
        let progress = progress(&asked.goals, &state, machine);
        let first = first_part(&state);
        told.progress(first, &progress);
        if asked.session.is_some_and(|session| began.elapsed() >= session) {
            return Ok((state, progress));
        }
        let (seed, runs) = (asked.usual.seed, state.runs());
        let part = if first < asked.time {
            let of_first_part = runs.iter().filter(|run| run.serves().is_none()).count();
            part(seed, &asked.nemeses, of_first_part + 1)
        } else {
            match progress.next.clone() {
                None => return Ok((state, progress)),
                Some((Family::Histories, _)) => {
                    compare(&mut state, seed).await;
                    state.keep()?;
                    continue;
                }
                Some(next) => part_of_goals(seed, &asked.nemeses, runs.len() + 1, next),
            }
        };
        let part = Part {
            number: runs.len() + 1,
            ..part
        };
        let run = one(asked, &part, &state, (machine, image), &told).await?;
        state.add_run(run);
        state.keep()?;
    }
}

/// How long the runs of the first part took.
fn first_part(state: &State) -> Duration {
    let runs = state.runs().into_iter().filter(|run| run.serves().is_none());
    Duration::from_secs_f64(runs.map(|run| run.took_s()).sum())
}

/// Does a run; what the state remembers of it.
async fn one(
    asked: &Campaign,
    part: &Part,
    state: &State,
    (machine, image): (usize, usize),
    told: &impl Told,
) -> Result<Value, CampaignError> {
    let times = match part.serves {
        None | Some(Family::Operations) => 1,
        Some(_) => GOAL_TIMES,
    };
    let plan = Plan {
        folder: asked.folder.join(part.folder()),
        seed: part.seed,
        wanted: part.wanted.clone(),
        lanes: part.lanes,
        rhythm: if times > 1 { Rhythm::Dense } else { Rhythm::Loose },
        time: asked.usual.time * times,
        ..asked.usual.clone()
    };
    let (began, began_at) = (Instant::now(), machine::now());
    println!("\nrun {}: {}", part.number, plan.command());
    let mut tries = 0;
    let judgement = loop {
        tries += 1;
        let clock = Clock::start();
        match run(&plan, Screen::new(clock), clock).await {
            Ok(judgement) => break judgement,
            Err(source) if tries == TRIES => {
                let number = part.number;
                return Err(CampaignError::Run { number, source });
            }
            Err(source) => println!("it could not be done, once more: {source}"),
        }
    };
    told.run(part, &judgement);
    let folder = Folder::open(&plan.folder);
    let planned = folder.read_json(&folder.plan())?;
    let mut figures = judgement.figures.clone();
    // Each fault stands by itself; these are sums of them.
    let faults = figures.remove("faults").unwrap_or_default();
    for sum in ["gaps", "pauses"] {
        figures.remove(sum);
    }
    let mut run = json!({
        "number": part.number, "seed": part.seed, "command": plan.command(), "lanes": part.lanes, "serves": part.serves.map(Family::word),
        "began": began_at, "machine": machine, "image": image, "took_s": (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        "load_s": plan.time.as_secs(), "verdict": judgement.verdict().word(), "sentences": judgement.verdict().sentences(),
        "figures": figures, "faults": faults, "skipped": planned["skipped"], "left_out": planned["left_out"], "settings": planned["settings"],
    });
    samples::keep(state, &folder, part.number, &mut run)?;
    Ok(run)
}

/// A part of the histories that are judged by brute force, too; which ones follows from how many there were before.
async fn compare(state: &mut State, seed: u64) {
    let parts = state.value()["agreement"].as_array().map_or(0, Vec::len) as u64;
    let seed = seed ^ parts << 32;
    println!("\n{HISTORIES_AT_ONCE} small random histories by checker and brute force, seed {seed}");
    let compared = tokio::task::spawn_blocking(move || agreement(seed, HISTORIES_AT_ONCE)).await;
    // It neither panics nor is it cancelled before this.
    state.add_agreement(seed, &compared.unwrap_or_default());
}

/// The state of a campaign that goes on, or of a new one.
fn begun(asked: &Campaign) -> Result<State, CampaignError> {
    let workloads: Vec<&str> = asked.usual.workloads.iter().map(|one: &Workload| one.word()).collect();
    let nemeses: Vec<&str> = asked.nemeses.iter().map(|one| one.word()).collect();
    let new = json!({
        "seed": asked.usual.seed, "workloads": workloads, "nemeses": nemeses, "time_s": asked.usual.time.as_secs(), "rate": asked.usual.per_second,
    });
    if !asked.state.exists() {
        return Ok(State::new(&asked.state, new));
    }
    let state = State::read(&asked.state)?;
    for what in ["seed", "workloads", "nemeses", "time_s", "rate"] {
        if state.value()[what] != new[what] {
            return Err(CampaignError::Another {
                path: asked.state.clone(),
                what,
                then: state.value()[what].to_string(),
                now: new[what].to_string(),
            });
        }
    }
    Ok(state)
}

impl Part {
    /// The name of its folder.
    pub fn folder(&self) -> String {
        format!("run-{:03}", self.number)
    }
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
        let disks = |part: &Part| {
            let disks: Vec<_> = part.wanted.iter().filter_map(|wanted| wanted.nemesis.disk()).collect();
            disks.iter().all(|disk| *disk == disks[0])
        };
        assert!(first.iter().all(disks), "no run has two kinds of disks: {first:?}");
        let seeds: BTreeSet<u64> = first.iter().map(|part| part.seed).collect();
        assert_eq!(seeds.len(), 20);
    }

    /// Runs that serve goals are the same with the same seed, and other ones with each number; operations are served by mixes.
    #[test]
    fn runs_serve_goals() {
        let wanted = vec!["kill:leader".parse().expect("known")];
        let next = |number, family| part_of_goals(7, &Nemesis::ALL, number, (family, wanted.clone()));
        let (one, other) = (next(30, Family::Leaders), next(31, Family::Leaders));
        assert_eq!(one, next(30, Family::Leaders));
        assert_ne!(one.seed, other.seed);
        assert_eq!((one.lanes, &one.wanted), (1, &wanted));
        assert_eq!(next(1, Family::Operations).lanes, LANES_MIXED);
    }
}
