//! Reads that a node answers from its own state, beside writes: old is allowed, wrong and backwards are not.

use std::sync::Arc;

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Map, Value, json};

use super::http::{Answer, Ask, Reply};
use super::keys::{Drawn, Keys, Seen, Wear};
use super::{Crew, Site, Work, Worker, WorkloadError};
use crate::check::history::Phase;
use crate::suite::{Call, End};

/// Clients.
const WORKERS: usize = 6;
/// Keys at a time.
const KEYS: usize = 3;
const WEAR: Wear = Wear {
    operations_max: 300,
    unknown_max: 10,
};
/// Of a hundred operations so many are writes; the others are stale reads.
const WRITES: u32 = 35;
/// Of a hundred stale reads so many ask for what was last seen, at least.
const AT_LEAST: u32 = 20;

struct Stale {
    crew: Crew,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let keys = Arc::new(Keys::new("stale/", KEYS, WEAR));
    let crew = Crew::begin(site, "stale", WORKERS, per_second, |worker| {
        work(worker, Arc::clone(&keys))
    });
    Stale { crew }
}

impl Work for Stale {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    /// The committed changes say what was there at each revision.
    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn work(mut worker: Worker, keys: Arc<Keys>) {
    while worker.turn().await {
        let drawn = keys.draw(&mut worker.random);
        if worker.random.random_ratio(WRITES, 100) {
            write(&mut worker, &keys, &drawn).await;
        } else {
            read(&mut worker, &drawn).await;
        }
    }
}

async fn write(worker: &mut Worker, keys: &Keys, drawn: &Drawn) {
    let value = worker.fresh();
    let call = Call {
        function: "write",
        key: drawn.key.clone(),
        value: value.clone(),
        ..Call::default()
    };
    let node = worker.node();
    let ask = Ask::put(
        format!("/v2/kv/{}", drawn.key),
        value.as_str().unwrap_or_default(),
        worker.patience(),
    );
    let end = |reply: &Reply| End::ok(value.clone(), Some(reply.mod_revision));
    let done = worker.write(node, call, ask, end).await;
    match done.reply {
        Some(reply) => {
            let seen = Seen {
                value,
                revision: reply.mod_revision,
                at: reply.mod_revision,
            };
            keys.learned(drawn, seen);
        }
        None if done.phase == Phase::Info => keys.unknown(drawn),
        None => {}
    }
}

async fn read(worker: &mut Worker, drawn: &Drawn) {
    let mut path = format!("/v2/kv/{}?consistency=stale", drawn.key);
    let mut more = Map::new();
    if worker.random.random_ratio(AT_LEAST, 100) && drawn.seen.at > 0 {
        path += &format!("&min_revision={}", drawn.seen.at);
        more.insert("min_revision".to_owned(), json!(drawn.seen.at));
    }
    let call = Call {
        function: "stale",
        key: drawn.key.clone(),
        more,
        ..Call::default()
    };
    let phase_of = |answer: &Answer| match answer {
        Ok(reply) if reply.is_success() || reply.status == 404 => Phase::Ok,
        _ => Phase::Fail,
    };
    let end = |reply: &Reply| {
        let (value, revision) = if reply.is_success() {
            (json!(String::from_utf8_lossy(&reply.body)), reply.mod_revision)
        } else {
            (Value::Null, 0)
        };
        let mut end = End::ok(value, Some(revision));
        end.more.insert("at".to_owned(), json!(reply.revision));
        end
    };
    let node = worker.node();
    let ask = Ask::get(path, worker.patience());
    worker.carry_out(node, call, ask, phase_of, end).await;
}
