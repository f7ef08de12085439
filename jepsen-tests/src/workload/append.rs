//! Lists that grow by compare-and-set: each is one key, read and written whole, an element longer each time.

use std::sync::Arc;

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Value, json};

use super::http::{Answer, Ask, Reply};
use super::keys::{Drawn, Keys, Seen, Wear};
use super::{Crew, Site, Work, Worker, WorkloadError, until_answered};
use crate::check::history::Phase;
use crate::suite::{Call, End};

/// Clients.
const WORKERS: usize = 6;
/// Lists at a time.
const LISTS: usize = 4;
/// Lists are rewritten whole: they stay short.
const WEAR: Wear = Wear {
    operations_max: 150,
    unknown_max: u32::MAX,
};
/// Of a hundred operations so many are reads.
const READS: u32 = 40;

struct Append {
    site: Site,
    crew: Crew,
    lists: Arc<Keys>,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let lists = Arc::new(Keys::new("append/", LISTS, WEAR));
    let crew = Crew::begin(site, "append", WORKERS, per_second, |worker| {
        work(worker, Arc::clone(&lists))
    });
    Append {
        site: site.clone(),
        crew,
        lists,
    }
}

impl Work for Append {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(until_answered(
            &self.site,
            "append-last",
            self.lists.all(),
            async |worker, node, list| read(worker, node, list).await.is_some(),
        ))
    }
}

async fn work(mut worker: Worker, lists: Arc<Keys>) {
    while worker.turn().await {
        let list = lists.draw(&mut worker.random);
        let node = worker.node();
        let seen = if worker.random.random_ratio(READS, 100) {
            read(&mut worker, node, &list.key).await
        } else {
            append(&mut worker, node, &list).await
        };
        if let Some(seen) = seen {
            lists.learned(&list, seen);
        }
    }
}

/// A linearizable read; `None`: it was not answered.
async fn read(worker: &mut Worker, node: usize, list: &str) -> Option<Seen> {
    let call = Call {
        function: "read",
        key: list.to_owned(),
        ..Call::default()
    };
    let ask = Ask::get(format!("/v2/kv/{list}"), worker.patience());
    let phase_of = |answer: &Answer| match answer {
        Ok(reply) if reply.is_success() || reply.status == 404 => Phase::Ok,
        _ => Phase::Fail,
    };
    let end = |reply: &Reply| {
        let seen = seen_of(reply);
        End::ok(seen.value, Some(seen.revision))
    };
    let done = worker.carry_out(node, call, ask, phase_of, end).await;
    done.reply.map(|reply| seen_of(&reply))
}

fn seen_of(reply: &Reply) -> Seen {
    let (value, revision) = if reply.is_success() {
        (reply.json(), reply.mod_revision)
    } else {
        (Value::Null, 0)
    };
    Seen {
        value,
        revision,
        at: reply.revision,
    }
}

/// Writes the list as it was last known with one element more, if it is still at that revision.
async fn append(worker: &mut Worker, node: usize, list: &Drawn) -> Option<Seen> {
    let element = worker.fresh();
    let mut elements = list.seen.value.as_array().cloned().unwrap_or_default();
    elements.push(element.clone());
    let value = Value::Array(elements);
    let call = Call {
        function: "append",
        key: list.key.clone(),
        value: element.clone(),
        revision: Some(list.seen.revision),
        ..Call::default()
    };
    let ask = Ask::put(format!("/v2/kv/{}", list.key), value.to_string(), worker.patience()).if_at(list.seen.revision);
    let end = |reply: &Reply| End::ok(json!(element), Some(reply.mod_revision));
    let reply = worker.write(node, call, ask, end).await.reply?;
    Some(Seen {
        value,
        revision: reply.mod_revision,
        at: reply.mod_revision,
    })
}
