//! Watches: one writer at its own pace, many watchers over all members, each told of every write. From the write's beginning to each delivery.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{RowError, Settings, Sides, add, counted, say, turns};
use crate::client::frames::{Connection, Kind};
use crate::client::lean_etcd::{PREFIX_BYTES, enclose, fields};
use crate::client::{CallError, KeyClient};
use crate::figure::{Figure, Goal};
use crate::load::{latencies, note};
use crate::process::own_cpu;
use crate::protocol::watch_request::RequestUnion;
use crate::protocol::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::server::{Server, Side};

/// Watchers of each row.
const WATCHERS: [usize; 3] = [1, 100, 1_000];
/// Watches share connections, so many each: to us each is a request of its own, to etcd all are on one stream of gRPC.
const WATCHES_A_CONNECTION: usize = 25;
/// The first stream that a client opens, by the protocol.
const FIRST_STREAM: u32 = 1;
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
/// What our watches begin with.
const BOOKMARK: &[u8] = br#""type":"BOOKMARK""#;

/// Watches that share a connection; each has begun.
struct Watchers {
    connection: Connection,
    side: Side,
    /// Of each stream, by its number: what came of a line or message that is not whole yet.
    unfinished: HashMap<u32, Vec<u8>>,
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
        let mut servers_cpu = Figure::new(format!("watch, {name}: servers' CPU for a delivery"), "us");
        let mut clients_cpu = Figure::new(format!("watch, {name}: client's CPU for a delivery"), "us");
        if watchers == WATCHERS[WATCHERS.len() - 1] {
            p50.goals = vec![Goal::TimesPeerAtMost(0.5)];
        }
        for (_, side) in turns(settings.rounds) {
            sides.other(side).until_quiet().await?;
            let Deliveries {
                latency,
                servers,
                clients,
            } = deliveries(sides.side(side), watchers).await?;
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
            let each_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / latency.len() as f64;
            add(&mut servers_cpu, side, each_us(servers));
            add(&mut clients_cpu, side, each_us(clients));
        }
        figures.extend([p50, p99, servers_cpu, clients_cpu]);
    }
    Ok(figures)
}

/// What came of a round.
struct Deliveries {
    latency: Histogram<u64>,
    /// CPU time of the members, and of the clients, for all that is in it.
    servers: Duration,
    clients: Duration,
}

async fn deliveries(server: &Server, watchers: usize) -> Result<Deliveries, RowError> {
    let seen = Rc::new(RefCell::new(Seen {
        began: Vec::new(),
        latency: latencies(),
        deliveries: 0,
    }));
    let mut all = JoinSet::new();
    let leader = server.leader().await?;
    let begun = timeout(LAST_DELIVERY, connect(server, leader, watchers)).await;
    for watchers in begun.map_err(|_| late("the beginning of each watch", "silence".to_owned()))?? {
        all.spawn_local(watch(watchers, Rc::clone(&seen)));
    }
    let mut writer = server.client(leader).await?;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = (Duration::ZERO, Duration::ZERO);
    let writes = WARM_WRITES + WRITES;
    for number in 0..writes {
        pace.tick().await;
        if number == WARM_WRITES {
            before = (server.usage()?.cpu, own_cpu()?);
        }
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
    let (servers, clients) = (server.usage()?.cpu, own_cpu()?);
    all.shutdown().await;
    // What has closed many connections does not do so into the next round.
    sleep(PACE).await;
    let latency = seen.borrow().latency.clone();
    Ok(Deliveries {
        latency,
        servers: servers.saturating_sub(before.0),
        clients: clients.saturating_sub(before.1),
    })
}

fn late(what: &'static str, seen: String) -> RowError {
    RowError::Late {
        what,
        within: LAST_DELIVERY,
        seen,
    }
}

/// Watchers over all members in turn, the first on one that does not lead; each has begun.
async fn connect(server: &Server, leader: usize, watchers: usize) -> Result<Vec<Watchers>, CallError> {
    let addresses = server.addresses();
    let members = addresses.len();
    let mut all = Vec::new();
    for place in 0..members {
        // As many as there are numbers below `watchers` that fall to this place.
        let mut left = (watchers + members - 1 - place) / members;
        while left > 0 {
            let shared = left.min(WATCHES_A_CONNECTION);
            let address = &addresses[(leader + 1 + place) % members];
            all.push(Watchers::begin(server.side(), address, shared).await?);
            left -= shared;
        }
    }
    Ok(all)
}

impl Watchers {
    /// So many on one connection.
    async fn begin(side: Side, address: &str, watches: usize) -> Result<Watchers, CallError> {
        let mut watchers = Watchers {
            connection: Connection::open(address).await?,
            side,
            unfinished: HashMap::new(),
        };
        for number in 0..watches {
            match side {
                Side::Ours => {
                    let fields = [
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":authority", address),
                        (":path", "/v2/watch?kinds=kv"),
                    ];
                    watchers.connection.request(&fields, &[], true).await?;
                }
                // As etcd's own client does, all of a connection on one stream.
                Side::Peer if number == 0 => {
                    let fields = fields(address, "/etcdserverpb.Watch/Watch");
                    watchers.connection.request(&fields, &created(), false).await?;
                }
                Side::Peer => watchers.connection.send(FIRST_STREAM, &created()).await?,
            }
            // The next one is begun once this one has: what comes says so.
            let first = watchers.next().await?;
            if !says_begun(side, &first) {
                let said = String::from_utf8_lossy(&first).into_owned();
                return Err(CallError::Refused(format!("a watch is answered with {said:?}")));
            }
        }
        Ok(watchers)
    }

    /// A stream's next whole lines or messages.
    async fn next(&mut self) -> Result<Cow<'_, [u8]>, CallError> {
        loop {
            let frame = self.connection.next().await?;
            if frame.ends {
                return Err(CallError::Lost("a watch ended".to_owned()));
            }
            if frame.kind != Kind::Data {
                continue;
            }
            let whole = |bytes: &[u8]| match self.side {
                Side::Ours => whole_lines(bytes),
                Side::Peer => whole_messages(bytes),
            };
            let unfinished = self.unfinished.entry(frame.stream).or_default();
            // Mostly a frame is a line or a message, and needs no other place.
            let length = self.connection.payload(&frame).len();
            if unfinished.is_empty() && length > 0 && whole(self.connection.payload(&frame)) == length {
                return Ok(Cow::Borrowed(self.connection.payload(&frame)));
            }
            unfinished.extend_from_slice(self.connection.payload(&frame));
            let whole = whole(unfinished);
            if whole > 0 {
                let rest = unfinished.split_off(whole);
                return Ok(Cow::Owned(std::mem::replace(unfinished, rest)));
            }
        }
    }
}

