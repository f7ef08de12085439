//! Disks for the nodes that lose what was not synced, see [`crate::lossy`]: a process each, mounted and bound into the container in place of the volume's
//! usual folder. Needs root and `/dev/fuse`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};

use super::disks::{self, DiskError, OWNER, not_written, text};
use crate::command;
use crate::lossy::{Counters, Cut, CutReport, Failing, MOUNTED, Order};

/// How long a disk may take to be mounted.
const MOUNTS: Duration = Duration::from_secs(10);
/// How long it may take to do as it is told.
const OBEYS: Duration = Duration::from_secs(10);
/// How long its process may take to end.
const ENDS: Duration = Duration::from_secs(5);
/// How often that is looked for, where nothing may be awaited.
const LOOK: Duration = Duration::from_millis(20);

struct LossyDisk {
    service: String,
    mount: PathBuf,
    control: PathBuf,
    /// Ends with its standard input.
    process: Child,
    _output: ChildStdout,
}

/// See the module. Dropping it ends the processes, unmounts and removes all.
pub struct LossyDisks {
    root: PathBuf,
    disks: Vec<LossyDisk>,
}

impl LossyDisks {
    /// Makes and mounts a disk a service, below a folder whose name is the project's. `program` is this one.
    pub async fn make(
        program: &Path,
        folder: &Path,
        project: &str,
        services: &[&str],
    ) -> Result<LossyDisks, DiskError> {
        let mut made = LossyDisks {
            root: disks::Disks::root(folder, project),
            disks: Vec::new(),
        };
        for service in services {
            // A socket's path must be short.
            let control = std::env::temp_dir().join(format!("{project}-{service}.sock"));
            let disk = LossyDisk::make(program, &made.root, service, control).await?;
            made.disks.push(disk);
            let disk = &made.disks[made.disks.len() - 1];
            let (user, group) = OWNER.split_once(':').unwrap_or((OWNER, OWNER));
            let words = ["-d", "-o", user, "-g", group, "-m", "700", &text(&disk.data())];
            command::run("install", &words, &[]).await?;
            disk.tell(&Order::Sync).await?;
        }
        Ok(made)
    }

    /// A compose file that puts the nodes' volumes there.
    pub fn overrides(&self) -> String {
        let places = self.disks.iter().map(|disk| (disk.service.as_str(), disk.data()));
        disks::volumes(places)
    }

    /// Cuts the power: what that took.
    pub async fn cut(&self, service: &str, how: Cut) -> Result<CutReport, DiskError> {
        let report = self.of(service).tell(&Order::Cut(how)).await?;
        Ok(CutReport::of_json(&report))
    }

    /// The power is back.
    pub async fn restore(&self, service: &str) -> Result<(), DiskError> {
        self.of(service).tell(&Order::Restore).await?;
        Ok(())
    }

    /// Syncs of files fail so from now on; `None`: none does.
    pub async fn fail_syncs(&self, service: &str, failing: Option<Failing>) -> Result<(), DiskError> {
        self.of(service).tell(&Order::FailSyncs(failing)).await?;
        Ok(())
    }

    /// What the disk has counted.
    pub async fn counters(&self, service: &str) -> Result<Counters, DiskError> {
        let counters = self.of(service).tell(&Order::Counters).await?;
        Ok(Counters::of_json(&counters))
    }

    /// Whether somebody who asks the disk for anything is refused now.
    pub async fn refuses(&self, service: &str) -> Result<bool, DiskError> {
        let before = self.counters(service).await?.refused;
        let asked = command::output("stat", &["-f", &text(&self.of(service).mount)], &[]).await?;
        Ok(!asked.status.success() && self.counters(service).await?.refused > before)
    }

    /// Empties a disk: the node's data is lost.
    pub async fn empty(&self, service: &str) -> Result<(), DiskError> {
        let disk = self.of(service);
        command::run("find", &[&text(&disk.data()), "-mindepth", "1", "-delete"], &[]).await?;
        disk.tell(&Order::Sync).await?;
        Ok(())
    }

    /// Where a node's data is, as this machine sees it.
    pub fn data(&self, service: &str) -> PathBuf {
        self.of(service).data()
    }

    fn of(&self, service: &str) -> &LossyDisk {
        let found = self.disks.iter().find(|disk| disk.service == service);
        found.expect("every service of the nodes has a disk")
    }
}

impl Drop for LossyDisks {
    fn drop(&mut self) {
        for disk in &mut self.disks {
            drop(disk.process.stdin.take());
        }
        let began = Instant::now();
        for disk in &mut self.disks {
            while began.elapsed() < ENDS && matches!(disk.process.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            // One that has ended cannot be killed.
            let _ = disk.process.start_kill();
            let _ = std::fs::remove_file(&disk.control);
        }
        disks::remove_all(&self.root);
    }
}

impl LossyDisk {
    async fn make(program: &Path, root: &Path, service: &str, control: PathBuf) -> Result<LossyDisk, DiskError> {
        let mount = root.join(service);
        std::fs::create_dir_all(&mount).map_err(|source| not_written(&mount, source))?;
        // Docker wants whole paths.
        let mount = mount.canonicalize().unwrap_or(mount);
        let backing = mount.with_extension("backing");
        let failed = |why: String| DiskError::NotServed {
            service: service.to_owned(),
            why,
        };
        let mut process = Command::new(program)
            .arg("lossy-disk")
            .arg("--backing")
            .arg(&backing)
            .arg("--mount")
            .arg(&mount)
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("{}: {error}", program.display())))?;
        let output = process.stdout.take().ok_or_else(|| failed("no output".to_owned()))?;
        let mut output = BufReader::new(output);
        let mut said = String::new();
        match tokio::time::timeout(MOUNTS, output.read_line(&mut said)).await {
            Ok(Ok(_)) if said.trim() == MOUNTED => {}
            Ok(Ok(_)) => return Err(failed("its process ends; it says why above".to_owned())),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("it is not mounted within {} s", MOUNTS.as_secs()))),
        }
        Ok(LossyDisk {
            service: service.to_owned(),
            mount,
            control,
            process,
            _output: output.into_inner(),
        })
    }

    fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Has it do something; its answer.
    async fn tell(&self, order: &Order) -> Result<Value, DiskError> {
        let failed = |why: String| DiskError::NotServed {
            service: self.service.clone(),
            why,
        };
        let asked = async {
            let mut stream = UnixStream::connect(&self.control).await?;
            stream.write_all(format!("{}\n", order.to_json()).as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            Ok::<String, std::io::Error>(answer)
        };
        let answer = match tokio::time::timeout(OBEYS, asked).await {
            Ok(answer) => answer.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("it does not answer within {} s", OBEYS.as_secs()))),
        };
        let answer: Value = serde_json::from_str(&answer).map_err(|error| failed(error.to_string()))?;
        match answer["error"].as_str() {
            Some(why) => Err(failed(why.to_owned())),
            None => Ok(answer),
        }
    }
}
