//! The truth, and the judge's counts.

use std::sync::Arc;

use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, answer};
use crate::judge::{CountShown, Pair, Subject};
use crate::simulation::Simulation;
use crate::world::{Cluster, Instance, Task, World, api_form};

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
    let mut shown = Map::new();
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
        let documents: Vec<Value> = chosen
            .map(|cluster| cluster_state(&world, cluster, query.documents))
            .collect();
        shown.insert(name.to_string(), json!({"clusters": documents}));
    }
    answer(&json!({"at_ms": world.now_ms(), "regions": shown}))
}

fn cluster_state(world: &World, cluster: &Cluster, documents: bool) -> Value {
    let instance = |one: &Instance| {
        if documents {
            one.document(api_form(true, true))
        } else {
            instance_summary(one)
        }
    };
    let task = |one: &Task| {
        if documents {
            one.document(api_form(true, false))
        } else {
            task_summary(one)
        }
    };
    json!({
        "cluster": cluster.document(world.now_ms()),
        "instances": cluster.instances.values().map(|one| instance(one.current())).collect::<Vec<_>>(),
        "tasks": cluster.tasks.values().map(|one| task(one.current())).collect::<Vec<_>>(),
    })
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
