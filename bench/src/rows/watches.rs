//! Watches: one writer at its own pace, many watchers over all members, each told of every write. From the write's beginning to each delivery.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{RowError, Settings, Sides, add, counted, say, turns};
use crate::client::{CallError, EtcdClient, EtcdWatch, HttpStream, KeyClient, KeyPrefix, MultiplexedClient};
use crate::figure::{Figure, Goal};
use crate::load::{latencies, note};
use crate::server::{Server, Side};

/// Watchers of each row.
const WATCHERS: [usize; 3] = [1, 100, 1_000];
/// Watches share connections, so many each: gRPC's to etcd, HTTP/2's to us.
const WATCHES_A_CONNECTION: usize = 25;
/// Between two writes.
const PACE: Duration = Duration::from_millis(100);
/// Writes whose deliveries count, in a round.
const WRITES: usize = 20;
/// Writes before those.
const WARM_WRITES: usize = 5;
/// What is still under way after the last write arrives within this.
const LAST_DELIVERY: Duration = Duration::from_secs(10);
/// What is written.
const VALUE: Bytes = Bytes::from_static(&[b'v'; 256]);
/// What is watched begins so; a number of [`DIGITS`] digits follows.
const KEY: &str = "watched-";
const DIGITS: usize = 6;

/// What a watcher reads.
enum Watcher {
    Http(HttpStream),
    Etcd(EtcdWatch),
}

/// What the writer and the watchers share.
struct Seen {
    /// When each write began.
    began: Vec<Instant>,
    latency: Histogram<u64>,
    /// Deliveries of all writes.
    deliveries: usize,
}

/// Measures all rows.
pub async fn measure(sides: &Sides, settings: &Settings) -> Result<Vec<Figure>, RowError> {
    let mut figures = Vec::new();
    for watchers in WATCHERS {
        let name = counted(watchers, "watcher");
        let mut p50 = Figure::new(format!("watch, {name}: p50"), "ms");
        let mut p99 = Figure::new(format!("watch, {name}: p99"), "ms");
        if watchers == WATCHERS[WATCHERS.len() - 1] {
            p50.goals = vec![Goal::TimesPeerAtMost(0.5)];
        }
        for (_, side) in turns(settings.rounds) {
            sides.other(side).until_quiet().await?;
            let latency = deliveries(sides.side(side), watchers).await?;
            let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
            say(&format!(
                "  watch, {name:<37} {:<4} {:>9} deliveries  p50 {:>8.3} ms  p99 {:>8.3} ms",
                side.name(),
                latency.len(),
                ms(0.5),
                ms(0.99)
            ));
            add(&mut p50, side, ms(0.5));
            add(&mut p99, side, ms(0.99));
        }
        figures.extend([p50, p99]);
    }
    Ok(figures)
}

