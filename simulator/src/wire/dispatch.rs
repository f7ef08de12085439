//! From an HTTP request to its operation, through the faults on calls and answers, and back.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::{AwsError, Call, endpoint, signature, sts};
use crate::answers::{AnswerRule, HeldCall, Release, Treatment};
use crate::journal::CallRecord;
use crate::simulation::Simulation;
use crate::world::Name;
use crate::{ecs, sqs};

const ECS_TARGET: &str = "AmazonEC2ContainerServiceV20141113.";
const SQS_TARGET: &str = "AmazonSQS.";

/// On an answer: the connection is closed instead of sending it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseWithoutAnswer;

/// On a request: where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Ecs,
    Sqs,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Sqs => "sqs",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Ecs => "application/x-amz-json-1.1",
            Self::Sqs => "application/x-amz-json-1.0",
        }
    }

    fn error_namespace(self) -> &'static str {
        match self {
            Self::Ecs => "com.amazonaws.ecs",
            Self::Sqs => "com.amazonaws.sqs",
        }
    }
}

/// Serves every path outside `/control`.
pub(crate) async fn serve_aws(
    State(simulation): State<Arc<Simulation>>,
    Extension(Caller(caller)): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let target = headers
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (service, operation) = if let Some(operation) = target.strip_prefix(ECS_TARGET) {
        (Service::Ecs, operation)
    } else if let Some(operation) = target.strip_prefix(SQS_TARGET) {
        (Service::Sqs, operation)
    } else {
        return serve_without_target(&simulation, target, &body);
    };
    let request = Request {
        service,
        region: signature::region(&headers).into(),
        operation: operation.to_owned(),
        endpoint: endpoint(&headers),
        caller,
        late: false,
        body,
    };
    let delay = {
        let mut world = simulation.world();
        let world = &mut *world;
        world.answers.take_delay(&request.operation, &mut world.random)
    };
    match delay {
        None => serve(&simulation, &request).await,
        // On a task of its own: a call that is under way arrives although its caller has gone.
        Some(rule) => tokio::spawn(serve_late(simulation, Request { late: true, ..request }, rule))
            .await
            .unwrap_or_else(|_| close_without_answer()),
    }
}

/// One request, as far as it is owned by nobody else.
struct Request {
    service: Service,
    region: Name,
    operation: String,
    endpoint: String,
    caller: IpAddr,
    /// Its caller may have gone before it takes effect.
    late: bool,
    body: Bytes,
}

impl Request {
    fn held(&self, now_ms: u64) -> HeldCall {
        HeldCall {
            id: 0,
            operation: self.operation.clone(),
            region: self.region.to_string(),
            caller: self.caller,
            late: self.late,
            since_ms: now_ms,
        }
    }
}

async fn serve(simulation: &Arc<Simulation>, request: &Request) -> Response<Body> {
    let call = Call {
        region: Name::clone(&request.region),
        operation: &request.operation,
        endpoint: request.endpoint.clone(),
        body: &request.body,
    };
    let result = perform(simulation, request.service, &call).await;
    finish(simulation, request, &call, result).await
}

/// The call takes effect when it is released, or when its time is over; never, when the simulation stops before.
async fn serve_late(simulation: Arc<Simulation>, request: Request, rule: AnswerRule) -> Response<Body> {
    let now_ms = simulation.clock.now_ms();
    let release = tokio::select! {
        release = simulation.held.hold(&rule, request.held(now_ms)) => release,
        () = simulation.stopping.cancelled() => return close_without_answer(),
    };
    let response = serve(&simulation, &request).await;
    match release {
        Release::Answer => response,
        Release::Drop => close_without_answer(),
    }
}

/// The call's effect, unless an injected error comes first.
async fn perform(simulation: &Simulation, service: Service, call: &Call<'_>) -> Result<Value, AwsError> {
    {
        let mut world = simulation.world();
        let world = &mut *world;
        world.open_region(&call.region);
        if world.settings.faults.fails(call.operation, &mut world.random) {
            return Err(AwsError::server());
        }
    }
    match service {
        Service::Ecs => ecs::call(&mut simulation.world(), call),
        Service::Sqs => sqs::call(simulation, call).await,
    }
}

/// Notes the call and sends, holds or loses its answer.
async fn finish(
    simulation: &Arc<Simulation>,
    request: &Request,
    call: &Call<'_>,
    result: Result<Value, AwsError>,
) -> Response<Body> {
    let now_ms = simulation.clock.now_ms();
    let rule = {
        let mut world = simulation.world();
        let world = &mut *world;
        let rule = result
            .as_ref()
            .ok()
            .and_then(|_| world.answers.take(call.operation, &mut world.random));
        world.journal.called(CallRecord {
            number: 0,
            at_ms: now_ms,
            region: call.region.to_string(),
            service: request.service.name(),
            operation: call.operation.into(),
            resources: named_resources(call),
            outcome: result.as_ref().map_or_else(|error| error.code, |_| "ok").into(),
            answer: rule.as_ref().map_or("sent", |rule| match rule.action {
                Treatment::Lose => "lost",
                Treatment::Hold | Treatment::Delay => "held",
            }),
        });
        rule
    };
    let response = response(request.service, &result);
    let Some(rule) = rule else { return response };
    let release = match rule.action {
        Treatment::Lose => Release::Drop,
        Treatment::Hold | Treatment::Delay => tokio::select! {
            release = simulation.held.hold(&rule, request.held(now_ms)) => release,
            () = simulation.stopping.cancelled() => Release::Drop,
        },
    };
    match release {
        Release::Answer => response,
        Release::Drop => close_without_answer(),
    }
}

/// What a call that starts or stops tasks names: container instances, or the task.
fn named_resources(call: &Call<'_>) -> Vec<String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Named {
        container_instances: Vec<String>,
        task: Option<String>,
    }
    match call.operation {
        "StartTask" | "StopTask" => {
            let named: Named = call.input().unwrap_or_default();
            named.container_instances.into_iter().chain(named.task).collect()
        }
        _ => Vec::new(),
    }
}

fn response(service: Service, result: &Result<Value, AwsError>) -> Response<Body> {
    let builder = Response::builder().header(header::CONTENT_TYPE, service.content_type());
    let built = match result {
        Ok(value) => builder.body(Body::from(value.to_string())),
        Err(error) => {
            let mut builder = builder.status(error.status);
            if let (Service::Sqs, Some(legacy)) = (service, sqs::legacy_code(error.code)) {
                builder = builder.header("x-amzn-query-error", format!("{legacy};Sender"));
            }
            builder.body(Body::from(error.body(service.error_namespace()).to_string()))
        }
    };
    built.expect("static headers and a known status make a response")
}

fn close_without_answer() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(CloseWithoutAnswer);
    response
}

/// STS, whose protocol names its action in the body; anything else is unknown.
fn serve_without_target(simulation: &Simulation, target: &str, body: &[u8]) -> Response<Body> {
    let world = simulation.world();
    let xml = std::str::from_utf8(body)
        .ok()
        .and_then(|form| sts::answer(form, &world.account, world.now_ms()));
    match xml {
        Some(xml) => {
            let mut response = Response::new(Body::from(xml));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/xml"));
            response
        }
        None => {
            let mut response = response(Service::Ecs, &Err(AwsError::unknown_operation(target)));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}
