//! A node that gets less memory than it has taken: pages of its files and of its program go, and if it needs more, the kernel ends it.

use serde_json::Value;

use super::act::Act;
use super::{Cluster, Effect, NemesisError};
use crate::command;
use crate::compose::Container;

/// Above what the process itself holds, bytes: tried in turn, since the kernel refuses what it cannot make room for.
const ABOVE_BYTES: [u64; 4] = [4 << 20, 12 << 20, 32 << 20, 64 << 20];
/// So much of the limit is left to it, bytes; a file in memory takes the rest.
const LEFT_BYTES: u64 = 128 << 10;
/// Where a container has its memory file system.
const BALLAST: &str = "/tmp/blox-ballast";
/// What its processes hold beside files, bytes, and how often the limit was hit. For both versions of cgroups.
const ASK: &str = "\
cd /sys/fs/cgroup
if [ -f memory/memory.failcnt ]; then
  awk '$1 == \"total_rss\" {print $2}' memory/memory.stat; cat memory/memory.failcnt
else
  awk '$1 == \"anon\" {print $2}' memory.stat; awk '$1 == \"max\" {print $2}' memory.events
fi";

/// The limit falls to what it holds, and a little; then it is as before.
pub(super) async fn limit(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = cluster.hold(act.choose().await).await;
    let containers = cluster.containers(&held.positions).await?;
    act.begins(&held.positions);
    let mut evidence = Vec::new();
    let mut before = Vec::new();
    for (position, container) in held.positions.iter().zip(&containers) {
        let shown = cluster.compose.shown(&container.id).await?;
        let (used, hits) = usage(cluster, container).await?;
        let limit = lower(container, used).await?;
        let ballast = limit.saturating_sub(used + LEFT_BYTES);
        let fill = format!("head -c {ballast} /dev/zero > {BALLAST}");
        // The kernel may end this, or the node, or both.
        let filled = cluster.compose.shell(container, None, &fill, &[]).await;
        let but = if filled.is_ok() {
            ""
        } else {
            ", which was not all to be had"
        };
        let name = cluster.name(*position);
        evidence.push(format!(
            "{name} limited to {} MiB, {} MiB of them taken away{but}",
            limit >> 20,
            ballast >> 20
        ));
        before.push((allowed(&shown), hits));
    }
    act.hold().await;
    let mut seen = true;
    for ((position, container), (_, hits)) in held.positions.iter().zip(&containers).zip(&before) {
        let now = cluster.compose.inspect(&container.id).await?;
        if now.pid != container.pid {
            evidence.push(format!("{} was ended by the kernel", cluster.name(*position)));
            continue;
        }
        let after = usage(cluster, container).await?.1;
        seen &= after > *hits;
        evidence.push(format!(
            "{} hit it {} times",
            cluster.name(*position),
            after.saturating_sub(*hits)
        ));
    }
    act.mends();
    for (container, (allowed, _)) in containers.iter().zip(&before) {
        set(container, *allowed).await?;
        // Where it was started again, the file is gone.
        let removed = format!("rm -f {BALLAST}");
        let _ = cluster.compose.shell(container, None, &removed, &[]).await;
    }
    for position in &held.positions {
        cluster.revive(*position).await?;
    }
    Ok(Effect { seen, evidence })
}

/// The limit that its compose file gives it, bytes; 0: none.
fn allowed(shown: &Value) -> u64 {
    shown["HostConfig"]["Memory"].as_u64().unwrap_or(0)
}

async fn usage(cluster: &Cluster, container: &Container) -> Result<(u64, u64), NemesisError> {
    let said = cluster.compose.shell(container, None, ASK, &[]).await?;
    let mut numbers = said.split_whitespace().filter_map(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(used), Some(hits)) => Ok((used, hits)),
        _ => Err(NemesisError::NoEffect(format!("its cgroup says {said:?}"))),
    }
}

/// The lowest limit that the kernel takes.
async fn lower(container: &Container, used: u64) -> Result<u64, NemesisError> {
    let mut last = Ok(0);
    for above in ABOVE_BYTES {
        last = set(container, used + above).await.map(|()| used + above);
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn set(container: &Container, bytes: u64) -> Result<(), NemesisError> {
    // Without a limit on swap of its own, one below the other is refused. -1: none.
    let limit = if bytes == 0 { "-1".to_owned() } else { bytes.to_string() };
    let words = ["update", "--memory", &limit, "--memory-swap", &limit, &container.id];
    command::run("docker", &words, &[]).await?;
    Ok(())
}