async fn deliveries(server: &Server, watchers: usize) -> Result<Histogram<u64>, RowError> {
    let seen = Rc::new(RefCell::new(Seen {
        began: Vec::new(),
        latency: latencies(),
        deliveries: 0,
    }));
    let mut all = JoinSet::new();
    let leader = server.leader().await?;
    for watcher in connect(server, leader, watchers).await? {
        all.spawn_local(watch(watcher, Rc::clone(&seen)));
    }
    let mut writer = server.client(leader).await?;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let writes = WARM_WRITES + WRITES;
    for number in 0..writes {
        pace.tick().await;
        seen.borrow_mut().began.push(Instant::now());
        let key = format!("{KEY}{number:0DIGITS$}");
        let put = timeout(LAST_DELIVERY, writer.put(&key, &VALUE)).await;
        put.map_err(|_| late("a write", "nothing".to_owned()))??;
    }
    let whole = async {
        while seen.borrow().deliveries < writes * watchers {
            match timeout(PACE, all.join_next()).await {
                // A watcher never ends well.
                Ok(Some(Ok(ended))) => return Err(RowError::from(ended)),
                Ok(Some(Err(error))) => std::panic::resume_unwind(error.into_panic()),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(())
    };
    let Ok(ended) = timeout(LAST_DELIVERY, whole).await else {
        let seen = format!("{} of {}", seen.borrow().deliveries, writes * watchers);
        return Err(late("each write at each watcher", seen));
    };
    ended?;
    all.shutdown().await;
    // What has closed many connections does not do so into the next round.
    sleep(PACE).await;
    let latency = seen.borrow().latency.clone();
    Ok(latency)
}

fn late(what: &'static str, seen: String) -> RowError {
    RowError::Late {
        what,
        within: LAST_DELIVERY,
        seen,
    }
}

/// Watchers over all members in turn, the first on one that does not lead; each has begun.
async fn connect(server: &Server, leader: usize, watchers: usize) -> Result<Vec<Watcher>, CallError> {
    let addresses = server.addresses();
    let mut all = Vec::with_capacity(watchers);
    let mut shared: Vec<Option<Connection>> = vec![None; addresses.len()];
    for number in 0..watchers {
        let member = (leader + 1 + number) % addresses.len();
        if (number / addresses.len()).is_multiple_of(WATCHES_A_CONNECTION) {
            shared[member] = Some(Connection::open(server.side(), &addresses[member]).await?);
        }
        if let Some(connection) = &shared[member] {
            all.push(connection.watch().await?);
        }
    }
    Ok(all)
}

/// What watches share.
#[derive(Clone)]
enum Connection {
    Http(MultiplexedClient),
    Etcd(EtcdClient),
}

impl Connection {
    async fn open(side: Side, address: &str) -> Result<Connection, CallError> {
        Ok(match side {
            Side::Ours => Connection::Http(MultiplexedClient::connect(address).await?),
            Side::Peer => Connection::Etcd(EtcdClient::connect(address).await?),
        })
    }

    /// One more watch, which has begun.
    async fn watch(&self) -> Result<Watcher, CallError> {
        Ok(match self {
            Connection::Http(client) => {
                let mut stream = client.stream("/v2/watch?kinds=kv").await?;
                // A bookmark: it watches.
                stream.lines().await?;
                Watcher::Http(stream)
            }
            Connection::Etcd(client) => Watcher::Etcd(client.watch(&KeyPrefix::new(KEY)).await?),
        })
    }
}

/// Reads until it cannot.
async fn watch(mut watcher: Watcher, seen: Rc<RefCell<Seen>>) -> CallError {
    loop {
        let came = match &mut watcher {
            Watcher::Http(stream) => stream.lines().await.map(|lines| keys_of(&lines)),
            Watcher::Etcd(watch) => watch.next().await.map(|answer| {
                let keys = answer.events.iter().filter_map(|event| event.kv.as_ref());
                keys.filter_map(|pair| number_of(&pair.key)).collect()
            }),
        };
        let now = Instant::now();
        match came {
            Ok(numbers) => seen.borrow_mut().note(&numbers, now),
            Err(error) => return error,
        }
    }
}

impl Seen {
    fn note(&mut self, numbers: &[usize], now: Instant) {
        for number in numbers {
            self.deliveries += 1;
            if *number >= WARM_WRITES
                && let Some(began) = self.began.get(*number)
            {
                note(&mut self.latency, now - *began);
            }
        }
    }
}

/// The numbers in the keys of lines of `/v2/watch`; nothing else is parsed.
fn keys_of(lines: &[u8]) -> Vec<usize> {
    let field = format!("\"key\":\"{KEY}");
    let lines = lines.split(|byte| *byte == b'\n');
    // The first one in a line; the object repeats it.
    let key_of = |line: &[u8]| {
        let at = line
            .windows(field.len())
            .position(|window| window == field.as_bytes())?;
        number_of(&line[at + field.len() - KEY.len()..])
    };
    lines.filter_map(key_of).collect()
}

/// The number in a key that begins as those that are watched.
fn number_of(key: &[u8]) -> Option<usize> {
    let digits = key.strip_prefix(KEY.as_bytes())?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line's key once, whatever is in the object; bookmarks and other keys are none.
    #[test]
    fn keys_are_found_in_lines() {
        let put = |number: usize| {
            format!(
                r#"{{"type":"PUT","revision":9,"kind":"kv","key":"watched-{number:06}","object":{{"key":"watched-{number:06}"}}}}"#
            )
        };
        let other = r#"{"type":"PUT","kind":"kv","key":"bench-000001"}"#;
        let bookmark = r#"{"type":"BOOKMARK","revision":10}"#;
        let lines = format!("{}\n{other}\n{bookmark}\n{}\n", put(7), put(12));
        assert_eq!(keys_of(lines.as_bytes()), [7, 12]);
        assert_eq!(keys_of(b""), Vec::<usize>::new());
        assert_eq!(
            (number_of(b"watched-000042"), number_of(b"watched-4")),
            (Some(42), None)
        );
    }
}
