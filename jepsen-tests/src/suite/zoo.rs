//! The zoo: builds of a node with a deliberate bug, and runs that must notice it. A bug counts as caught where the check of the promise that it
//! breaks says so, not where a node merely falls over. What is over stands in `zoo.json`: said again, only what is not caught yet is run again.

mod exhibits;
mod table;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

pub use exhibits::{EXHIBITS, Exhibit};
pub use table::table;

use super::folder::{Folder, FolderError};
use super::judgement::{Check, Judgement};
use super::plan::Plan;
use super::run::{RunError, run};
use crate::check::Verdict;
use crate::clock::Clock;
use crate::compose::SERVICES;
use crate::screen::Screen;

/// The variable by which a node is told which bug it carries.
const VARIABLE: &str = "BLOX_ZOO";
/// What a node says that carries one.
const CARRIES: &str = "CARRIES A DELIBERATE BUG";

/// What is asked of the zoo.
#[derive(Clone, Debug)]
pub struct Zoo {
    /// As each of its runs is, but for folder, seed, workloads, faults, how many at once, time and rate.
    pub usual: Plan,
    /// Which bugs.
    pub exhibits: Vec<&'static Exhibit>,
    /// A bug may take so many runs, with the seed of `usual` and those that follow it.
    pub runs: u64,
    /// Whether each catching run is also done without the bug.
    pub control: bool,
    /// Where its runs go, and its state.
    pub folder: PathBuf,
}

/// Why the zoo cannot be visited.
#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    /// A run cannot be done.
    #[error("{bug}, seed {seed}: {source}")]
    Run {
        /// Which bug; `none` in a control.
        bug: &'static str,
        /// Of the run.
        seed: u64,
        /// Why.
        source: RunError,
    },
    /// The nodes had no bug: nothing is shown.
    #[error("{node} does not say that it carries {bug}: is its image one of `make zoo`?")]
    NotCarried {
        /// Which bug.
        bug: &'static str,
        /// A node.
        node: &'static str,
    },
    /// Its state.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Runs every bug until it is caught, and the same without it; the state, as it stands in `zoo.json`.
pub async fn zoo(asked: &Zoo, told: impl Fn(&Path, &Judgement)) -> Result<Value, ZooError> {
    let folder = Folder::open(&asked.folder);
    let mut state = match folder.zoo().exists() {
        true => folder.read_json(&folder.zoo())?,
        false => json!({"image": asked.usual.image, "exhibits": []}),
    };
    for exhibit in &asked.exhibits {
        if !is_caught(&state, exhibit) {
            let entry = until_caught(asked, exhibit, &told).await?;
            set(&mut state, exhibit, entry);
            keep(&folder, &state)?;
        }
        if asked.control && !is_controlled(&state, exhibit) {
            let control = control(asked, exhibit, entry_of(&state, exhibit), &told).await?;
            let mut entry = entry_of(&state, exhibit).clone();
            entry["control"] = control;
            set(&mut state, exhibit, entry);
            keep(&folder, &state)?;
        }
    }
    Ok(state)
}

/// Whether every one of these bugs was caught, and none was where there is none (as far as that was tried).
pub fn is_whole(state: &Value, exhibits: &[&Exhibit]) -> bool {
    exhibits.iter().all(|exhibit| {
        let control = &entry_of(state, exhibit)["control"]["verdict"];
        is_caught(state, exhibit) && (control.is_null() || control == "valid")
    })
}

async fn until_caught(asked: &Zoo, exhibit: &Exhibit, told: &impl Fn(&Path, &Judgement)) -> Result<Value, ZooError> {
    let mut entry = exhibit.to_json();
    entry["caught"] = json!(false);
    let mut tries = Vec::new();
    let mut seconds = 0.0;
    for seed in (asked.usual.seed..).take(usize::try_from(asked.runs).unwrap_or(usize::MAX)) {
        let (judgement, took_s) = run_one(asked, exhibit, seed, true, told).await?;
        seconds += took_s;
        let noticed = judgement
            .checks
            .iter()
            .filter(|check| matches!(check.verdict, Verdict::Invalid(_)));
        let noticed: Vec<Value> = noticed.map(told_by).collect();
        tries.push(
            json!({"seed": seed, "took_s": took_s, "verdict": judgement.verdict().word(), "noticed": noticed.clone()}),
        );
        if let Some(by) = exhibit.caught_by(&noticed) {
            entry["caught"] = json!(true);
            entry["seed"] = json!(seed);
            entry["check"] = by["check"].clone();
            entry["sentence"] = by["sentence"].clone();
            break;
        }
    }
    entry["runs"] = json!(tries.len());
    entry["seconds"] = json!(seconds);
    entry["tries"] = json!(tries);
    Ok(entry)
}

/// A check and the first line of what it found.
fn told_by(check: &Check) -> Value {
    let first = check
        .verdict
        .sentences()
        .first()
        .and_then(|sentence| sentence.lines().next());
    json!({"check": check.name, "sentence": first.unwrap_or_default()})
}

