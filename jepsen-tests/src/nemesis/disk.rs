//! What becomes of disks: full, read-only, frozen.

use std::time::{Duration, Instant};

use rand::Rng;

use super::act::Act;
use super::disks::Disks;
use super::{Cluster, Effect, NemesisError};
use crate::compose::Container;
use crate::workload::http::Ask;

/// Left on a disk that is full, bytes: nothing, too little, or just below what a node reserves.
const LEFT_BYTES: [u64; 3] = [0, 8 << 20, 40 << 20];
/// A slow disk hangs for so long, and works for so long, milliseconds.
const HANGS_MS: std::ops::Range<u64> = 50..500;
const WORKS_MS: std::ops::Range<u64> = 20..150;
/// How long it may take until the effect is seen.
const SEEN: Duration = Duration::from_secs(15);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(200);
/// How long a write that looks for it may take.
const WRITE: Duration = Duration::from_secs(2);
/// Threads of a process that wait for a disk are in this state.
const WAITS_FOR_DISK: char = 'D';

/// Full: writes are refused before it is, or its node ends.
pub(super) async fn full(cluster: &Cluster, disks: &Disks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    cluster.running(&held.positions).await?;
    let leave = LEFT_BYTES[act.random.random_range(0..LEFT_BYTES.len())];
    act.begins(&held.positions);
    let mut evidence = Vec::new();
    for position in &held.positions {
        let left = disks.fill(cluster.name(*position), leave).await?;
        evidence.push(format!("{} KiB left on {}", left >> 10, cluster.name(*position)));
    }
    let seen = eventually_seen(async || refused(cluster, &held.positions).await).await;
    let refused = seen.is_some();
    evidence.extend(seen);
    act.hold().await;
    act.mends();
    for position in &held.positions {
        disks.relieve(cluster.name(*position)).await?;
    }
    for position in &held.positions {
        cluster.revive(*position).await?;
    }
    Ok(Effect {
        seen: refused,
        evidence,
    })
}

/// A write answered 507, or a node that says it has no room, or that has ended for want of it.
async fn refused(cluster: &Cluster, positions: &[usize]) -> Option<String> {
    for position in positions {
        let node = &cluster.nodes[*position];
        let write = Ask::put("/v2/kv/nemesis/full", "v", WRITE);
        if let Ok(reply) = cluster.http.ask(node, &write).await
            && reply.status == 507
        {
            return Some(format!("{} refuses writes: {}", node.name, reply.said()));
        }
        if let Ok(reply) = cluster.http.ask(node, &Ask::get("/readyz", WRITE)).await
            && let Some(line) = String::from_utf8_lossy(&reply.body)
                .lines()
                .find(|line| line.starts_with("[!]"))
        {
            return Some(format!("{} says {line}", node.name));
        }
        let running = cluster
            .container(*position)
            .await
            .is_ok_and(|container| container.status == "running");
        if !running {
            return Some(format!("{} has ended", node.name));
        }
    }
    None
}

/// Read-only from one moment on, what was not synced lost.
pub(super) async fn abort(cluster: &Cluster, disks: &Disks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    let names: Vec<&str> = held.positions.iter().map(|position| cluster.name(*position)).collect();
    act.begins(&held.positions);
    let aborts = names.iter().map(|name| disks.abort(name));
    futures::future::try_join_all(aborts).await?;
    let (mut seen, mut evidence) = (true, Vec::new());
    for name in &names {
        let refuses = disks.refuses(name).await;
        seen &= refuses;
        evidence.push(format!(
            "the disk of {name} {}",
            if refuses { "is read-only" } else { "is WRITTEN STILL" }
        ));
    }
    let ended = eventually_seen(async || {
        let running = still_running(cluster, &containers).await.ok()?;
        all_that_can_have_ended(cluster.nodes.len(), containers.len(), running).then(|| {
            format!(
                "{} of {} ended, unable to write",
                containers.len() - running,
                names.join(", ")
            )
        })
    });
    match ended.await {
        Some(said) => evidence.push(said),
        None => {
            evidence.push(format!("not all of {} have ended", names.join(", ")));
            // Who is cut off, or has no majority, may have nothing to write.
            seen &= !act.is_alone();
        }
    }
    if seen {
        act.hold().await;
    }
    act.mends();
    // Docker starts again what ended by itself: it must not, on this disk.
    kill(cluster, &containers).await?;
    for (name, container) in names.iter().zip(&containers) {
        if let Err(instead) = cluster.in_state(container, "exited").await {
            seen = false;
            evidence.push(format!("{name} does not end: {instead}"));
            cluster.halt(container).await?;
        }
        disks.remount(name).await?;
    }
    cluster.start(&held.positions).await?;
    Ok(Effect { seen, evidence })
}

