//! Names looked up in ECS for the routes.

use std::sync::Arc;

use async_trait::async_trait;
use blox_api::{Catalog, CatalogError, ClusterLookup, TaskDefinitionLookup};
use blox_ecs::{CallError, Source};
use futures::future::join_all;
use serde::Deserialize;

use super::sources::Sources;

/// Asks the sources' clients.
pub struct EcsCatalog(pub Arc<Sources>);

/// What ECS answers to a task definition it does not know.
const UNKNOWN_TASK_DEFINITION: &str = "ClientException: Unable to describe task definition.";
/// Refusals that mean that the name is wrong, not that ECS could not be asked.
const WRONG_NAME_CODES: [&str; 3] = [
    "InvalidParameterException",
    "ClusterNotFoundException",
    "ClientException",
];

#[async_trait]
impl Catalog for EcsCatalog {
    async fn describe_cluster(&self, cluster: &str, source: Option<&str>) -> Result<ClusterLookup, CatalogError> {
        let asked = self
            .0
            .all()
            .filter(|candidate| source.is_none_or(|name| name == candidate.name()) && may_know(candidate, cluster));
        let mut found = Vec::new();
        for answer in join_all(asked.map(|candidate| describe_in(candidate, cluster))).await {
            found.extend(answer?);
        }
        match found.len() {
            0 => Ok(ClusterLookup::Missing),
            1 => Ok(found.remove(0)),
            _ => Ok(ClusterLookup::Ambiguous(
                found.into_iter().filter_map(source_of).collect(),
            )),
        }
    }

    async fn describe_task_definition(
        &self,
        source: &str,
        task_definition: &str,
    ) -> Result<TaskDefinitionLookup, CatalogError> {
        let source = self
            .0
            .get(source)
            .ok_or_else(|| CatalogError(format!("this node has no source {source:?}; see its configuration")))?;
        match source.describe_task_definition(task_definition).await {
            Ok(Some(found)) => Ok(TaskDefinitionLookup::Found {
                arn: found.arn,
                status: found.status,
            }),
            Ok(None) => Ok(TaskDefinitionLookup::Refused(UNKNOWN_TASK_DEFINITION.to_owned())),
            Err(CallError::Refused { code, message, .. }) if WRONG_NAME_CODES.contains(&code.as_str()) => {
                Ok(TaskDefinitionLookup::Refused(format!("{code}: {message}")))
            }
            Err(error) => Err(CatalogError(error.to_string())),
        }
    }
}

/// An ARN names its region: the sources of others need not be asked.
fn may_know(source: &Source, cluster: &str) -> bool {
    match region_of(cluster) {
        Some(region) => region == source.config().region,
        None => true,
    }
}

/// `arn:PARTITION:ecs:REGION:ACCOUNT:cluster/NAME`.
fn region_of(arn: &str) -> Option<&str> {
    let mut parts = arn.strip_prefix("arn:")?.split(':');
    parts.nth(2)
}

async fn describe_in(source: &Source, cluster: &str) -> Result<Option<ClusterLookup>, CatalogError> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        status: String,
    }
    let found = match source.describe_cluster(cluster).await {
        Ok(found) => found,
        Err(CallError::Refused { code, .. }) if WRONG_NAME_CODES.contains(&code.as_str()) => None,
        Err(error) => return Err(CatalogError(error.to_string())),
    };
    let Some(observation) = found.filter(|observation| source.config().cluster_filter().accepts(&observation.arn))
    else {
        return Ok(None);
    };
    let document: Document = serde_json::from_slice(&observation.document)
        .map_err(|error| CatalogError(format!("the answer of ECS cannot be read: {error}")))?;
    Ok(Some(ClusterLookup::Found {
        source: source.name().to_owned(),
        arn: observation.arn,
        status: document.status,
    }))
}

fn source_of(found: ClusterLookup) -> Option<String> {
    match found {
        ClusterLookup::Found { source, .. } => Some(source),
        ClusterLookup::Missing | ClusterLookup::Ambiguous(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The region stands fourth in an ARN, in every partition; a name has none.
    #[test]
    fn an_arn_names_its_region() {
        assert_eq!(
            region_of("arn:aws:ecs:us-east-1:123456789012:cluster/a"),
            Some("us-east-1")
        );
        assert_eq!(
            region_of("arn:aws-cn:ecs:cn-north-1:123456789012:cluster/a"),
            Some("cn-north-1")
        );
        assert_eq!(region_of("alpha"), None);
    }
}
