//! What is left of runs whose process was killed, and dropped nothing: containers, volumes and networks of their projects, and disks that are mounted
//! still. Gone before anything is made anew.

use std::path::{Path, PathBuf};

use crate::compose;
use crate::nemesis::{Disks, remove_disks};

/// What the name of every run's project begins with; the rest is the number of its process.
pub const PROJECT: &str = "blox-jepsen-";

/// Removes what dead runs have left on this machine: their disks where they are mounted, and in these folders. `own`: the project of the run to come, of which nothing may be
/// there, either.
pub fn sweep(own: &str, folders: &[&Path]) {
    let is_left = |project: &str| project == own || is_dead(project);
    let mut projects = compose::projects();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut disks: Vec<(String, PathBuf)> = folders.iter().flat_map(|folder| disks(folder)).collect();
    disks.extend(mounted(&mounts));
    projects.extend(disks.iter().map(|(project, _)| project.clone()));
    projects.sort();
    projects.dedup();
    for project in projects.iter().filter(|project| is_left(project)) {
        eprintln!("what is left of project {project} is removed");
        compose::remove_all(project);
    }
    // Their containers have let go of them.
    for (_, root) in disks.iter().filter(|(project, _)| is_left(project)) {
        remove_disks(root);
    }
}

/// A run's, and its process is not there any more.
fn is_dead(project: &str) -> bool {
    let process = project
        .strip_prefix(PROJECT)
        .and_then(|number| number.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

/// Folders of disks below a folder, and whose they are.
fn disks(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_project = |name: &str| {
        let project = name.strip_suffix(Disks::SUFFIX)?;
        Some((project.to_owned(), Disks::root(folder, project)))
    };
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| of_project(&name)).collect()
}

/// The same by what is mounted in them, wherever that is (proc(5): the second word is the place).
fn mounted(mounts: &str) -> Vec<(String, PathBuf)> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let of_project = |place: &str| {
        let root = Path::new(place).parent()?;
        let project = root.file_name()?.to_str()?.strip_suffix(Disks::SUFFIX)?;
        Some((project.to_owned(), root.to_owned()))
    };
    let mut found: Vec<_> = places.filter_map(of_project).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that goes on is left alone, and so is whatever is not a run's.
    #[test]
    fn only_dead_runs_are_swept() {
        assert!(!is_dead(&format!("{PROJECT}{}", std::process::id())));
        // Above the highest number that Linux gives.
        assert!(is_dead(&format!("{PROJECT}{}", u32::MAX)));
        for other in ["blox", "blox-jepsen-", "blox-jepsen-tests", "blox-failover-4294967295"] {
            assert!(!is_dead(other), "{other}");
        }
    }

    /// Disks are found by the name that they are made under.
    #[test]
    fn disks_are_found() {
        let folder = std::env::temp_dir().join(format!("blox-sweep-{}", std::process::id()));
        std::fs::create_dir_all(Disks::root(&folder, "p-7")).expect("writable");
        std::fs::create_dir_all(folder.join("logs")).expect("writable");
        let found = disks(&folder);
        std::fs::remove_dir_all(&folder).expect("removable");
        assert_eq!(found, [("p-7".to_owned(), Disks::root(&folder, "p-7"))]);
        assert_eq!(disks(&folder), []);
        let mounts = "/dev/loop0 /a/p-7-disks/node-1 ext4 rw 0 0\n/dev/loop1 /a/p-7-disks/node-2 ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(mounted(mounts), [("p-7".to_owned(), PathBuf::from("/a/p-7-disks"))]);
    }
}
