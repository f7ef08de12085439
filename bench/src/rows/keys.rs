//! Keys: puts and gets by so many clients, on the leader, a follower or all members.

use std::ops::Range;

use super::{Extent, RowError, Settings, Sides, add, counted, say, turns};
use crate::client::Reading;
use crate::figure::{Figure, Goal};
use crate::load::{Load, Where, Window, Work, fill, run};

/// Keys there are while puts and gets are measured; all that gets read have values of [`VALUE_BYTES`].
pub const KEYS: Range<u64> = 0..10_000;
/// Keys of larger values.
const LARGER: Range<u64> = 1_000_000..1_010_000;
/// Usual size of a value, bytes.
pub const VALUE_BYTES: usize = 256;
/// Clients that fill a state.
pub const FILLERS: usize = 64;
/// The row by which figures of another machine are brought to this one.
pub const YARDSTICK: &str = "put, 64 clients, 256 B";

/// A load that is a row.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// For people.
    pub name: String,
    work: Work,
    clients: usize,
    members: Where,
    /// Of requests a second.
    throughput: Vec<Goal>,
    /// Of the median and of the 99th percentile of the latency.
    p50: Vec<Goal>,
    p99: Vec<Goal>,
    /// The median has a floor that means something.
    is_one_commit: bool,
}

/// All of an extent.
pub fn rows(extent: Extent) -> Vec<KeyRow> {
    let thrice = vec![Goal::TimesPeerAtLeast(3.0)];
    let sooner = vec![Goal::TimesPeerAtMost(0.6)];
    let put = |clients: usize, bytes: usize, members: Where| {
        let size = if bytes < 1024 {
            format!("{bytes} B")
        } else {
            format!("{} KiB", bytes / 1024)
        };
        let place = if members == Where::All { ", all members" } else { "" };
        KeyRow::new(
            format!("put, {}, {size}{place}", counted(clients, "client")),
            Work::Put { bytes },
            clients,
            members,
        )
    };
    let get = |clients: usize, reading: Reading, members: Where| {
        let reading_text = match reading {
            Reading::Linearizable => "linearizable",
            Reading::Local => "local",
        };
        let place = match members {
            Where::Leader => "leader",
            Where::Follower => "follower",
            Where::All => "all members",
        };
        let name = format!("get {reading_text}, {}, {place}", counted(clients, "client"));
        KeyRow::new(name, Work::Get(reading), clients, members)
    };
    let mut rows = vec![
        KeyRow {
            p50: vec![Goal::TimesPeerAtMost(0.6), Goal::TimesFloorAtMost(2.0)],
            is_one_commit: true,
            ..put(1, VALUE_BYTES, Where::Leader)
        },
        KeyRow {
            throughput: vec![Goal::TimesPeerAtLeast(2.5)],
            ..put(64, 2048, Where::Leader)
        },
        KeyRow {
            throughput: vec![Goal::TimesPeerAtLeast(4.0)],
            ..get(64, Reading::Linearizable, Where::Leader)
        },
        KeyRow {
            throughput: vec![Goal::TimesPeerAtLeast(3.5)],
            ..get(64, Reading::Linearizable, Where::Follower)
        },
        KeyRow {
            throughput: vec![Goal::TimesPeerAtLeast(4.0)],
            ..get(64, Reading::Local, Where::Follower)
        },
        put(64, VALUE_BYTES, Where::All),
    ];
    for (place, clients) in [16, 64, 256].into_iter().enumerate() {
        let row = KeyRow {
            throughput: thrice.clone(),
            p99: sooner.clone(),
            ..put(clients, VALUE_BYTES, Where::Leader)
        };
        // After the one of one client: beyond a million writes old history is deleted beside each.
        rows.insert(1 + place, row);
    }
    if extent == Extent::Full {
        rows.extend([1, 16, 256].map(|clients| put(clients, 2048, Where::Leader)));
        rows.extend([Where::Leader, Where::Follower].map(|place| get(1, Reading::Linearizable, place)));
        rows.push(get(1, Reading::Local, Where::Follower));
        let mixed = Work::Mixed { bytes: VALUE_BYTES };
        let name = "80 % linearizable gets, 20 % puts, 64 clients, all members";
        rows.push(KeyRow::new(name.to_owned(), mixed, 64, Where::All));
    }
    rows
}

