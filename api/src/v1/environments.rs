//! `/v1/environments`.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use blox_store::proto::command::Operation;
use blox_store::proto::{
    CreateEnvironment, DeleteEnvironment, EnvironmentRecord, EnvironmentSpec, RefusalCode, outcome,
};
use blox_store::records::arn::cluster_selector;
use blox_store::{ClusterSelector, View};

use super::V1Request;
use super::answers::{INTERNAL_OF_ENVIRONMENTS, PlainError, json};
use super::models::{Environment, Items};
use super::requests::CreateEnvironmentBody;
use crate::JSON_BODY_BYTES_MAX;
use crate::catalog::{CatalogError, ClusterLookup, TaskDefinitionLookup};
use crate::daemons::EnvironmentSummary;
use crate::reading::ReadFailure;
use crate::request_body::BodyError;
use crate::state::ApiState;
use crate::writing::WriteFailure;

/// Instances of a roll-out that may be without their daemon at once, where the contract has no word for it.
const MAX_UNAVAILABLE: u32 = 1;

/// What ECS calls a cluster or task definition that can no longer be used.
const INACTIVE: &str = "INACTIVE";

/// `POST /v1/environments`: nothing runs until a deployment is created.
pub(super) async fn create(request: &V1Request<'_>, body: Body) -> Result<Response, PlainError> {
    let state = request.state;
    let body = state.read_body(body, JSON_BODY_BYTES_MAX).await.map_err(body_failed)?;
    let wanted = CreateEnvironmentBody::parse(&body.bytes).map_err(PlainError::bad_request)?;
    let (source, cluster_arn) = cluster_of(state, &wanted.cluster).await?;
    let task_definition_arn = task_definition_of(state, &source, &wanted.task_definition).await?;
    let spec = EnvironmentSpec {
        source,
        cluster_arn,
        task_definition_arn,
        max_unavailable: MAX_UNAVAILABLE,
        ..EnvironmentSpec::default()
    };
    let operation = Operation::CreateEnvironment(CreateEnvironment {
        id: state.new_uuid(),
        name: wanted.name.clone(),
        spec: Some(spec),
        deployment_token: state.new_uuid(),
        deployment_id: String::new(),
    });
    let cause = format!("POST /v1/environments created {}", wanted.name);
    let written = match state.write(operation, cause, &request.request_id, None).await {
        Ok(written) => written,
        Err(WriteFailure::Refused { refusal, .. }) if refusal.code() == RefusalCode::EnvironmentExists => {
            let name = &wanted.name;
            let text =
                format!("Error saving environment {name} to store: An environment with name {name} already exists");
            return Err(PlainError::bad_request(text));
        }
        Err(failure) => return Err(PlainError::write(failure)),
    };
    match written.result {
        outcome::Result::Environment(record) => {
            let environment = Environment::of(record, &EnvironmentSummary::default());
            Ok(json(&environment, written.revision))
        }
        _ => Err(PlainError::write(written.unexpected())),
    }
}

/// `GET /v1/environments/{name}`.
pub(super) async fn get(request: &V1Request<'_>, name: &str) -> Result<Response, PlainError> {
    let view = read(request).await?;
    let revision = view.revision();
    let environment = environment_of(&view, name)?.ok_or_else(|| missing(name))?;
    let (environment, summary) = with_summary(request.state, view, environment).await?;
    Ok(json(&Environment::of(environment, &summary), revision))
}

/// `GET /v1/environments`: by name.
pub(super) async fn list(request: &V1Request<'_>) -> Result<Response, PlainError> {
    let query = &request.query;
    if !query.names().all(|name| name == b"cluster") {
        return Err(PlainError::bad_request(
            "At least one of the filters provided is not supported",
        ));
    }
    if query.has_repeated_name() {
        return Err(PlainError::bad_request(
            "At least one of the filters provided is specified multiple times",
        ));
    }
    let cluster = query
        .lossy("cluster")
        .map(|cluster| cluster_selector(&cluster))
        .transpose();
    let cluster = cluster.map_err(|_| PlainError::bad_request("Invalid cluster ARN or name"))?;
    let view = read(request).await?;
    let revision = view.revision();
    let daemons = request.state.daemons();
    let items = request.state.read_much(move || {
        let mut items = Vec::new();
        for environment in view.environments()? {
            if is_on(&environment, cluster.as_ref()) {
                let summary = daemons.summary(&view, &environment)?;
                items.push(Environment::of(environment, &summary));
            }
        }
        Ok(items)
    });
    let items = items.await.map_err(PlainError::read(INTERNAL_OF_ENVIRONMENTS))?;
    Ok(json(&Items { items }, revision))
}

