//! A node that gets less memory than it has taken: pages of its files and of its program go, and if it needs more, the kernel ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;
use tokio::sync::Mutex;

use super::act::Act;
use super::cgroup::{Usage, usage};
use super::process::Seen;
use super::{Cluster, Effect, NemesisError};
use crate::command::{self, CommandError};
use crate::compose::Container;
use crate::observe::eventually;

/// Above what the process itself holds, bytes: tried in turn, since the kernel refuses what it cannot make room for.
const ABOVE_BYTES: [u64; 4] = [4 << 20, 12 << 20, 32 << 20, 64 << 20];
/// So much of the limit is left to it, bytes; a file in memory takes the rest.
const LEFT_BYTES: u64 = 128 << 10;
/// What the process gives back meanwhile is taken away as well, so often: one that has just started holds more than it needs.
const LOOKS: Duration = Duration::from_millis(500);
/// Where a container has its memory file system.
const BALLAST: &str = "/tmp/blox-ballast";
/// How long Docker may take to give a limit back: it does not while it starts a container again.
const RESTORED: Duration = Duration::from_secs(20);

/// Limits that are lower than they should be. What was before is kept here, since Docker keeps only what is now.
#[derive(Default)]
pub struct Limits {
    /// Bytes, by container; 0: none.
    before: Mutex<BTreeMap<String, u64>>,
}

impl Limits {
    /// The lowest limit above what is used that the kernel takes, bytes.
    async fn lower(&self, cluster: &Cluster, container: &Container, used_bytes: u64) -> Result<u64, NemesisError> {
        let shown = cluster.compose.shown(&container.id).await?;
        let mut before = self.before.lock().await;
        before.entry(container.id.clone()).or_insert_with(|| allowed(&shown));
        let mut last = Ok(0);
        for above in ABOVE_BYTES {
            last = set(&container.id, used_bytes + above)
                .await
                .map(|()| used_bytes + above);
            if last.is_ok() {
                break;
            }
        }
        Ok(last?)
    }

    /// A container has what it had before; one whose limit was not lowered is left alone.
    pub(super) async fn restore(&self, id: &str) -> Result<(), NemesisError> {
        let mut before = self.before.lock().await;
        let Some(bytes) = before.get(id).copied() else {
            return Ok(());
        };
        eventually("a container's memory to be given back", RESTORED, || async {
            set(id, bytes).await.map_err(|error| error.to_string())
        })
        .await
        .map_err(|late| NemesisError::NotMended(late.to_string()))?;
        before.remove(id);
        Ok(())
    }
}

/// The limit falls to what it holds, and a little; then it is as before.
pub(super) async fn limit(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    let containers = cluster.running(&held.positions).await?;
    act.begins(&held.positions);
    let nodes = || held.positions.iter().copied().zip(&containers);
    let squeezed = nodes().map(|(position, container)| squeeze(cluster, position, container));
    let mut squeezed = futures::future::join_all(squeezed).await;
    let pressed = nodes().zip(&mut squeezed).filter_map(|((_, container), squeezed)| {
        let squeezed = squeezed.as_mut().ok()?;
        Some(squeezed.press(cluster, container))
    });
    tokio::select! {
        () = act.hold() => {}
        never = futures::future::join_all(pressed.collect::<Vec<_>>()).then(|_| std::future::pending()) => match never {},
    }
    let mut seen: Vec<Seen> = Vec::new();
    for ((position, container), squeezed) in nodes().zip(squeezed) {
        seen.push(match squeezed {
            Ok(squeezed) => hit(cluster, position, container, squeezed.before)
                .await
                .map(|hit| format!("{}; {hit}", squeezed.told)),
            Err(instead) => Err(format!("{}: {instead}", cluster.name(position))),
        });
    }
    act.mends();
    for (position, container) in nodes() {
        cluster.limits.restore(&container.id).await?;
        // Where it was started again, the file is gone; where it is about to be, nothing can be run in it.
        let _ = cluster
            .compose
            .shell(container, None, &format!("rm -f {BALLAST}"), &[])
            .await;
        cluster.revive(position).await?;
    }
    Ok(Effect::of_all(seen))
}

/// A node that has little memory.
struct Squeezed {
    /// What it held before.
    before: Usage,
    /// What it may hold, and how much of that is taken away, bytes.
    limit: u64,
    ballast: u64,
    told: String,
}

impl Squeezed {
    /// Takes away what it gives back, until it has hit the limit or is gone.
    async fn press(&mut self, cluster: &Cluster, container: &Container) {
        loop {
            tokio::time::sleep(LOOKS).await;
            let Some(now) = usage(container.pid).filter(|now| now.hits == self.before.hits) else {
                return;
            };
            let ballast = self.limit.saturating_sub(now.used_bytes + LEFT_BYTES);
            if ballast > self.ballast {
                fill(cluster, container, ballast - self.ballast).await;
                self.ballast = ballast;
            }
        }
    }
}

/// Takes so many bytes more; whether there was as much to be had. The kernel may end this, or the node, or both.
async fn fill(cluster: &Cluster, container: &Container, bytes: u64) -> bool {
    let fill = format!("head -c {bytes} /dev/zero >> {BALLAST}");
    cluster.compose.shell(container, None, &fill, &[]).await.is_ok()
}

/// It has little; or why it has as much as before.
async fn squeeze(cluster: &Cluster, position: usize, container: &Container) -> Result<Squeezed, String> {
    let before = usage(container.pid).ok_or("what it holds cannot be read")?;
    let limit = cluster.limits.lower(cluster, container, before.used_bytes).await;
    let limit = limit.map_err(|error| error.to_string())?;
    let ballast = limit.saturating_sub(before.used_bytes + LEFT_BYTES);
    let but = match fill(cluster, container, ballast).await {
        true => "",
        false => ", which was not all to be had",
    };
    let name = cluster.name(position);
    let (limit_mib, ballast_mib) = (limit >> 20, ballast >> 20);
    Ok(Squeezed {
        before,
        limit,
        ballast,
        told: format!("{name} limited to {limit_mib} MiB, {ballast_mib} MiB of them taken away{but}"),
    })
}

/// Whether it came up against its limit.
async fn hit(cluster: &Cluster, position: usize, container: &Container, before: Usage) -> Seen {
    let name = cluster.name(position);
    // The process is looked at first and last: what is read between is of a container that runs.
    let now = usage(container.pid);
    let runs = cluster.compose.inspect(&container.id).await;
    match (now, runs) {
        (_, Err(error)) => Err(error.to_string()),
        (_, Ok(runs)) if runs.pid != container.pid => Ok(format!("{name} ended for want of memory")),
        // It could be read before: its process is gone, and Docker has not noticed yet.
        (None, _) => Ok(format!("{name} ended for want of memory")),
        (Some(now), _) => {
            let times = now.hits.saturating_sub(before.hits);
            let told = format!("{name} hit it {times} times");
            if times > 0 { Ok(told) } else { Err(told) }
        }
    }
}

/// The limit that its compose file gives it, bytes; 0: none.
fn allowed(shown: &Value) -> u64 {
    shown["HostConfig"]["Memory"].as_u64().unwrap_or(0)
}

async fn set(id: &str, bytes: u64) -> Result<(), CommandError> {
    // Without a limit on swap of its own, one below the other is refused. -1: none.
    let limit = if bytes == 0 { "-1".to_owned() } else { bytes.to_string() };
    let words = ["update", "--memory", &limit, "--memory-swap", &limit, id];
    command::run("docker", &words, &[]).await?;
    Ok(())
}
