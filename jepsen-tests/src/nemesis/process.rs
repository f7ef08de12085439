//! Processes that are killed, stopped, or stand still.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::seq::SliceRandom;

use super::act::Act;
use super::{Cluster, Effect, NemesisError};
use crate::compose::Container;
use crate::observe::eventually;

/// How often a pause is tried.
const PAUSES: usize = 3;
/// Exit code of a process that SIGKILL ended, as Docker gives it.
const KILLED: i64 = 137;
/// Of one that left in order.
const LEFT: i64 = 0;
/// How long a process may take from its start until it listens for SIGTERM.
const LISTENS: Duration = Duration::from_secs(5);

/// What was seen of one node: as it must be, or what was instead.
pub(super) type Seen = Result<String, String>;

/// kill -9, all at once; then started again.
pub(super) async fn kill(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    act.begins(&held.positions);
    let seen = struck_dead(cluster, &held.positions, &containers).await?;
    let effect = Effect::of_all(seen);
    started_again(cluster, act, &held.positions, effect.seen).await?;
    Ok(effect)
}

/// kill -9, all at once: what was seen of each.
pub(super) async fn struck_dead(
    cluster: &Cluster,
    positions: &[usize],
    containers: &[Container],
) -> Result<Vec<Seen>, NemesisError> {
    let all: Vec<&Container> = containers.iter().collect();
    if cluster.compose.kill(&all).await.is_err() {
        // Docker refuses to kill what does not run: one has ended by itself at this moment.
        for (position, container) in positions.iter().zip(containers) {
            kill_again(cluster, *position, container).await?;
        }
    }
    let mut seen = Vec::new();
    for (position, container) in positions.iter().zip(containers) {
        let name = cluster.name(*position);
        seen.push(match cluster.in_state(container, "exited").await {
            Ok(dead) if dead.exit_code == KILLED => Ok(format!("{name} ended by SIGKILL")),
            Ok(dead) => Err(format!("{name} ended with exit code {}", dead.exit_code)),
            Err(instead) => Err(instead),
        });
    }
    Ok(seen)
}

/// One of those that were to be killed at once: it was, or has ended by itself, which is told; then it is started and killed.
async fn kill_again(cluster: &Cluster, position: usize, container: &Container) -> Result<(), NemesisError> {
    let now = cluster.compose.inspect(&container.id).await?;
    if now.status != "exited" || now.exit_code != KILLED {
        let runs = cluster.running(&[position]).await?;
        cluster.compose.kill(&[&runs[0]]).await?;
    }
    Ok(())
}

/// SIGTERM, all at once; then started again.
pub(super) async fn term(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    act.begins(&held.positions);
    let stops = containers.iter().map(|container| async {
        until_it_listens(container).await;
        let began = Instant::now();
        cluster.compose.stop(container).await.map(|()| began.elapsed())
    });
    let took = futures::future::try_join_all(stops).await?;
    let mut seen = Vec::new();
    for ((position, container), took) in held.positions.iter().zip(&containers).zip(took) {
        let now = cluster.compose.inspect(&container.id).await?;
        let name = cluster.name(*position);
        if now.status != "exited" {
            seen.push(Err(format!("{name} is {}", now.status)));
            continue;
        }
        let (code, ms) = (now.exit_code, took.as_millis());
        let left = format!("{name} left with exit code {code} after {ms} ms");
        // Who is cut off, or stands still meanwhile, may not be able to leave in order.
        if code != LEFT && act.is_alone() {
            let sentence = format!("told to leave, with no other fault under way, {left}");
            cluster.found.note(sentence);
        }
        seen.push(Ok(left));
    }
    let effect = Effect::of_all(seen);
    started_again(cluster, act, &held.positions, effect.seen).await?;
    Ok(effect)
}

/// The first process of a container is not even ended by a SIGTERM that it does not listen for yet. One that never does is told all the same.
async fn until_it_listens(container: &Container) {
    let path = format!("/proc/{}/status", container.pid);
    let listens = eventually("a process to listen for SIGTERM", LISTENS, || async {
        match std::fs::read_to_string(&path) {
            Ok(status) if !is_node(&status) || !listens_for(Signal::SIGTERM, &status) => Err("it does not".to_owned()),
            // Gone already, it needs not be waited for.
            Ok(_) | Err(_) => Ok(()),
        }
    });
    let _ = listens.await;
}

/// From `/proc/PID/status`: the node's process, and no more Docker's that becomes it.
fn is_node(status: &str) -> bool {
    status.lines().any(|line| line == "Name:\tblox")
}

/// From `/proc/PID/status`: bit n - 1 of `SigCgt` is set for a signal n with a handler (proc(5)).
fn listens_for(signal: Signal, status: &str) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
}

/// They stay down for as long as the fault lasts, and are started at once; where not all have ended, each by itself and without waiting.
async fn started_again(
    cluster: &Cluster,
    act: &mut Act<'_>,
    positions: &[usize],
    seen: bool,
) -> Result<(), NemesisError> {
    if seen {
        act.hold().await;
        act.mends();
        // In an order of the seed's: who is back first is likely to lead.
        let mut order = positions.to_vec();
        order.shuffle(&mut act.random);
        return cluster.start(&order).await;
    }
    act.mends();
    for position in positions {
        cluster.revive(*position).await?;
    }
    Ok(())
}

/// Every process stands still; then they go on.
pub(super) async fn pause(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    act.begins(&held.positions);
    let effect = Effect::of_all(stood_still(cluster, &held.positions, &containers).await?);
    act.hold().await;
    act.mends();
    let mends = held.positions.iter().map(|position| cluster.revive(*position));
    futures::future::try_join_all(mends).await?;
    Ok(effect)
}

/// Every process stands still: what was seen of each node.
pub(super) async fn stood_still(
    cluster: &Cluster,
    positions: &[usize],
    containers: &[Container],
) -> Result<Vec<Seen>, NemesisError> {
    let pauses = positions.iter().map(|position| freeze(cluster, *position));
    futures::future::try_join_all(pauses).await?;
    let mut seen = Vec::new();
    for (position, container) in positions.iter().zip(containers) {
        let name = cluster.name(*position);
        let paused = cluster.in_state(container, "paused").await;
        let answer = cluster.observer.ready(*position).await;
        seen.push(match (paused, answer) {
            (Ok(_), Err(_)) => Ok(format!("{name} is paused and answers nothing")),
            (Err(instead), _) => Err(instead),
            (_, Ok(())) => Err(format!("{name} answers")),
        });
    }
    Ok(seen)
}

/// Docker refuses to pause a container that has ended by itself: it is started, and paused then.
async fn freeze(cluster: &Cluster, position: usize) -> Result<(), NemesisError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let runs = cluster.running(&[position]).await?;
        match cluster.compose.pause(&runs[0]).await {
            Ok(()) => return Ok(()),
            Err(error) if tries == PAUSES => return Err(error.into()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its bit, whatever else a process listens for.
    #[test]
    fn handlers_are_seen() {
        let before = "Name:\tblox\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000440\n";
        assert!(is_node(before) && !is_node("Name:\trunc:[2:INIT]\n"));
        assert!(!listens_for(Signal::SIGTERM, before) && listens_for(Signal::SIGSEGV, before));
        let after = before.replace("0440", "4440");
        assert!(listens_for(Signal::SIGTERM, &after));
        assert!(!listens_for(Signal::SIGTERM, ""));
    }
}
