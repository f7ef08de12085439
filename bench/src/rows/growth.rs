//! What more keys cost: one client's latency with a thousand keys and with a million, the start of a cluster that has them.

use std::ops::Range;

use tokio::time::Instant;

use super::keys::{FILLERS, VALUE_BYTES};
use super::{RowError, Settings, add, say};
use crate::client::Reading;
use crate::figure::{Figure, Goal};
use crate::load::{Load, Where, Work, fill, run};
use crate::server::{BloxOptions, MEMBERS, Server, Side};

/// Keys of each step.
const STEPS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// The last step's latency is at most so many times the first one's.
pub(super) const FLAT: f64 = 1.5;
/// What is asked at each step.
const ASKED: [(&str, Work); 3] = [
    ("put", Work::Put { bytes: VALUE_BYTES }),
    ("get linearizable", Work::Get(Reading::Linearizable)),
    ("get local", Work::Get(Reading::Local)),
];

/// A point of a chart: what was asked, of whom, with how much, and the median.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What was asked.
    pub what: &'static str,
    /// Of whom.
    pub side: Side,
    /// Keys, or tasks, there were.
    pub count: u64,
    /// The median, milliseconds.
    pub p50_ms: f64,
}

/// New clusters of both sides, one after the other, grown step by step.
pub async fn measure(settings: &Settings) -> Result<(Vec<Figure>, Vec<Point>), RowError> {
    let mut points = Vec::new();
    let mut start = Figure::new("start to ready, 1,000,000 keys", "s");
    for side in [Side::Ours, Side::Peer] {
        let directory = settings.directory.join("growth");
        let mut server = match side {
            Side::Ours => Server::blox(&settings.blox, &directory, &BloxOptions::default()).await?,
            Side::Peer => Server::etcd(&settings.etcd, &directory).await?,
        };
        let mut filled = 0;
        for keys in STEPS {
            fill(&server, filled..keys, VALUE_BYTES, FILLERS).await?;
            filled = keys;
            for (what, work) in ASKED {
                let load = Load {
                    work,
                    clients: 1,
                    members: Where::Leader,
                    keys: 0..keys,
                    times: settings.times,
                    seed: settings.seed,
                };
                let p50_ms = run(&server, &load).await?.milliseconds(50.0);
                say(&format!(
                    "  {:<44} {:<4} p50 {p50_ms:>8.3} ms",
                    format!("{what}, {keys} keys"),
                    side.name()
                ));
                points.push(Point {
                    what,
                    side,
                    count: keys,
                    p50_ms,
                });
            }
        }
        for member in 0..MEMBERS {
            server.kill(member).await?;
        }
        let began = Instant::now();
        for member in 0..MEMBERS {
            server.restart(member)?;
        }
        server.until_whole().await?;
        let seconds = began.elapsed().as_secs_f64();
        say(&format!("  {:<44} {:<4} {seconds:>8.2} s", start.name, side.name()));
        add(&mut start, side, seconds);
    }
    let mut figures = grown(&points);
    figures.push(start);
    Ok((figures, points))
}

/// One for each thing asked.
fn grown(points: &[Point]) -> Vec<Figure> {
    let [first, .., last] = STEPS;
    let figure = |(what, _): (&'static str, Work)| Figure {
        goals: vec![Goal::AtMost(FLAT)],
        ..times_as_long(points, what, "keys", first..last)
    };
    ASKED.map(figure).to_vec()
}

/// How many times as long the last step takes as the first, of each side by itself.
pub(super) fn times_as_long(points: &[Point], what: &str, things: &str, steps: Range<u64>) -> Figure {
    let (first, last) = (steps.start, steps.end);
    let of = |side: Side, count: u64| {
        let mut those = points.iter().filter(|point| point.what == what && point.side == side);
        those.find(|point| point.count == count).map(|point| point.p50_ms)
    };
    let mut figure = Figure::new(format!("{what}: p50 with {last} {things} over that with {first}"), "x");
    for side in [Side::Ours, Side::Peer] {
        if let (Some(first), Some(last)) = (of(side, first), of(side, last)) {
            add(&mut figure, side, last / first);
        }
    }
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Growth is the last step over the first, of each side by itself.
    #[test]
    fn growth_is_last_over_first() {
        let point = |side, count, p50_ms| Point {
            what: "put",
            side,
            count,
            p50_ms,
        };
        let points = [
            point(Side::Ours, 1_000, 2.0),
            point(Side::Ours, 1_000_000, 2.5),
            point(Side::Peer, 1_000, 1.0),
            point(Side::Peer, 1_000_000, 4.0),
        ];
        let figures = grown(&points);
        assert_eq!(
            (figures[0].our_median(), figures[0].peer_median()),
            (Some(1.25), Some(4.0))
        );
        assert_eq!((figures[0].met(), figures[1].met()), (Some(true), None));
    }
}