/// Fills both sides and measures the rows, one after the other.
pub async fn measure(sides: &Sides, settings: &Settings, figures: &mut Vec<Figure>) -> Result<(), RowError> {
    for server in [&sides.ours, &sides.peer] {
        fill(server, KEYS, VALUE_BYTES, FILLERS).await?;
    }
    for row in rows(settings.extent) {
        figures.extend(row.measure(sides, settings).await?);
    }
    Ok(())
}

impl KeyRow {
    fn new(name: String, work: Work, clients: usize, members: Where) -> KeyRow {
        KeyRow {
            name,
            work,
            clients,
            members,
            throughput: Vec::new(),
            p50: Vec::new(),
            p99: Vec::new(),
            is_one_commit: false,
        }
    }

    async fn measure(&self, sides: &Sides, settings: &Settings) -> Result<Vec<Figure>, RowError> {
        let mut figures = self.figures(sides);
        for (round, side) in turns(settings.rounds) {
            let load = Load {
                work: self.work,
                clients: self.clients,
                members: self.members,
                keys: match self.work {
                    Work::Put { bytes } if bytes > VALUE_BYTES => LARGER,
                    _ => KEYS,
                },
                times: settings.times,
                seed: settings.seed ^ (round as u64) << 16,
            };
            sides.other(side).until_quiet().await?;
            let window = run(sides.side(side), &load).await?;
            say(&format!(
                "  {:<44} {:<4} {:>9.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms",
                self.name,
                side.name(),
                window.per_second(),
                window.milliseconds(50.0),
                window.milliseconds(99.0)
            ));
            for (figure, (_, _, value)) in figures.iter_mut().zip(VALUES) {
                add(figure, side, value(&window));
            }
        }
        Ok(figures)
    }

    /// Without rounds yet, in the order of [`VALUES`].
    fn figures(&self, sides: &Sides) -> Vec<Figure> {
        let mut figures: Vec<Figure> = VALUES
            .into_iter()
            .map(|(what, unit, _)| Figure::new(format!("{}: {what}", self.name), unit))
            .collect();
        figures[0].goals.clone_from(&self.throughput);
        figures[1].goals.clone_from(&self.p50);
        figures[2].goals.clone_from(&self.p99);
        if self.is_one_commit {
            let commit_ms = |percent: f64| sides.floor.commit.value_at_quantile(percent / 100.0) as f64 / 1e3;
            figures[1].floor = Some(commit_ms(50.0));
            figures[2].floor = Some(commit_ms(99.0));
        }
        figures
    }
}

/// A value of a window.
type Value = fn(&Window) -> f64;

/// What is taken of each window: its name, its unit, its value.
const VALUES: [(&str, &str, Value); 8] = [
    ("throughput", "1/s", Window::per_second),
    ("p50", "ms", |window| window.milliseconds(50.0)),
    ("p99", "ms", |window| window.milliseconds(99.0)),
    ("servers' CPU", "us", Window::server_micros),
    ("client's CPU", "us", Window::client_micros),
    ("client's thread busy", "%", Window::client_busy),
    ("syncs", "", Window::syncs),
    ("written", "B", Window::written_bytes),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The goals' rows are there, each name once, and the full extent has all of the quick one.
    #[test]
    fn rows_have_their_goals() {
        let quick = rows(Extent::Quick);
        let full = rows(Extent::Full);
        let names = |rows: &[KeyRow]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        assert!(names(&full).starts_with(&names(&quick)));
        let mut sorted = names(&full);
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), full.len());
        let yardstick = quick.iter().find(|row| row.name == YARDSTICK).expect("a row");
        assert_eq!(yardstick.throughput, [Goal::TimesPeerAtLeast(3.0)]);
        assert_eq!(yardstick.p99, [Goal::TimesPeerAtMost(0.6)]);
        let asked = quick
            .iter()
            .filter(|row| !row.throughput.is_empty() || !row.p50.is_empty());
        assert_eq!(asked.count(), 8);
    }
}
