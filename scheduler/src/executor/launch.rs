//! Launching: intents, calls, outcomes.

#[cfg(feature = "zoo")]
mod zoo;

use std::collections::BTreeMap;
use std::time::Duration;

use blox_store::Revision;
use blox_store::proto::command::Operation;
use blox_store::proto::launch_outcome::Outcome as Became;
use blox_store::proto::{IntendLaunches, LaunchIntent, LaunchOutcome, LaunchRejection, Observation, RecordLaunches};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::executor::answer::DescribedTask;
use crate::executor::commit::CommitError;
use crate::executor::launcher::{CallError, StartAnswer, StartTasks};
use crate::executor::{ExecuteError, Executed, Executor, taken};
use crate::limits::{ACTIONS_PER_COMMAND, CALLS_IN_FLIGHT_PER_WORK, INSTANCES_PER_START_CALL};
use crate::names::{EnvironmentId, InstanceArn, LaunchId, group_of};
use crate::planner::backoff::{FailureKind, REASON_NOT_SENT};
use crate::planner::plan::{Placement, Target};

/// Launches of one environment to make: 1 to [`ACTIONS_PER_COMMAND`].
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    /// The environment.
    pub environment: EnvironmentId,
    /// What and where.
    pub target: Target,
    /// On which instances.
    pub placements: Vec<Placement>,
}

/// A launch whose intent is committed.
#[derive(Clone, Debug)]
struct Intended {
    launch: LaunchId,
    instance: InstanceArn,
    failures: u32,
    not_sent: u32,
}

/// What calls came to: for the outcome's command.
#[derive(Default)]
struct Results {
    outcomes: Vec<LaunchOutcome>,
    observations: Vec<Observation>,
}

impl Executor {
    /// Makes launches: commits the intents, calls ECS for those that were taken, commits what became of each.
    pub async fn launch(&self, order: LaunchOrder) -> Executed {
        assert!(
            order.placements.len() <= ACTIONS_PER_COMMAND,
            "an order is cut before it is given"
        );
        self.may_begin("commit launch intents")?;
        let deadline = self.now() + self.limits.call_deadline_ms;
        let intended: Vec<Intended> = order
            .placements
            .iter()
            .map(|placement| self.intended(placement))
            .collect();
        let request_id = format!(
            "launch {}",
            intended.first().map_or("none", |first| first.launch.as_str())
        );
        #[cfg(feature = "zoo")]
        if zoo::launches_early() {
            return self.launch_early(&order, &request_id, intended, deadline).await;
        }
        let intents = intended.iter().map(|launch| intent(&order, launch, deadline)).collect();
        let operation = Operation::IntendLaunches(IntendLaunches { intents });
        fail::fail_point!("scheduler::before-intent");
        let outcome = match self
            .commit(&request_id, "eligible instances without a task", operation)
            .await
        {
            Ok(outcome) => outcome,
            Err(CommitError::Unknown(cause)) => return self.release(&order, &request_id, &intended, cause).await,
            Err(error) => return Err(error.failed("commit launch intents")),
        };
        fail::fail_point!("scheduler::after-intent");
        let taken = taken(&outcome);
        let refused = intended
            .iter()
            .filter(|launch| !taken.contains(launch.launch.as_str()))
            .count();
        let calls: Vec<Vec<Intended>> = chunks(
            intended
                .into_iter()
                .filter(|launch| taken.contains(launch.launch.as_str())),
        );
        let order = &order;
        let request_id = request_id.as_str();
        let ends: Vec<Revision> = stream::iter(calls)
            .map(|call| async move {
                let results = self.start(order, &call, deadline).await;
                self.hold("scheduler::held-before-outcome").await;
                self.record(request_id, results).await
            })
            .buffer_unordered(CALLS_IN_FLIGHT_PER_WORK)
            .try_collect()
            .await?;
        if refused > 0 {
            let cause = format!("{refused} intents met an open launch, a newer deployment or an instance that is gone");
            return Err(ExecuteError::Failed {
                doing: "commit launch intents",
                cause,
            });
        }
        Ok(ends.into_iter().fold(outcome.revision, Revision::max))
    }

    fn intended(&self, placement: &Placement) -> Intended {
        Intended {
            launch: self.next_launch_id(),
            instance: placement.instance.clone(),
            failures: placement.failures,
            not_sent: placement.not_sent,
        }
    }

    /// Whether the intents stand in the state is not known, but no call was made for them and none will be: that is said of each, so that
    /// those that do stand there do not wait for look-ups.
    async fn release(&self, order: &LaunchOrder, request_id: &str, intended: &[Intended], cause: String) -> Executed {
        let error = CallError::NotSent(format!("the intent's outcome is not known: {cause}"));
        let results = self.failed_call(order, intended, &error);
        self.record(request_id, results).await
    }

