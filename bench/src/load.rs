//! A closed loop: so many clients, each asking again as soon as it is answered, and what that cost, within a window of time.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::{CallError, KeyClient, Reading};
use crate::process::{Usage, own_cpu};
use crate::server::{LeanClient, Server, ServerError};

/// The longest latency that is told apart, microseconds.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// What is still under way when a load ends, is answered within this, or something is wrong.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// Writing many keys takes less.
const FILL: Duration = Duration::from_secs(1_200);
/// Random bytes that values are parts of.
const POOL_BYTES: usize = 4 << 20;
/// Significant digits of latencies.
const DIGITS: u8 = 3;

/// What each client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Writes a value of so many bytes under a key drawn among `keys`.
    Put {
        /// Of the value, bytes.
        bytes: usize,
    },
    /// Reads a key drawn among `keys`; all of them exist.
    Get(Reading),
    /// Four linearizable reads for each write of so many bytes.
    Mixed {
        /// Of the value, bytes.
        bytes: usize,
    },
}

/// Which members the clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// The one that leads.
    Leader,
    /// Another one.
    Follower,
    /// All, in turn.
    All,
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// What is done.
    pub work: Work,
    /// By how many clients, each with a connection of its own.
    pub clients: usize,
    /// On which members.
    pub members: Where,
    /// Among which keys, by their numbers.
    pub keys: Range<u64>,
    /// How long.
    pub times: Times,
    /// Of the keys' order and the values' bytes.
    pub seed: u64,
}

/// How long a load goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Before it counts.
    pub warm: Duration,
    /// While it counts.
    pub counts: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Window {
    /// Answered well.
    pub operations: u64,
    /// How long it counted.
    pub time: Duration,
    /// From request to answer, microseconds.
    pub latency: Histogram<u64>,
    /// CPU time of the clients, all together.
    pub clients_cpu: Duration,
    /// What the members used.
    pub usage: Usage,
    /// Their logs' syncs, see [`Server::syncs`].
    pub syncs: u64,
}

/// A load cannot be put, or not be counted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The members.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A client is not answered well: nothing is measured where something fails.
    #[error("a client fails: {0}")]
    Call(#[from] CallError),
    /// Own CPU time.
    #[error(transparent)]
    Process(#[from] crate::process::ProcessError),
    /// Somebody is not answered any more.
    #[error("{0} is not over within {1:?}")]
    Late(&'static str, Duration),
    /// Nothing was answered.
    #[error("nothing was answered within {0:?}")]
    Nothing(Duration),
}

/// The name of a key; all have the same length.
pub fn key(number: u64) -> String {
    format!("bench-{number:012}")
}

/// Values of one size that no compression makes smaller, alone or side by side: each a part of random bytes, so many that no two of a table's block
/// are likely to share any.
#[derive(Clone, Debug)]
pub struct Values {
    pool: Bytes,
    bytes: usize,
}

impl Values {
    /// Of so many bytes each.
    pub fn new(bytes: usize, random: &mut SmallRng) -> Values {
        let mut pool = vec![0; POOL_BYTES + bytes];
        random.fill_bytes(&mut pool);
        Values {
            pool: pool.into(),
            bytes,
        }
    }

    /// One of them.
    pub fn draw(&self, random: &mut SmallRng) -> Bytes {
        let from = random.random_range(0..POOL_BYTES);
        self.pool.slice(from..from + self.bytes)
    }
}

/// An empty histogram of latencies.
pub fn latencies() -> Histogram<u64> {
    // The bounds are constants that it takes.
    Histogram::new_with_max(LATENCY_MICROS_MAX, DIGITS).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// Notes one latency.
pub fn note(latencies: &mut Histogram<u64>, latency: Duration) {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    latencies.saturating_record(micros);
}

/// Puts a load on a server, and says what came of it.
pub async fn run(server: &Server, load: &Load) -> Result<Window, LoadError> {
    let leader = server.leader().await?;
    let members = server.addresses().len();
    let mut clients = Vec::with_capacity(load.clients);
    for number in 0..load.clients {
        let member = match load.members {
            Where::Leader => leader,
            Where::Follower => (leader + 1) % members,
            Where::All => number % members,
        };
        clients.push(server.client(member).await?);
    }
    let (work, keys) = (load.work, load.keys.clone());
    let bytes = match work {
        Work::Put { bytes } | Work::Mixed { bytes } => bytes,
        Work::Get(_) => 0,
    };
    let values = Values::new(bytes, &mut SmallRng::seed_from_u64(load.seed));
    let ask = async move |client: &mut LeanClient, random: &mut SmallRng| {
        let key = key(random.random_range(keys.clone()));
        match work {
            Work::Put { .. } => client.put(&key, &values.draw(random)).await,
            Work::Get(reading) => client.get(&key, reading).await,
            Work::Mixed { .. } if random.random_ratio(1, 5) => client.put(&key, &values.draw(random)).await,
            Work::Mixed { .. } => client.get(&key, Reading::Linearizable).await,
        }
    };
    drive(server, clients, load.times, load.seed, ask).await
}

/// Lets each client ask again as soon as it is answered; what came of it within the time that counts.
pub async fn drive<Client: 'static>(
    server: &Server,
    clients: Vec<Client>,
    times: Times,
    seed: u64,
    ask: impl AsyncFn(&mut Client, &mut SmallRng) -> Result<(), CallError> + Clone + 'static,
) -> Result<Window, LoadError> {
    let within = times.warm + times.counts + LAST_ANSWER;
    let driven = timeout(within, driven(server, clients, times, seed, ask)).await;
    driven.unwrap_or(Err(LoadError::Late("a load", within)))
}

async fn driven<Client: 'static>(
    server: &Server,
    clients: Vec<Client>,
    times: Times,
    seed: u64,
    ask: impl AsyncFn(&mut Client, &mut SmallRng) -> Result<(), CallError> + Clone + 'static,
) -> Result<Window, LoadError> {
    let counted: Rc<RefCell<Option<Histogram<u64>>>> = Rc::default();
    let ends = Instant::now() + times.warm + times.counts;
    let mut all = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let mut random = SmallRng::seed_from_u64(seed ^ (number as u64) << 32);
        let (ask, counted) = (ask.clone(), Rc::clone(&counted));
        all.spawn_local(async move {
            loop {
                let began = Instant::now();
                if began >= ends {
                    return Ok(());
                }
                ask(&mut client, &mut random).await?;
                if let Some(latencies) = counted.borrow_mut().as_mut() {
                    note(latencies, began.elapsed());
                }
            }
        });
    }
    sleep(times.warm).await;
    // Asking for metrics takes a while under load; what follows is one moment.
    let syncs = server.syncs().await?;
    let (usage, cpu, began) = (server.usage()?, own_cpu()?, Instant::now());
    *counted.borrow_mut() = Some(latencies());
    loop {
        tokio::select! {
            () = sleep_until(ends) => break,
            Some(ended) = all.join_next() => ended_well(ended)?,
        }
    }
    let latency = counted.borrow_mut().take();
    let (time, usage) = (began.elapsed(), server.usage()?.since(usage));
    let clients_cpu = own_cpu()?.saturating_sub(cpu);
    let syncs = server.syncs().await?.saturating_sub(syncs);
    while let Some(ended) = all.join_next().await {
        ended_well(ended)?;
    }
    let latency = latency.filter(|latency| !latency.is_empty());
    let latency = latency.ok_or(LoadError::Nothing(times.counts))?;
    Ok(Window {
        operations: latency.len(),
        time,
        latency,
        clients_cpu,
        usage,
        syncs,
    })
}

