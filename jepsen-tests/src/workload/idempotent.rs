//! Writes said again and again under one idempotency key, to one node after another and to two at once, with little patience: applied once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Map, json};

use super::http::{Ask, Reply};
use super::{Crew, Pace, Site, Work, Worker, WorkloadError};
use crate::suite::{Call, End};

/// Clients.
const WORKERS: usize = 6;
/// Keys that they write.
const KEYS: u32 = 5;
/// The other client of each says what it says, whenever that is.
const ECHOES_PER_SECOND: u32 = 1_000;
/// How often one write is said at least, answered or not, and at most.
const TIMES: std::ops::RangeInclusive<u32> = 2..=5;
/// How long an answer is waited for, milliseconds: many come too late.
const PATIENCE_MS: [u64; 5] = [5, 20, 100, 1_000, 7_000];

struct Idempotent {
    crew: Crew,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let site_of_echo = site.clone();
    let crew = Crew::begin(site, "idempotent", WORKERS, per_second.div_ceil(2), |worker| {
        // Says what the other says, at the same time.
        let echo = Worker::new(
            &site_of_echo,
            "idempotent-echo",
            worker.number,
            Arc::new(Pace::new(ECHOES_PER_SECOND)),
        );
        work(worker, echo)
    });
    Idempotent { crew }
}

impl Work for Idempotent {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    /// The committed changes say how often each write was applied.
    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn work(mut worker: Worker, mut echo: Worker) {
    let mut number = 0;
    while worker.turn().await {
        number += 1;
        let said = Said {
            token: format!("{}-{number}-{:08x}", worker.number, worker.random.random::<u32>()),
            key: format!("idempotent/{}", worker.random.random_range(0..KEYS)),
        };
        let times = worker.random.random_range(TIMES);
        for time in 1..=times {
            if time > 1 && !worker.turn().await {
                return;
            }
            let together = worker.random.random_ratio(1, 3);
            let (one, other) = (worker.random.random_range(0..worker.site.nodes.len()), echo.node());
            if together {
                tokio::join!(say(&mut worker, one, &said), say(&mut echo, other, &said));
            } else {
                say(&mut worker, one, &said).await;
            }
        }
    }
}

/// A write with its token. The value names the token: each has its own.
struct Said {
    token: String,
    key: String,
}

async fn say(worker: &mut Worker, node: usize, said: &Said) {
    let patience = Duration::from_millis(PATIENCE_MS[worker.random.random_range(0..PATIENCE_MS.len())]);
    let mut more = Map::new();
    more.insert("token".to_owned(), json!(said.token));
    let call = Call {
        function: "once",
        key: said.key.clone(),
        value: json!(said.token),
        more,
        ..Call::default()
    };
    let ask = Ask::put(format!("/v2/kv/{}", said.key), said.token.clone(), patience).idempotent(said.token.clone());
    let end = |reply: &Reply| {
        let mut end = End::ok(reply.json(), Some(reply.mod_revision));
        end.more.insert("replayed".to_owned(), json!(reply.replayed));
        end
    };
    worker.write(node, call, ask, end).await;
}
