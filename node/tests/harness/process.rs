//! One child process: it ends with the test, however that ends.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

/// How long a process may take to stop by itself.
const STOP: Duration = Duration::from_secs(30);

/// A running process. Its standard input is a pipe of ours, so that a `blox` ends when this test does.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a program; what it writes is appended to `NAME.log` in `directory`.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        directory: &Path,
    ) -> Process {
        let log = directory.join(format!("{name}.log"));
        let output: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the test's directory can be written");
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Process {
            name: name.to_owned(),
            _stdin: child.stdin.take(),
            child,
            log,
        }
    }

    /// This workspace's `blox`, or a copy of it that BLOX_BIN names: a long run goes on while the workspace is built again.
    pub fn program() -> PathBuf {
        let copy = std::env::var_os("BLOX_BIN");
        copy.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_blox")), PathBuf::from)
    }

    /// A `blox`.
    pub fn blox(name: &str, arguments: &[String], environment: &[(String, String)], directory: &Path) -> Process {
        let mut arguments = arguments.to_vec();
        arguments.push("--exit-on-stdin-close".to_owned());
        Process::start(name, &Process::program(), &arguments, environment, directory)
    }

    /// Sends a signal, without waiting.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id() {
            // Not waited for yet, so the pid is still this child's.
            kill(Pid::from_raw(pid as i32), signal).expect("our own child can be signalled");
        }
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().await.expect("our own child can be waited for");
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(status) => status.expect("our own child can be waited for"),
            Err(_) => panic!("{} did not end within {STOP:?}:\n{}", self.name, self.last_words()),
        }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Its pid; it has not ended.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Panics where it has ended although it should not.
    pub fn assert_runs(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{} has ended with {status}:\n{}", self.name, self.last_words());
        }
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what it wrote.
    pub fn last_words(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}
