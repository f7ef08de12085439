//! A relay in another network namespace, as whoever started it sees it. It ends with this value.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{Counters, Order};

/// How long it may take to say something: it asks several programs, on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);
/// So much of what it says of an error is shown, bytes.
const SAID_BYTES_MAX: u64 = 2_000;

/// It does not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// `nsenter` is not there, or may not be run.
    #[error("cannot start a relay: {0}")]
    NotStarted(std::io::Error),
    /// It has ended by itself.
    #[error("the relay ended by itself: {said}")]
    Ended {
        /// Its last words.
        said: String,
    },
    /// It says nothing, or what is not understood.
    #[error("the relay does not answer within {} s as it should; it said {said:?}", ANSWER.as_secs())]
    Silent {
        /// Its last line.
        said: String,
    },
}

/// See the module.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts one and waits until packets come to it. `program`: this one, `jepsen-tests`; `network`: the namespace's file. Needs root.
    pub async fn begin(program: &Path, network: &Path, order: &Order) -> Result<Process, ProcessError> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", network.display()))
            .arg("--")
            .arg(program)
            .arg("relay")
            .args(order.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(ProcessError::NotStarted)?;
        let missing = || ProcessError::NotStarted(std::io::ErrorKind::BrokenPipe.into());
        let output = child.stdout.take().ok_or_else(missing)?;
        let mut process = Process {
            input: child.stdin.take(),
            lines: BufReader::new(output).lines(),
            child,
        };
        process.heard(|said| (said["ready"] == true).then_some(())).await?;
        Ok(process)
    }

    /// Its counters so far.
    pub async fn tell(&mut self) -> Result<Counters, ProcessError> {
        self.say("tell\n").await?;
        self.heard(Counters::parse).await
    }

    /// Has it send datagrams of its own to each peer.
    pub async fn probe(&mut self, count: u32) -> Result<(), ProcessError> {
        self.say(&format!("probe {count}\n")).await
    }

    /// Has it take itself out of the way; its counters in the end.
    pub async fn end(mut self) -> Result<Counters, ProcessError> {
        self.input = None;
        let last = |said: &Value| Counters::parse(said).filter(|_| said["end"] == true);
        let counters = self.heard(last).await?;
        match tokio::time::timeout(ANSWER, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(counters),
            Ok(_) => Err(self.ended().await),
            Err(_) => Err(ProcessError::Silent {
                said: "its last counters".to_owned(),
            }),
        }
    }

    /// Of its process on this machine; `None`: it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    async fn say(&mut self, line: &str) -> Result<(), ProcessError> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        match input.write_all(line.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// The first line from which something is understood.
    async fn heard<T>(&mut self, understand: impl Fn(&Value) -> Option<T>) -> Result<T, ProcessError> {
        let mut last = String::new();
        let lines = &mut self.lines;
        let heard = tokio::time::timeout(ANSWER, async {
            while let Ok(Some(line)) = lines.next_line().await {
                let said = serde_json::from_str(&line).unwrap_or_default();
                if let Some(understood) = understand(&said) {
                    return Some(understood);
                }
                last = line;
            }
            None
        });
        match heard.await {
            Ok(Some(understood)) => Ok(understood),
            Ok(None) => Err(self.ended().await),
            Err(_) => Err(ProcessError::Silent { said: last }),
        }
    }

    /// Why it has ended: what it says of that, or its exit status.
    async fn ended(&mut self) -> ProcessError {
        let mut said = Vec::new();
        if let Some(errors) = self.child.stderr.take() {
            let _ = tokio::time::timeout(ANSWER, errors.take(SAID_BYTES_MAX).read_to_end(&mut said)).await;
        }
        let mut said = String::from_utf8_lossy(&said).trim().to_owned();
        if said.is_empty()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            said = status.to_string();
        }
        ProcessError::Ended { said }
    }
}
