//! Full load for long: 64 clients that put over all three nodes of ours with their defaults, and nobody else. Whether anybody stands for election
//! meanwhile. Ours alone.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::keys::{FILLERS, KEYS, VALUE_BYTES};
use super::{RowError, Settings, say};
use crate::client::{CallError, KeyClient};
use crate::figure::{Figure, Goal};
use crate::load::{Values, fill, key, latencies, note};
use crate::server::{BloxOptions, MEMBERS, Server};

/// Clients, each with a connection of its own to one of the nodes.
const CLIENTS: usize = 64;
/// After each, a line.
const MINUTE: Duration = Duration::from_secs(60);
/// A put that is answered later has failed.
const PUT_MAX: Duration = Duration::from_secs(30);
/// After a put that failed, before its client connects again.
const PAUSE: Duration = Duration::from_millis(100);
/// A page of metrics under full load takes less.
const METRICS_MAX: Duration = Duration::from_secs(30);
/// Rises with each election.
const TERM: &str = "blox_raft_term";

/// What clients tell.
struct Told {
    /// Since the last line.
    recent: Histogram<u64>,
    all: Histogram<u64>,
    failed: u64,
    /// Why the last one failed.
    why: Option<String>,
}

/// For so many minutes.
pub async fn measure(settings: &Settings, minutes: u32) -> Result<Vec<Figure>, RowError> {
    let directory = settings.directory.join("steady");
    let server = Rc::new(Server::blox(&settings.blox, &directory, &BloxOptions::default()).await?);
    fill(&server, KEYS, VALUE_BYTES, FILLERS).await?;
    let before = terms(&server).await?;
    let told = Rc::new(RefCell::new(Told::new()));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let random = SmallRng::seed_from_u64(settings.seed ^ (number as u64) << 32);
        let (server, told) = (Rc::clone(&server), Rc::clone(&told));
        clients.spawn_local(write(server, number % MEMBERS, random, told));
    }
    let began = Instant::now();
    let mut elections = 0;
    for minute in 1..=minutes {
        sleep_until(began + MINUTE * minute).await;
        elections = elections_between(before, terms(&server).await?);
        say(&told.borrow_mut().minute_over(minute, elections));
    }
    let time = began.elapsed();
    clients.shutdown().await;
    let told = told.borrow();
    let figure = |what: &str, unit, value: f64, goals: &[Goal]| Figure {
        ours: vec![value],
        goals: goals.to_vec(),
        ..Figure::new(
            format!("{CLIENTS} clients put for {minutes} min, 256 B, all members: {what}"),
            unit,
        )
    };
    let ms = |quantile: f64| told.all.value_at_quantile(quantile) as f64 / 1e3;
    Ok(vec![
        figure("throughput", "1/s", told.all.len() as f64 / time.as_secs_f64(), &[]),
        figure("p50", "ms", ms(0.5), &[]),
        figure("p99", "ms", ms(0.99), &[]),
        figure("puts that failed", "", told.failed as f64, &[]),
        figure("elections", "", elections as f64, &[Goal::AtMost(0.0)]),
    ])
}

/// Puts without a pause, until it is aborted. One that fails is counted, and its client connects anew to the same member.
async fn write(server: Rc<Server>, member: usize, mut random: SmallRng, told: Rc<RefCell<Told>>) {
    let values = Values::new(VALUE_BYTES, &mut random);
    let mut client = None;
    loop {
        let (key, written) = (key(random.random_range(KEYS)), values.draw(&mut random));
        let began = Instant::now();
        let put = async {
            let kept = match client.take() {
                Some(kept) => kept,
                None => server.client(member).await?,
            };
            put(kept, &key, &written).await
        };
        let result = timeout(PUT_MAX, put).await;
        let why = match result {
            Ok(Ok(kept)) => {
                client = Some(kept);
                told.borrow_mut().put(began.elapsed());
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PUT_MAX:?}"),
        };
        told.borrow_mut().fail(why);
        sleep(PAUSE).await;
    }
}

/// Gives a client back whose put was acknowledged; another one may have half an answer under way.
async fn put<Client: KeyClient>(mut client: Client, key: &str, written: &Bytes) -> Result<Client, CallError> {
    client.put(key, written).await?;
    Ok(client)
}

/// Of each node.
async fn terms(server: &Server) -> Result<[u64; MEMBERS], RowError> {
    let mut terms = [0; MEMBERS];
    for (member, term) in terms.iter_mut().enumerate() {
        let asked = timeout(METRICS_MAX, server.metric(member, TERM)).await;
        *term = asked.map_err(|_| RowError::Late {
            what: "a node's metrics",
            within: METRICS_MAX,
            seen: "no answer".to_owned(),
        })??;
    }
    Ok(terms)
}

/// How far the newest term is from what was the newest: a node that had not heard of it yet stood for no election.
fn elections_between(before: [u64; MEMBERS], after: [u64; MEMBERS]) -> u64 {
    let newest = |terms: [u64; MEMBERS]| terms.into_iter().fold(0, u64::max);
    newest(after).saturating_sub(newest(before))
}

impl Told {
    fn new() -> Told {
        Told {
            recent: latencies(),
            all: latencies(),
            failed: 0,
            why: None,
        }
    }

    fn put(&mut self, latency: Duration) {
        note(&mut self.recent, latency);
        note(&mut self.all, latency);
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.why = Some(why);
    }

    /// The line of a minute.
    fn minute_over(&mut self, minute: u32, elections: u64) -> String {
        let recent = std::mem::replace(&mut self.recent, latencies());
        let ms = |quantile: f64| recent.value_at_quantile(quantile) as f64 / 1e3;
        let why = self.why.take().map(|why| format!(" ({why})")).unwrap_or_default();
        format!(
            "  minute {minute:<37} blox {:>9.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms; so far {elections} elections, {} puts failed{why}",
            recent.len() as f64 / MINUTE.as_secs_f64(),
            ms(0.5),
            ms(0.99),
            self.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms that rise are elections, each once however many nodes know of it; a node that was behind adds none.
    #[test]
    fn elections_are_counted_once() {
        assert_eq!(elections_between([2, 2, 2], [2, 2, 2]), 0);
        assert_eq!(elections_between([2, 2, 2], [4, 4, 3]), 2);
        assert_eq!(elections_between([2, 1, 2], [2, 2, 2]), 0);
    }

    /// A minute's line is of that minute; failures go on being counted.
    #[test]
    fn minutes_are_told_apart() {
        let mut told = Told::new();
        (0..120).for_each(|_| told.put(Duration::from_millis(5)));
        told.fail("refused".to_owned());
        let line = told.minute_over(1, 0);
        assert!(
            line.contains(" 2/s") && line.contains("1 puts failed (refused)"),
            "{line}"
        );
        (0..60).for_each(|_| told.put(Duration::from_millis(5)));
        let line = told.minute_over(2, 1);
        assert!(
            line.contains(" 1/s") && line.contains("1 elections, 1 puts failed"),
            "{line}"
        );
        assert_eq!(told.all.len(), 180);
    }
}
