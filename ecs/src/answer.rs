//! From answers of ECS to observations: elements are cut out of the body as they stand, so that fields nobody here knows survive.

use blox_store::proto::{Form, Observation, ResourceKind};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::CallError;

/// One thing ECS could not do or find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Of what was asked for; empty where ECS does not say.
    pub arn: String,
    /// ECS' word, such as `MISSING`, `AGENT` or `RESOURCE:MEMORY`.
    pub reason: String,
    /// ECS' sentence, mostly empty.
    pub detail: String,
}

/// The reason by which Describe says that something does not exist.
pub const REASON_MISSING: &str = "MISSING";

/// What a Describe (or StartTask, StopTask) said.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// What ECS showed.
    pub observations: Vec<Observation>,
    /// What it did not.
    pub failures: Vec<Failure>,
}

impl Described {
    /// What ECS said does not exist, as it named it.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.failures
            .iter()
            .filter(|failure| failure.reason == REASON_MISSING)
            .map(|failure| failure.arn.as_str())
    }

    /// Takes another chunk's answer in.
    pub(crate) fn absorb(&mut self, other: Described) {
        self.observations.extend(other.observations);
        self.failures.extend(other.failures);
    }
}

/// A task definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDefinition {
    /// Full ARN, with the revision.
    pub arn: String,
    /// Its family.
    pub family: String,
    /// Its revision.
    pub revision: i64,
    /// ACTIVE, INACTIVE or DELETE_IN_PROGRESS.
    pub status: String,
    /// The JSON object as received.
    pub document: Bytes,
}

/// What an answer is an answer to.
pub(crate) struct Asked<'a> {
    pub(crate) operation: &'static str,
    pub(crate) source: &'a str,
    /// ARN of the cluster asked about; instances do not name theirs.
    pub(crate) cluster_arn: &'a str,
    /// When the call was sent, milliseconds since the epoch.
    pub(crate) sent_at_ms: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    clusters: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    container_instances: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    tasks: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    task: Option<&'a RawValue>,
    failures: Option<Vec<FailureBody>>,
}

