//! Single keys: read, written, deleted, compared and set by several clients at once, through all nodes.

use std::sync::Arc;

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Value, json};

use super::crew::Done;
use super::http::{Answer, Ask, Reply};
use super::keys::{Drawn, Keys, Seen, Wear};
use super::{Crew, Site, Work, Worker, WorkloadError, until_answered};
use crate::check::history::Phase;
use crate::suite::{Call, End};

/// Clients.
const WORKERS: usize = 9;
/// Keys at a time.
const KEYS: usize = 6;
const WEAR: Wear = Wear {
    operations_max: 200,
    unknown_max: 12,
};
/// Of a hundred operations so many are reads, writes, compare-and-sets; the others delete.
const READS: u32 = 40;
const WRITES: u32 = 25;
const SETS: u32 = 30;

struct Register {
    site: Site,
    crew: Crew,
    keys: Arc<Keys>,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let keys = Arc::new(Keys::new("register/", KEYS, WEAR));
    let crew = Crew::begin(site, "register", WORKERS, per_second, |worker| {
        work(worker, Arc::clone(&keys))
    });
    Register {
        site: site.clone(),
        crew,
        keys,
    }
}

impl Work for Register {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(until_answered(
            &self.site,
            "register-last",
            self.keys.all(),
            async |worker, node, key| read(worker, node, key).await.is_some(),
        ))
    }
}

async fn work(mut worker: Worker, keys: Arc<Keys>) {
    while worker.turn().await {
        let drawn = keys.draw(&mut worker.random);
        let node = worker.node();
        let chosen = worker.random.random_range(0..100);
        let known = if chosen < READS {
            read(&mut worker, node, &drawn.key).await.map(Known::Seen)
        } else if chosen < READS + WRITES {
            Some(write(&mut worker, node, &drawn).await)
        } else if chosen < READS + WRITES + SETS {
            Some(compare_and_set(&mut worker, node, &drawn).await)
        } else {
            Some(delete(&mut worker, node, &drawn).await)
        };
        match known {
            Some(Known::Seen(seen)) => keys.learned(&drawn, seen),
            Some(Known::Unknown) => keys.unknown(&drawn),
            Some(Known::Nothing) | None => {}
        }
    }
}

/// What an operation taught.
enum Known {
    Seen(Seen),
    Nothing,
    Unknown,
}

/// A linearizable read, recorded; `None`: it was not answered.
pub(super) async fn read(worker: &mut Worker, node: usize, key: &str) -> Option<Seen> {
    let call = Call {
        function: "read",
        key: key.to_owned(),
        ..Call::default()
    };
    let ask = Ask::get(format!("/v2/kv/{key}"), worker.patience());
    let is_answer = |reply: &Reply| reply.is_success() || reply.status == 404;
    let phase_of = |answer: &Answer| match answer {
        Ok(reply) if is_answer(reply) => Phase::Ok,
        _ => Phase::Fail,
    };
    let end = |reply: &Reply| {
        let seen = seen_of(reply);
        End::ok(seen.value, Some(seen.revision))
    };
    let done = worker.carry_out(node, call, ask, phase_of, end).await;
    done.reply.map(|reply| seen_of(&reply))
}

/// The value and its revision; null and 0 where the key is absent.
fn seen_of(reply: &Reply) -> Seen {
    if reply.is_success() {
        Seen {
            value: json!(String::from_utf8_lossy(&reply.body)),
            revision: reply.mod_revision,
            at: reply.revision,
        }
    } else {
        Seen {
            value: Value::Null,
            revision: 0,
            at: reply.revision,
        }
    }
}

async fn write(worker: &mut Worker, node: usize, drawn: &Drawn) -> Known {
    let value = worker.fresh();
    let call = Call {
        function: "write",
        key: drawn.key.clone(),
        value: value.clone(),
        ..Call::default()
    };
    let ask = Ask::put(path(drawn), text(&value), worker.patience());
    put(worker, node, call, ask, value).await
}

async fn compare_and_set(worker: &mut Worker, node: usize, drawn: &Drawn) -> Known {
    let (old, new) = (drawn.seen.clone(), worker.fresh());
    let call = Call {
        function: "cas",
        key: drawn.key.clone(),
        value: json!([old.value, new]),
        revision: Some(old.revision),
        ..Call::default()
    };
    let ask = Ask::put(path(drawn), text(&new), worker.patience()).if_at(old.revision);
    put(worker, node, call, ask, new).await
}

async fn put(worker: &mut Worker, node: usize, call: Call, ask: Ask, value: Value) -> Known {
    let asked = call.value.clone();
    let done = worker
        .write(node, call, ask, |reply| End::ok(asked, Some(reply.mod_revision)))
        .await;
    known(done, |reply| Seen {
        value,
        revision: reply.mod_revision,
        at: reply.mod_revision,
    })
}

async fn delete(worker: &mut Worker, node: usize, drawn: &Drawn) -> Known {
    let call = Call {
        function: "delete",
        key: drawn.key.clone(),
        ..Call::default()
    };
    let ask = Ask::delete(path(drawn), worker.patience());
    let end = |reply: &Reply| {
        let mut end = End::ok(Value::Null, Some(0));
        end.more.insert("deleted_at".to_owned(), json!(reply.revision));
        end
    };
    let done = worker.write(node, call, ask, end).await;
    known(done, |reply| Seen {
        value: Value::Null,
        revision: 0,
        at: reply.revision,
    })
}

fn known(done: Done, seen: impl FnOnce(Reply) -> Seen) -> Known {
    match done {
        Done { reply: Some(reply), .. } => Known::Seen(seen(reply)),
        Done { phase: Phase::Info, .. } => Known::Unknown,
        _ => Known::Nothing,
    }
}

fn path(drawn: &Drawn) -> String {
    format!("/v2/kv/{}", drawn.key)
}

fn text(value: &Value) -> Vec<u8> {
    value.as_str().unwrap_or_default().as_bytes().to_vec()
}
