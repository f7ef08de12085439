//! The mark on disk of a node whose state was found to differ: no restart makes it right again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::StartError;

const FILE_NAME: &str = "state-differs.txt";

/// Writes why; durable when it returns. Blocking.
pub(super) fn set(data_directory: &Path, why: &str) -> io::Result<()> {
    let mut file = File::create(data_directory.join(FILE_NAME))?;
    file.write_all(why.as_bytes())?;
    file.sync_all()?;
    File::open(data_directory)?.sync_all()
}

/// Refuses to start on a marked directory. Blocking.
pub(crate) fn check(data_directory: &Path) -> Result<(), StartError> {
    let path = data_directory.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(why) => Err(StartError::Identity(format!(
            "{why} It stays out of the cluster: replace it by an empty node (`blox member replace`), and keep {} for those who look for \
             the cause",
            data_directory.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StartError::Storage {
            doing: format!("read {}", path.display()),
            cause: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A marked directory is refused with the reason; any other is not.
    #[test]
    fn a_marked_node_does_not_start() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        check(directory.path()).expect("not marked");
        set(directory.path(), "It differs at entry 16.").expect("written");
        let refusal = check(directory.path()).expect_err("marked").to_string();
        assert!(
            refusal.starts_with("It differs at entry 16. It stays out of the cluster"),
            "{refusal}"
        );
    }
}
