//! Looking up what became of launches of unknown outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blox_store::Kind;
use blox_store::proto::command::Operation;
use blox_store::proto::launch_outcome::Outcome as Became;
use blox_store::proto::{LaunchOutcome, Observation, RecordLaunches};
use blox_store::{StoreError, View};

use crate::executor::answer::DescribedTask;
use crate::executor::launcher::{CallError, DescribeTasks, ListTasks};
use crate::executor::{ExecuteError, Executed, Executor};
use crate::limits::{ACTIONS_PER_COMMAND, TASKS_PER_DESCRIBE_CALL};
use crate::names::{ClusterId, DeploymentId, EnvironmentId, TaskArn};
use crate::planner::plan::LookUp;

/// Launches of one deployment in one cluster to look up: 1 to [`ACTIONS_PER_COMMAND`], with one listing.
#[derive(Clone, Debug)]
pub struct LookUpOrder {
    /// The environment.
    pub environment: EnvironmentId,
    /// The cluster the calls went to.
    pub cluster: ClusterId,
    /// `startedBy`.
    pub deployment: DeploymentId,
    /// The launches.
    pub launches: Vec<LookUp>,
}

/// A task that may be a launch's, as the state or a description shows it.
struct Candidate {
    task: DescribedTask,
    /// Revision at which it came into the state; `None`: it is not there yet.
    create_revision: Option<u64>,
}

impl Executor {
    /// Asks ECS for the tasks that the deployment started, and commits for each launch its task, or that nothing was found. A listing that
    /// fails says nothing: then nothing is committed.
    pub async fn look_up(&self, order: LookUpOrder) -> Executed {
        assert!(
            order.launches.len() <= ACTIONS_PER_COMMAND,
            "an order is cut before it is given"
        );
        let request_id = format!(
            "look up {}",
            order.launches.first().map_or("none", |first| first.launch.as_str())
        );
        self.take_as_unknown(&order, &request_id).await?;
        self.surroundings.metrics.look_ups.increment();
        let listed = self.list(&order).await.map_err(failed)?;
        let view = self.surroundings.proposer.view().map_err(unreadable)?;
        let (mut candidates, unseen) = self.known_candidates(&order, &view, listed).map_err(unreadable)?;
        let described = self.describe(&order, unseen).await.map_err(failed)?;
        let new = described.iter().filter_map(DescribedTask::of);
        candidates.extend(new.map(|task| Candidate {
            task,
            create_revision: None,
        }));

        let bound = bound_tasks(&order, &view).map_err(unreadable)?;
        let outcomes: Vec<LaunchOutcome> = order
            .launches
            .iter()
            .map(|launch| self.conclude(&order, launch, &candidates, &bound))
            .collect();
        let found: BTreeSet<&str> = outcomes.iter().filter_map(found_task).collect();
        // Only what a launch is bound to must come into the state with it; the rest is the feed's.
        let observations = described
            .into_iter()
            .filter(|task| found.contains(task.arn.as_str()))
            .collect();
        let operation = Operation::RecordLaunches(RecordLaunches { outcomes, observations });
        Ok(self
            .commit_outcome(&request_id, "a look-up of launches of unknown outcome", operation)
            .await?
            .revision)
    }

    /// Intents whose executor never said what became of them.
    async fn take_as_unknown(&self, order: &LookUpOrder, request_id: &str) -> Result<(), ExecuteError> {
        let intended = order.launches.iter().filter(|launch| launch.intended);
        let became = || Became::Unknown("nobody recorded what became of the call".to_owned());
        let outcomes: Vec<LaunchOutcome> = intended.map(|launch| outcome_of(order, launch, became())).collect();
        if !outcomes.is_empty() {
            let operation = Operation::RecordLaunches(RecordLaunches {
                outcomes,
                observations: Vec::new(),
            });
            self.commit_outcome(request_id, "launches without an outcome are unknown", operation)
                .await?;
        }
        Ok(())
    }

    async fn list(&self, order: &LookUpOrder) -> Result<Vec<String>, CallError> {
        let request = ListTasks {
            source: order.cluster.source.to_string(),
            cluster_arn: order.cluster.arn.to_string(),
            started_by: order.deployment.to_string(),
            within: self.call_wait(),
        };
        self.surroundings.launcher.list_tasks_started_by(request).await
    }

