//! Disks of their own for the nodes: an ext4 file system in a file each, mounted by a loop device and bound into the container in place of the volume's
//! usual folder, so that it can be full, read-only, frozen, or lose its power. Needs root.
//!
//! Aborting the journal (`mount -o remount,abort`) makes the file system read-only at that moment and throws away whatever was not synced: what a power
//! cut does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{self, CommandError};
use crate::observe::{NotInTime, eventually};

/// Of each disk. The files are sparse: only what is written takes room on this machine.
const SIZE: &str = "1G";
/// User and group of a node's process.
pub(super) const OWNER: &str = "65532:65532";
/// How long a file system may stay busy after its container has ended.
const RELEASE: Duration = Duration::from_secs(20);
/// `e2fsck` has mended something, or had nothing to mend.
const MENDED_MAX: i32 = 1;
/// Of one that could not do its work: somebody holds the device.
const GAVE_UP: i32 = 8;

/// The disks cannot be made or driven.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Somebody holds it.
    #[error(transparent)]
    Busy(#[from] NotInTime),
    /// A folder or file.
    #[error("cannot write {path}: {source}")]
    NotWritten {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The process of a disk of ours does not do as told.
    #[error("the disk of {service}: {why}")]
    NotServed {
        /// Whose disk.
        service: String,
        /// What happened instead.
        why: String,
    },
    /// Its file system is beyond repair: what is mounted afterwards would prove nothing.
    #[error("e2fsck of {device} ends with {code}: {said}")]
    NotMended {
        /// The loop device.
        device: String,
        /// Its exit code.
        code: i32,
        /// What it says.
        said: String,
    },
}

struct Disk {
    service: String,
    device: String,
    mount: PathBuf,
}

/// See the module. Dropping it unmounts and removes all.
pub struct Disks {
    root: PathBuf,
    disks: Vec<Disk>,
}

impl Disks {
    /// What the name of a folder of disks ends with, behind its project's.
    pub const SUFFIX: &str = "-disks";

    /// Where the disks of a project are; nothing is there unless they were made.
    pub fn root(folder: &Path, project: &str) -> PathBuf {
        folder.join(format!("{project}{}", Disks::SUFFIX))
    }

    /// Makes and mounts a disk a service, below a folder whose name is the project's.
    pub async fn make(folder: &Path, project: &str, services: &[&str]) -> Result<Disks, DiskError> {
        let root = Disks::root(folder, project);
        let mut made = Disks {
            root: root.clone(),
            disks: Vec::new(),
        };
        for service in services {
            let mount = root.join(service);
            std::fs::create_dir_all(&mount).map_err(|source| not_written(&mount, source))?;
            // Docker wants whole paths.
            let mount = mount.canonicalize().unwrap_or(mount);
            let image = mount.with_extension("img");
            run("truncate", &["-s", SIZE, &text(&image)]).await?;
            run(
                "mkfs.ext4",
                &["-q", "-m", "0", "-E", &format!("root_owner={OWNER}"), &text(&image)],
            )
            .await?;
            let device = run("losetup", &["-f", "--show", &text(&image)]).await?;
            made.disks.push(Disk {
                service: (*service).to_owned(),
                device,
                mount,
            });
            let disk = &made.disks[made.disks.len() - 1];
            run("mount", &[&disk.device, &text(&disk.mount)]).await?;
            run(
                "install",
                &["-d", "-o", "65532", "-g", "65532", "-m", "700", &text(&disk.data())],
            )
            .await?;
        }
        Ok(made)
    }

    /// A compose file that puts the nodes' volumes there.
    pub fn overrides(&self) -> String {
        volumes(self.disks.iter().map(|disk| (disk.service.as_str(), disk.data())))
    }

    /// Takes all room but so many bytes; what is left, bytes.
    pub async fn fill(&self, service: &str, leave_bytes: u64) -> Result<u64, DiskError> {
        let disk = self.of(service);
        let free = self.free_bytes(service).await?;
        let ballast = text(&disk.ballast());
        // A file system of so little room may not give all of it to one file: what it gives is enough.
        let _ = run(
            "fallocate",
            &["-l", &free.saturating_sub(leave_bytes).to_string(), &ballast],
        )
        .await;
        self.free_bytes(service).await
    }

    /// Gives the room back.
    pub async fn relieve(&self, service: &str) -> Result<(), DiskError> {
        run("rm", &["-f", &text(&self.of(service).ballast())]).await?;
        Ok(())
    }

    /// Room on the disk, bytes.
    pub async fn free_bytes(&self, service: &str) -> Result<u64, DiskError> {
        let said = run("stat", &["-f", "-c", "%a %S", &text(&self.of(service).mount)]).await?;
        let mut numbers = said.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        Ok(numbers.next().unwrap_or(0) * numbers.next().unwrap_or(0))
    }

    /// From here on nothing can be written, and what was not synced is lost.
    pub async fn abort(&self, service: &str) -> Result<(), DiskError> {
        run("mount", &["-o", "remount,abort", &text(&self.of(service).mount)]).await?;
        Ok(())
    }

    /// Whether nothing can be written there: a file is tried beside the data. Of a disk that is neither full nor frozen.
    pub async fn refuses(&self, service: &str) -> bool {
        let tried = text(&self.of(service).mount.join("tried"));
        let script = format!("touch '{tried}' && rm '{tried}'");
        run("sh", &["-c", &script]).await.is_err()
    }

    /// From here on whoever writes or syncs waits.
    pub async fn freeze(&self, service: &str) -> Result<(), DiskError> {
        run("fsfreeze", &["-f", &text(&self.of(service).mount)]).await?;
        Ok(())
    }

    /// They go on.
    pub async fn thaw(&self, service: &str) -> Result<(), DiskError> {
        run("fsfreeze", &["-u", &text(&self.of(service).mount)]).await?;
        Ok(())
    }

    /// Unmounts, mends and mounts again, as a machine does that starts after a power cut. Its container must have ended.
    pub async fn remount(&self, service: &str) -> Result<(), DiskError> {
        let disk = self.of(service);
        run("umount", &[&text(&disk.mount)]).await?;
        let what = format!("{} to be released", disk.device);
        eventually(&what, RELEASE, || async {
            match mounted(&disk.device) {
                false => Ok(()),
                true => Err("it is mounted elsewhere still".to_owned()),
            }
        })
        .await?;
        // A container that is being started has copied all mounts, and holds the device for a moment.
        let output = eventually(&what, RELEASE, || async {
            let output = command::output("e2fsck", &["-p", &disk.device], &[]).await;
            let output = output.map_err(|error| error.to_string())?;
            match output.status.code() {
                Some(GAVE_UP) => Err(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
                _ => Ok(output),
            }
        })
        .await?;
        let code = output.status.code().unwrap_or(-1);
        if !(0..=MENDED_MAX).contains(&code) {
            return Err(DiskError::NotMended {
                device: disk.device.clone(),
                code,
                said: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            });
        }
        run("mount", &[&disk.device, &text(&disk.mount)]).await?;
        Ok(())
    }

    /// Empties a disk: the node's data is lost.
    pub async fn empty(&self, service: &str) -> Result<(), DiskError> {
        run("find", &[&text(&self.of(service).data()), "-mindepth", "1", "-delete"]).await?;
        Ok(())
    }

    fn of(&self, service: &str) -> &Disk {
        let found = self.disks.iter().find(|disk| disk.service == service);
        found.expect("every service of the nodes has a disk")
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        remove_all(&self.root);
    }
}

impl Disk {
    fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Beside the data: not the node's.
    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }
}

/// Unmounts and removes everything below a folder of disks. Waits; what cannot be undone is said.
pub fn remove_all(root: &Path) {
    let Ok(root) = root.canonicalize() else {
        return;
    };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below = |line: &&str| {
        line.split(' ')
            .nth(1)
            .is_some_and(|path| Path::new(path).starts_with(&root))
    };
    for line in mounts.lines().filter(below) {
        let mut words = line.split(' ');
        let (device, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // Of one that is not frozen nothing can be thawed.
        done("fsfreeze", &["-u", path]);
        if !done("umount", &[path]) && !done("umount", &["-l", path]) {
            eprintln!("cannot unmount {path}");
        }
        done("losetup", &["-d", device]);
    }
    // One that was unmounted between has its device still.
    let listed = Command::new("losetup")
        .args(["-l", "-n", "-O", "NAME,BACK-FILE"])
        .output();
    let listed = listed
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    for line in listed.lines() {
        let mut words = line.split_whitespace();
        if let (Some(device), Some(file)) = (words.next(), words.next())
            && Path::new(file).starts_with(&root)
        {
            done("losetup", &["-d", device]);
        }
    }
    if let Err(error) = std::fs::remove_dir_all(&root) {
        eprintln!("cannot remove {}: {error}", root.display());
    }
}

/// For clean-up, where nothing may be awaited.
fn done(program: &str, words: &[&str]) -> bool {
    let status = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn mounted(device: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').next() == Some(device))
}

async fn run(program: &str, words: &[&str]) -> Result<String, DiskError> {
    Ok(command::run(program, words, &[]).await?)
}

/// A compose file that puts volumes into folders.
pub(super) fn volumes<'disk>(places: impl Iterator<Item = (&'disk str, PathBuf)>) -> String {
    let volume = |(service, place): (&str, PathBuf)| {
        format!(
            "  {service}:\n    driver: local\n    driver_opts: {{type: none, o: bind, device: \"{}\"}}\n",
            text(&place)
        )
    };
    format!("volumes:\n{}", places.map(volume).collect::<String>())
}

pub(super) fn not_written(path: &Path, source: std::io::Error) -> DiskError {
    DiskError::NotWritten {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}
