//! The state of a campaign: one file that says what it was asked, on what it ran, and what came of each run. Small, and enough by itself: a campaign
//! goes on from it on another machine, and several of them make one report.
//!
//! `{"seed","workloads","nemeses","time_s","rate","machines":[],"images":[],"agreement":[],"runs":[]}`, a run a line.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fault_records::FaultRecord;
use super::folder::{Folder, FolderError};
use crate::check::linear::agreement::Agreement;

/// Members whose items stand on lines of their own.
const LISTS: [&str; 4] = ["machines", "images", "agreement", "runs"];

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    path: PathBuf,
    value: Value,
}

/// A run as a campaign remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a>(pub &'a Value);

impl State {
    /// A new one, of what is asked.
    pub fn new(path: &Path, asked: Value) -> State {
        let mut value = asked;
        for list in LISTS {
            value[list] = json!([]);
        }
        State {
            path: path.to_owned(),
            value,
        }
    }

    /// Reads it.
    pub fn read(path: &Path) -> Result<State, FolderError> {
        let value = Folder::open(path.parent().unwrap_or(Path::new("."))).read_json(path)?;
        if !value["runs"].is_array() {
            return Err(FolderError::Wrong {
                path: path.to_owned(),
                why: "it is no campaign's state: it names no runs".to_owned(),
            });
        }
        Ok(State {
            path: path.to_owned(),
            value,
        })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The seed of every choice.
    pub fn seed(&self) -> u64 {
        self.value["seed"].as_u64().unwrap_or(0)
    }

    /// All that are over.
    pub fn runs(&self) -> Vec<Run<'_>> {
        let all = self.value["runs"].as_array().into_iter().flatten();
        all.map(Run).collect()
    }

    /// 0: every run kept every promise, and brute force agreed; 1: a promise was broken; 2: something could not be decided, or nothing was run.
    pub fn exit_code(&self) -> u8 {
        let differ = self.value["agreement"].as_array().into_iter().flatten();
        let differ: u64 = differ.filter_map(|one| one["differ"].as_u64()).sum();
        let words: Vec<&str> = self
            .runs()
            .iter()
            .map(|run| run.0["verdict"].as_str().unwrap_or_default())
            .collect();
        // A broken promise counts for more than what could not be decided.
        if words.contains(&"invalid") || differ > 0 {
            1
        } else if words.is_empty() || words.iter().any(|word| *word != "valid") {
            2
        } else {
            0
        }
    }

    /// The place of a machine, or of an image, among those that were met; a new one is added.
    pub fn place(&mut self, list: &str, met: Value) -> usize {
        let Value::Array(all) = &mut self.value[list] else {
            self.value[list] = json!([met]);
            return 0;
        };
        let known = all.iter().position(|one| *one == met);
        known.unwrap_or_else(|| {
            all.push(met);
            all.len() - 1
        })
    }

    /// One more run is over.
    pub fn add_run(&mut self, run: Value) {
        if let Value::Array(runs) = &mut self.value["runs"] {
            runs.push(run);
        }
    }

    /// So many histories of this seed were judged by brute force, too.
    pub fn add_agreement(&mut self, seed: u64, found: &Agreement) {
        let told = json!({"seed": seed, "histories": found.histories, "good": found.good, "by_revisions": found.by_revisions,
            "unknowns": found.unknowns, "differ": found.differ, "told": found.told});
        match &mut self.value["agreement"] {
            Value::Array(all) => all.push(told),
            other => *other = json!([told]),
        }
    }

    /// Writes it; the old one counts until the new one is whole.
    pub fn keep(&self) -> Result<(), FolderError> {
        let new = self.path.with_extension("new");
        Folder::open(self.path.parent().unwrap_or(Path::new("."))).write(&new, self.text())?;
        std::fs::rename(&new, &self.path).map_err(|source| FolderError::NotWritten {
            path: self.path.clone(),
            source,
        })
    }

    /// A run a line, so that what was added is seen.
    fn text(&self) -> String {
        let members = self.value.as_object().into_iter().flatten();
        let member = |(name, value): (&String, &Value)| match value.as_array() {
            Some(items) if LISTS.contains(&name.as_str()) && !items.is_empty() => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                format!("\"{name}\": [\n{}\n]", items.join(",\n"))
            }
            _ => format!("\"{name}\": {value}"),
        };
        format!("{{\n{}\n}}\n", members.map(member).collect::<Vec<_>>().join(",\n"))
    }
}

impl<'a> Run<'a> {
    /// It was decided, and every promise was kept.
    pub fn is_valid(self) -> bool {
        self.0["verdict"] == "valid"
    }

    /// The goals that it serves; `None`: it is of the first part.
    pub fn serves(self) -> Option<&'a str> {
        self.0["serves"].as_str()
    }

    /// The place of its machine.
    pub fn machine(self) -> usize {
        self.number("machine") as usize
    }

    /// From its set-up to its verdict, seconds.
    pub fn took_s(self) -> f64 {
        self.0["took_s"].as_f64().unwrap_or(0.0)
    }

    /// Operations of clients.
    pub fn operations(self) -> u64 {
        self.figure("operations")
    }

    /// One of its figures that is a count.
    pub fn figure(self, name: &str) -> u64 {
        self.0["figures"][name].as_u64().unwrap_or(0)
    }

    /// Faults at once.
    pub fn lanes(self) -> u64 {
        self.number("lanes")
    }

    /// What became of its faults.
    pub fn faults(self) -> Vec<FaultRecord> {
        let all = self.0["faults"].as_array().into_iter().flatten();
        all.map(FaultRecord::of_json).collect()
    }

    fn number(self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept is read back the same, a run a line; a machine that is met again has its place.
    #[test]
    fn states_are_kept() {
        let path = std::env::temp_dir().join(format!("blox-state-{}.json", std::process::id()));
        let mut state = State::new(&path, json!({"seed": 7, "workloads": ["register"]}));
        assert_eq!(state.place("machines", json!({"cores": 2})), 0);
        assert_eq!(state.place("machines", json!({"cores": 4})), 1);
        assert_eq!(state.place("machines", json!({"cores": 2})), 0);
        for number in 1..=3 {
            state.add_run(json!({"number": number, "verdict": "valid", "took_s": 60.5}));
        }
        state.keep().expect("writable");
        let text = std::fs::read_to_string(&path).expect("readable");
        let again = State::read(&path).expect("a state");
        std::fs::remove_file(&path).expect("removable");
        assert_eq!(again, state);
        assert_eq!(
            text.lines().filter(|line| line.contains("\"verdict\"")).count(),
            3,
            "{text}"
        );
        assert_eq!((again.seed(), again.runs().len()), (7, 3));
        assert!(again.runs()[0].is_valid() && again.runs()[0].serves().is_none());
    }
}
