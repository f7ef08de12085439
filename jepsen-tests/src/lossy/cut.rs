//! A power cut: what it takes.

use serde_json::{Value, json};

/// How the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Everything is lost that was not synced.
    Clean,
    /// Some of it has reached the disk: which, by this seed.
    Torn(u64),
}

/// What a cut took of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// 1 where something of it was not synced.
    pub files: u64,
    /// Lost.
    pub bytes: u64,
    /// Not synced, and on the disk nevertheless.
    pub survived_bytes: u64,
}

/// What a cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// Files of which something was not synced.
    pub files: u64,
    /// Their bytes that were lost, by pages of [`super::PAGE_BYTES`].
    pub bytes_lost: u64,
    /// Their bytes that have reached the disk nevertheless.
    pub bytes_survived: u64,
    /// Operations on names that were lost.
    pub names_lost: u64,
    /// Operations on names that have reached the disk though no directory was synced.
    pub names_survived: u64,
}

impl CutReport {
    pub(super) fn add(&mut self, loss: Loss) {
        self.files += loss.files;
        self.bytes_lost += loss.bytes;
        self.bytes_survived += loss.survived_bytes;
    }

    /// As it is sent.
    pub fn to_json(&self) -> Value {
        json!({
            "files": self.files, "bytes_lost": self.bytes_lost, "bytes_survived": self.bytes_survived,
            "names_lost": self.names_lost, "names_survived": self.names_survived,
        })
    }

    /// As it was sent; what is missing is 0.
    pub fn of_json(value: &Value) -> CutReport {
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        CutReport {
            files: number("files"),
            bytes_lost: number("bytes_lost"),
            bytes_survived: number("bytes_survived"),
            names_lost: number("names_lost"),
            names_survived: number("names_survived"),
        }
    }

    /// For people.
    pub fn told(&self) -> String {
        let CutReport {
            files,
            bytes_lost,
            bytes_survived,
            names_lost,
            names_survived,
        } = self;
        let mut told = format!("lost {bytes_lost} bytes of {files} files and {names_lost} changes of names");
        if bytes_survived + names_survived > 0 {
            told += &format!("; {bytes_survived} bytes and {names_survived} changes of names, not synced, were kept");
        }
        told
    }
}
