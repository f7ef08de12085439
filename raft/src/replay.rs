//! Reading the log of a node that does not run, in the form in which it was applied: to replay what happened, in tests and after an
//! accident.

use std::path::{Path, PathBuf};

use blox_store::LogEntry;

use crate::identity::LOG_DIRECTORY;
use crate::{log, machine};

/// The log of a stopped node cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log of the node in {}: {cause}", directory.display())]
pub struct LogUnreadable {
    directory: PathBuf,
    cause: String,
}

/// Shows every entry that the log of a stopped node still has, in order. Those at its end may not have been committed. Opens the log as
/// the node does, with all its checks; refused while the node runs.
pub fn for_each_log_entry(data_directory: &Path, mut each: impl FnMut(LogEntry)) -> Result<(), LogUnreadable> {
    log::for_each_entry(&data_directory.join(LOG_DIRECTORY), |entry| {
        each(machine::to_log_entry(entry))
    })
    .map_err(|error| LogUnreadable {
        directory: data_directory.to_owned(),
        cause: error.to_string(),
    })
}
