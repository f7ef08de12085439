//! One process of the example scheduler. It ends with this one, however that ends.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};

/// Runs a program unchanged, and ends where standard input does: that pipe is ours, so it closes also where we are killed, or abort.
const WITH_US: &str = "\
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
";
/// How long SIGKILL may take to end a process.
const KILL: Duration = Duration::from_secs(10);
/// Lines of its last words.
const LAST_LINES: usize = 5;

/// A process that runs, until it is killed or dropped.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    pid: u32,
    _stdin: Option<ChildStdin>,
}

/// How a process is started: with these words and this environment, and no other.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) python: PathBuf,
    /// The script and its arguments.
    pub(super) words: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
}

impl Process {
    /// What it says is appended to `log`.
    pub(super) fn start(program: &Program, log: &Path) -> std::io::Result<Process> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let output = OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = Command::new(&program.python)
            .args(["-c", WITH_US])
            .args(&program.words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child
            .id()
            .ok_or_else(|| std::io::Error::other("it has ended at once"))?;
        Ok(Process {
            _stdin: child.stdin.take(),
            child,
            log: log.to_owned(),
            pid,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> std::io::Result<()> {
        let killed = tokio::time::timeout(KILL, self.child.kill()).await;
        killed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    /// Where it has ended by itself, which it should not: how, and its last words.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{status}: {}", self.last_words()))
    }

    /// The end of what it, and those before it in its place, have said.
    pub(super) fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::eventually;

    fn program(folder: &Path, text: &str) -> Program {
        std::fs::create_dir_all(folder).expect("a folder");
        let script = folder.join("script.py");
        std::fs::write(&script, text).expect("a file");
        Program {
            python: PathBuf::from("python3"),
            words: vec![script.display().to_string(), "word".to_owned()],
            environment: std::env::var("HOME")
                .map(|home| ("HOME".to_owned(), home))
                .into_iter()
                .collect(),
        }
    }

    fn has_python() -> bool {
        let asked = std::process::Command::new("python3").arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    }

    /// The script sees its own words as if it had been called by itself; its end by itself is told with its last words; and one that would run for
    /// ever ends when its standard input does.
    #[tokio::test]
    async fn a_script_runs_as_by_itself_and_ends_with_us() {
        if !has_python() {
            println!("SKIPPED a_script_runs_as_by_itself_and_ends_with_us: there is no python3 here");
            return;
        }
        let folder = std::env::temp_dir().join(format!("blox-process-{}", std::process::id()));
        let within = Duration::from_secs(60);
        let short = program(
            &folder.join("short"),
            "import sys\nif __name__ == '__main__':\n    print(sys.argv[1:])\n    sys.exit(3)\n",
        );
        let mut process = Process::start(&short, &folder.join("logs/short.log")).expect("it starts");
        let ended = eventually("its end", within, || {
            std::future::ready(process.ended().ok_or_else(|| "it runs".to_owned()))
        });
        assert_eq!(ended.await.expect("it ends"), "exit status: 3: ['word']");

        let long = program(
            &folder.join("long"),
            "import time\nprint('well', flush=True)\ntime.sleep(3600)\n",
        );
        let log = folder.join("logs/long.log");
        let mut process = Process::start(&long, &log).expect("it starts");
        let told = eventually("its first word", within, || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            std::future::ready(if said == "well\n" { Ok(()) } else { Err(said) })
        });
        told.await.expect("it says it");
        assert_eq!(process.ended(), None);
        drop(process._stdin.take());
        let ended = eventually("its end", within, || {
            std::future::ready(process.ended().ok_or_else(|| "it runs".to_owned()))
        });
        assert_eq!(ended.await.expect("it ends"), "exit status: 0: well");
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
