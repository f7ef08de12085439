//! Programs that are run and awaited: with a deadline, and with what they said.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// How long any of them may take: starting containers on a busy machine is the longest.
const DEADLINE: Duration = Duration::from_secs(120);
/// So much of what a failed program said is shown, bytes.
const SAID_BYTES_MAX: usize = 2_000;

/// A program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not there, or may not be run.
    #[error("cannot run `{command}`: {source}")]
    NotStarted {
        /// As it was called.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was ended.
    #[error("`{command}` did not end within {} s", DEADLINE.as_secs())]
    Deadline {
        /// As it was called.
        command: String,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// As it was called.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of its standard error, or of its output.
        said: String,
    },
}

/// Runs a program to its end; its standard output.
pub async fn run(program: &str, arguments: &[&str], environment: &[(String, String)]) -> Result<String, CommandError> {
    let output = succeeds(program, arguments, environment).await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a program to its end; all that it said.
pub async fn succeeds(
    program: &str,
    arguments: &[&str],
    environment: &[(String, String)],
) -> Result<Output, CommandError> {
    let output = output(program, arguments, environment).await?;
    if output.status.success() {
        return Ok(output);
    }
    let said = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(CommandError::Failed {
        command: shown(program, arguments),
        status: output.status,
        said: tail(said),
    })
}

/// Runs a program to its end, whatever that is.
pub async fn output(
    program: &str,
    arguments: &[&str],
    environment: &[(String, String)],
) -> Result<Output, CommandError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(DEADLINE, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(source)) => Err(CommandError::NotStarted {
            command: shown(program, arguments),
            source,
        }),
        Err(_) => Err(CommandError::Deadline {
            command: shown(program, arguments),
        }),
    }
}

fn shown(program: &str, arguments: &[&str]) -> String {
    format!("{program} {}", arguments.join(" "))
}

fn tail(said: &[u8]) -> String {
    let begin = said.len().saturating_sub(SAID_BYTES_MAX);
    String::from_utf8_lossy(&said[begin..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program says is its result; one that fails, or is not there, is an error that shows the call and the words.
    #[tokio::test]
    async fn failures_say_what_was_run() {
        let said = run("sh", &["-c", "echo $WORD"], &[("WORD".to_owned(), "well".to_owned())]).await;
        assert_eq!(said.expect("it runs"), "well");
        let failed = run("sh", &["-c", "echo no >&2; exit 3"], &[])
            .await
            .expect_err("it fails");
        assert!(failed.to_string().contains("exit status: 3): no"), "{failed}");
        let missing = run("no-such-program-here", &[], &[]).await.expect_err("not there");
        assert!(matches!(missing, CommandError::NotStarted { .. }), "{missing}");
    }
}