/// etcd's request for a watch of all keys that are written here.
fn created() -> Vec<u8> {
    let mut end = KEY.as_bytes().to_vec();
    // The last byte of a prefix is no 0xff here.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let create = WatchCreateRequest {
        key: Bytes::from_static(KEY.as_bytes()),
        range_end: end.into(),
        start_revision: 0,
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut bytes = Vec::new();
    enclose(&request, &mut bytes);
    bytes
}

/// Whether the first that came on a stream says that the watch has begun: a bookmark, or etcd's own word.
fn says_begun(side: Side, first: &[u8]) -> bool {
    match side {
        Side::Ours => first.windows(BOOKMARK.len()).any(|window| window == BOOKMARK),
        Side::Peer => {
            let answer = first.get(PREFIX_BYTES..).map(WatchResponse::decode);
            answer.is_some_and(|answer| answer.is_ok_and(|answer| answer.created && !answer.canceled))
        }
    }
}

/// How much of it are whole lines, bytes.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

/// How much of it are whole messages with their prefixes, bytes.
fn whole_messages(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some([_, length @ ..]) = bytes[whole..].first_chunk::<PREFIX_BYTES>() {
        let end = whole + PREFIX_BYTES + u32::from_be_bytes(*length) as usize;
        if end > bytes.len() {
            break;
        }
        whole = end;
    }
    whole
}

/// Reads until it cannot.
async fn watch(mut watchers: Watchers, seen: Rc<RefCell<Seen>>) -> CallError {
    let side = watchers.side;
    loop {
        match watchers.next().await {
            Ok(came) => {
                let now = Instant::now();
                let numbers = match side {
                    Side::Ours => keys_of_lines(&came),
                    Side::Peer => keys_of_messages(&came),
                };
                seen.borrow_mut().note(&numbers, now);
            }
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
fn keys_of_lines(lines: &[u8]) -> Vec<usize> {
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

/// The numbers in the keys of etcd's messages: each event has its key once, and no value holds it.
fn keys_of_messages(messages: &[u8]) -> Vec<usize> {
    let places = messages.windows(KEY.len()).enumerate();
    let places = places.filter(|(_, window)| *window == KEY.as_bytes());
    places.filter_map(|(at, _)| number_of(&messages[at..])).collect()
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
        assert_eq!(keys_of_lines(lines.as_bytes()), [7, 12]);
        assert_eq!(keys_of_lines(b""), Vec::<usize>::new());
        assert_eq!(
            (number_of(b"watched-000042"), number_of(b"watched-4")),
            (Some(42), None)
        );
    }

    /// Lines and messages are taken once they are whole, several at once too; each event of a message counts.
    #[test]
    fn only_what_is_whole_is_taken() {
        assert_eq!((whole_lines(b"a\nb\nc"), whole_lines(b"abc")), (4, 0));
        let mut messages = created();
        let first = messages.len();
        messages.extend(created());
        assert_eq!(whole_messages(&messages), 2 * first);
        assert_eq!(whole_messages(&messages[..2 * first - 1]), first);
        assert_eq!(whole_messages(&messages[..first - 1]), 0);
        assert_eq!(keys_of_messages(b"..watched-000003vvv..watched-000021v"), [3, 21]);
        assert!(says_begun(Side::Ours, b"{\"type\":\"BOOKMARK\",\"revision\":3}\n"));
        assert!(!says_begun(Side::Ours, b"{\"error\":\"no\"}\n") && !says_begun(Side::Peer, b"none"));
    }
}
