//! What one writer sees while leaders die and leave: how long until the next write is acknowledged. It asks the next member where one does not answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{Extent, RowError, Settings, Sides, add, say};
use crate::client::{CallError, KeyClient};
use crate::figure::{Figure, Goal, median};
use crate::server::{AnyClient, Server, Side};

/// How often a leader is killed, and asked to leave, on each side.
const TIMES_QUICK: usize = 20;
const TIMES_FULL: usize = 100;
/// One attempt of the writer; after that it asks the next member.
const ATTEMPT: Duration = Duration::from_millis(200);
/// Before the next attempt after one that failed at once.
const PAUSE: Duration = Duration::from_millis(2);
/// Acknowledged writes go on for so long before a fault, and after it.
const STEADY: Duration = Duration::from_millis(300);
/// Without any acknowledged write for so long, something else is wrong.
const GAP_MAX: Duration = Duration::from_secs(60);
/// Attempts at one write.
const ATTEMPTS_A_WRITE: usize = 2;

/// How a leader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// kill -9.
    Killed,
    /// SIGTERM.
    Asked,
}

/// What the writer tells.
#[derive(Debug, Default)]
struct Told {
    /// Acknowledged writes.
    acknowledged: Vec<Acknowledged>,
    /// Requests that were refused, broke off or took too long.
    failed_requests: usize,
    /// Writes that no attempt brought through.
    failed_writes: usize,
}

/// One write.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    /// When the request was sent that was answered well.
    sent: Instant,
    /// When it was.
    answered: Instant,
}

/// What a fault cost.
struct Cost {
    /// Of a killed leader: from the blow to the acknowledgement of the first request sent after it. Of one that was asked: the longest pause between two
    /// acknowledgements, from then on.
    gap: Duration,
    failed_requests: usize,
    failed_writes: usize,
}

/// Measures both ways on both sides.
pub async fn measure(sides: &mut Sides, settings: &Settings) -> Result<Vec<Figure>, RowError> {
    let times = match settings.extent {
        Extent::Quick => TIMES_QUICK,
        Extent::Full => TIMES_FULL,
    };
    let mut figures = Vec::new();
    for (way, name, median_goals, most_goals) in [
        (
            Way::Killed,
            "leader killed",
            vec![Goal::AtMost(600.0)],
            vec![Goal::AtMost(1_000.0)],
        ),
        (
            Way::Asked,
            "leader asked to leave",
            Vec::new(),
            vec![Goal::AtMost(50.0)],
        ),
    ] {
        let figure = |what: &str, unit| Figure {
            paired: false,
            ..Figure::new(format!("{name}, {times} times: {what}"), unit)
        };
        let mut gap = figure("median gap", "ms");
        let mut most = figure("p99 of the gap", "ms");
        let mut requests = figure("requests that failed", "");
        let mut writes = figure("writes that failed, asked twice", "");
        gap.goals = median_goals;
        most.goals = most_goals;
        if way == Way::Asked {
            writes.goals = vec![Goal::AtMost(0.0)];
        }
        for side in [Side::Ours, Side::Peer] {
            let (mut gaps_ms, mut failed_requests, mut failed_writes) = (Vec::new(), 0, 0);
            for _ in 0..times {
                let cost = strike(sides.side_mut(side), way).await?;
                gaps_ms.push(cost.gap.as_secs_f64() * 1e3);
                failed_requests += cost.failed_requests;
                failed_writes += cost.failed_writes;
            }
            let p99 = nearest_rank(&gaps_ms, 99);
            say(&format!(
                "  {name:<44} {:<4} {times} times: median {:.0} ms, p99 {p99:.0} ms; {failed_requests} requests failed, {failed_writes} writes",
                side.name(),
                median(&gaps_ms).unwrap_or(f64::NAN),
            ));
            gaps_ms.into_iter().for_each(|gap_ms| add(&mut gap, side, gap_ms));
            add(&mut most, side, p99);
            add(&mut requests, side, failed_requests as f64);
            add(&mut writes, side, failed_writes as f64);
        }
        figures.extend([gap, most, requests, writes]);
    }
    Ok(figures)
}

