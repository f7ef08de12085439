//! Clocks of the nodes that can be set: libfaketime below each node's process, which reads from a file how far its wall clock is off. Monotonic clocks
//! are left alone, as a machine whose time is corrected leaves them.

use std::path::{Path, PathBuf};

/// Where Debian's package libfaketime puts it, for both of our machines.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];
/// Where a container has it, and the file.
const INSIDE: &str = "/clock";

/// The clocks cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}")]
pub struct ClockError {
    path: PathBuf,
    source: std::io::Error,
}

/// See the module.
pub struct Clocks {
    root: PathBuf,
}

/// The library on this machine.
pub fn library() -> Option<&'static Path> {
    LIBRARIES.into_iter().map(Path::new).find(|path| path.is_file())
}

impl Clocks {
    /// A folder a service, each with the library and a clock that is right.
    pub fn make(folder: &Path, services: &[&str]) -> Result<Clocks, ClockError> {
        let root = folder.join("clocks");
        for service in services {
            let path = root.join(service);
            let made = std::fs::create_dir_all(&path).and_then(|()| match library() {
                Some(library) => std::fs::copy(library, path.join("libfaketime.so")).map(|_| ()),
                None => Err(std::io::ErrorKind::NotFound.into()),
            });
            made.map_err(|source| ClockError { path, source })?;
        }
        // Docker wants whole paths.
        let root = root.canonicalize().unwrap_or(root);
        let clocks = Clocks { root };
        for service in services {
            clocks.set(service, 0)?;
        }
        Ok(clocks)
    }

    /// What every node's environment needs.
    pub fn environment() -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", format!("{INSIDE}/libfaketime.so")),
            ("FAKETIME_TIMESTAMP_FILE", format!("{INSIDE}/offset")),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// What is mounted into a service's container.
    pub fn volume(&self, service: &str) -> String {
        format!("{}:{INSIDE}:ro", self.root.join(service).display())
    }

    /// From here on a node's wall clock is off by so many seconds.
    pub fn set(&self, service: &str, seconds: i64) -> Result<(), ClockError> {
        let path = self.root.join(service).join("offset");
        // Written in place: the file that is mounted is this one.
        std::fs::write(&path, format!("{seconds:+}\n")).map_err(|source| ClockError { path, source })
    }
}
