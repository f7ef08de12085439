//! A snapshot of a whole state of 1 GiB, taken while one client writes: how long it takes, and what the writer feels of it.

use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use super::keys::{FILLERS, VALUE_BYTES};
use super::{RowError, Settings, add, say};
use crate::client::{CallError, HttpClient, KeyClient, count_snapshot};
use crate::figure::Figure;
use crate::load::{Values, fill, key, latencies, note};
use crate::server::{BloxOptions, MEMBERS, Server, Side};

/// Of each value that fills the state, bytes.
const FILL_VALUE_BYTES: usize = 8 << 10;
/// So many of them are 1 GiB.
const FILL_KEYS: u64 = (1 << 30) / FILL_VALUE_BYTES as u64;
/// Keys that are written meanwhile: none of those.
const WRITTEN: Range<u64> = 10_000_000..10_010_000;
/// A snapshot takes less.
const SNAPSHOT_MAX: Duration = Duration::from_secs(600);
/// A put that is answered later is not answered.
const PUT_MAX: Duration = Duration::from_secs(30);
/// In the order of a round's values.
const FIGURES: [(&str, &str); 7] = [
    ("time", "s"),
    ("rate", "MB/s"),
    ("size", "MB"),
    ("put p50 before it", "ms"),
    ("put p50 during it", "ms"),
    ("put p99 before it", "ms"),
    ("put p99 during it", "ms"),
];

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Taken {
    bytes: u64,
    time: Duration,
}

/// New clusters of both sides, one after the other; of each as many snapshots as there are rounds.
pub async fn measure(settings: &Settings) -> Result<Vec<Figure>, RowError> {
    let figure = |(what, unit): (&str, &'static str)| Figure {
        paired: false,
        ..Figure::new(format!("snapshot of 1 GiB while writing: {what}"), unit)
    };
    let mut figures = FIGURES.map(figure);
    for side in [Side::Ours, Side::Peer] {
        let directory = settings.directory.join("snapshot");
        let mut server = match side {
            Side::Ours => Server::blox(&settings.blox, &directory, &BloxOptions::default()).await?,
            Side::Peer => Server::etcd(&settings.etcd, &directory).await?,
        };
        say(&format!(
            "  {:<44} {:<4} is filled ...",
            "snapshot of 1 GiB while writing",
            side.name()
        ));
        fill(&server, 0..FILL_KEYS, FILL_VALUE_BYTES, FILLERS).await?;
        for round in 0..settings.rounds {
            server.until_quiet().await?;
            let values = Box::pin(values(&server, settings, round)).await?;
            for (figure, value) in figures.iter_mut().zip(values) {
                add(figure, side, value);
            }
        }
        for member in 0..MEMBERS {
            server.kill(member).await?;
        }
        // What one side takes of the disk is gone before the other begins.
        std::fs::remove_dir_all(&directory).map_err(|source| RowError::Disk {
            what: "what was filled cannot be removed",
            source,
        })?;
    }
    Ok(figures.to_vec())
}

/// Of one round, in the order of [`FIGURES`]. Writer and snapshot both ask the leader: a follower has less to do.
async fn values(server: &Server, settings: &Settings, round: usize) -> Result<[f64; FIGURES.len()], RowError> {
    let leader = server.leader().await?;
    let mut random = SmallRng::seed_from_u64(settings.seed ^ (round as u64) << 16);
    let written = Values::new(VALUE_BYTES, &mut random);
    let mut writer = server.client(leader).await?;
    let wait = async |time: Duration| {
        sleep(time).await;
        Ok(())
    };
    writing_while(&mut writer, &written, &mut random, wait(settings.times.warm)).await?;
    let ((), before) = writing_while(&mut writer, &written, &mut random, wait(settings.times.counts)).await?;
    let (side, address) = (server.side(), server.addresses()[leader].clone());
    let snapshot = async { Ok(on_own_thread(move || take(side, address)).await?) };
    let (taken, during) = writing_while(&mut writer, &written, &mut random, snapshot).await?;
    let ms = |latency: &Histogram<u64>, quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    let values = [
        taken.time.as_secs_f64(),
        taken.megabytes() / taken.time.as_secs_f64(),
        taken.megabytes(),
        ms(&before, 0.5),
        ms(&during, 0.5),
        ms(&before, 0.99),
        ms(&during, 0.99),
    ];
    let [seconds, rate, megabytes, p50_before, p50_during, p99_before, p99_during] = values;
    say(&format!(
        "  {:<44} {:<4} {megabytes:.0} MB in {seconds:.2} s, {rate:.0} MB/s; put p50 {p50_before:.3} -> {p50_during:.3} ms, p99 {p99_before:.3} -> {p99_during:.3} ms",
        "snapshot of 1 GiB while writing",
        side.name()
    ));
    Ok(values)
}

