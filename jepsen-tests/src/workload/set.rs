//! Sets of unique elements, each a key of its own below the set's name: what was acknowledged must be in every later list.

use std::sync::Arc;

use futures::future::BoxFuture;
use rand::Rng;
use serde_json::{Value, json};

use super::http::Ask;
use super::keys::{Keys, Wear};
use super::listing::{Listed, list};
use super::{Crew, Site, Work, Worker, WorkloadError, until_answered};
use crate::check::history::Phase;
use crate::suite::{Call, End};

/// Clients.
const WORKERS: usize = 6;
/// Sets at a time.
const SETS: usize = 2;
/// A list of a whole set fits into one page.
const WEAR: Wear = Wear {
    operations_max: 800,
    unknown_max: u32::MAX,
};
/// Of a hundred operations so many are lists.
const READS: u32 = 5;

struct Set {
    site: Site,
    crew: Crew,
    sets: Arc<Keys>,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let sets = Arc::new(Keys::new("set/", SETS, WEAR));
    let crew = Crew::begin(site, "set", WORKERS, per_second, |worker| {
        work(worker, Arc::clone(&sets))
    });
    Set {
        site: site.clone(),
        crew,
        sets,
    }
}

impl Work for Set {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(until_answered(
            &self.site,
            "set-last",
            self.sets.all(),
            async |worker, node, set| read(worker, node, set).await,
        ))
    }
}

async fn work(mut worker: Worker, sets: Arc<Keys>) {
    while worker.turn().await {
        let set = sets.draw(&mut worker.random);
        let node = worker.node();
        if worker.random.random_ratio(READS, 100) {
            read(&mut worker, node, &set.key).await;
        } else {
            add(&mut worker, node, &set.key).await;
        }
    }
}

async fn add(worker: &mut Worker, node: usize, set: &str) {
    let element = worker.fresh();
    let call = Call {
        function: "add",
        key: set.to_owned(),
        value: element.clone(),
        ..Call::default()
    };
    let path = format!("/v2/kv/{set}/{}", element.as_str().unwrap_or_default());
    let ask = Ask::put(path, "", worker.patience());
    worker
        .write(node, call, ask, |reply| End::ok(element, Some(reply.mod_revision)))
        .await;
}

/// Lists a set; whether it was answered.
async fn read(worker: &mut Worker, node: usize, set: &str) -> bool {
    let call = Call {
        function: "read",
        key: set.to_owned(),
        ..Call::default()
    };
    let prefix = format!("{set}/");
    let patience = worker.patience();
    let (phase, ()) = worker
        .tell(node, call, async |http, node| {
            match list(http, node, &prefix, patience).await {
                Ok(Listed { keys, revision }) => {
                    let element = |key: &String| json!(key.strip_prefix(&prefix).unwrap_or(key));
                    let elements: Vec<Value> = keys.iter().map(element).collect();
                    (Phase::Ok, Ok((json!(elements), revision)), ())
                }
                Err(why) => (Phase::Fail, Err(why), ()),
            }
        })
        .await;
    phase == Phase::Ok
}
