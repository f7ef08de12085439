//! Environments, deployments and the scheduler's records as `/v2` shows them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blox_store::proto::{
    Attribute, DeploymentRecord, DeploymentStatus, DrainPolicy, EnvironmentRecord, KeyValue, LaunchRecord, LaunchState,
    StopRecord, StopState,
};
use serde::Serialize;

use crate::daemons::{EnvironmentSummary, FailedInstance};

/// An environment; `summary` and `deployment` only where it is read by itself or in a list.
#[derive(Serialize)]
pub(super) struct EnvironmentModel {
    name: String,
    id: String,
    source: String,
    cluster_arn: String,
    task_definition_arn: String,
    attributes: BTreeMap<String, String>,
    max_unavailable: u32,
    drain: &'static str,
    environment_revision: u64,
    deleting: bool,
    deployment_id: Option<String>,
    deployment_token: String,
    created_at_ms: i64,
    updated_at_ms: i64,
    revision: u64,
    /// `null` inside: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment: Option<Option<DeploymentModel>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<SummaryModel>,
}

impl EnvironmentModel {
    pub(super) fn of(record: EnvironmentRecord) -> EnvironmentModel {
        let spec = record.spec.unwrap_or_default();
        EnvironmentModel {
            drain: drain_word(spec.drain_policy()),
            name: record.name,
            id: record.id,
            source: spec.source,
            cluster_arn: spec.cluster_arn,
            task_definition_arn: spec.task_definition_arn,
            attributes: spec
                .attributes
                .into_iter()
                .map(|Attribute { name, value }| (name, value))
                .collect(),
            max_unavailable: spec.max_unavailable,
            environment_revision: record.environment_revision,
            deleting: record.deleting,
            deployment_id: Some(record.deployment_id).filter(|id| !id.is_empty()),
            deployment_token: record.deployment_token,
            created_at_ms: record.created_at_ms,
            updated_at_ms: record.updated_at_ms,
            revision: record.mod_revision,
            deployment: None,
            summary: None,
        }
    }

    pub(super) fn with(
        mut self,
        deployment: Option<DeploymentRecord>,
        summary: EnvironmentSummary,
    ) -> EnvironmentModel {
        self.deployment = Some(deployment.map(DeploymentModel::of));
        self.summary = Some(SummaryModel::of(summary));
        self
    }
}

/// `last`, `first`, `never`.
pub(super) fn drain_word(policy: DrainPolicy) -> &'static str {
    match policy {
        DrainPolicy::Last => "last",
        DrainPolicy::First => "first",
        DrainPolicy::Never => "never",
    }
}

#[derive(Serialize)]
pub(super) struct DeploymentModel {
    id: String,
    environment: String,
    environment_id: String,
    environment_revision: u64,
    task_definition_arn: String,
    status: &'static str,
    created_at_ms: i64,
    started_at_ms: Option<i64>,
    ended_at_ms: Option<i64>,
}

impl DeploymentModel {
    pub(super) fn of(record: DeploymentRecord) -> DeploymentModel {
        let status = match record.status() {
            DeploymentStatus::Pending => "pending",
            DeploymentStatus::Running => "running",
            DeploymentStatus::Completed => "completed",
            DeploymentStatus::Superseded => "superseded",
            DeploymentStatus::Unspecified => "unknown",
        };
        DeploymentModel {
            id: record.id,
            environment: record.environment_name,
            environment_id: record.environment_id,
            environment_revision: record.environment_revision,
            task_definition_arn: record.task_definition_arn,
            status,
            created_at_ms: record.created_at_ms,
            started_at_ms: instant(record.started_at_ms),
            ended_at_ms: instant(record.ended_at_ms),
        }
    }
}

#[derive(Serialize)]
struct SummaryModel {
    desired: u64,
    current: u64,
    ready: u64,
    updated: u64,
    available: u64,
    unavailable: u64,
    misscheduled: u64,
    failed: Vec<FailedModel>,
}

#[derive(Serialize)]
struct FailedModel {
    instance_arn: String,
    reason: String,
    retry_at_ms: Option<i64>,
}

impl SummaryModel {
    fn of(summary: EnvironmentSummary) -> SummaryModel {
        let failed = |FailedInstance {
                          instance_arn,
                          reason,
                          retry_at_ms,
                      }| FailedModel {
            instance_arn,
            reason,
            retry_at_ms,
        };
        SummaryModel {
            desired: summary.desired,
            current: summary.current,
            ready: summary.ready,
            updated: summary.updated,
            available: summary.available,
            unavailable: summary.unavailable,
            misscheduled: summary.misscheduled,
            failed: summary.failed.into_iter().map(failed).collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct LaunchModel {
    id: String,
    environment_id: String,
    deployment_id: String,
    source: String,
    cluster_arn: String,
    instance_arn: String,
    task_definition_arn: String,
    state: &'static str,
    task_arn: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
    failures: u32,
    session: u64,
    intent_revision: u64,
    intended_at_ms: i64,
}

impl LaunchModel {
    pub(super) fn of(record: LaunchRecord) -> LaunchModel {
        let state = match record.state() {
            LaunchState::Intended => "intended",
            LaunchState::Unknown | LaunchState::Unspecified => "unknown",
            LaunchState::Rejected => "rejected",
            LaunchState::Bound => "bound",
            LaunchState::Vanished => "vanished",
        };
        LaunchModel {
            id: record.id,
            environment_id: record.environment_id,
            deployment_id: record.deployment_id,
            source: record.source,
            cluster_arn: record.cluster_arn,
            instance_arn: record.instance_arn,
            task_definition_arn: record.task_definition_arn,
            state,
            task_arn: said(record.task_arn),
            reason: said(record.reason),
            detail: said(record.detail),
            failures: record.failures,
            session: record.session,
            intent_revision: record.intent_revision,
            intended_at_ms: record.intended_at_ms,
        }
    }
}

#[derive(Serialize)]
pub(super) struct StopModel {
    environment_id: String,
    task_arn: String,
    source: String,
    cluster_arn: String,
    instance_arn: String,
    reason: String,
    state: &'static str,
    attempts: u32,
    failure: Option<String>,
    session: u64,
}

impl StopModel {
    pub(super) fn of(record: StopRecord) -> StopModel {
        let state = match record.state() {
            StopState::Intended => "intended",
            StopState::Requested => "requested",
            StopState::Failed => "failed",
            StopState::Unspecified => "unknown",
        };
        StopModel {
            environment_id: record.environment_id,
            task_arn: record.task_arn,
            source: record.source,
            cluster_arn: record.cluster_arn,
            instance_arn: record.instance_arn,
            reason: record.reason,
            state,
            attempts: record.attempts,
            failure: said(record.failure),
            session: record.session,
        }
    }
}

/// A user's key with its value. Both may be any bytes: base64 always, the key as text too where it is text.
#[derive(Serialize)]
pub(super) struct KeyModel {
    key: Option<String>,
    key_base64: String,
    value_base64: String,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

impl KeyModel {
    pub(super) fn of(pair: &KeyValue) -> KeyModel {
        KeyModel {
            key: String::from_utf8(pair.key.to_vec()).ok(),
            key_base64: STANDARD.encode(&pair.key),
            value_base64: STANDARD.encode(&pair.value),
            create_revision: pair.create_revision,
            mod_revision: pair.mod_revision,
            version: pair.version,
        }
    }
}

fn instant(milliseconds: i64) -> Option<i64> {
    (milliseconds != 0).then_some(milliseconds)
}

fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
