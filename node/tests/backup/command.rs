//! Commands that end by themselves.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::harness::Process;

/// How long a command may take on a busy machine.
const COMMAND: Duration = Duration::from_secs(60);

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub success: bool,
    pub output: String,
    pub errors: String,
}

impl Said {
    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.output, self.errors)
    }

    /// Its output, if it ended well.
    pub fn well(self) -> Said {
        assert!(self.success, "it failed: {}", self.all());
        self
    }

    /// Everything it said, if it failed.
    pub fn refused(self) -> String {
        assert!(!self.success, "it did not fail: {}", self.all());
        self.all()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.all()))
    }
}

/// Runs this workspace's `blox` to its end.
pub async fn blox(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let running = tokio::process::Command::new(Process::program())
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(COMMAND, running)
        .await
        .unwrap_or_else(|_| panic!("blox {arguments:?} did not end within {COMMAND:?}"))
        .expect("blox can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        success: output.status.success(),
        output: text(&output.stdout),
        errors: text(&output.stderr),
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the test's directory is text")
}
