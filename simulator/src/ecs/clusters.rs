//! ListClusters, DescribeClusters, CreateCluster, DeleteCluster.

use serde::Deserialize;
use serde_json::json;

use super::Answer;
use super::request::{check_count, cluster_key, failure, id_of, page};
use crate::wire::{AwsError, Call};
use crate::world::{ClusterKey, ClusterStatus, Name, World};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListInput {
    max_results: Option<usize>,
    next_token: Option<String>,
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let input: ListInput = call.input()?;
    let seen_ms = world.now_ms().saturating_sub(world.settings.faults.lag.list_ms);
    let clusters = world
        .regions
        .get(&call.region)
        .into_iter()
        .flat_map(|region| &region.clusters);
    let shown = clusters.filter(|(_, one)| one.status == ClusterStatus::Active && one.created_ms <= seen_ms);
    let items = shown.map(|(name, cluster)| (&**name, Name::clone(&cluster.arn)));
    page(items, input.max_results, input.next_token.as_deref(), "clusterArns")
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DescribeInput {
    clusters: Vec<String>,
}

pub(super) fn describe(world: &mut World, call: &Call) -> Answer {
    let mut input: DescribeInput = call.input()?;
    if input.clusters.is_empty() {
        input.clusters.push("default".into());
    }
    check_count("Clusters", input.clusters.len(), 100)?;
    let seen_ms = world.now_ms().saturating_sub(world.settings.faults.lag.describe_ms);
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for reference in &input.clusters {
        let key = ClusterKey {
            region: Name::clone(&call.region),
            name: id_of(reference).into(),
        };
        match world.cluster(&key).filter(|cluster| cluster.created_ms <= seen_ms) {
            Some(cluster) => clusters.push(cluster.document(seen_ms)),
            None => {
                let arn = format!("arn:aws:ecs:{}:{}:cluster/{}", key.region, world.account, key.name);
                failures.push(failure(world, &key, "cluster", &arn, "MISSING"));
            }
        }
    }
    Ok(json!({"clusters": clusters, "failures": failures}))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CreateInput {
    cluster_name: Option<String>,
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let input: CreateInput = call.input()?;
    let name = input.cluster_name.unwrap_or_else(|| "default".into());
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
    if name.is_empty() || name.len() > 255 || !name.chars().all(allowed) {
        return Err(AwsError::invalid_parameter("Invalid cluster name."));
    }
    let now_ms = world.now_ms();
    let key = ClusterKey {
        region: Name::clone(&call.region),
        name: name.as_str().into(),
    };
    Ok(json!({"cluster": world.create_cluster(&key).document(now_ms)}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DeleteInput {
    cluster: Option<String>,
}

pub(super) fn delete(world: &mut World, call: &Call) -> Answer {
    let input: DeleteInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    let now_ms = world.now_ms();
    let cluster = world.cluster_mut(&key).ok_or_else(AwsError::cluster_not_found)?;
    if cluster.present_instances().next().is_some() {
        let message = "The Cluster cannot be deleted while Container Instances are active or draining.";
        return Err(AwsError::new("ClusterContainsContainerInstancesException", message));
    }
    if cluster.tasks.values().any(|task| !task.current().is_stopped()) {
        let message = "The Cluster cannot be deleted while Tasks are active.";
        return Err(AwsError::new("ClusterContainsTasksException", message));
    }
    cluster.status = ClusterStatus::Inactive;
    Ok(json!({"cluster": cluster.document(now_ms)}))
}

/// There are no services here.
pub(super) fn list_services(world: &mut World, call: &Call) -> Answer {
    let input: DeleteInput = call.input()?;
    cluster_key(world, call, input.cluster.as_deref())?;
    Ok(json!({"serviceArns": []}))
}
