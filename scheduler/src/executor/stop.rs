//! Stopping: intents, calls for those that were taken, outcomes. Asking twice is harmless, so an unknown outcome is simply asked again.

use std::time::Duration;

use blox_store::proto::command::Operation;
use blox_store::proto::stop_outcome::Outcome as Became;
use blox_store::proto::{IntendStops, Observation, RecordStops, StopFailure, StopIntent, StopOutcome};
use futures::stream::{self, StreamExt};

use crate::executor::launcher::{CallError, StopTask};
use crate::executor::{ExecuteError, Executed, Executor, taken};
use crate::limits::{ACTIONS_PER_COMMAND, CALLS_IN_FLIGHT_PER_WORK};
use crate::names::{ClusterId, DeploymentId, EnvironmentId, InstanceArn, TaskArn};
use crate::planner::backoff::FailureKind;
use crate::planner::plan::StopReason;

/// Tasks of one environment to stop: 1 to [`ACTIONS_PER_COMMAND`].
#[derive(Clone, Debug)]
pub struct StopOrder {
    /// The environment.
    pub environment: EnvironmentId,
    /// Which tasks.
    pub tasks: Vec<TaskToStop>,
}

/// A task to stop.
#[derive(Clone, Debug)]
pub struct TaskToStop {
    /// Where the call goes.
    pub cluster: ClusterId,
    /// Where the task runs.
    pub instance: InstanceArn,
    /// The task.
    pub task: TaskArn,
    /// Why.
    pub reason: StopReason,
    /// How often it was asked already.
    pub attempts: u32,
    /// Only while this is the environment's deployment; `None`: whatever is deployed.
    pub deployment: Option<DeploymentId>,
}

impl Executor {
    /// Stops tasks: commits the intents, calls ECS for those that were taken, commits what became of each.
    pub async fn stop(&self, order: StopOrder) -> Executed {
        assert!(
            order.tasks.len() <= ACTIONS_PER_COMMAND,
            "an order is cut before it is given"
        );
        self.may_begin("commit stop intents")?;
        let deadline = self.now() + self.limits.call_deadline_ms;
        let request_id = format!(
            "stop {}",
            order.tasks.first().map_or("none", |first| first.task.as_str())
        );
        let intents = order.tasks.iter().map(|task| intent(&order, task, deadline)).collect();
        let operation = Operation::IntendStops(IntendStops { intents });
        let intended = self.commit(&request_id, "tasks that should not run", operation).await;
        let intended = intended.map_err(|error| error.failed("commit stop intents"))?;
        let taken = taken(&intended);
        let (called, refused): (Vec<TaskToStop>, Vec<TaskToStop>) = order
            .tasks
            .into_iter()
            .partition(|task| taken.contains(task.task.as_str()));
        let environment = &order.environment;
        self.count_doubles(environment, &called);
        let answers: Vec<(StopOutcome, Option<Observation>)> = stream::iter(called)
            .map(|task| async move { self.stop_one(environment, &task, deadline).await })
            .buffer_unordered(CALLS_IN_FLIGHT_PER_WORK)
            .collect()
            .await;
        let (outcomes, observations): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        let observations = observations.into_iter().flatten().collect();
        let operation = Operation::RecordStops(RecordStops { outcomes, observations });
        let recorded = self
            .commit_outcome(&request_id, "what became of stops", operation)
            .await?;
        if !refused.is_empty() {
            let cause = format!(
                "{} intents met a newer deployment or an environment that is gone",
                refused.len()
            );
            return Err(ExecuteError::Failed {
                doing: "commit stop intents",
                cause,
            });
        }
        Ok(recorded.revision.max(intended.revision))
    }

    fn count_doubles(&self, environment: &EnvironmentId, tasks: &[TaskToStop]) {
        for task in tasks
            .iter()
            .filter(|task| task.reason == StopReason::Double && task.attempts == 0)
        {
            self.surroundings.metrics.doubles_stopped.increment();
            tracing::warn!(%environment, instance = %task.instance, task = %task.task, "a double is stopped");
        }
    }

    async fn stop_one(
        &self,
        environment: &EnvironmentId,
        task: &TaskToStop,
        deadline: u64,
    ) -> (StopOutcome, Option<Observation>) {
        let (became, observation) = match self.call_stop(task, deadline).await {
            Ok(observation) => (Became::Requested(true), observation),
            Err(error) => {
                self.surroundings.metrics.stops_failed.increment();
                let kind = match &error {
                    CallError::NotSent(_) => FailureKind::NotSent,
                    CallError::Refused { .. } | CallError::Unknown(_) => FailureKind::Unreachable,
                };
                let wait_ms = kind.wait_ms(task.attempts + 1);
                let failure = StopFailure {
                    reason: error.to_string(),
                    retry_at_elapsed_ms: self.now() + wait_ms,
                };
                (Became::Failed(failure), None)
            }
        };
        let environment_id = environment.to_string();
        (
            StopOutcome {
                environment_id,
                task_arn: task.task.to_string(),
                outcome: Some(became),
            },
            observation,
        )
    }

    async fn call_stop(&self, task: &TaskToStop, deadline: u64) -> Result<Option<Observation>, CallError> {
        let left_ms = deadline.saturating_sub(self.now());
        if left_ms == 0 {
            return Err(CallError::NotSent(
                "the stop's deadline passed before the call".to_owned(),
            ));
        }
        let send_by = self.may_call_until().await.map_err(CallError::NotSent)?;
        let request = StopTask {
            source: task.cluster.source.to_string(),
            cluster_arn: task.cluster.arn.to_string(),
            task_arn: task.task.to_string(),
            reason: task.reason.text().to_owned(),
            send_by,
            within: Duration::from_millis(left_ms),
        };
        self.surroundings.metrics.stop_calls.increment();
        self.surroundings.launcher.stop_task(request).await
    }
}

fn intent(order: &StopOrder, task: &TaskToStop, deadline: u64) -> StopIntent {
    StopIntent {
        environment_id: order.environment.to_string(),
        task_arn: task.task.to_string(),
        source: task.cluster.source.to_string(),
        cluster_arn: task.cluster.arn.to_string(),
        instance_arn: task.instance.to_string(),
        reason: task.reason.text().to_owned(),
        call_deadline_elapsed_ms: deadline,
        deployment_id: task
            .deployment
            .as_ref()
            .map_or_else(String::new, DeploymentId::to_string),
    }
}
