//! Files and directories: what their errors say, and what makes them durable.

use std::fs::File;
use std::io;
use std::path::Path;

/// Adds to an error what was tried, on what: the operating system's own words name no file.
pub(crate) fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let tried = format!("cannot {doing} {}", path.display());
    move |cause| io::Error::new(cause.kind(), format!("{tried}: {cause}"))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync the directory", path))
}
