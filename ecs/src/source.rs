//! One source: an account and region, as the scheduler, the API and the duties use it.

use std::sync::Arc;

use blox_raft::Clock;
use blox_runtime::time::Instant;
use blox_store::proto::Observation;

use crate::answer::{Described, Failure, TaskDefinition};
#[cfg(feature = "aws")]
use crate::aws;
use crate::budget::{Budgets, Caller, Category};
use crate::client::EcsClient;
use crate::config::{ClusterFilter, SourceConfig};
use crate::error::CallError;
use crate::metrics::EcsMetrics;
use crate::queue::Queue;
use crate::request::{EcsApi, EcsRequest, START_INSTANCES_MAX, StartTasks, TaskListing};

/// What StartTask did.
#[derive(Clone, Debug, Default)]
pub struct StartAnswer {
    /// The tasks it made, to be applied with the launches' outcome.
    pub tasks: Vec<Observation>,
    /// The instances where it did not, and why: `RESOURCE:*`, `AGENT`, `ATTRIBUTE`, `MISSING`, `INACTIVE`, or a word of ECS' future.
    pub failures: Vec<Failure>,
}

/// One account and region. Shared by the duties, the scheduler and the API.
pub struct Source {
    config: SourceConfig,
    client: EcsClient,
    queue: Option<Arc<dyn Queue>>,
    metrics: EcsMetrics,
}

impl Source {
    /// Builds the SDK's clients from its own chain of endpoints, profiles and credentials; asks AWS nothing yet. Sources of one account and
    /// region that are given the same `budgets` share one.
    #[cfg(feature = "aws")]
    pub async fn connect(
        config: SourceConfig,
        budgets: &Budgets,
        clock: Arc<dyn Clock>,
        metrics: EcsMetrics,
    ) -> Source {
        let clients = aws::connect(&config).await;
        let queue = clients.queue.map(|queue| Arc::new(queue) as Arc<dyn Queue>);
        let budget = budgets.of(&config);
        let client = EcsClient::new(
            config.name.clone(),
            Arc::new(clients.ecs),
            budget,
            clock,
            metrics.clone(),
        );
        Source::begin(config, client, queue, metrics)
    }

    /// A source over any API and queue, with a budget of its own: for tests and simulation.
    pub fn with_parts(
        config: SourceConfig,
        api: Arc<dyn EcsApi>,
        queue: Option<Arc<dyn Queue>>,
        clock: Arc<dyn Clock>,
        metrics: EcsMetrics,
    ) -> Source {
        let budget = Budgets::new().of(&config);
        let client = EcsClient::new(config.name.clone(), api, budget, clock, metrics.clone());
        Source::begin(config, client, queue, metrics)
    }

    fn begin(config: SourceConfig, client: EcsClient, queue: Option<Arc<dyn Queue>>, metrics: EcsMetrics) -> Source {
        metrics.begin_source(&config.name, queue.is_some());
        Source {
            config,
            client,
            queue,
            metrics,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How it was configured.
    pub fn config(&self) -> &SourceConfig {
        &self.config
    }

    /// Counters of this and every source that shares them.
    pub fn metrics(&self) -> &EcsMetrics {
        &self.metrics
    }

    pub(crate) fn client(&self) -> &EcsClient {
        &self.client
    }

    pub(crate) fn queue(&self) -> Option<&Arc<dyn Queue>> {
        self.queue.as_ref()
    }

    pub(crate) fn cluster_filter(&self) -> ClusterFilter {
        self.config.cluster_filter()
    }

    /// How many calls of StartTask and StopTask may leave now; more are refused as `NotSent` until the bucket refills (40 a second).
    pub fn modify_calls_available(&self) -> usize {
        self.client.calls_available(Category::ResourceModify)
    }

    /// StartTask, once, without any retry. Neither waits for the budget: a spent one is `NotSent`. At most 10 instances.
    /// `CallError::Unknown` means that tasks may have been started.
    pub async fn start_tasks(&self, start: StartTasks) -> Result<StartAnswer, CallError> {
        let count = start.instances.len();
        if count == 0 || count > START_INSTANCES_MAX {
            let cause = format!("{count} instances asked for; ECS takes 1 to {START_INSTANCES_MAX}");
            return Err(CallError::NotSent {
                operation: "StartTask",
                cause,
            });
        }
        let cluster_arn = start.cluster.clone();
        let described = self.client.modify(&cluster_arn, EcsRequest::StartTask(start)).await?;
        Ok(StartAnswer {
            tasks: described.observations,
            failures: described.failures,
        })
    }

    /// StopTask, once, and not after `send_by`. Stopping twice is harmless. The answer is the task as ECS shows it then.
    pub async fn stop_task(
        &self,
        cluster_arn: &str,
        task_arn: &str,
        reason: &str,
        send_by: Instant,
    ) -> Result<Option<Observation>, CallError> {
        let stop = EcsRequest::StopTask {
            cluster: cluster_arn.to_string(),
            task: task_arn.to_string(),
            reason: reason.to_string(),
            send_by,
        };
        let described = self.client.modify(cluster_arn, stop).await?;
        Ok(described.observations.into_iter().next())
    }

    /// ARNs of the cluster's tasks that were started by `started_by` and are wanted RUNNING: ECS takes no other filter beside it.
    pub async fn list_tasks_started_by(&self, cluster_arn: &str, started_by: &str) -> Result<Vec<String>, CallError> {
        let listing = TaskListing::StartedBy(started_by.to_string());
        let request = EcsRequest::ListTasks {
            cluster: cluster_arn.to_string(),
            listing,
            next_token: None,
        };
        self.client.list(Caller::OnDemand, request).await
    }

    /// Describes tasks, any number; `failures` names those ECS does not know (`MISSING`).
    pub async fn describe_tasks(&self, cluster_arn: &str, tasks: &[String]) -> Result<Described, CallError> {
        let cluster = cluster_arn.to_string();
        let request = |tasks| EcsRequest::DescribeTasks {
            cluster: cluster.clone(),
            tasks,
        };
        self.client
            .describe(Caller::OnDemand, cluster_arn, tasks, request)
            .await
    }

    /// A cluster by name or ARN, a deleted one (`status` INACTIVE) too; `None`: ECS does not know it.
    pub async fn describe_cluster(&self, cluster: &str) -> Result<Option<Observation>, CallError> {
        let request = EcsRequest::DescribeClusters {
            clusters: vec![cluster.to_string()],
        };
        let described = self.client.describe_chunk(Caller::OnDemand, cluster, request).await?;
        Ok(described.observations.into_iter().next())
    }

    /// A task definition by `family`, `family:revision` or ARN; `None`: ECS does not know it.
    pub async fn describe_task_definition(&self, task_definition: &str) -> Result<Option<TaskDefinition>, CallError> {
        match self.client.task_definition(task_definition.to_string()).await {
            Ok(found) => Ok(Some(found)),
            // ECS says "Unable to describe task definition" for one it does not know, with no code of its own.
            Err(CallError::Refused { code, .. }) if code == "ClientException" => Ok(None),
            Err(error) => Err(error),
        }
    }
}
