//! Wall clocks that jump, once or to and fro.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::Rng;
use rand::seq::IndexedRandom;

use super::act::Act;
use super::clocks::Clocks;
use super::process::Seen;
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
    let held = act.take().await;
    cluster.running(&held.positions).await?;
    let by_s = drawn(act);
    act.begins(&held.positions);
    set(cluster, clocks, &held.positions, by_s)?;
    let seen = are_off(cluster, &held.positions, by_s).await;
    act.hold().await;
    act.mends();
    set(cluster, clocks, &held.positions, 0)?;
    Ok(Effect::of_all(seen))
}

/// The clocks jump to and fro.
pub(super) async fn strobe(cluster: &Cluster, clocks: &Clocks, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let held = act.take().await;
    cluster.running(&held.positions).await?;
    let by_s = drawn(act);
    act.begins(&held.positions);
    set(cluster, clocks, &held.positions, by_s)?;
    let mut seen = are_off(cluster, &held.positions, by_s).await;
    let (began, mut times) = (Instant::now(), 1);
    while began.elapsed() < act.fault.lasts {
        let off_s = if times % 2 == 0 { by_s } else { 0 };
        set(cluster, clocks, &held.positions, off_s)?;
        times += 1;
        tokio::time::sleep(Duration::from_millis(act.random.random_range(STROBE_MS))).await;
    }
    act.mends();
    set(cluster, clocks, &held.positions, 0)?;
    seen.push(Ok(format!("and right again, {times} times")));
    Ok(Effect::of_all(seen))
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

/// What was seen of each clock.
async fn are_off(cluster: &Cluster, positions: &[usize], by_s: i64) -> Vec<Seen> {
    let mut seen = Vec::new();
    for position in positions {
        let name = cluster.name(*position);
        let off = is_off(cluster, *position, by_s).await;
        seen.push(match off {
            Ok(()) => Ok(format!("the clock of {name} is off by {by_s} s")),
            Err(instead) => Err(format!("the clock of {name} is to be off by {by_s} s: {instead}")),
        });
    }
    seen
}

/// Whether a node's process has its time from us, and the time in its container is off by so much. One that does not run tells none.
async fn is_off(cluster: &Cluster, position: usize, by_s: i64) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        // Docker may take its time before and after it is looked.
        let before_s = now_s();
        last = match time_of(cluster, position).await {
            Some((faked, time_s)) => {
                let asked_s = before_s - TOLERANCE_S..=now_s() + TOLERANCE_S;
                if faked && asked_s.contains(&(time_s - by_s)) {
                    return Ok(());
                }
                let off_s = time_s - before_s;
                format!("it is off by {off_s} s, the library in its process: {faked}")
            }
            None => "its container does not tell the time".to_owned(),
        };
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

/// Seconds since 1970, by our clock.
fn now_s() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}

/// Whether the library is in the node's process, and the time, seconds since 1970.
async fn time_of(cluster: &Cluster, position: usize) -> Option<(bool, i64)> {
    let container = cluster.container(position).await.ok()?;
    let said = cluster.compose.shell(&container, None, ASK, &[]).await.ok()?;
    let mut words = said.split_whitespace();
    let maps: u32 = words.next()?.parse().ok()?;
    Some((maps > 0, words.next()?.parse().ok()?))
}