/// Takes a snapshot of what a member has, by the call that each side has for it: `GET /v2/snapshot`, `Maintenance/Snapshot`.
async fn take(side: Side, address: String) -> Result<Taken, CallError> {
    let began = Instant::now();
    let received = async {
        match side {
            Side::Ours => HttpClient::connect(&address).await?.count("/v2/snapshot").await,
            Side::Peer => count_snapshot(&address).await,
        }
    };
    let received = timeout(SNAPSHOT_MAX, received).await;
    let bytes = received.map_err(|_| CallError::Lost(format!("the snapshot goes on after {SNAPSHOT_MAX:?}")))??;
    Ok(Taken {
        bytes,
        time: began.elapsed(),
    })
}

/// Puts one after the other until something else is over, and to the end of the put that is under way then.
async fn writing_while<T>(
    writer: &mut impl KeyClient,
    written: &Values,
    random: &mut SmallRng,
    other: impl Future<Output = Result<T, RowError>>,
) -> Result<(T, Histogram<u64>), RowError> {
    let is_over = Cell::new(false);
    let other = async {
        let result = other.await;
        is_over.set(true);
        result
    };
    let writes = async {
        let mut latency = latencies();
        while !is_over.get() {
            let began = Instant::now();
            let key = key(random.random_range(WRITTEN));
            let put = timeout(PUT_MAX, writer.put(&key, &written.draw(random))).await;
            put.map_err(|_| RowError::Late {
                what: "the answer to a put",
                within: PUT_MAX,
                seen: format!("{} before", latency.len()),
            })??;
            note(&mut latency, began.elapsed());
        }
        Ok(latency)
    };
    tokio::try_join!(other, writes)
}

/// Runs a client on a thread of its own: what it takes of this one would count as the writer's latency.
async fn on_own_thread<T: Send + 'static, Work: Future<Output = Result<T, CallError>>>(
    work: impl FnOnce() -> Work + Send + 'static,
) -> Result<T, CallError> {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => LocalSet::new().block_on(&runtime, work()),
            Err(error) => Err(CallError::Lost(format!("a thread has no runtime: {error}"))),
        };
        // Where nobody listens any more, the row has failed already.
        let _ = tell.send(result);
    });
    told.await
        .unwrap_or_else(|_| Err(CallError::Lost("a client's thread has ended".to_owned())))
}

impl Taken {
    fn megabytes(self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::client::Reading;

    /// A server that answers each put after a while.
    struct Slow(Duration);

    impl KeyClient for Slow {
        async fn put(&mut self, _key: &str, _value: &Bytes) -> Result<(), CallError> {
            sleep(self.0).await;
            Ok(())
        }

        async fn get(&mut self, _key: &str, _reading: Reading) -> Result<(), CallError> {
            Err(CallError::Refused("nothing is read".to_owned()))
        }
    }

    /// Puts go on until the other thing is over; the one under way then counts whole, however long it takes.
    #[tokio::test(start_paused = true)]
    async fn the_last_put_counts_whole() {
        let mut random = SmallRng::seed_from_u64(1);
        let written = Values::new(1, &mut random);
        let other = async {
            sleep(Duration::from_millis(25)).await;
            Ok("done")
        };
        let mut writer = Slow(Duration::from_millis(10));
        let writing = writing_while(&mut writer, &written, &mut random, other);
        let (result, latency) = writing.await.expect("nothing fails");
        assert_eq!((result, latency.len()), ("done", 3));
        assert!((9_900..10_100).contains(&latency.min()), "{}", latency.min());
        let never = std::future::pending::<Result<(), RowError>>();
        let mut writer = Slow(2 * PUT_MAX);
        let late = writing_while(&mut writer, &written, &mut random, never).await;
        assert!(matches!(late, Err(RowError::Late { .. })));
    }

    /// What runs on its own thread may have tasks there, and its result comes back, a failure too.
    #[tokio::test]
    async fn work_comes_back_from_its_thread() {
        let here = thread::current().id();
        let work = move || async move {
            let task = tokio::task::spawn_local(async { thread::current().id() });
            task.await.map_err(|error| CallError::Lost(error.to_string()))
        };
        assert_ne!(on_own_thread(work).await.expect("no failure"), here);
        let failing = || async { Err::<(), _>(CallError::Refused("no".to_owned())) };
        assert!(matches!(on_own_thread(failing).await, Err(CallError::Refused(_))));
    }

    /// What fills the state is as much as the rows' name says.
    #[test]
    fn a_gibibyte_is_filled() {
        assert_eq!(FILL_KEYS * FILL_VALUE_BYTES as u64, 1 << 30);
        assert!(!WRITTEN.contains(&(FILL_KEYS - 1)));
    }
}