    /// Splits what was listed into what the state knows and what must be described.
    fn known_candidates(
        &self,
        order: &LookUpOrder,
        view: &View,
        listed: Vec<String>,
    ) -> Result<(Vec<Candidate>, Vec<String>), StoreError> {
        let (mut known, mut unseen) = (Vec::new(), Vec::new());
        for arn in listed {
            match view.resource(Kind::Task, &order.cluster.source, &order.cluster.arn, &arn)? {
                Some(record) => {
                    let fields = record.resource.fields.unwrap_or_default();
                    known.push(Candidate {
                        task: DescribedTask {
                            arn: TaskArn::from(arn),
                            instance: fields.instance_arn.into(),
                            started_by: fields.started_by,
                        },
                        create_revision: Some(record.create_revision),
                    });
                }
                None => unseen.push(arn),
            }
        }
        Ok((known, unseen))
    }

    async fn describe(&self, order: &LookUpOrder, arns: Vec<String>) -> Result<Vec<Observation>, CallError> {
        let mut described = Vec::with_capacity(arns.len());
        for chunk in arns.chunks(TASKS_PER_DESCRIBE_CALL) {
            let request = DescribeTasks {
                source: order.cluster.source.to_string(),
                cluster_arn: order.cluster.arn.to_string(),
                task_arns: chunk.to_vec(),
                within: self.call_wait(),
            };
            described.extend(self.surroundings.launcher.describe_tasks(request).await?);
        }
        Ok(described)
    }

    /// The launch's task: on its instance, started by its deployment, not in the state at its intent, no other launch's.
    fn conclude(
        &self,
        order: &LookUpOrder,
        launch: &LookUp,
        candidates: &[Candidate],
        bound: &BTreeMap<TaskArn, String>,
    ) -> LaunchOutcome {
        let is_its_own = |candidate: &&Candidate| {
            candidate.task.instance == launch.instance
                && candidate.task.started_by == order.deployment.as_str()
                && candidate
                    .create_revision
                    .is_none_or(|created| created > launch.intent_revision)
                && bound
                    .get(&candidate.task.arn)
                    .is_none_or(|owner| owner == launch.launch.as_str())
        };
        let metrics = &self.surroundings.metrics;
        let became = match candidates
            .iter()
            .filter(is_its_own)
            .map(|candidate| &candidate.task.arn)
            .min()
        {
            Some(task) => {
                metrics.launches_found.increment();
                Became::TaskArn(task.to_string())
            }
            None => {
                metrics.look_ups_empty.increment();
                Became::LookupEmpty(true)
            }
        };
        outcome_of(order, launch, became)
    }

    fn call_wait(&self) -> Duration {
        Duration::from_millis(self.limits.call_deadline_ms)
    }
}

/// Tasks that launches of the environment are bound to, with the launch.
fn bound_tasks(order: &LookUpOrder, view: &View) -> Result<BTreeMap<TaskArn, String>, StoreError> {
    let launches = view.launches(order.environment.as_str())?;
    let bound = launches.into_iter().filter(|launch| !launch.task_arn.is_empty());
    Ok(bound
        .map(|launch| (TaskArn::from(launch.task_arn), launch.id))
        .collect())
}

fn found_task(outcome: &LaunchOutcome) -> Option<&str> {
    match &outcome.outcome {
        Some(Became::TaskArn(task)) => Some(task),
        _ => None,
    }
}

fn outcome_of(order: &LookUpOrder, launch: &LookUp, became: Became) -> LaunchOutcome {
    LaunchOutcome {
        environment_id: order.environment.to_string(),
        instance_arn: launch.instance.to_string(),
        launch_id: launch.launch.to_string(),
        outcome: Some(became),
    }
}

fn failed(error: CallError) -> ExecuteError {
    ExecuteError::Failed {
        doing: "look up launches of unknown outcome",
        cause: error.to_string(),
    }
}

fn unreadable(error: StoreError) -> ExecuteError {
    ExecuteError::Failed {
        doing: "read the state for a look-up",
        cause: error.to_string(),
    }
}
