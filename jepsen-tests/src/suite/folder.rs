//! The folder of a run: what stands in it, by name. A verdict rests on nothing else.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::check::history::{History, HistoryError};

/// See the module.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Writing.
    #[error("cannot write {path}: {source}")]
    NotWritten {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Reading.
    #[error("cannot read {path}: {source}")]
    NotRead {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not of the form that it should have.
    #[error("{path}: {why}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Something is mounted in it: removing it would empty that.
    #[error("{path} is not emptied: {mounted} is mounted in it (`umount` it)")]
    Mounted {
        /// Which folder.
        path: PathBuf,
        /// What is mounted there.
        mounted: PathBuf,
    },
    /// The history.
    #[error("{path}: {source}")]
    History {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: HistoryError,
    },
}

impl Folder {
    /// A folder that is there, or is made.
    pub fn open(path: impl Into<PathBuf>) -> Folder {
        Folder { path: path.into() }
    }

    /// Empties it where it holds a run, and makes it where it is not there.
    pub fn begin_anew(&self) -> Result<(), FolderError> {
        let not_written = |source| FolderError::NotWritten {
            path: self.path.clone(),
            source,
        };
        if self.plan().exists() {
            let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
            let whole = self.path.canonicalize().map_err(not_written)?;
            if let Some(mounted) = mounted_below(&mounts, &whole) {
                let path = self.path.clone();
                return Err(FolderError::Mounted { path, mounted });
            }
            std::fs::remove_dir_all(&self.path).map_err(not_written)?;
        }
        std::fs::create_dir_all(&self.path).map_err(not_written)
    }

    /// Itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was asked for, and the faults that followed from it.
    pub fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// Of a campaign: the runs that are over.
    pub fn campaign(&self) -> PathBuf {
        self.path.join("campaign.json")
    }

    /// Of the zoo: what caught which bug.
    pub fn zoo(&self) -> PathBuf {
        self.path.join("zoo.json")
    }

    /// What differs from the shipped compose file in this run.
    pub fn overrides(&self) -> PathBuf {
        self.path.join("compose.override.yml")
    }

    /// What clients did.
    pub fn history(&self) -> PathBuf {
        self.path.join("history.jsonl")
    }

    /// What was done to the cluster, and what was seen of it.
    pub fn faults(&self) -> PathBuf {
        self.path.join("faults.jsonl")
    }

    /// What was committed, as the node at this position tells it.
    pub fn changes(&self, position: usize, node: &str) -> PathBuf {
        match position {
            0 => self.path.join("changes.jsonl"),
            _ => self.path.join(format!("changes-{node}.jsonl")),
        }
    }

    /// What a reader of the watch workload was told.
    pub fn reader(&self, number: usize) -> PathBuf {
        self.path.join("watch").join(format!("reader-{number:02}.jsonl"))
    }

    /// What a reader of the streams of `/v1` was told.
    pub fn v1_reader(&self, number: usize) -> PathBuf {
        self.path.join("watch").join(format!("v1-{number:02}.jsonl"))
    }

    /// The simulated ECS as it was in the end: events, calls, counts, state.
    pub fn ecs(&self) -> PathBuf {
        self.path.join("ecs").join("memory.json")
    }

    /// When ListTasks of the simulated ECS lagged, and by how much.
    pub fn ecs_lags(&self) -> PathBuf {
        self.path.join("ecs").join("lags.json")
    }

    /// What lists of tasks and instances showed to a client of the ingest workload.
    pub fn ecs_reads(&self, number: usize) -> PathBuf {
        self.path.join("ecs").join(format!("reads-{number}.jsonl"))
    }

    /// What was seen of the cluster after all faults.
    pub fn end(&self) -> PathBuf {
        self.path.join("end.json")
    }

    /// What the containers said, a file each.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The logs that were kept of a service, by file name: one a container.
    pub fn logs_of(&self, service: &str) -> Result<Vec<(String, PathBuf)>, FolderError> {
        let path = self.logs();
        let not_read = |source| FolderError::NotRead {
            path: path.clone(),
            source,
        };
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(not_read)? {
            let path = entry.map_err(not_read)?.path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            if name
                .strip_prefix(service)
                .is_some_and(|rest| rest.starts_with('-') || rest.starts_with('.'))
            {
                logs.push((name, path));
            }
        }
        logs.sort();
        Ok(logs)
    }

    /// The verdict, a check at a time.
    pub fn verdict(&self) -> PathBuf {
        self.path.join("verdict.json")
    }

    /// What clients saw over time, with a band for each fault.
    pub fn chart(&self) -> PathBuf {
        self.path.join("timeline.svg")
    }

    /// How long their operations took over time, with a band for each fault.
    pub fn latency_chart(&self) -> PathBuf {
        self.path.join("latency.svg")
    }

    /// Writes a whole file.
    pub fn write(&self, path: &Path, text: impl AsRef<[u8]>) -> Result<(), FolderError> {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(path, text))
            .map_err(|source| FolderError::NotWritten {
                path: path.to_owned(),
                source,
            })
    }

    /// Reads a whole file.
    pub fn read(&self, path: &Path) -> Result<String, FolderError> {
        std::fs::read_to_string(path).map_err(|source| FolderError::NotRead {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a file that is one JSON value.
    pub fn read_json(&self, path: &Path) -> Result<Value, FolderError> {
        serde_json::from_str(&self.read(path)?).map_err(|error| FolderError::Wrong {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// Reads a file that is a JSON value a line.
    pub fn read_lines(&self, path: &Path) -> Result<Vec<Value>, FolderError> {
        let wrong = |number: usize, error: serde_json::Error| FolderError::Wrong {
            path: path.to_owned(),
            why: format!("line {}: {error}", number + 1),
        };
        let text = self.read(path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(number, line)| serde_json::from_str(line).map_err(|error| wrong(number, error)))
            .collect()
    }

    /// The history.
    pub fn read_history(&self) -> Result<History, FolderError> {
        let path = self.history();
        let file = File::open(&path).map_err(|source| FolderError::NotRead {
            path: path.clone(),
            source,
        })?;
        History::read(BufReader::new(file)).map_err(|source| FolderError::History { path, source })
    }
}

/// What is mounted in a folder, by `/proc/mounts` (proc(5): the second word is the place).
fn mounted_below(mounts: &str, folder: &Path) -> Option<PathBuf> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    places
        .map(Path::new)
        .find(|place| place.starts_with(folder))
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole names count.
    #[test]
    fn mounts_are_found() {
        let mounts = "/dev/loop0 /runs/one/p-disks/node-1 ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        let found = |folder: &str| mounted_below(mounts, Path::new(folder));
        assert_eq!(found("/runs/one"), Some(PathBuf::from("/runs/one/p-disks/node-1")));
        assert_eq!((found("/runs/on"), found("/runs/two")), (None, None));
    }

    /// A run's folder is emptied, another is not.
    #[test]
    fn runs_are_emptied() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-folder-{}", std::process::id())));
        folder.write(&folder.path().join("mine"), "1").expect("writable");
        folder.begin_anew().expect("there");
        assert!(folder.path().join("mine").exists());
        folder.write(&folder.plan(), "{}").expect("writable");
        folder.begin_anew().expect("emptied");
        assert!(!folder.path().join("mine").exists());
        std::fs::remove_dir_all(folder.path()).expect("removable");
    }
}
