//! What changes only records of ours and calls nobody: bindings, endings, removals, the steps of a deployment.

use blox_store::proto::command::Operation;
use blox_store::proto::launch_outcome::Outcome as LaunchBecame;
use blox_store::proto::stop_outcome::Outcome as StopBecame;
use blox_store::proto::{
    DeploymentStatus, LaunchKey, LaunchOutcome, RecordLaunches, RecordStops, RemoveEnvironment, RemoveLaunches,
    StopOutcome, UpdateDeployment,
};

use crate::executor::{Executed, Executor};
use crate::names::{DeploymentId, EnvironmentId, InstanceArn, LaunchId, TaskArn};
use crate::planner::plan::{Binding, DeploymentStep, EnvironmentPlan};

/// The part of an environment's plan that only changes records.
#[derive(Clone, Debug)]
pub struct RecordsOrder {
    environment: EnvironmentId,
    name: String,
    bind: Vec<Binding>,
    forget_launches: Vec<(InstanceArn, LaunchId)>,
    end_stops: Vec<TaskArn>,
    deployment: Option<(DeploymentId, DeploymentStep)>,
    remove: bool,
}

impl RecordsOrder {
    /// Most records changed by one command: each costs about 200 bytes, an entry holds 1 MiB.
    const RECORDS_PER_COMMAND: usize = 1_000;

    /// The order of a plan; `None` where no record is to change. What exceeds a command waits for the next plan.
    pub fn of(plan: &EnvironmentPlan) -> Option<RecordsOrder> {
        let target = plan.target.as_ref();
        let order = RecordsOrder {
            environment: plan.environment.clone(),
            name: plan.name.clone(),
            bind: plan.bind.iter().take(Self::RECORDS_PER_COMMAND).cloned().collect(),
            forget_launches: plan
                .forget_launches
                .iter()
                .take(Self::RECORDS_PER_COMMAND)
                .cloned()
                .collect(),
            end_stops: plan.end_stops.iter().take(Self::RECORDS_PER_COMMAND).cloned().collect(),
            deployment: plan
                .deployment
                .and_then(|step| Some((target?.deployment.clone(), step))),
            remove: plan.remove,
        };
        let something = !order.bind.is_empty()
            || !order.forget_launches.is_empty()
            || !order.end_stops.is_empty()
            || order.deployment.is_some()
            || order.remove;
        something.then_some(order)
    }

    /// The environment.
    pub fn environment(&self) -> &EnvironmentId {
        &self.environment
    }

    fn operations(&self, new_token: &dyn Fn() -> String) -> Vec<(&'static str, Operation)> {
        let mut operations = Vec::new();
        if !self.bind.is_empty() {
            let outcomes = self.bind.iter().map(|binding| self.bound(binding)).collect();
            let operation = Operation::RecordLaunches(RecordLaunches {
                outcomes,
                observations: Vec::new(),
            });
            operations.push(("the tasks of launches of unknown outcome have appeared", operation));
        }
        if !self.end_stops.is_empty() {
            let outcomes = self.end_stops.iter().map(|task| self.ended(task)).collect();
            let operation = Operation::RecordStops(RecordStops {
                outcomes,
                observations: Vec::new(),
            });
            operations.push(("stops are over", operation));
        }
        if !self.forget_launches.is_empty() {
            let keys = self
                .forget_launches
                .iter()
                .map(|(instance, launch)| self.launch_key(instance, launch))
                .collect();
            operations.push((
                "launches of what is gone",
                Operation::RemoveLaunches(RemoveLaunches { keys }),
            ));
        }
        if let Some((deployment, step)) = &self.deployment {
            operations.push(self.step(deployment, *step, new_token));
        }
        if self.remove {
            let remove = RemoveEnvironment {
                name: self.name.clone(),
                environment_id: self.environment.to_string(),
            };
            operations.push((
                "nothing of the deleted environment is left",
                Operation::RemoveEnvironment(remove),
            ));
        }
        operations
    }

    fn bound(&self, binding: &Binding) -> LaunchOutcome {
        LaunchOutcome {
            environment_id: self.environment.to_string(),
            instance_arn: binding.instance.to_string(),
            launch_id: binding.launch.to_string(),
            outcome: Some(LaunchBecame::TaskArn(binding.task.to_string())),
        }
    }

    fn ended(&self, task: &TaskArn) -> StopOutcome {
        StopOutcome {
            environment_id: self.environment.to_string(),
            task_arn: task.to_string(),
            outcome: Some(StopBecame::Done(true)),
        }
    }

    fn launch_key(&self, instance: &InstanceArn, launch: &LaunchId) -> LaunchKey {
        LaunchKey {
            environment_id: self.environment.to_string(),
            instance_arn: instance.to_string(),
            launch_id: launch.to_string(),
        }
    }

    fn step(
        &self,
        deployment: &DeploymentId,
        step: DeploymentStep,
        new_token: &dyn Fn() -> String,
    ) -> (&'static str, Operation) {
        let (cause, status, next_deployment_token) = match step {
            DeploymentStep::Begin => ("the roll-out begins", DeploymentStatus::Running, String::new()),
            DeploymentStep::Complete => (
                "every eligible instance runs the deployment's task",
                DeploymentStatus::Completed,
                new_token(),
            ),
        };
        let update = UpdateDeployment {
            environment_name: self.name.clone(),
            deployment_id: deployment.to_string(),
            status: status.into(),
            next_deployment_token,
        };
        (cause, Operation::UpdateDeployment(update))
    }
}

impl Executor {
    /// Commits the changes one after another; each is refused or does nothing where the state has moved on.
    pub async fn update_records(&self, order: RecordsOrder) -> Executed {
        let request_id = format!("records of {}", order.environment);
        let mut revision = 0;
        for (cause, operation) in order.operations(&*self.surroundings.new_token) {
            let outcome = self.commit(&request_id, cause, operation).await;
            let outcome = outcome.map_err(|error| error.failed("change records"))?;
            revision = outcome.revision.max(revision);
        }
        Ok(revision)
    }
}