/// How many have not ended since.
async fn still_running(cluster: &Cluster, containers: &[Container]) -> Result<usize, NemesisError> {
    let mut running = 0;
    for container in containers {
        let now = cluster.compose.inspect(&container.id).await?;
        running += usize::from(now.pid == container.pid);
    }
    Ok(running)
}

/// Of nodes that cannot write all have ended, or so many that no majority runs any more: the others have nothing to write then. One at least.
fn all_that_can_have_ended(nodes: usize, struck: usize, running: usize) -> bool {
    running == 0 || (running < struck && nodes - struck + running < nodes / 2 + 1)
}

/// Has all of them ended, and Docker start none again.
async fn kill(cluster: &Cluster, containers: &[Container]) -> Result<(), NemesisError> {
    for container in containers {
        let now = cluster.compose.inspect(&container.id).await?;
        if now.status == "running" {
            // It may end by itself at this moment.
            let _ = cluster.compose.kill(&[&now]).await;
        } else if now.status != "exited" {
            cluster.halt(&now).await?;
        }
    }
    Ok(())
}

/// Frozen: whoever writes or syncs waits until it is thawed.
pub(super) async fn hang(cluster: &Cluster, disks: &Disks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    act.begins(&held.positions);
    for position in &held.positions {
        disks.freeze(cluster.name(*position)).await?;
    }
    let (mut evidence, mut waiting_nodes) = (Vec::new(), 0);
    for (position, container) in held.positions.iter().zip(&containers) {
        let name = cluster.name(*position);
        let waits = eventually_seen(async || {
            let waiting = waiting_threads(container.pid);
            (waiting > 0).then(|| format!("{waiting} threads of {name} wait for the disk"))
        });
        let waits = waits.await;
        waiting_nodes += usize::from(waits.is_some());
        evidence.push(waits.unwrap_or_else(|| format!("no thread of {name} waits for the disk")));
    }
    let seen = all_wait_that_can(cluster.nodes.len(), held.positions.len(), waiting_nodes);
    act.hold().await;
    act.mends();
    for position in &held.positions {
        disks.thaw(cluster.name(*position)).await?;
    }
    Ok(Effect { seen, evidence })
}

/// Of nodes whose disks are frozen all wait for them; where no majority has a disk, the one that hangs first has nothing more for the others to write.
fn all_wait_that_can(nodes: usize, struck: usize, waiting: usize) -> bool {
    let no_majority = nodes - struck < nodes / 2 + 1;
    waiting == struck || (no_majority && waiting > 0)
}

/// Slow: it hangs for a moment, again and again.
pub(super) async fn slow(cluster: &Cluster, disks: &Disks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    act.begins(&held.positions);
    let (mut moments, mut waiting) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < act.fault.lasts {
        for position in &held.positions {
            disks.freeze(cluster.name(*position)).await?;
        }
        tokio::time::sleep(Duration::from_millis(act.random.random_range(HANGS_MS))).await;
        waiting += containers
            .iter()
            .map(|container| waiting_threads(container.pid))
            .sum::<usize>();
        for position in &held.positions {
            disks.thaw(cluster.name(*position)).await?;
        }
        moments += 1;
        tokio::time::sleep(Duration::from_millis(act.random.random_range(WORKS_MS))).await;
    }
    act.mends();
    let sentence = format!(
        "{} hung {moments} times, {waiting} threads were seen to wait",
        cluster.names(&held.positions)
    );
    Ok(Effect {
        seen: waiting > 0,
        evidence: vec![sentence],
    })
}

/// Threads of a process that cannot be interrupted.
fn waiting_threads(pid: u64) -> usize {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let waits = |stat: &String| {
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state == Some(WAITS_FOR_DISK)
    };
    let stats = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.filter(waits).count()
}

/// Looks again and again; `None`: it was not seen in time.
pub(super) async fn eventually_seen(look: impl AsyncFn() -> Option<String>) -> Option<String> {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        if began.elapsed() > SEEN {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One node must end; of all three the last may have nobody to vote for it.
    #[test]
    fn who_cannot_write_ends() {
        assert!(all_that_can_have_ended(3, 1, 0) && !all_that_can_have_ended(3, 1, 1));
        assert!(!all_that_can_have_ended(3, 2, 1), "two of three run: a majority");
        assert!(all_that_can_have_ended(3, 3, 1) && !all_that_can_have_ended(3, 3, 2));
        assert!(!all_that_can_have_ended(3, 3, 3));
    }

    /// All that are frozen wait, unless no majority is left: then the first one that hangs may be the only one.
    #[test]
    fn who_has_something_to_write_waits() {
        assert!(all_wait_that_can(3, 1, 1) && !all_wait_that_can(3, 1, 0));
        assert!(all_wait_that_can(3, 2, 1) && all_wait_that_can(3, 3, 1));
        assert!(!all_wait_that_can(3, 2, 0) && !all_wait_that_can(3, 3, 0));
        assert!(
            !all_wait_that_can(5, 2, 1),
            "three of five go on, and have the others write"
        );
    }
}