fn ended_well(ended: Result<Result<(), CallError>, tokio::task::JoinError>) -> Result<(), LoadError> {
    match ended {
        Ok(result) => Ok(result?),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Writes every key of a number range once, by many clients; back when all are acknowledged.
pub async fn fill(server: &Server, keys: Range<u64>, bytes: usize, clients: usize) -> Result<(), LoadError> {
    let leader = server.leader().await?;
    let next = Rc::new(std::cell::Cell::new(keys.start));
    let values = Rc::new(Values::new(bytes, &mut SmallRng::seed_from_u64(keys.start)));
    let mut all = JoinSet::new();
    for number in 0..clients {
        let (mut client, next) = (server.client(leader).await?, Rc::clone(&next));
        let (values, mut random) = (Rc::clone(&values), SmallRng::seed_from_u64(number as u64));
        let end = keys.end;
        all.spawn_local(async move {
            loop {
                let number = next.get();
                if number >= end {
                    return Ok(());
                }
                next.set(number + 1);
                client.put(&key(number), &values.draw(&mut random)).await?;
            }
        });
    }
    let filled = async {
        while let Some(ended) = all.join_next().await {
            ended_well(ended)?;
        }
        Ok(())
    };
    timeout(FILL, filled)
        .await
        .unwrap_or(Err(LoadError::Late("writing keys", FILL)))
}

impl Window {
    /// Operations a second.
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }

    /// A percentile of the latency, milliseconds.
    pub fn milliseconds(&self, percent: f64) -> f64 {
        self.latency.value_at_quantile(percent / 100.0) as f64 / 1e3
    }

    /// CPU time of the members for one operation, microseconds.
    pub fn server_micros(&self) -> f64 {
        self.usage.cpu.as_secs_f64() * 1e6 / self.operations as f64
    }

    /// How much of its thread the clients took, percent: near a hundred, they are what was measured.
    pub fn client_busy(&self) -> f64 {
        100.0 * self.clients_cpu.as_secs_f64() / self.time.as_secs_f64()
    }

    /// CPU time of the clients for one operation, microseconds.
    pub fn client_micros(&self) -> f64 {
        self.clients_cpu.as_secs_f64() * 1e6 / self.operations as f64
    }

    /// Syncs for one operation, of all members together.
    pub fn syncs(&self) -> f64 {
        self.syncs as f64 / self.operations as f64
    }

    /// Bytes sent to the disk for one operation, of all members together.
    pub fn written_bytes(&self) -> f64 {
        self.usage.written_bytes as f64 / self.operations as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values have their size, the same seed draws the same, and one is not like the next.
    #[test]
    fn values_differ() {
        let draw = || {
            let mut random = SmallRng::seed_from_u64(7);
            let values = Values::new(256, &mut random);
            [values.draw(&mut random), values.draw(&mut random)]
        };
        let [first, second] = draw();
        assert_eq!((first.len(), second.len()), (256, 256));
        assert!(first != second && [first, second] == draw());
    }
}
