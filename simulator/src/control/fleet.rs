//! Clusters, task definitions, instances, and beginning anew.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use rand::seq::SliceRandom;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, ControlError, DEFAULT_REGION, answer, cluster_key, parse};
use crate::config::Preset;
use crate::simulation::Simulation;
use crate::world::{ClusterKey, Departure, InstanceKey, InstanceOrder, InstanceStatus, Name, World};

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct ResetInput {
    seed: Option<u64>,
    preset: Option<Preset>,
}

pub(super) async fn reset(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: ResetInput = parse(&body)?;
    simulation.reset(|config| {
        config.seed = input.seed.unwrap_or(config.seed);
        config.preset = input.preset.unwrap_or(config.preset);
    });
    answer(&json!({"seed": simulation.world().seed}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterInput {
    region: Option<String>,
    cluster: String,
}

pub(super) async fn create_cluster(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: ClusterInput = parse(&body)?;
    let region = input.region.as_deref().unwrap_or(DEFAULT_REGION).into();
    let key = ClusterKey {
        region,
        name: input.cluster.as_str().into(),
    };
    answer(&json!({"cluster": simulation.world().create_cluster(&key).arn}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefinitionInput {
    region: Option<String>,
    family: String,
    #[serde(default)]
    cpu: u32,
    #[serde(default = "default_memory_mib")]
    memory_mib: u32,
    #[serde(default)]
    host_ports: Vec<u16>,
    #[serde(default)]
    required_attributes: Vec<String>,
}

fn default_memory_mib() -> u32 {
    64
}

pub(super) async fn register_definition(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let input: DefinitionInput = parse(&body)?;
    let ports: Vec<Value> = input
        .host_ports
        .iter()
        .map(|port| json!({"containerPort": port, "hostPort": port, "protocol": "tcp"}))
        .collect();
    let attributes: Vec<Value> = input
        .required_attributes
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    let request = json!({
        "family": input.family,
        "networkMode": "bridge",
        "requiresAttributes": attributes,
        "containerDefinitions": [{
            "name": input.family,
            "image": format!("public.ecr.aws/example/{}:latest", input.family),
            "cpu": input.cpu,
            "memory": input.memory_mib,
            "essential": true,
            "portMappings": ports,
        }],
    });
    let region: Name = input.region.as_deref().unwrap_or(DEFAULT_REGION).into();
    let definition = simulation
        .world()
        .register_definition(&region, &request)
        .map_err(|error| ControlError::bad(error.to_string()))?;
    answer(&json!({"task_definition": definition.arn}))
}

pub(super) async fn add_instances(State(simulation): State<Arc<Simulation>>, body: Bytes) -> Answer {
    let order: InstanceOrder = parse(&body)?;
    let most = crate::world::INSTANCES_PER_ORDER_MAX;
    if order.count > most {
        return Err(ControlError::bad(format!(
            "count is {}: at most {most} at once",
            order.count
        )));
    }
    let mut world = simulation.world();
    let cluster = cluster_key(&world, order.region.as_deref(), &order.cluster)?;
    let keys = world.add_instances(&cluster, &order);
    answer(&json!({"instances": arns(&world, &keys)}))
}

/// Which instances, and for some actions how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActInput {
    region: Option<String>,
    cluster: String,
    /// ARNs or ids; without them `count` are chosen at random, all when that is absent too.
    instances: Option<Vec<String>>,
    count: Option<usize>,
    /// For `flap`: how long the agent stays away.
    away_ms: Option<u64>,
}

/// `drain`, `activate`, `deregister`, `terminate`, `disconnect`, `reconnect` or `flap`.
pub(super) async fn act(State(simulation): State<Arc<Simulation>>, Path(action): Path<String>, body: Bytes) -> Answer {
    let input: ActInput = parse(&body)?;
    let mut world = simulation.world();
    let keys = chosen(&mut world, &input)?;
    for key in &keys {
        match action.as_str() {
            "drain" => {
                world.set_instance_status(key, InstanceStatus::Draining);
            }
            "activate" => {
                world.set_instance_status(key, InstanceStatus::Active);
            }
            "deregister" => world.depart(key, Departure::Deregister),
            "terminate" => world.depart(key, Departure::Terminate),
            "disconnect" => world.disconnect_agent(key, None),
            "reconnect" => world.agent_returned(key),
            "flap" => {
                let world = &mut *world;
                let drawn_ms = world.settings.delays.flap.draw_ms(&mut world.random);
                world.disconnect_agent(key, Some(input.away_ms.unwrap_or(drawn_ms)));
            }
            other => {
                let actions = "drain, activate, deregister, terminate, disconnect, reconnect, flap";
                return Err(ControlError::missing(format!(
                    "no action {other} on instances; there are: {actions}"
                )));
            }
        }
    }
    answer(&json!({"instances": arns(&world, &keys)}))
}

fn chosen(world: &mut World, input: &ActInput) -> Result<Vec<InstanceKey>, ControlError> {
    let cluster = cluster_key(world, input.region.as_deref(), &input.cluster)?;
    let key = |id: &str| InstanceKey {
        cluster: cluster.clone(),
        id: id.rsplit('/').next().unwrap_or(id).into(),
    };
    if let Some(references) = &input.instances {
        let keys: Vec<InstanceKey> = references.iter().map(|reference| key(reference)).collect();
        return match keys
            .iter()
            .zip(references)
            .find(|(key, _)| world.instance(key).is_none())
        {
            None => Ok(keys),
            Some((_, reference)) => Err(ControlError::missing(format!(
                "no instance {reference} in {}",
                input.cluster
            ))),
        };
    }
    let present = world
        .cluster(&cluster)
        .into_iter()
        .flat_map(crate::world::Cluster::present_instances);
    let mut keys: Vec<InstanceKey> = present.map(|instance| key(&instance.id)).collect();
    if let Some(count) = input.count {
        keys.shuffle(&mut world.random);
        keys.truncate(count);
    }
    Ok(keys)
}

fn arns(world: &World, keys: &[InstanceKey]) -> Vec<Name> {
    keys.iter()
        .filter_map(|key| world.instance(key))
        .map(|instance| Name::clone(&instance.arn))
        .collect()
}