/// `DELETE /v1/environments/{name}`: never stops a task; 200 for unknown names too.
pub(super) async fn delete(request: &V1Request<'_>, name: &str) -> Result<Response, PlainError> {
    let operation = Operation::DeleteEnvironment(DeleteEnvironment {
        name: name.to_owned(),
        stop_tasks: false,
        mod_revision: 0,
    });
    let cause = format!("DELETE /v1/environments/{name}");
    match request.state.write(operation, cause, &request.request_id, None).await {
        Ok(_) => Ok(StatusCode::OK.into_response()),
        Err(WriteFailure::Refused { refusal, .. })
            if matches!(
                refusal.code(),
                RefusalCode::EnvironmentMissing | RefusalCode::EnvironmentDeleting
            ) =>
        {
            Ok(StatusCode::OK.into_response())
        }
        Err(failure) => Err(PlainError::write(failure)),
    }
}

pub(super) fn missing(name: &str) -> PlainError {
    PlainError::not_found(format!("Environment {name} does not exist"))
}

pub(super) async fn read(request: &V1Request<'_>) -> Result<View, PlainError> {
    request
        .state
        .view(request.reading()?)
        .await
        .map_err(PlainError::read(INTERNAL_OF_ENVIRONMENTS))
}

pub(super) fn environment_of(view: &View, name: &str) -> Result<Option<EnvironmentRecord>, PlainError> {
    view.environment(name)
        .map_err(PlainError::store(INTERNAL_OF_ENVIRONMENTS))
}

/// An environment with its daemons counted.
pub(super) async fn with_summary(
    state: &ApiState,
    view: View,
    environment: EnvironmentRecord,
) -> Result<(EnvironmentRecord, EnvironmentSummary), PlainError> {
    let daemons = state.daemons();
    let counted = state.read_little(move || {
        let summary = daemons.summary(&view, &environment).map_err(ReadFailure::from)?;
        Ok((environment, summary))
    });
    counted.await.map_err(PlainError::read(INTERNAL_OF_ENVIRONMENTS))
}

fn is_on(environment: &EnvironmentRecord, cluster: Option<&ClusterSelector>) -> bool {
    let arn = environment.spec.as_ref().map_or("", |spec| spec.cluster_arn.as_str());
    match cluster {
        None => true,
        Some(ClusterSelector::Arn(wanted)) => arn == wanted,
        Some(ClusterSelector::Name(name)) => arn.rsplit_once('/').is_some_and(|(_, given)| given == name),
    }
}

/// The source and ARN of a cluster that can be used.
async fn cluster_of(state: &ApiState, cluster: &str) -> Result<(String, String), PlainError> {
    let asked = tokio::time::timeout(
        state.config().catalog_deadline,
        state.catalog().describe_cluster(cluster, None),
    );
    match asked.await.unwrap_or_else(|_| Err(timed_out(state))) {
        Ok(ClusterLookup::Found { status, .. }) if status == INACTIVE => {
            Err(PlainError::not_found("Cluster is inactive"))
        }
        Ok(ClusterLookup::Found { source, arn, .. }) => Ok((source, arn)),
        Ok(ClusterLookup::Missing) => Err(PlainError::not_found(format!("Cluster {cluster} does not exist"))),
        Ok(ClusterLookup::Ambiguous(sources)) => {
            let sources = sources.join(", ");
            let text = format!("Cluster {cluster} exists in more than one source ({sources}): give its ARN");
            Err(PlainError::bad_request(text))
        }
        Err(cause) => Err(PlainError::unavailable(format!(
            "Error calling DescribeClusters for cluster {cluster}: {cause}"
        ))),
    }
}

/// The ARN of a task definition that can be used.
async fn task_definition_of(state: &ApiState, source: &str, name: &str) -> Result<String, PlainError> {
    let calling = |cause: &str| format!("Error calling DescribeTaskDefinition for taskDefinition {name}: {cause}");
    let asked = state.catalog().describe_task_definition(source, name);
    let asked = tokio::time::timeout(state.config().catalog_deadline, asked);
    match asked.await.unwrap_or_else(|_| Err(timed_out(state))) {
        Ok(TaskDefinitionLookup::Found { status, .. }) if status == INACTIVE => {
            Err(PlainError::not_found("TaskDefinition is inactive"))
        }
        Ok(TaskDefinitionLookup::Found { arn, .. }) => Ok(arn),
        Ok(TaskDefinitionLookup::Refused(why)) => Err(PlainError::not_found(calling(&why))),
        Err(CatalogError(cause)) => Err(PlainError::unavailable(calling(&cause))),
    }
}

fn timed_out(state: &ApiState) -> CatalogError {
    CatalogError(format!("no answer within {:?}", state.config().catalog_deadline))
}

fn body_failed(error: BodyError) -> PlainError {
    match error {
        BodyError::TooLarge(limit) => PlainError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request body is larger than {limit} bytes"),
        ),
        BodyError::Overloaded => PlainError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many request bodies are being read; try again",
        ),
        BodyError::Broken(cause) => PlainError::bad_request(format!("Request body broke off: {cause}")),
    }
}
