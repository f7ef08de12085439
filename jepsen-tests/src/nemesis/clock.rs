//! Wall clocks that jump, once or to and fro.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::Rng;
use rand::seq::IndexedRandom;

use super::act::Act;
use super::clocks::Clocks;
use super::{Cluster, Effect, NemesisError};

/// How far a clock jumps, seconds, forwards or back: a correction, a wrong zone, a dead battery.
const JUMPS_S: [i64; 5] = [2, 60, 3_600, 86_400, 30 * 86_400];
/// A clock that goes to and fro does so after so long, milliseconds.
const STROBE_MS: std::ops::Range<u64> = 100..400;
/// What a container tells may be off by so much for other reasons, seconds.
const TOLERANCE_S: i64 = 1;
/// How often it is asked, and after how long again: it may not run at the moment.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);
/// Asks a container for its time, which is its node's where the same library is in its process.
const ASK: &str = "grep -c libfaketime /proc/1/maps; date +%s";

/// The clocks jump, stay, and jump back.
pub(super) async fn jump(cluster: &Cluster, clocks: &Clocks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let chosen = act.choose().await;
    let by_s = drawn(act);
    act.begins(&chosen);
    set(cluster, clocks, &chosen, by_s)?;
    let mut seen = false;
    for position in &chosen {
        seen |= is_off(cluster, *position, by_s).await;
    }
    act.hold().await;
    act.mends();
    set(cluster, clocks, &chosen, 0)?;
    Ok(told(cluster, &chosen, seen, format!("off by {by_s} s")))
}

/// The clocks jump to and fro.
pub(super) async fn strobe(cluster: &Cluster, clocks: &Clocks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let chosen = act.choose().await;
    let by_s = drawn(act);
    act.begins(&chosen);
    set(cluster, clocks, &chosen, by_s)?;
    let seen = is_off(cluster, chosen[0], by_s).await;
    let (began, mut times) = (Instant::now(), 1);
    while began.elapsed() < act.fault.lasts {
        let off_s = if times % 2 == 0 { by_s } else { 0 };
        set(cluster, clocks, &chosen, off_s)?;
        times += 1;
        tokio::time::sleep(Duration::from_millis(act.random.random_range(STROBE_MS))).await;
    }
    act.mends();
    set(cluster, clocks, &chosen, 0)?;
    Ok(told(
        cluster,
        &chosen,
        seen,
        format!("off by {by_s} s and right again, {times} times"),
    ))
}

fn drawn(act: &mut Act<'_>) -> i64 {
    let by_s = JUMPS_S.choose(&mut act.random).copied().unwrap_or(JUMPS_S[0]);
    if act.random.random() { by_s } else { -by_s }
}

fn set(cluster: &Cluster, clocks: &Clocks, positions: &[usize], seconds: i64) -> Result<(), NemesisError> {
    for position in positions {
        clocks.set(cluster.name(*position), seconds)?;
    }
    Ok(())
}

fn told(cluster: &Cluster, positions: &[usize], seen: bool, what: String) -> Effect {
    let but = if seen { "" } else { ", as nobody was seen to be" };
    Effect {
        seen,
        evidence: vec![format!("the clocks of {} are {what}{but}", cluster.names(positions))],
    }
}

/// Whether a node's process has its time from us, and the time in its container is off by so much. One that does not run tells none.
async fn is_off(cluster: &Cluster, position: usize, by_s: i64) -> bool {
    for _ in 0..TRIES {
        if let Some((faked, time_s)) = time_of(cluster, position).await {
            let now_s = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            let off_s = time_s - i64::try_from(now_s).unwrap_or(i64::MAX);
            return faked && (off_s - by_s).abs() <= TOLERANCE_S;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

/// Whether the library is in the node's process, and the time, seconds since 1970.
async fn time_of(cluster: &Cluster, position: usize) -> Option<(bool, i64)> {
    let container = cluster.container(position).await.ok()?;
    let said = cluster.compose.shell(&container, None, ASK, &[]).await.ok()?;
    let mut words = said.split_whitespace();
    let maps: u32 = words.next()?.parse().ok()?;
    Some((maps > 0, words.next()?.parse().ok()?))
}
