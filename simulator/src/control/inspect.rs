//! The truth, and the judge's counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, answer};
use crate::judge::{CountShown, Pair, Subject};
use crate::simulation::Simulation;
use crate::world::versioned::Versioned;
use crate::world::{Cluster, Instance, Task, api_form};

pub(super) async fn health(State(simulation): State<Arc<Simulation>>) -> Answer {
    let world = simulation.world();
    let regions: Vec<&str> = world.regions.keys().map(|name| &**name).collect();
    answer(&json!({
        "status": "ok",
        "seed": world.seed,
        "regions": regions,
        "event_queue": world.event_queue,
        "events_sent": world.journal.events_sent(),
    }))
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StateQuery {
    region: Option<String>,
    cluster: Option<String>,
    /// Whole API documents instead of the summary.
    documents: bool,
}

/// What exists now, whatever lag the listings have.
pub(super) async fn state(State(simulation): State<Arc<Simulation>>, Query(query): Query<StateQuery>) -> Answer {
    let world = simulation.world();
    let mut shown = BTreeMap::new();
    for (name, region) in &world.regions {
        if query.region.as_ref().is_some_and(|wanted| **wanted != **name) {
            continue;
        }
        let clusters = region.clusters.values();
        let chosen = clusters.filter(|cluster| {
            query
                .cluster
                .as_ref()
                .is_none_or(|wanted| **wanted == *cluster.key.name)
        });
        let clusters: Vec<ClusterState> = chosen
            .map(|cluster| ClusterState {
                cluster,
                now_ms: world.now_ms(),
                documents: query.documents,
            })
            .collect();
        shown.insert(&**name, BTreeMap::from([("clusters", clusters)]));
    }
    answer(&StateShown {
        at_ms: world.now_ms(),
        regions: shown,
    })
}

#[derive(Serialize)]
struct StateShown<'a> {
    at_ms: u64,
    regions: BTreeMap<&'a str, BTreeMap<&'static str, Vec<ClusterState<'a>>>>,
}

/// Written one resource after the other: all documents of an hour at once would be a multiple of the answer.
struct ClusterState<'a> {
    cluster: &'a Cluster,
    now_ms: u64,
    documents: bool,
}

impl Serialize for ClusterState<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let instances = || {
            let all = self.cluster.instances.values().map(Versioned::current);
            all.map(|one| match self.documents {
                true => one.document(api_form(true, true)),
                false => instance_summary(one),
            })
        };
        let tasks = || {
            let all = self.cluster.tasks.values().map(Versioned::current);
            all.map(|one| match self.documents {
                true => one.document(api_form(true, false)),
                false => task_summary(one),
            })
        };
        let mut shown = serializer.serialize_struct("ClusterState", 3)?;
        shown.serialize_field("cluster", &self.cluster.document(self.now_ms))?;
        shown.serialize_field("instances", &OneByOne(instances))?;
        shown.serialize_field("tasks", &OneByOne(tasks))?;
        shown.end()
    }
}

/// A list whose items are made when they are written.
struct OneByOne<F>(F);

impl<F, I> Serialize for OneByOne<F>
where
    F: Fn() -> I,
    I: Iterator<Item = Value>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

fn instance_summary(one: &Instance) -> Value {
    json!({
        "containerInstanceArn": one.arn,
        "ec2InstanceId": one.ec2_instance_id,
        "status": one.status,
        "agentConnected": one.agent_connected,
        "dead": one.dead,
        "version": one.version,
    })
}

fn task_summary(one: &Task) -> Value {
    json!({
        "taskArn": one.arn,
        "containerInstanceArn": one.instance.as_ref().map(|(_, arn)| arn),
        "taskDefinitionArn": one.definition.arn,
        "lastStatus": one.last_status,
        "desiredStatus": one.desired_status,
        "group": one.group,
        "startedBy": one.started_by,
        "version": one.version,
    })
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CountsQuery {
    region: Option<String>,
    cluster: Option<String>,
    /// Groups that begin so; started-by pairs are left out when it is given.
    group_prefix: Option<String>,
    /// This starter; group pairs are left out when it is given.
    started_by: Option<String>,
    /// Only pairs whose maximum is above.
    above: usize,
}

impl CountsQuery {
    fn wants(&self, pair: &Pair) -> bool {
        let subject = match &pair.subject {
            Subject::Group(group) => {
                self.started_by.is_none()
                    && self
                        .group_prefix
                        .as_ref()
                        .is_none_or(|prefix| group.starts_with(prefix))
            }
            Subject::FamilyAndStarter { started_by, .. } => {
                self.group_prefix.is_none() && self.started_by.as_ref().is_none_or(|wanted| wanted == started_by)
            }
        };
        subject
            && self.region.as_ref().is_none_or(|wanted| *wanted == pair.region)
            && self.cluster.as_ref().is_none_or(|wanted| *wanted == pair.cluster)
    }
}

/// Tasks not yet STOPPED by instance, and their maxima.
pub(super) async fn counts(State(simulation): State<Arc<Simulation>>, Query(query): Query<CountsQuery>) -> Answer {
    let world = simulation.world();
    let shown = world.judge.shown(world.now_ms(), |pair| query.wants(pair));
    let greatest = |chosen: fn(&CountShown) -> bool| {
        shown
            .iter()
            .filter(|one| chosen(one))
            .map(|one| one.maximum)
            .max()
            .unwrap_or(0)
    };
    let by_group = greatest(|one| one.group.is_some());
    let by_starter = greatest(|one| one.started_by.is_some());
    let now = shown.iter().map(|one| one.current).max().unwrap_or(0);
    let pairs: Vec<&CountShown> = shown.iter().filter(|one| one.maximum > query.above).collect();
    answer(&json!({
        "current_max": now,
        "maximum_by_group": by_group,
        "maximum_by_family_and_starter": by_starter,
        "pairs": pairs,
    }))
}

pub(super) async fn reset_counts(State(simulation): State<Arc<Simulation>>) -> Answer {
    let mut world = simulation.world();
    let now_ms = world.now_ms();
    world.judge.reset(now_ms);
    answer(&json!({"at_ms": now_ms}))
}

/// Every queue with its messages by state, and what has happened to messages since it was made.
pub(super) async fn queues(State(simulation): State<Arc<Simulation>>) -> Answer {
    let mut world = simulation.world();
    let now_ms = world.now_ms();
    let mut shown = Vec::new();
    for (region, state) in &mut world.regions {
        for (name, queue) in &mut state.queues {
            let counts = queue.counts(now_ms);
            shown.push(json!({
                "region": region,
                "queue": name,
                "visible": counts.visible,
                "in_flight": counts.in_flight,
                "delayed": counts.delayed,
                "bytes": counts.bytes,
                "totals": queue.steps.totals(),
            }));
        }
    }
    answer(&json!({"queues": shown}))
}
