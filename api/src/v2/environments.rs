//! `/v2/environments`: what should run where; each change is a revision that rolls out.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use blox_store::proto::command::Operation;
use blox_store::proto::{
    Attribute, CreateDeployment, CreateEnvironment, DeleteEnvironment, EnvironmentRecord, EnvironmentSpec, RefusalCode,
    UpdateEnvironment, outcome,
};
use blox_store::{Revision, View};
use serde::Serialize;

use super::environment_body::EnvironmentBody;
use super::models::{DeploymentModel, EnvironmentModel};
use super::preconditions::Expected;
use super::request::{entity_tag, json, path_text};
use crate::JSON_BODY_BYTES_MAX;
use crate::catalog::{CatalogError, ClusterLookup, TaskDefinitionLookup};
use crate::daemons::DaemonSummaries;
use crate::problem::{Problem, ProblemKind, sentence};
use crate::query::{Query, invalid};
use crate::reading::{READING_KEYS, ReadFailure, Reading};
use crate::request_id::RequestId;
use crate::state::ApiState;
use crate::v1::is_environment_name;
use crate::writing::{WriteFailure, idempotency};

const PREFIX: &str = "/v2/environments/";

/// What ECS calls a cluster or task definition that can no longer be used.
const INACTIVE: &str = "INACTIVE";

#[derive(Serialize)]
struct ItemsModel<Item> {
    items: Vec<Item>,
    revision: u64,
}

#[derive(Serialize)]
struct DeletedModel {
    name: String,
    /// Its tasks are being stopped; the environment goes with the last of them.
    deleting: bool,
    revision: u64,
}

/// All environments, by name.
pub(super) async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let view = read(&state, &uri).await?;
    let revision = view.revision();
    let daemons = state.daemons();
    let items = state.read_much(move || {
        let environments = view.environments()?;
        environments
            .into_iter()
            .map(|environment| model_of(&view, &*daemons, environment))
            .collect()
    });
    Ok(json(
        StatusCode::OK,
        revision,
        &ItemsModel {
            items: items.await?,
            revision,
        },
    ))
}

/// One environment with its newest deployment and its daemons counted.
pub(super) async fn get(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let name = path_text(&uri, PREFIX)?;
    let view = read(&state, &uri).await?;
    let environment = view.environment(&name)?.ok_or_else(|| missing(&name))?;
    answer(&state, StatusCode::OK, view, environment).await
}

/// All deployments of an environment, newest first.
pub(super) async fn deployments(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let tail = path_text(&uri, PREFIX)?;
    let name = tail.strip_suffix("/deployments").unwrap_or(&tail);
    let view = read(&state, &uri).await?;
    let environment = view.environment(name)?.ok_or_else(|| missing(name))?;
    let items = view
        .deployments(&environment.id)?
        .into_iter()
        .map(DeploymentModel::of)
        .collect();
    Ok(json(
        StatusCode::OK,
        view.revision(),
        &ItemsModel {
            items,
            revision: view.revision(),
        },
    ))
}

/// Creates or changes an environment and rolls it out. Asking for what is wanted already changes nothing.
pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(request_id): Extension<RequestId>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = valid_name(&uri)?;
    Query::parse(uri.query()).only(&[])?;
    let expected = Expected::from_headers(&headers)?;
    let body = state.read_body(body, JSON_BODY_BYTES_MAX).await?;
    let wanted = EnvironmentBody::parse(&body.bytes)?;
    let idempotency = idempotency(&method, &uri, &headers, &body.bytes)?;
    let spec = spec_of(&state, wanted).await?;
    let view = state.view(Reading::LINEARIZABLE).await?;
    let present = view.environment(&name)?;
    let holds = expected.holds_at(revision_of(present.as_ref()));
    // A retry may find the precondition broken by its own first try: under an idempotency key the command itself judges.
    let may_be_retry = idempotency.is_some();
    if !holds && !may_be_retry {
        return Err(precondition_failed(present.as_ref()));
    }
    let operation = match present {
        Some(present) if !may_be_retry && is_rolled_out(&present, &spec) => {
            return answer(&state, StatusCode::OK, view, present).await;
        }
        Some(present) if holds && is_only_to_roll_out(&present, &spec) => roll_out(&state, present),
        None if !holds => update(&state, &name, spec, expected),
        Some(_) if expected != Expected::Absent => update(&state, &name, spec, expected),
        _ => create(&state, &name, spec),
    };
    let created = matches!(operation, Operation::CreateEnvironment(_));
    let written = state
        .write(operation, format!("PUT {}", uri.path()), &request_id, idempotency)
        .await;
    let written = match written {
        Err(failure) if contradicts(&failure, expected) => {
            let view = state.view(Reading::LINEARIZABLE).await?;
            return Err(precondition_failed(view.environment(&name)?.as_ref()));
        }
        written => written?,
    };
    let view = state.view(Reading::at_least(written.revision)).await?;
    let record = match &written.result {
        outcome::Result::Environment(record) => record.clone(),
        outcome::Result::Deployment(_) => view.environment(&name)?.ok_or_else(|| missing(&name))?,
        _ => return Err(written.unexpected().into()),
    };
    let status = if created && !written.replayed {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = answer(&state, status, view, record).await?;
    written.mark(response.headers_mut());
    Ok(response)
}

