//! The scheduler's calls, by source name.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use blox_ecs::Source;
use blox_scheduler::executor::launcher::{
    CallError, DescribeTasks, LaunchFailure, Launcher, ListTasks, StartAnswer, StartTasks, StopTask,
};
use blox_store::proto::Observation;
use tokio::time::Instant;

use super::sources::Sources;

/// Calls ECS through the configured sources.
pub struct EcsLauncher(pub Arc<Sources>);

impl EcsLauncher {
    fn source(&self, name: &str) -> Result<&Source, CallError> {
        let source = self
            .0
            .get(name)
            .ok_or_else(|| CallError::NotSent(format!("this node has no source {name:?}; see its configuration")))?;
        Ok(source.as_ref())
    }
}

#[async_trait]
impl Launcher for EcsLauncher {
    async fn start_tasks(&self, request: StartTasks) -> Result<StartAnswer, CallError> {
        let source = self.source(&request.source)?;
        let start = blox_ecs::StartTasks {
            cluster: request.cluster_arn,
            task_definition: request.task_definition_arn,
            instances: request.instance_arns,
            started_by: request.started_by,
            group: request.group,
            send_by: request.send_by,
        };
        check_time(request.send_by)?;
        let answer = within(request.within, source.start_tasks(start)).await?;
        let failures = answer.failures.into_iter().map(|failure| LaunchFailure {
            instance_arn: failure.arn,
            reason: failure.reason,
            detail: failure.detail,
        });
        Ok(StartAnswer {
            tasks: answer.tasks,
            failures: failures.collect(),
        })
    }

    async fn stop_task(&self, request: StopTask) -> Result<Option<Observation>, CallError> {
        let source = self.source(&request.source)?;
        check_time(request.send_by)?;
        within(
            request.within,
            source.stop_task(
                &request.cluster_arn,
                &request.task_arn,
                &request.reason,
                request.send_by,
            ),
        )
        .await
    }

    async fn list_tasks_started_by(&self, request: ListTasks) -> Result<Vec<String>, CallError> {
        let source = self.source(&request.source)?;
        within(
            request.within,
            source.list_tasks_started_by(&request.cluster_arn, &request.started_by),
        )
        .await
    }

    async fn describe_tasks(&self, request: DescribeTasks) -> Result<Vec<Observation>, CallError> {
        let source = self.source(&request.source)?;
        let described = within(
            request.within,
            source.describe_tasks(&request.cluster_arn, &request.task_arns),
        )
        .await?;
        Ok(described.observations)
    }
}

/// A call that was held up too long since leadership was confirmed is not made, and costs no token. What holds it up later is watched by
/// `blox_ecs`.
fn check_time(send_by: Instant) -> Result<(), CallError> {
    match Instant::now().checked_duration_since(send_by) {
        Some(late) if !late.is_zero() => Err(CallError::NotSent(format!(
            "{late:?} late: leadership was confirmed too long ago"
        ))),
        _ => Ok(()),
    }
}

/// Waits for the answer that long; past it, what became of the call is not known.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, blox_ecs::CallError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map_err(call_error),
        Err(_) => Err(CallError::Unknown(format!("no answer within {deadline:?}"))),
    }
}

fn call_error(error: blox_ecs::CallError) -> CallError {
    match error {
        blox_ecs::CallError::Refused { code, message, .. } => CallError::Refused { code, message },
        blox_ecs::CallError::NotSent { cause, .. } => CallError::NotSent(cause),
        blox_ecs::CallError::Unknown { .. } => CallError::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what certainly did not happen may be said not to have happened.
    #[tokio::test]
    async fn a_call_without_an_answer_is_unknown() {
        let call = std::future::pending::<Result<(), blox_ecs::CallError>>();
        assert!(matches!(
            within(Duration::from_millis(1), call).await,
            Err(CallError::Unknown(_))
        ));
        let unknown = blox_ecs::CallError::Unknown {
            operation: "StartTask",
            code: None,
            cause: "reset".into(),
        };
        assert!(matches!(call_error(unknown), CallError::Unknown(_)));
        let not_sent = blox_ecs::CallError::NotSent {
            operation: "StartTask",
            cause: "budget".into(),
        };
        assert!(matches!(call_error(not_sent), CallError::NotSent(_)));
    }

    /// A call that is too late is not made.
    #[test]
    fn a_late_call_is_not_sent() {
        assert!(check_time(Instant::now() + Duration::from_secs(60)).is_ok());
        assert!(matches!(
            check_time(Instant::now() - Duration::from_millis(5)),
            Err(CallError::NotSent(_))
        ));
    }
}
