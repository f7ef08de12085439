//! Child processes that end with their parent: their standard input is a pipe from us, and closes when we die, however that happens.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child as Process, ChildStdin, Command};

/// How long a child may take to stop by itself.
const STOP_SECONDS_MAX: u64 = 15;
/// Lines of its log shown when a child ended that should not have.
const LOG_LINES_SHOWN: usize = 5;

/// A running `blox` of another kind.
pub struct Child {
    /// What it is called in the story.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Where its standard error goes.
    pub log: PathBuf,
    process: Process,
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts this very program with other arguments; its standard error goes to `NAME.log` in `directory`.
    pub fn start(
        name: &str,
        arguments: &[String],
        environment: &[(String, String)],
        directory: &Path,
    ) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut process = Command::new(&program)
            .args(arguments)
            .arg("--exit-on-stdin-close")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal goes to the whole group: children in one of their own are stopped by us, in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} {}", program.display(), arguments.join(" ")))?;
        let pid = process.id().context("the child ended at once")?;
        Ok(Child {
            name: name.to_owned(),
            pid,
            log,
            _stdin: process.stdin.take(),
            process,
        })
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Asks it to stop, waits, and ends it where it does not.
    pub async fn stop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // The pid is ours until it is waited for, so the signal cannot meet another process.
        let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGTERM);
        if tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), self.process.wait())
            .await
            .is_err()
        {
            let _ = self.process.kill().await;
        }
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}