/// Deletes an environment; whether its tasks are stopped must be said.
pub(super) async fn delete(
    State(state): State<ApiState>,
    Extension(request_id): Extension<RequestId>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = valid_name(&uri)?;
    let query = Query::parse(uri.query());
    query.only(&["stop_tasks"])?;
    let stop_tasks = match query.text("stop_tasks")? {
        Some("true") => true,
        Some("false") => false,
        _ => {
            return Err(invalid(
                "stop_tasks",
                "must be said: 'true' stops the environment's tasks, 'false' leaves them",
            ));
        }
    };
    let expected = Expected::from_headers(&headers)?;
    let mod_revision = match expected {
        Expected::Anything | Expected::Exists => 0,
        Expected::At(revision) => revision,
        Expected::Absent => {
            return Err(Problem::new(
                ProblemKind::InvalidHeader,
                "What is absent cannot be deleted.",
            ));
        }
    };
    let idempotency = idempotency(&method, &uri, &headers, &[])?;
    let operation = Operation::DeleteEnvironment(DeleteEnvironment {
        name: name.clone(),
        stop_tasks,
        mod_revision,
    });
    let written = state
        .write(operation, format!("DELETE {}", uri.path()), &request_id, idempotency)
        .await;
    let written = match written {
        Err(failure) if contradicts(&failure, expected) => return Err(precondition_failed(None)),
        written => written?,
    };
    let model = DeletedModel {
        name,
        deleting: stop_tasks,
        revision: written.revision,
    };
    let status = if stop_tasks {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    let mut response = json(status, written.revision, &model);
    written.mark(response.headers_mut());
    Ok(response)
}

async fn read(state: &ApiState, uri: &Uri) -> Result<View, Problem> {
    let query = Query::parse(uri.query());
    query.only(&READING_KEYS)?;
    Ok(state.view(Reading::from_query(&query)?).await?)
}

async fn answer(
    state: &ApiState,
    status: StatusCode,
    view: View,
    environment: EnvironmentRecord,
) -> Result<Response, Problem> {
    let revision = view.revision();
    let tag = entity_tag(environment.mod_revision);
    let daemons = state.daemons();
    let model = state
        .read_little(move || model_of(&view, &*daemons, environment))
        .await?;
    let mut response = json(status, revision, &model);
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

fn model_of(
    view: &View,
    daemons: &dyn DaemonSummaries,
    environment: EnvironmentRecord,
) -> Result<EnvironmentModel, ReadFailure> {
    let summary = daemons.summary(view, &environment)?;
    let deployment = match environment.deployment_id.as_str() {
        "" => None,
        id => view.deployment(&environment.id, id)?,
    };
    Ok(EnvironmentModel::of(environment).with(deployment, summary))
}

/// 0: it does not exist.
fn revision_of(present: Option<&EnvironmentRecord>) -> Revision {
    present.map_or(0, |present| present.mod_revision)
}

fn precondition_failed(present: Option<&EnvironmentRecord>) -> Problem {
    let current = revision_of(present);
    let detail = format!("The environment is at revision {current} (0: it does not exist).");
    Problem::new(ProblemKind::PreconditionFailed, detail).with("current_revision", current)
}

/// Whether a command was refused because the environment is there, or is not, against what the caller expected.
fn contradicts(failure: &WriteFailure, expected: Expected) -> bool {
    let WriteFailure::Refused { refusal, .. } = failure else {
        return false;
    };
    match refusal.code() {
        RefusalCode::EnvironmentExists => expected == Expected::Absent,
        RefusalCode::EnvironmentMissing => matches!(expected, Expected::Exists | Expected::At(_)),
        _ => false,
    }
}

fn is_rolled_out(present: &EnvironmentRecord, spec: &EnvironmentSpec) -> bool {
    !present.deleting && !present.deployment_id.is_empty() && present.spec.as_ref() == Some(spec)
}

/// It was made by v1, which waits for a deployment, and is what is wanted already.
fn is_only_to_roll_out(present: &EnvironmentRecord, spec: &EnvironmentSpec) -> bool {
    !present.deleting && present.deployment_id.is_empty() && present.spec.as_ref() == Some(spec)
}

fn roll_out(state: &ApiState, present: EnvironmentRecord) -> Operation {
    Operation::CreateDeployment(CreateDeployment {
        id: state.new_uuid(),
        environment_name: present.name,
        token: present.deployment_token,
    })
}

fn create(state: &ApiState, name: &str, spec: EnvironmentSpec) -> Operation {
    Operation::CreateEnvironment(CreateEnvironment {
        id: state.new_uuid(),
        name: name.to_owned(),
        spec: Some(spec),
        deployment_token: state.new_uuid(),
        deployment_id: state.new_uuid(),
    })
}

fn update(state: &ApiState, name: &str, spec: EnvironmentSpec, expected: Expected) -> Operation {
    let mod_revision = if let Expected::At(revision) = expected {
        revision
    } else {
        0
    };
    Operation::UpdateEnvironment(UpdateEnvironment {
        name: name.to_owned(),
        spec: Some(spec),
        deployment_id: state.new_uuid(),
        deployment_token: state.new_uuid(),
        mod_revision,
    })
}

/// Resolves names to ARNs, so that what is stored does not change its meaning later.
async fn spec_of(state: &ApiState, wanted: EnvironmentBody) -> Result<EnvironmentSpec, Problem> {
    let (source, cluster_arn) = cluster_of(state, &wanted.cluster, wanted.source.as_deref()).await?;
    let task_definition_arn = task_definition_of(state, &source, &wanted.task_definition).await?;
    let attributes = wanted
        .attributes
        .into_iter()
        .map(|(name, value)| Attribute { name, value })
        .collect();
    Ok(EnvironmentSpec {
        source,
        cluster_arn,
        task_definition_arn,
        attributes,
        max_unavailable: wanted.max_unavailable,
        drain_policy: wanted.drain.policy().into(),
    })
}

async fn cluster_of(state: &ApiState, cluster: &str, source: Option<&str>) -> Result<(String, String), Problem> {
    let refused = |detail: String| Problem::new(ProblemKind::ClusterRefused, detail);
    let asked = state.catalog().describe_cluster(cluster, source);
    match tokio::time::timeout(state.config().catalog_deadline, asked)
        .await
        .unwrap_or_else(|_| Err(timed_out(state)))
    {
        Ok(ClusterLookup::Found { status, .. }) if status == INACTIVE => {
            Err(refused(format!("The cluster '{cluster}' is inactive.")))
        }
        Ok(ClusterLookup::Found { source, arn, .. }) => Ok((source, arn)),
        Ok(ClusterLookup::Missing) => {
            let place = source.map_or_else(String::new, |source| format!(" in source '{source}'"));
            Err(refused(format!("The cluster '{cluster}' does not exist{place}.")))
        }
        Ok(ClusterLookup::Ambiguous(sources)) => {
            let detail = format!("The cluster '{cluster}' exists in more than one source; say which by 'source'.");
            Err(refused(detail).with("sources", sources))
        }
        Err(cause) => {
            let detail = format!("DescribeClusters for '{cluster}' failed: {cause}");
            Err(Problem::new(ProblemKind::EcsUnavailable, sentence(&detail)))
        }
    }
}

async fn task_definition_of(state: &ApiState, source: &str, name: &str) -> Result<String, Problem> {
    let refused = |detail: String| Problem::new(ProblemKind::TaskDefinitionRefused, detail);
    let asked = state.catalog().describe_task_definition(source, name);
    match tokio::time::timeout(state.config().catalog_deadline, asked)
        .await
        .unwrap_or_else(|_| Err(timed_out(state)))
    {
        Ok(TaskDefinitionLookup::Found { status, .. }) if status == INACTIVE => {
            Err(refused(format!("The task definition '{name}' is inactive.")))
        }
        Ok(TaskDefinitionLookup::Found { arn, .. }) => Ok(arn),
        Ok(TaskDefinitionLookup::Refused(why)) => Err(refused(sentence(&format!(
            "The task definition '{name}' was refused: {why}"
        )))),
        Err(cause) => {
            let detail = format!("DescribeTaskDefinition for '{name}' failed: {cause}");
            Err(Problem::new(ProblemKind::EcsUnavailable, sentence(&detail)))
        }
    }
}

fn timed_out(state: &ApiState) -> CatalogError {
    CatalogError(format!("no answer within {:?}", state.config().catalog_deadline))
}

fn valid_name(uri: &Uri) -> Result<String, Problem> {
    let name = path_text(uri, PREFIX)?;
    if is_environment_name(&name) {
        return Ok(name);
    }
    let detail = "An environment's name has 1 to 30 letters, digits, '-' and '_'.";
    Err(Problem::new(ProblemKind::InvalidPath, detail))
}

fn missing(name: &str) -> Problem {
    Problem::new(
        ProblemKind::EnvironmentMissing,
        format!("There is no environment '{name}'."),
    )
}
