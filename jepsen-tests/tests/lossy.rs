//! The disk that loses what was not synced, through real system calls: mounted by its own process, as under a node. Needs root and `/dev/fuse`: without
//! them its tests are listed as ignored, and counted as skipped by their names. Speaks the runner's own protocol, as `short` does.

#[path = "lossy/log.rs"]
mod log;
#[path = "lossy/model.rs"]
mod model;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blox_jepsen_tests::nemesis::LossyDisks;

/// The only disk of a test.
const SERVICE: &str = "disk";

type Test = fn() -> Result<(), String>;
const TESTS: [(&str, Test); 6] = [
    ("a_cut_leaves_what_the_model_says", model::a_cut),
    ("a_disk_does_what_databases_ask_of_it", model::operations),
    ("a_chosen_sync_fails", model::a_failed_sync),
    ("a_disk_ends_with_who_started_it", model::the_end),
    ("an_acknowledged_record_is_never_lost", log::acknowledged_records),
    ("a_record_that_was_not_synced_is_lost", log::records_not_synced),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let obstacle = obstacle();
    if given("--list") {
        // Asked twice: for all tests, and for the ignored ones.
        if !given("--ignored") || obstacle.is_some() {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut failed = false;
    for (name, test) in TESTS {
        let chosen = filter.is_none_or(|filter| match given("--exact") {
            true => name == filter.as_str(),
            false => name.contains(filter.as_str()),
        });
        match (&obstacle, chosen) {
            (_, false) => {}
            (Some(why), true) => println!("test {name} ... ignored, {why}"),
            (None, true) => match test() {
                Ok(()) => println!("test {name} ... ok"),
                Err(why) => {
                    failed = true;
                    println!("test {name} ... FAILED: {why}");
                }
            },
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Why no disk can be mounted here, if none can.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can mount a disk".to_owned());
    }
    let is_missing = !Path::new("/dev/fuse").exists();
    is_missing.then(|| "there is no /dev/fuse here".to_owned())
}

/// One disk, mounted, as those of nodes are.
struct Mounted {
    // Order matters: it is unmounted before the folder goes.
    disks: LossyDisks,
    _folder: Folder,
    runtime: tokio::runtime::Runtime,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Mounted {
    fn new(test: &str) -> Result<Mounted, String> {
        let project = format!("blox-lossy-{test}-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(&project));
        tried("making a folder", std::fs::create_dir_all(&folder.0))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let program = Path::new(env!("CARGO_BIN_EXE_jepsen-tests"));
        let made = runtime.block_on(LossyDisks::make(program, &folder.0, &project, &[SERVICE]));
        Ok(Mounted {
            disks: made.map_err(|error| error.to_string())?,
            _folder: folder,
            runtime,
        })
    }

    /// Where a node's data would be.
    fn data(&self) -> PathBuf {
        self.disks.data(SERVICE)
    }

    /// Waits for the disk to do as it is told.
    fn wait<T, E: std::fmt::Display>(&self, told: impl Future<Output = Result<T, E>>) -> Result<T, String> {
        self.runtime.block_on(told).map_err(|error| error.to_string())
    }
}

/// An error of the system, with what was tried.
fn tried<T>(what: &str, done: std::io::Result<T>) -> Result<T, String> {
    done.map_err(|error| format!("{what}: {error}"))
}

/// A fact that must hold.
fn holds(what: &str, is_so: bool) -> Result<(), String> {
    is_so.then_some(()).ok_or_else(|| format!("it does not hold: {what}"))
}
