//! ECS as the routes see it: which cluster and which task definition does a name mean.

use async_trait::async_trait;

/// Looks names up in ECS; wired to the sources' clients by the node.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Asks ECS (`DescribeClusters`) for a cluster by name or ARN, in one source or, where none is named, in all of them.
    async fn describe_cluster(&self, cluster: &str, source: Option<&str>) -> Result<ClusterLookup, CatalogError>;

    /// Asks ECS (`DescribeTaskDefinition`) for a task definition by family, `family:revision` or ARN.
    async fn describe_task_definition(
        &self,
        source: &str,
        task_definition: &str,
    ) -> Result<TaskDefinitionLookup, CatalogError>;
}

/// ECS could not be asked, or did not answer: credentials, throttling, a time-out. Says the cause alone; the caller says what was tried.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CatalogError(pub String);

/// What a cluster's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterLookup {
    /// It exists.
    Found {
        /// The source that observes it.
        source: String,
        /// Its ARN.
        arn: String,
        /// `status` as ECS writes it: `ACTIVE`, `INACTIVE` and so on.
        status: String,
    },
    /// ECS knows no such cluster, or no source of that name is configured.
    Missing,
    /// The name exists in more than one source, given here: an ARN or a source must be said.
    Ambiguous(Vec<String>),
}

/// What a task definition's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskDefinitionLookup {
    /// It exists.
    Found {
        /// Its ARN, revision included.
        arn: String,
        /// `status` as ECS writes it: `ACTIVE`, `INACTIVE`.
        status: String,
    },
    /// ECS refused the name; the text says why, as ECS put it (`ClientException: Unable to describe task definition.`).
    Refused(String),
}