    /// One StartTask, or the reason why there was none.
    async fn start(&self, order: &LaunchOrder, call: &[Intended], deadline: u64) -> Results {
        // The look first, the check of leadership last: nothing that waits stands between that check and the call.
        let left_ms = deadline.saturating_sub(self.now());
        if left_ms == 0 {
            return self.failed_call(
                order,
                call,
                &CallError::NotSent("the launch's deadline passed before the call".to_owned()),
            );
        }
        self.hold("scheduler::held-before-leader-check").await;
        let send_by = match self.may_call_until().await {
            Ok(send_by) => send_by,
            Err(cause) => return self.failed_call(order, call, &CallError::NotSent(cause)),
        };
        self.hold("scheduler::held-before-call").await;
        let request = StartTasks {
            source: order.target.cluster.source.to_string(),
            cluster_arn: order.target.cluster.arn.to_string(),
            task_definition_arn: order.target.task_definition.to_string(),
            instance_arns: call.iter().map(|launch| launch.instance.to_string()).collect(),
            started_by: order.target.deployment.to_string(),
            group: group_of(&order.environment),
            send_by,
            within: Duration::from_millis(left_ms),
        };
        self.surroundings.metrics.start_calls.increment();
        match self.surroundings.launcher.start_tasks(request).await {
            Ok(answer) => self.answered(order, call, answer),
            Err(error) => self.failed_call(order, call, &error),
        }
    }

    /// Every launch of the call finds its task or its failure in the answer; one that finds neither is unknown.
    fn answered(&self, order: &LaunchOrder, call: &[Intended], answer: StartAnswer) -> Results {
        let metrics = &self.surroundings.metrics;
        let started: BTreeMap<InstanceArn, _> = answer
            .tasks
            .iter()
            .filter_map(DescribedTask::of)
            .map(|task| (task.instance, task.arn))
            .collect();
        let outcomes = call.iter().map(|launch| {
            let failure = answer
                .failures
                .iter()
                .find(|failure| failure.instance_arn == launch.instance.as_str());
            let became = match (started.get(&launch.instance), failure) {
                (Some(task), _) => {
                    metrics.launches_bound.increment();
                    Became::TaskArn(task.to_string())
                }
                (None, Some(failure)) => {
                    metrics.launches_rejected.increment();
                    Became::Rejected(self.rejection(launch, failure.reason.clone(), failure.detail.clone()))
                }
                (None, None) => {
                    metrics.launches_unknown.increment();
                    Became::Unknown("StartTask's answer names neither a task nor a failure for the instance".to_owned())
                }
            };
            outcome_of(order, launch, became)
        });
        Results {
            outcomes: outcomes.collect(),
            observations: answer.tasks,
        }
    }

    fn failed_call(&self, order: &LaunchOrder, call: &[Intended], error: &CallError) -> Results {
        let metrics = &self.surroundings.metrics;
        if let CallError::NotSent(cause) = error {
            metrics.calls_not_made.increment();
            tracing::debug!(environment = %order.environment, launches = call.len(), cause, "StartTask is not called");
        }
        let outcomes = call.iter().map(|launch| {
            let became = match error {
                CallError::Refused { code, message } => {
                    metrics.launches_rejected.increment();
                    Became::Rejected(self.rejection(launch, code.clone(), message.clone()))
                }
                CallError::NotSent(cause) => {
                    metrics.launches_rejected.increment();
                    Became::Rejected(self.rejection(launch, REASON_NOT_SENT.to_owned(), cause.clone()))
                }
                CallError::Unknown(cause) => {
                    metrics.launches_unknown.increment();
                    Became::Unknown(cause.clone())
                }
            };
            outcome_of(order, launch, became)
        });
        Results {
            outcomes: outcomes.collect(),
            observations: Vec::new(),
        }
    }

    fn rejection(&self, launch: &Intended, reason: String, detail: String) -> LaunchRejection {
        let kind = FailureKind::of(&reason);
        let in_a_row = match kind {
            FailureKind::NotSent => launch.not_sent + 1,
            _ => launch.failures + u32::from(kind.counts()),
        };
        LaunchRejection {
            reason,
            detail,
            retry_at_elapsed_ms: self.now() + kind.wait_ms(in_a_row),
        }
    }

    async fn record(&self, request_id: &str, results: Results) -> Result<Revision, ExecuteError> {
        let operation = Operation::RecordLaunches(RecordLaunches {
            outcomes: results.outcomes,
            observations: results.observations,
        });
        fail::fail_point!("scheduler::before-outcome");
        let outcome = self
            .commit_outcome(request_id, "what became of launches", operation)
            .await?;
        fail::fail_point!("scheduler::after-outcome");
        Ok(outcome.revision)
    }
}

fn intent(order: &LaunchOrder, launch: &Intended, deadline: u64) -> LaunchIntent {
    LaunchIntent {
        launch_id: launch.launch.to_string(),
        environment_id: order.environment.to_string(),
        deployment_id: order.target.deployment.to_string(),
        source: order.target.cluster.source.to_string(),
        cluster_arn: order.target.cluster.arn.to_string(),
        instance_arn: launch.instance.to_string(),
        task_definition_arn: order.target.task_definition.to_string(),
        call_deadline_elapsed_ms: deadline,
        failures: launch.failures,
        not_sent: launch.not_sent,
    }
}

fn outcome_of(order: &LaunchOrder, launch: &Intended, became: Became) -> LaunchOutcome {
    LaunchOutcome {
        environment_id: order.environment.to_string(),
        instance_arn: launch.instance.to_string(),
        launch_id: launch.launch.to_string(),
        outcome: Some(became),
    }
}

fn chunks(launches: impl Iterator<Item = Intended>) -> Vec<Vec<Intended>> {
    let launches: Vec<Intended> = launches.collect();
    launches
        .chunks(INSTANCES_PER_START_CALL)
        .map(<[Intended]>::to_vec)
        .collect()
}
