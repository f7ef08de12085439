//! Nobody reads what a node says: the pipe fills, and whoever writes to it waits. Docker's own reader of the container stands still for that, so that
//! nothing of the container can be started, stopped or entered meanwhile. Needs root.

use std::process::Stdio;
use std::time::Duration;

use super::act::Act;
use super::disk::eventually_seen;
use super::{Cluster, Effect, NemesisError};
use crate::command;

/// The name of Docker's reader, whole or cut by the kernel.
const READER: &str = "containerd-shim";
/// Where a thread is that waits for room in a pipe.
const WAITS: &str = "pipe_write";
/// The state of a process that stands still.
const STOPPED: char = 'T';
/// After so long the reader goes on, whatever becomes of us: without it, nothing of the container can be removed.
const LONGEST: Duration = Duration::from_secs(60);

/// The readers stand still until a thread of each node waits, and for as long as the fault lasts.
pub(super) async fn blocked(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    let mut readers = Vec::new();
    for container in &containers {
        readers.push(reader_of(container.pid)?);
    }
    act.begins(&held.positions);
    for reader in &readers {
        go_on_later(*reader);
        signal("STOP", *reader).await?;
    }
    let mut seen = Vec::new();
    for (position, container) in held.positions.iter().zip(&containers) {
        let name = cluster.name(*position);
        let waits = eventually_seen(async || {
            let waiting = waiting_threads(container.pid);
            (waiting > 0).then(|| format!("nobody reads what {name} says: {waiting} of its threads wait"))
        });
        seen.push(
            waits
                .await
                .ok_or_else(|| format!("no thread of {name} waits for its reader")),
        );
    }
    act.hold().await;
    act.mends();
    for reader in &readers {
        signal("CONT", *reader).await?;
    }
    Ok(Effect::of_all(seen))
}

/// Has the reader of a container go on that was left standing still; `pid`: of its first process, 0: it does not run.
pub(super) async fn read_on(pid: u64) -> Result<(), NemesisError> {
    match reader_of(pid) {
        Ok(reader) if state_of(&read_proc(reader, "stat")) == Some(STOPPED) => signal("CONT", reader).await,
        // It reads, or there is nobody to be read.
        _ => Ok(()),
    }
}

/// The process that reads what a container says: the parent of its first one.
fn reader_of(pid: u64) -> Result<u64, NemesisError> {
    let parent = parent_of(&read_proc(pid, "stat"));
    let parent = parent.ok_or_else(|| NemesisError::NoEffect(format!("process {pid} has no parent")))?;
    let name = read_proc(parent, "comm");
    if name.trim().is_empty() || !READER.starts_with(name.trim()) {
        return Err(NemesisError::NoEffect(format!(
            "the parent of the container is {name:?}, not {READER}"
        )));
    }
    Ok(parent)
}

/// The fourth word of `/proc/PID/stat`; the second may contain anything.
fn parent_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The first word after the name.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A file of a process; nothing where there is none.
fn read_proc(pid: u64, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

async fn signal(name: &str, pid: u64) -> Result<(), NemesisError> {
    command::run("kill", &[&format!("-{name}"), &pid.to_string()], &[]).await?;
    Ok(())
}

/// A process of its own sees to it.
fn go_on_later(pid: u64) {
    let script = format!("sleep {}; kill -CONT {pid}", LONGEST.as_secs());
    let started = std::process::Command::new("setsid")
        .args(["-f", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if let Err(error) = started {
        eprintln!("process {pid} stands still, and is not sure to go on (kill -CONT {pid}): {error}");
    }
}

fn waiting_threads(pid: u64) -> usize {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let places = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("wchan")).ok());
    places.filter(|place| place.contains(WAITS)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a process calls itself, its parent is found.
    #[test]
    fn parents_are_read() {
        assert_eq!(parent_of("42 (a ) b) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parent_of("nonsense"), None);
        assert_eq!(
            (state_of("42 (a ) b) T 7 42"), state_of("nonsense")),
            (Some(STOPPED), None)
        );
    }
}
