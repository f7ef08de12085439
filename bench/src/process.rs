//! Processes under measure: started with a log file each, ended with this program, and what the kernel counts of them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, SysconfVar, sysconf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a process may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(30);
/// Becomes the program, and has it killed when this one dies, however that is.
const STARTER: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];
/// Resets the peak of resident memory (proc(5), `clear_refs`).
const RESET_PEAK: &str = "5";
/// So many lines of a log are shown when its process ended by itself.
const LAST_LINES: usize = 20;

/// What is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// For people, and the log's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Where `NAME.log` is written.
    pub directory: PathBuf,
}

/// A running [`Program`]; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
}

/// Why a process could not be started, ended or looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It cannot be started.
    #[error("{path} cannot be started")]
    NotStarted {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended by itself ({status}):\n{last_words}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        last_words: String,
    },
    /// It goes on after SIGTERM.
    #[error("{name} does not end within {STOP:?} after SIGTERM")]
    NotStopped {
        /// Which.
        name: String,
    },
    /// The kernel does not say what it counted.
    #[error("{path} cannot be read: {why}")]
    NotCounted {
        /// What was read.
        path: PathBuf,
        /// Why, or which line is missing.
        why: String,
    },
    /// A system call failed.
    #[error("{what} failed")]
    System {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What the kernel has counted of one process so far, or of several, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Sent to disks, bytes.
    pub written_bytes: u64,
}

impl Process {
    /// Starts it; what it says is appended to its log.
    pub fn start(program: Program) -> Result<Process, ProcessError> {
        let not_started = |source| ProcessError::NotStarted {
            path: program.path.clone(),
            source,
        };
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_of(&program))
            .map_err(not_started)?;
        let errors: File = log.try_clone().map_err(not_started)?;
        let [starter, words @ ..] = STARTER;
        let child = Command::new(starter)
            .args(words)
            .arg(&program.path)
            .args(&program.arguments)
            .env_clear()
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        Ok(Process { program, child })
    }

    /// The same program again, after [`Process::kill`] or [`Process::stop`].
    pub fn restart(&mut self) -> Result<(), ProcessError> {
        *self = Process::start(self.program.clone())?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// An error where it has ended although nobody asked for it.
    pub fn must_run(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(ProcessError::Ended {
                name: self.program.name.clone(),
                status,
                last_words: last_words(&log_of(&self.program)),
            }),
            Err(source) => Err(system("waiting for a process", source)),
        }
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await.map_err(|source| system("wait", source))?;
        Ok(())
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits until it has ended, as it does after [`Process::terminate`].
    pub async fn ended(&mut self) -> Result<ExitStatus, ProcessError> {
        match timeout(STOP, self.child.wait()).await {
            Ok(status) => status.map_err(|source| system("wait", source)),
            Err(_) => Err(ProcessError::NotStopped {
                name: self.program.name.clone(),
            }),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        // Where it has been waited for already its id may be another's.
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(pid.cast_signed()), signal).map_err(|source| system("kill", source.into()))?;
        }
        Ok(())
    }

    /// CPU time and bytes written since it was started.
    pub fn usage(&self) -> Result<Usage, ProcessError> {
        let written_bytes = self.number("io", "write_bytes:")?;
        Ok(Usage {
            cpu: self.cpu()?,
            written_bytes,
        })
    }

    /// Resident now, bytes.
    pub fn memory(&self) -> Result<u64, ProcessError> {
        Ok(self.number("status", "VmRSS:")? * 1024)
    }

    /// Resident now and of no file, bytes.
    pub fn memory_anonymous(&self) -> Result<u64, ProcessError> {
        Ok(self.number("status", "RssAnon:")? * 1024)
    }

    /// The most that was resident, bytes; since [`Process::forget_memory_peak`], if that was called.
    pub fn memory_peak(&self) -> Result<u64, ProcessError> {
        Ok(self.number("status", "VmHWM:")? * 1024)
    }

    /// Counts the peak from now on.
    pub fn forget_memory_peak(&self) -> Result<(), ProcessError> {
        let path = self.file("clear_refs");
        fs::write(&path, RESET_PEAK).map_err(|source| ProcessError::NotCounted {
            path,
            why: source.to_string(),
        })
    }

    fn cpu(&self) -> Result<Duration, ProcessError> {
        let (path, text) = self.read("stat")?;
        let missing = || ProcessError::NotCounted {
            path: path.clone(),
            why: "no CPU times in it".to_owned(),
        };
        // The name stands in brackets and may hold anything; utime and stime are the 12th and 13th word after it (proc(5)).
        let (_, after) = text.rsplit_once(')').ok_or_else(missing)?;
        let words = after.split_whitespace().skip(11).take(2);
        let ticks: Option<u64> = words.map(|word| word.parse::<u64>().ok()).sum();
        let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().ok_or_else(missing)?;
        let seconds = ticks.ok_or_else(missing)? as f64 / a_second as f64;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// The number behind a word at the beginning of a line.
    fn number(&self, file: &str, word: &str) -> Result<u64, ProcessError> {
        let (path, text) = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(word));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| ProcessError::NotCounted {
            path,
            why: format!("no {word} in it"),
        })
    }

    fn read(&self, file: &str) -> Result<(PathBuf, String), ProcessError> {
        let path = self.file(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(source) => Err(ProcessError::NotCounted {
                path,
                why: source.to_string(),
            }),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        let pid = self.child.id().unwrap_or_default();
        PathBuf::from(format!("/proc/{pid}/{name}"))
    }
}

impl Usage {
    /// What was used since an earlier moment.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Usage>>(all: I) -> Usage {
        all.fold(Usage::default(), |sum, one| Usage {
            cpu: sum.cpu + one.cpu,
            written_bytes: sum.written_bytes + one.written_bytes,
        })
    }
}

/// The CPU time of this program so far: of its clients, while they are all that runs in it.
pub fn own_cpu() -> Result<Duration, ProcessError> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|source| system("getrusage", source.into()))?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let seconds = Duration::from_secs(time.tv_sec().unsigned_abs());
    seconds + Duration::from_micros(time.tv_usec().unsigned_abs())
}

fn log_of(program: &Program) -> PathBuf {
    program.directory.join(format!("{}.log", program.name))
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

fn system(what: &'static str, source: io::Error) -> ProcessError {
    ProcessError::System { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, directory: &Path) -> Process {
        let program = Program {
            name: "shell".to_owned(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            directory: directory.to_owned(),
        };
        Process::start(program).expect("there is a shell")
    }

    /// What a process used is counted: CPU time of one that is busy, its memory; and its end is noticed.
    #[tokio::test]
    async fn usage_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo counted; exec sleep 30";
        let mut process = shell(script, directory.path());
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !last_words(&directory.path().join("shell.log")).contains("counted") {
            assert!(std::time::Instant::now() < deadline, "the script is not so slow");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let usage = process.usage().expect("it runs");
        assert!(usage.cpu > Duration::ZERO, "{usage:?}");
        let (now, peak) = (
            process.memory().expect("it runs"),
            process.memory_peak().expect("it runs"),
        );
        assert!(now > 0 && peak >= now, "{now} {peak}");
        process.must_run().expect("it sleeps");
        process.kill().await.expect("ours");
        let ended = process.must_run().expect_err("it was killed");
        assert!(ended.to_string().contains("counted"), "{ended}");
    }
}
