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
/// After so long the reader goes on, whatever becomes of us: without it, nothing of the container can be removed.
const LONGEST: Duration = Duration::from_secs(60);

/// The reader stands still until a thread of the node waits, and for as long as the fault lasts.
pub(super) async fn blocked(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = cluster.hold(act.choose().await).await;
    let (position, name) = (held.positions[0], cluster.name(held.positions[0]).to_owned());
    let container = cluster.container(position).await?;
    let reader = reader_of(container.pid)?;
    act.begins(&held.positions);
    signal("STOP", reader).await?;
    go_on_later(reader);
    let seen = eventually_seen(async || {
        let waiting = waiting_threads(container.pid);
        (waiting > 0).then(|| format!("nobody reads what {name} says: {waiting} of its threads wait"))
    })
    .await;
    act.hold().await;
    act.mends();
    signal("CONT", reader).await?;
    Ok(match seen {
        Some(said) => Effect::seen(vec![said]),
        None => Effect::none(format!("no thread of {name} waits for its reader")),
    })
}

/// The process that reads what a container says: the parent of its first one.
fn reader_of(pid: u64) -> Result<u64, NemesisError> {
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let parent = parent_of(&read(format!("/proc/{pid}/stat")));
    let parent = parent.ok_or_else(|| NemesisError::NoEffect(format!("process {pid} has no parent")))?;
    let name = read(format!("/proc/{parent}/comm"));
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
    }
}
