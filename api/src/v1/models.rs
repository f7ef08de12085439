//! Environments and deployments as the old contract writes them; field order is the wire's.

use blox_store::proto::{DeploymentRecord, DeploymentStatus, EnvironmentRecord};
use serde::Serialize;

use crate::daemons::EnvironmentSummary;

#[derive(Serialize)]
pub(super) struct Environment {
    #[serde(rename = "deploymentToken", skip_serializing_if = "String::is_empty")]
    deployment_token: String,
    health: &'static str,
    #[serde(rename = "instanceGroup")]
    instance_group: InstanceGroup,
    name: String,
    #[serde(rename = "taskDefinition")]
    task_definition: String,
}

#[derive(Serialize)]
struct InstanceGroup {
    cluster: String,
}

#[derive(Serialize)]
pub(super) struct Deployment {
    #[serde(rename = "environmentName")]
    environment_name: String,
    #[serde(rename = "failedInstances")]
    failed_instances: Vec<String>,
    id: String,
    status: &'static str,
    #[serde(rename = "taskDefinition")]
    task_definition: String,
}

/// `{"items":[...]}`.
#[derive(Serialize)]
pub(super) struct Items<Item> {
    pub(super) items: Vec<Item>,
}

impl Environment {
    /// Unhealthy while the daemon of an instance does not run because attempts failed.
    pub(super) fn of(record: EnvironmentRecord, summary: &EnvironmentSummary) -> Environment {
        let spec = record.spec.unwrap_or_default();
        Environment {
            deployment_token: record.deployment_token,
            health: if summary.failed.is_empty() {
                "healthy"
            } else {
                "unhealthy"
            },
            instance_group: InstanceGroup {
                cluster: spec.cluster_arn,
            },
            name: record.name,
            task_definition: spec.task_definition_arn,
        }
    }
}

impl Deployment {
    /// Only the environment's newest deployment has failed instances: the older ones are over.
    pub(super) fn of(
        record: DeploymentRecord,
        environment: &EnvironmentRecord,
        summary: &EnvironmentSummary,
    ) -> Deployment {
        let failed_instances = if record.id == environment.deployment_id {
            summary
                .failed
                .iter()
                .map(|failed| failed.instance_arn.clone())
                .collect()
        } else {
            Vec::new()
        };
        Deployment {
            status: status_word(record.status()),
            environment_name: record.environment_name,
            failed_instances,
            id: record.id,
            task_definition: record.task_definition_arn,
        }
    }
}

fn status_word(status: DeploymentStatus) -> &'static str {
    match status {
        DeploymentStatus::Pending => "pending",
        DeploymentStatus::Running => "running",
        DeploymentStatus::Completed => "completed",
        DeploymentStatus::Superseded | DeploymentStatus::Unspecified => "unknown",
    }
}