async fn strike(server: &mut Server, way: Way) -> Result<Cost, RowError> {
    server.until_whole().await?;
    let told: Rc<RefCell<Told>> = Rc::default();
    let leader = server.leader().await?;
    let writer = tokio::task::spawn_local(write(server.side(), server.addresses(), leader, Rc::clone(&told)));
    until_acknowledged(&told, Instant::now()).await?;
    sleep(STEADY).await;
    // Whoever leads by now.
    let leader = server.leader().await?;
    let blow = Instant::now();
    match way {
        Way::Killed => server.kill(leader).await?,
        Way::Asked => {
            server.terminate(leader)?;
            server.ended(leader).await?;
        }
    }
    until_acknowledged(&told, Instant::now()).await?;
    sleep(STEADY).await;
    writer.abort();
    server.restart(leader)?;
    let told = told.borrow();
    let gap = match way {
        Way::Killed => next_after(&told.acknowledged, blow),
        Way::Asked => longest_pause(&told.acknowledged, blow),
    };
    Ok(Cost {
        gap,
        failed_requests: told.failed_requests,
        failed_writes: told.failed_writes,
    })
}

/// Waits for a write that was sent after a moment and is acknowledged.
async fn until_acknowledged(told: &RefCell<Told>, since: Instant) -> Result<(), RowError> {
    let began = Instant::now();
    while told.borrow().acknowledged.last().is_none_or(|last| last.sent < since) {
        if began.elapsed() > GAP_MAX {
            return Err(RowError::Late {
                what: "an acknowledged write",
                within: GAP_MAX,
                seen: format!("{} before", told.borrow().acknowledged.len()),
            });
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Writes without a pause, one at a time, until it is aborted.
async fn write(side: Side, addresses: Vec<String>, first: usize, told: Rc<RefCell<Told>>) {
    let value = Bytes::from_static(&[b'v'; 256]);
    let mut member = first;
    let mut client = None;
    for number in 0_u64.. {
        let key = format!("failover-{:04}", number % 1_000);
        let mut is_written = false;
        for _ in 0..ATTEMPTS_A_WRITE {
            let sent = Instant::now();
            let attempt = timeout(ATTEMPT, attempt(side, &addresses[member], &mut client, &key, &value));
            if attempt.await == Ok(true) {
                let answered = Instant::now();
                told.borrow_mut().acknowledged.push(Acknowledged { sent, answered });
                is_written = true;
                break;
            }
            told.borrow_mut().failed_requests += 1;
            client = None;
            member = (member + 1) % addresses.len();
            sleep(PAUSE).await;
        }
        if !is_written {
            told.borrow_mut().failed_writes += 1;
        }
    }
}

/// Whether it was acknowledged. A kept connection that was closed meanwhile is opened again: nothing was sent on it.
async fn attempt(side: Side, address: &str, client: &mut Option<AnyClient>, key: &str, value: &Bytes) -> bool {
    if let Some(kept) = client {
        match kept.put(key, value).await {
            Ok(()) => return true,
            Err(CallError::NotConnected { .. }) => *client = None,
            Err(_) => return false,
        }
    }
    let Ok(mut connected) = AnyClient::connect(side, address).await else {
        return false;
    };
    let is_acknowledged = connected.put(key, value).await.is_ok();
    *client = Some(connected);
    is_acknowledged
}

/// From a blow to the acknowledgement of the first request that was sent after it: an answer on its way is none of the next leader's.
fn next_after(acknowledged: &[Acknowledged], blow: Instant) -> Duration {
    let next = acknowledged.iter().find(|one| one.sent > blow);
    next.map_or(Duration::MAX, |next| next.answered - blow)
}

/// The longest time without an acknowledgement that ends after a moment.
fn longest_pause(acknowledged: &[Acknowledged], since: Instant) -> Duration {
    let pairs = acknowledged.windows(2).filter(|pair| pair[1].answered > since);
    let pauses = pairs.map(|pair| pair[1].answered - pair[0].answered);
    pauses.max().unwrap_or(Duration::MAX)
}

/// The value below or at which `percent` of all are; NaN of nothing.
fn nearest_rank(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gap begins with the blow; a pause that began before it and ends after it counts whole.
    #[test]
    fn gaps_and_pauses() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let write = |sent_ms: u64, answered_ms: u64| Acknowledged {
            sent: at(sent_ms),
            answered: at(answered_ms),
        };
        let acknowledged = [
            write(0, 5),
            write(6, 10),
            write(11, 101),
            write(490, 500),
            write(501, 510),
        ];
        assert_eq!(next_after(&acknowledged, at(100)), Duration::from_millis(400));
        assert_eq!(longest_pause(&acknowledged, at(100)), Duration::from_millis(399));
        assert_eq!(longest_pause(&acknowledged, at(505)), Duration::from_millis(10));
        assert_eq!(next_after(&acknowledged, at(600)), Duration::MAX);
        assert_eq!(
            (nearest_rank(&[3.0, 1.0, 2.0], 34), nearest_rank(&[3.0, 1.0, 2.0], 99)),
            (2.0, 3.0)
        );
    }
}