/// The run that caught the bug, without it.
async fn control(
    asked: &Zoo,
    exhibit: &Exhibit,
    entry: &Value,
    told: &impl Fn(&Path, &Judgement),
) -> Result<Value, ZooError> {
    let seed = entry["seed"].as_u64().unwrap_or(asked.usual.seed);
    let (judgement, took_s) = run_one(asked, exhibit, seed, false, told).await?;
    let verdict = judgement.verdict();
    Ok(json!({"seed": seed, "took_s": took_s, "verdict": verdict.word(), "sentences": verdict.sentences()}))
}

async fn run_one(
    asked: &Zoo,
    exhibit: &Exhibit,
    seed: u64,
    with_bug: bool,
    told: &impl Fn(&Path, &Judgement),
) -> Result<(Judgement, f64), ZooError> {
    let name = if with_bug { exhibit.bug } else { "none" };
    let kind = if with_bug { "seed" } else { "control" };
    let mut settings = exhibit.settings();
    if with_bug {
        settings.push((VARIABLE, exhibit.bug.to_owned()));
    }
    let plan = Plan {
        workloads: exhibit.workloads.to_vec(),
        wanted: exhibit.wanted(),
        lanes: exhibit.lanes,
        time: exhibit.time,
        per_second: exhibit.per_second,
        folder: asked.folder.join(exhibit.bug).join(format!("{kind}-{seed}")),
        seed,
        settings,
        ..asked.usual.clone()
    };
    println!("\n{}, {kind} {seed}: {}", exhibit.bug, plan.command());
    let (clock, began) = (Clock::start(), Instant::now());
    let judgement = run(&plan, Screen::new(clock), clock)
        .await
        .map_err(|source| ZooError::Run {
            bug: name,
            seed,
            source,
        })?;
    told(&plan.folder, &judgement);
    if with_bug {
        carried(&Folder::open(&plan.folder), exhibit)?;
    }
    Ok((judgement, began.elapsed().as_secs_f64()))
}

/// Every node has said that it carries the bug.
fn carried(folder: &Folder, exhibit: &Exhibit) -> Result<(), ZooError> {
    for node in SERVICES {
        let mut says = false;
        for (_, path) in folder.logs_of(node)? {
            let log = folder.read(&path)?;
            let said = |line: &str| line.contains(CARRIES) && line.contains(exhibit.bug);
            says |= log.lines().any(said);
        }
        if !says {
            return Err(ZooError::NotCarried { bug: exhibit.bug, node });
        }
    }
    Ok(())
}

fn entry_of<'a>(state: &'a Value, exhibit: &Exhibit) -> &'a Value {
    let entries = state["exhibits"].as_array().into_iter().flatten();
    let mut found = entries.filter(|entry| entry["bug"] == exhibit.bug);
    found.next().unwrap_or(&Value::Null)
}

fn is_caught(state: &Value, exhibit: &Exhibit) -> bool {
    entry_of(state, exhibit)["caught"] == true
}

fn is_controlled(state: &Value, exhibit: &Exhibit) -> bool {
    entry_of(state, exhibit)["control"]["verdict"] == "valid"
}

/// In the place of an earlier one, and in the order of the exhibits.
fn set(state: &mut Value, exhibit: &Exhibit, entry: Value) {
    let Value::Array(entries) = &mut state["exhibits"] else {
        return;
    };
    entries.retain(|entry| entry["bug"] != exhibit.bug);
    entries.push(entry);
    let place = |entry: &Value| EXHIBITS.iter().position(|exhibit| entry["bug"] == exhibit.bug);
    entries.sort_by_key(place);
}

/// The old state counts until the new one is whole.
fn keep(folder: &Folder, state: &Value) -> Result<(), FolderError> {
    let path = folder.zoo();
    let new = path.with_extension("new");
    folder.write(&new, format!("{state:#}\n"))?;
    std::fs::rename(&new, &path).map_err(|source| FolderError::NotWritten { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries take each other's place and stand in order; a bug that was not caught, or a control that was not valid, leaves the zoo not whole.
    #[test]
    fn a_state_is_whole_or_not() {
        let [first, second] = [&EXHIBITS[0], &EXHIBITS[1]];
        let mut state = json!({"exhibits": []});
        set(&mut state, second, json!({"bug": second.bug, "caught": true}));
        set(&mut state, first, json!({"bug": first.bug, "caught": false}));
        assert!(is_whole(&state, &[second]) && !is_whole(&state, &[first, second]));
        set(&mut state, first, json!({"bug": first.bug, "caught": true}));
        assert_eq!(state["exhibits"].as_array().map(Vec::len), Some(2));
        assert_eq!(state["exhibits"][0]["bug"], first.bug);
        assert!(is_whole(&state, &[first, second]));
        let control = json!({"bug": first.bug, "caught": true, "control": {"verdict": "invalid"}});
        set(&mut state, first, control);
        assert!(!is_whole(&state, &[first, second]) && !is_controlled(&state, first));
        assert!(!is_whole(&json!({"exhibits": []}), &[first]));
    }
}
