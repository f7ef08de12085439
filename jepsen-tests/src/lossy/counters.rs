//! What a disk counts.

use serde_json::{Value, json};

use super::cut::CutReport;

/// What happened since the disk was made, and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes to files.
    pub writes: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Syncs of directories.
    pub directory_syncs: u64,
    /// Syncs that were made to fail.
    pub syncs_failed: u64,
    /// The file of the last of them, by its path.
    pub last_failed: Option<String>,
    /// Operations that were refused for want of power.
    pub refused: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Files of which something is not synced now.
    pub unsynced_files: u64,
    /// Their bytes that are not.
    pub unsynced_bytes: u64,
    /// Operations on names that are not durable now.
    pub unsynced_names: u64,
    /// What the last cut took.
    pub last_cut: CutReport,
}

impl Counters {
    /// As they are sent.
    pub fn to_json(&self) -> Value {
        json!({
            "writes": self.writes, "bytes_written": self.bytes_written, "syncs": self.syncs, "directory_syncs": self.directory_syncs,
            "syncs_failed": self.syncs_failed, "last_failed": self.last_failed, "refused": self.refused, "cuts": self.cuts,
            "unsynced_files": self.unsynced_files, "unsynced_bytes": self.unsynced_bytes, "unsynced_names": self.unsynced_names,
            "last_cut": self.last_cut.to_json(),
        })
    }

    /// As they were sent; what is missing is 0.
    pub fn of_json(value: &Value) -> Counters {
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        Counters {
            writes: number("writes"),
            bytes_written: number("bytes_written"),
            syncs: number("syncs"),
            directory_syncs: number("directory_syncs"),
            syncs_failed: number("syncs_failed"),
            last_failed: value["last_failed"].as_str().map(str::to_owned),
            refused: number("refused"),
            cuts: number("cuts"),
            unsynced_files: number("unsynced_files"),
            unsynced_bytes: number("unsynced_bytes"),
            unsynced_names: number("unsynced_names"),
            last_cut: CutReport::of_json(&value["last_cut"]),
        }
    }
}
