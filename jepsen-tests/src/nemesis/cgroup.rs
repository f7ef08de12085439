//! What the processes of a container hold of memory, read from this machine's cgroup files: nothing has to run inside a container that has no memory
//! left. For both versions of cgroups.

use std::path::{Path, PathBuf};

/// Memory of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Held beside files, bytes.
    pub(super) used_bytes: u64,
    /// How often the limit was hit.
    pub(super) hits: u64,
}

/// Where a process's memory is accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Folder {
    /// A hierarchy of memory alone.
    One(PathBuf),
    /// The one for everything.
    Two(PathBuf),
}

/// Whether that can be read here.
pub fn is_readable() -> bool {
    folder_of("self").is_some()
}

/// What the container of a process holds; `None`: it has ended.
pub(super) fn usage(pid: u64) -> Option<Usage> {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    Some(match folder_of(&pid.to_string())? {
        Folder::One(folder) => Usage {
            used_bytes: value(&read(folder.join("memory.stat"))?, "total_rss")?,
            hits: read(folder.join("memory.failcnt"))?.trim().parse().ok()?,
        },
        Folder::Two(folder) => Usage {
            used_bytes: value(&read(folder.join("memory.stat"))?, "anon")?,
            hits: value(&read(folder.join("memory.events"))?, "max")?,
        },
    })
}

fn folder_of(process: &str) -> Option<Folder> {
    let read = |path: String| std::fs::read_to_string(path).ok();
    folder(
        &read("/proc/self/mountinfo".to_owned())?,
        &read(format!("/proc/{process}/cgroup"))?,
    )
}

/// From `/proc/self/mountinfo` (proc(5): `ID PARENT MAJOR:MINOR ROOT MOUNT OPTIONS ... - TYPE SOURCE OPTIONS`) and `/proc/PID/cgroup`
/// (cgroups(7): `NUMBER:CONTROLLERS:PATH`).
fn folder(mounts: &str, cgroup: &str) -> Option<Folder> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        let lines = cgroup.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        lines.into_iter().find_map(|words| match words[..] {
            [_, controllers, path] if wanted(controllers) => Some(path.to_owned()),
            _ => None,
        })
    };
    let mounted = |kind: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let (place, what) = line.split_once(" - ")?;
            let (place, what): (Vec<&str>, Vec<&str>) = (place.split(' ').collect(), what.split(' ').collect());
            let options = what.get(2)?;
            let fits = what[0] == kind && option.is_none_or(|option| options.split(',').any(|one| one == option));
            fits.then_some((*place.get(3)?, *place.get(4)?))
        })
    };
    let below = |(root, mount): (&str, &str), path: &str| {
        let inner = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(mount).join(inner))
    };
    if let (Some(path), Some(place)) = (
        path_of(&|controllers| controllers.split(',').any(|one| one == "memory")),
        mounted("cgroup", Some("memory")),
    ) {
        return below(place, &path).map(Folder::One);
    }
    below(mounted("cgroup2", None)?, &path_of(&str::is_empty)?).map(Folder::Two)
}

/// The number after a word that begins a line.
fn value(text: &str, word: &str) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.into_iter().find(|(name, _)| *name == word)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    /// Both versions; a hierarchy that is mounted from within; no folder where there is none.
    #[test]
    fn folders_are_found() {
        let folder_at = |text: &str| PathBuf::from(text);
        assert_eq!(
            folder(ONE, "5:cpu:/docker/a\n4:memory:/docker/a\n0::/\n"),
            Some(Folder::One(folder_at("/sys/fs/cgroup/memory/docker/a")))
        );
        let two = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            folder(two, "0::/system.slice/docker-a.scope\n"),
            Some(Folder::Two(folder_at("/sys/fs/cgroup/system.slice/docker-a.scope")))
        );
        let within = "35 31 0:32 /outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(
            folder(within, "4:memory:/outer/docker/a\n"),
            Some(Folder::One(folder_at("/sys/fs/cgroup/memory/docker/a")))
        );
        assert_eq!(folder(within, "4:memory:/elsewhere\n"), None);
        assert_eq!(folder("", "4:memory:/docker/a\n"), None);
    }

    /// Whole words count.
    #[test]
    fn values_are_read() {
        assert_eq!(value("rss 5\ntotal_rss 7\ntotal_rss_huge 9\n", "total_rss"), Some(7));
        assert_eq!(value("low 0\nhigh 0\nmax 3\n", "max"), Some(3));
        assert_eq!(value("anon_thp 3\n", "anon"), None);
    }
}
