//! Wall clocks that jump, once or to and fro.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::Rng;
use rand::seq::IndexedRandom;

use super::act::Act;
use super::clocks::Clocks;
use super::{Cluster, Effect, NemesisError};
use crate::workload::http::Ask;

/// How far a clock jumps, seconds, forwards or back: a correction, a wrong zone, a dead battery.
const JUMPS_S: [i64; 5] = [2, 60, 3_600, 86_400, 30 * 86_400];
/// A clock that goes to and fro does so after so long, milliseconds.
const STROBE_MS: std::ops::Range<u64> = 100..400;
/// How long a node may take to tell its time.
const ANSWER: Duration = Duration::from_secs(1);
/// What it tells may be off by so much for other reasons, seconds.
const TOLERANCE_S: i64 = 1;
/// How often it is asked.
const TRIES: usize = 20;

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

/// Whether a node tells a time that is off by about so much. One that does not run tells none.
async fn is_off(cluster: &Cluster, position: usize, by_s: i64) -> bool {
    for _ in 0..TRIES {
        let answer = cluster
            .http
            .open(&cluster.nodes[position], &Ask::get("/livez", ANSWER))
            .await;
        let date = answer.ok().and_then(|answer| {
            let date = answer.headers().get("date")?.to_str().ok()?.to_owned();
            epoch_s(&date)
        });
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let off_s = date.zip(i64::try_from(now_s).ok()).map(|(date, now)| date - now);
        if off_s.is_some_and(|off_s| (off_s - by_s).abs() <= TOLERANCE_S) {
            return true;
        }
        tokio::time::sleep(ANSWER / 10).await;
    }
    false
}

/// Seconds since 1970 of `Mon, 23 Nov 2026 04:18:49 GMT`.
fn epoch_s(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let text = format!("{year}-{month:02}-{day}T{time}Z");
    i64::try_from(crate::suite::epoch_ns(&text)? / 1_000_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As servers write it.
    #[test]
    fn dates_are_read() {
        assert_eq!(epoch_s("Thu, 01 Jan 1970 00:00:10 GMT"), Some(10));
        assert_eq!(epoch_s("Mon, 23 Nov 2026 02:55:24 GMT"), Some(1_795_402_524));
        assert_eq!(epoch_s("yesterday"), None);
    }
}
