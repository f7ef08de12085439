//! Reads the little the executor needs out of a task that ECS described.

use blox_store::proto::Observation;
use serde::Deserialize;

use crate::names::{InstanceArn, TaskArn};

/// What says which launch a described task belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DescribedTask {
    pub(super) arn: TaskArn,
    pub(super) instance: InstanceArn,
    pub(super) started_by: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    task_arn: String,
    container_instance_arn: String,
    #[serde(default)]
    started_by: String,
}

impl DescribedTask {
    /// The task of an observation; `None` where the document does not say what task it is, or on which instance.
    pub(super) fn of(observation: &Observation) -> Option<DescribedTask> {
        let document: Document = serde_json::from_slice(&observation.document).ok()?;
        Some(DescribedTask {
            arn: TaskArn::from(document.task_arn),
            instance: InstanceArn::from(document.container_instance_arn),
            started_by: document.started_by,
        })
    }
}