#[derive(Deserialize)]
struct FailureBody {
    arn: Option<String>,
    reason: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element {
    cluster_arn: Option<String>,
    container_instance_arn: Option<String>,
    task_arn: Option<String>,
    version: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListBody {
    cluster_arns: Option<Vec<String>>,
    container_instance_arns: Option<Vec<String>>,
    task_arns: Option<Vec<String>>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskDefinitionBody<'a> {
    #[serde(borrow)]
    task_definition: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskDefinitionElement {
    task_definition_arn: String,
    family: String,
    revision: i64,
    #[serde(default)]
    status: String,
}

/// Reads a Describe answer, or StartTask's or StopTask's.
pub(crate) fn described(asked: &Asked<'_>, body: &Bytes) -> Result<Described, CallError> {
    let parsed: Body<'_> = serde_json::from_slice(body).map_err(|error| unreadable(asked.operation, &error))?;
    let kinds = [
        (ResourceKind::Cluster, parsed.clusters.unwrap_or_default()),
        (ResourceKind::Instance, parsed.container_instances.unwrap_or_default()),
        (ResourceKind::Task, parsed.tasks.unwrap_or_default()),
        (ResourceKind::Task, parsed.task.into_iter().collect()),
    ];
    let mut described = Described::default();
    for (kind, elements) in kinds {
        for element in elements {
            described.observations.push(observation(asked, kind, body, element)?);
        }
    }
    described.failures = parsed.failures.unwrap_or_default().into_iter().map(failure).collect();
    Ok(described)
}

fn observation(asked: &Asked<'_>, kind: ResourceKind, body: &Bytes, raw: &RawValue) -> Result<Observation, CallError> {
    let element: Element = serde_json::from_str(raw.get()).map_err(|error| unreadable(asked.operation, &error))?;
    let arn = match kind {
        ResourceKind::Cluster => element.cluster_arn.clone(),
        ResourceKind::Instance => element.container_instance_arn,
        _ => element.task_arn,
    };
    let arn = arn.ok_or_else(|| CallError::Unknown {
        operation: asked.operation,
        code: None,
        cause: "an element of the answer has no ARN".into(),
    })?;
    Ok(Observation {
        kind: kind.into(),
        source: asked.source.to_string(),
        cluster_arn: element.cluster_arn.unwrap_or_else(|| asked.cluster_arn.to_string()),
        arn,
        form: Form::Describe.into(),
        ecs_version: element.version,
        observed_at_ms: asked.sent_at_ms,
        document: body.slice_ref(raw.get().as_bytes()),
    })
}

fn failure(body: FailureBody) -> Failure {
    Failure {
        arn: body.arn.unwrap_or_default(),
        reason: body.reason.unwrap_or_default(),
        detail: body.detail.unwrap_or_default(),
    }
}

/// Reads one page of a list: ARNs, and the token of the next page.
pub(crate) fn listed(operation: &'static str, body: &Bytes) -> Result<(Vec<String>, Option<String>), CallError> {
    let parsed: ListBody = serde_json::from_slice(body).map_err(|error| unreadable(operation, &error))?;
    let arns = parsed
        .cluster_arns
        .or(parsed.container_instance_arns)
        .or(parsed.task_arns)
        .unwrap_or_default();
    Ok((arns, parsed.next_token.filter(|token| !token.is_empty())))
}

/// Reads DescribeTaskDefinition's answer.
pub(crate) fn task_definition(operation: &'static str, body: &Bytes) -> Result<TaskDefinition, CallError> {
    let parsed: TaskDefinitionBody<'_> = serde_json::from_slice(body).map_err(|error| unreadable(operation, &error))?;
    let raw = parsed.task_definition.get();
    let element: TaskDefinitionElement = serde_json::from_str(raw).map_err(|error| unreadable(operation, &error))?;
    Ok(TaskDefinition {
        arn: element.task_definition_arn,
        family: element.family,
        revision: element.revision,
        status: element.status,
        document: body.slice_ref(raw.as_bytes()),
    })
}

fn unreadable(operation: &'static str, error: &serde_json::Error) -> CallError {
    CallError::Unknown {
        operation,
        code: None,
        cause: format!("the answer cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/example";

    fn asked(operation: &'static str) -> Asked<'static> {
        Asked {
            operation,
            source: "main",
            cluster_arn: CLUSTER,
            sent_at_ms: 1_700_000_000_000,
        }
    }

    /// Elements keep every byte, unknown fields and number forms too, and failures come beside them.
    #[test]
    fn elements_are_cut_out_as_received() {
        let element = r#"{"taskArn":"arn:t1", "clusterArn":"arn:c", "version": 7, "startedAt":1.4785534E9,"futureField":{"a":[1,2.50]}}"#;
        let body = Bytes::from(format!(
            r#"{{"futureTop":1,"tasks":[{element}],"failures":[{{"arn":"arn:t2","reason":"MISSING"}},{{"reason":"AGENT","detail":"x"}}]}}"#
        ));
        let described = described(&asked("DescribeTasks"), &body).expect("readable");
        let observation = &described.observations[0];
        assert_eq!(observation.document, element.as_bytes());
        assert_eq!(observation.arn, "arn:t1");
        assert_eq!(observation.cluster_arn, "arn:c");
        assert_eq!(observation.ecs_version, Some(7));
        assert_eq!(observation.form(), Form::Describe);
        assert_eq!(observation.observed_at_ms, 1_700_000_000_000);
        assert_eq!(described.missing().collect::<Vec<_>>(), ["arn:t2"]);
        assert_eq!(described.failures[1].detail, "x");
    }

    /// Instances do not name their cluster: it is the one that was asked about. A stand-in without versions is accepted.
    #[test]
    fn an_instance_belongs_to_the_cluster_asked_about() {
        let body = Bytes::from(r#"{"containerInstances":[{"containerInstanceArn":"arn:i"}],"failures":null}"#);
        let described = described(&asked("DescribeContainerInstances"), &body).expect("readable");
        assert_eq!(described.observations[0].cluster_arn, CLUSTER);
        assert_eq!(described.observations[0].kind(), ResourceKind::Instance);
        assert_eq!(described.observations[0].ecs_version, None);
    }

    /// A page ends the list when its token is absent or empty.
    #[test]
    fn pages_carry_their_token() {
        let page = |text: &'static str| listed("ListTasks", &Bytes::from(text)).expect("readable");
        assert_eq!(
            page(r#"{"taskArns":["a","b"],"nextToken":"n"}"#),
            (vec!["a".into(), "b".into()], Some("n".into()))
        );
        assert_eq!(page(r#"{"containerInstanceArns":[],"nextToken":""}"#), (vec![], None));
    }

    /// What is no answer of ECS is an unknown outcome, never a panic and never an empty answer.
    #[test]
    fn an_unreadable_answer_is_an_unknown_outcome() {
        for body in [
            "",
            "<html>",
            "[]",
            r#"{"tasks":[{"version":1}]}"#,
            r#"{"tasks":[{"taskArn":1}]}"#,
        ] {
            let answer = described(&asked("DescribeTasks"), &Bytes::from(body));
            assert!(
                matches!(answer, Err(CallError::Unknown { .. })),
                "{body:?} gave {answer:?}"
            );
        }
    }
}
