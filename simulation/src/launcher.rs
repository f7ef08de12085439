//! The scheduler's calls through the node's source, as `node/src/adapters/launcher.rs` makes them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use blox_ecs::Source;
use blox_runtime::time::timeout;
use blox_scheduler::executor::launcher::{
    CallError, DescribeTasks, LaunchFailure, Launcher, ListTasks, StartAnswer, StartTasks, StopTask,
};
use blox_store::proto::Observation;

/// Calls ECS through the one source. Whether a call comes too late is looked at where it leaves.
pub struct OneSource(pub Arc<Source>);

#[async_trait]
impl Launcher for OneSource {
    async fn start_tasks(&self, request: StartTasks) -> Result<StartAnswer, CallError> {
        let start = blox_ecs::StartTasks {
            cluster: request.cluster_arn,
            task_definition: request.task_definition_arn,
            instances: request.instance_arns,
            started_by: request.started_by,
            group: request.group,
            send_by: request.send_by,
        };
        let answer = within(request.within, self.0.start_tasks(start)).await?;
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
        let (cluster, task) = (&request.cluster_arn, &request.task_arn);
        let call = self.0.stop_task(cluster, task, &request.reason, request.send_by);
        within(request.within, call).await
    }

    async fn list_tasks_started_by(&self, request: ListTasks) -> Result<Vec<String>, CallError> {
        let call = self.0.list_tasks_started_by(&request.cluster_arn, &request.started_by);
        within(request.within, call).await
    }

    async fn describe_tasks(&self, request: DescribeTasks) -> Result<Vec<Observation>, CallError> {
        let call = self.0.describe_tasks(&request.cluster_arn, &request.task_arns);
        Ok(within(request.within, call).await?.observations)
    }
}

/// Waits for the answer that long; past it, what became of the call is not known.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, blox_ecs::CallError>>,
) -> Result<T, CallError> {
    match timeout(deadline, call).await {
        Ok(answer) => answer.map_err(|error| match error {
            blox_ecs::CallError::Refused { code, message, .. } => CallError::Refused { code, message },
            blox_ecs::CallError::NotSent { cause, .. } => CallError::NotSent(cause),
            blox_ecs::CallError::Unknown { .. } => CallError::Unknown(error.to_string()),
        }),
        Err(_) => Err(CallError::Unknown(format!("no answer within {deadline:?}"))),
    }
}
