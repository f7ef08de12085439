//! `/v1/environments/{name}/deployments`.

use axum::response::Response;
use blox_store::proto::command::Operation;
use blox_store::proto::{CreateDeployment, EnvironmentRecord, Refusal, RefusalCode, outcome};

use super::V1Request;
use super::answers::{INTERNAL_OF_ENVIRONMENTS, PlainError, json};
use super::environments::{environment_of, missing, read, with_summary};
use super::models::{Deployment, Items};
use super::requests::is_deployment_token;
use crate::daemons::EnvironmentSummary;
use crate::writing::WriteFailure;

/// `POST /v1/environments/{name}/deployments?deploymentToken=`: rolls the environment out.
pub(super) async fn create(request: &V1Request<'_>, environment: &str) -> Result<Response, PlainError> {
    let token = request.query.lossy("deploymentToken").unwrap_or_default();
    if !is_deployment_token(&token) {
        return Err(PlainError::bad_request(format!(
            "Token '{token}' is not a valid deployment token"
        )));
    }
    let operation = Operation::CreateDeployment(CreateDeployment {
        id: request.state.new_uuid(),
        environment_name: environment.to_owned(),
        token: token.clone(),
    });
    let cause = format!("POST /v1/environments/{environment}/deployments");
    let written = match request.state.write(operation, cause, &request.request_id, None).await {
        Ok(written) => written,
        Err(WriteFailure::Refused { refusal, .. }) => return Err(refused(refusal, environment, &token)),
        Err(failure) => return Err(PlainError::write(failure)),
    };
    match written.result {
        outcome::Result::Deployment(record) => {
            let nothing_failed = EnvironmentSummary::default();
            let deployment = Deployment::of(record, &EnvironmentRecord::default(), &nothing_failed);
            Ok(json(&deployment, written.revision))
        }
        _ => Err(PlainError::write(written.unexpected())),
    }
}

/// `GET /v1/environments/{name}/deployments`: newest first; any query is ignored.
pub(super) async fn list(request: &V1Request<'_>, name: &str) -> Result<Response, PlainError> {
    let view = read(request).await?;
    let revision = view.revision();
    let environment = environment_of(&view, name)?.ok_or_else(|| missing(name))?;
    let deployments = view
        .deployments(&environment.id)
        .map_err(PlainError::store(INTERNAL_OF_ENVIRONMENTS))?;
    let (environment, summary) = with_summary(request.state, view, environment).await?;
    let items = deployments
        .into_iter()
        .map(|deployment| Deployment::of(deployment, &environment, &summary))
        .collect();
    Ok(json(&Items { items }, revision))
}

/// `GET /v1/environments/{name}/deployments/{id}`.
pub(super) async fn get(request: &V1Request<'_>, name: &str, id: &str) -> Result<Response, PlainError> {
    let view = read(request).await?;
    let revision = view.revision();
    let environment = environment_of(&view, name)?.ok_or_else(|| missing(name))?;
    let deployment = view
        .deployment(&environment.id, id)
        .map_err(PlainError::store(INTERNAL_OF_ENVIRONMENTS))?
        .ok_or_else(|| PlainError::not_found(format!("Deployment {id} does not exist for environment {name}")))?;
    let (environment, summary) = with_summary(request.state, view, environment).await?;
    Ok(json(&Deployment::of(deployment, &environment, &summary), revision))
}

/// The contract's text for each refusal. An environment that is being deleted takes no deployment, as if it were gone.
fn refused(refusal: Refusal, environment: &str, token: &str) -> PlainError {
    match refusal.code() {
        RefusalCode::EnvironmentMissing | RefusalCode::EnvironmentDeleting => {
            PlainError::not_found(format!("Environment with name '{environment}' does not exist"))
        }
        RefusalCode::TokenOutdated => PlainError::bad_request(format!(
            "Token '{token}' is outdated and does not match the environment token"
        )),
        RefusalCode::TokenUsed => PlainError::bad_request(format!("Deployment with token '{token}' already exists")),
        RefusalCode::DeploymentInProgress => {
            PlainError::bad_request(format!("There is already a deployment in progress: {}", refusal.detail))
        }
        _ => PlainError::internal(INTERNAL_OF_ENVIRONMENTS, format!("refused: {refusal:?}")),
    }
}
