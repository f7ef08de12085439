//! What Blox asks of ECS, as values: one trait with one method, so that everything above it runs on a fake.

use blox_runtime::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::budget::Category;
use crate::error::CallError;

/// The most instances in one StartTask (ECS' own limit).
pub const START_INSTANCES_MAX: usize = 10;
/// The most ARNs in one Describe call (ECS' own limit).
pub const DESCRIBE_ARNS_MAX: usize = 100;

/// The ECS API of one account and region.
pub trait EcsApi: Send + Sync + 'static {
    /// Makes one call, once, and gives the answer's JSON body as received. Never retries.
    fn call(&self, request: EcsRequest) -> BoxFuture<'_, Result<Bytes, CallError>>;
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EcsRequest {
    /// A page of all clusters.
    ListClusters {
        /// From the page before.
        next_token: Option<String>,
    },
    /// Up to 100 clusters.
    DescribeClusters {
        /// Names or ARNs.
        clusters: Vec<String>,
    },
    /// A page of a cluster's instances, INACTIVE ones left out by ECS.
    ListContainerInstances {
        /// Name or ARN.
        cluster: String,
        /// From the page before.
        next_token: Option<String>,
    },
    /// Up to 100 instances, with tags and health.
    DescribeContainerInstances {
        /// Name or ARN.
        cluster: String,
        /// ARNs.
        instances: Vec<String>,
    },
    /// A page of a cluster's tasks.
    ListTasks {
        /// Name or ARN.
        cluster: String,
        /// Which ones.
        listing: TaskListing,
        /// From the page before.
        next_token: Option<String>,
    },
    /// Up to 100 tasks, with tags.
    DescribeTasks {
        /// Name or ARN.
        cluster: String,
        /// ARNs.
        tasks: Vec<String>,
    },
    /// One task definition.
    DescribeTaskDefinition {
        /// `family`, `family:revision` or ARN.
        task_definition: String,
    },
    /// Starts one task on each of up to ten instances.
    StartTask(StartTasks),
    /// Asks a task to stop.
    StopTask {
        /// Name or ARN.
        cluster: String,
        /// ARN.
        task: String,
        /// Shown by ECS as `stoppedReason`.
        reason: String,
        /// It must not leave later.
        send_by: Instant,
    },
}

/// Which tasks a list asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskListing {
    /// Those with the desired status RUNNING.
    Running,
    /// Those with the desired status STOPPED.
    Stopped,
    /// Those started by this; ECS takes no other filter beside it.
    StartedBy(String),
}

/// A StartTask call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTasks {
    /// Name or ARN.
    pub cluster: String,
    /// ARN of the task definition.
    pub task_definition: String,
    /// ARNs, at most [`START_INSTANCES_MAX`].
    pub instances: Vec<String>,
    /// At most 36 characters of `[A-Za-z0-9-_/]`.
    pub started_by: String,
    /// The tasks' group.
    pub group: String,
    /// The call must not leave later, whatever held it up: past it, it is `NotSent`.
    pub send_by: Instant,
}

impl EcsRequest {
    /// Every answer of [`EcsRequest::operation`].
    pub(crate) const OPERATIONS: [&str; 9] = [
        "ListClusters",
        "DescribeClusters",
        "ListContainerInstances",
        "DescribeContainerInstances",
        "ListTasks",
        "DescribeTasks",
        "DescribeTaskDefinition",
        "StartTask",
        "StopTask",
    ];

    /// AWS' name of the operation.
    pub fn operation(&self) -> &'static str {
        match self {
            EcsRequest::ListClusters { .. } => "ListClusters",
            EcsRequest::DescribeClusters { .. } => "DescribeClusters",
            EcsRequest::ListContainerInstances { .. } => "ListContainerInstances",
            EcsRequest::DescribeContainerInstances { .. } => "DescribeContainerInstances",
            EcsRequest::ListTasks { .. } => "ListTasks",
            EcsRequest::DescribeTasks { .. } => "DescribeTasks",
            EcsRequest::DescribeTaskDefinition { .. } => "DescribeTaskDefinition",
            EcsRequest::StartTask(_) => "StartTask",
            EcsRequest::StopTask { .. } => "StopTask",
        }
    }

    /// The bucket it is counted in.
    pub fn category(&self) -> Category {
        match self {
            EcsRequest::ListClusters { .. } | EcsRequest::DescribeClusters { .. } => Category::ClusterRead,
            EcsRequest::ListContainerInstances { .. }
            | EcsRequest::DescribeContainerInstances { .. }
            | EcsRequest::ListTasks { .. }
            | EcsRequest::DescribeTasks { .. } => Category::ResourceRead,
            EcsRequest::DescribeTaskDefinition { .. } => Category::DefinitionRead,
            EcsRequest::StartTask(_) | EcsRequest::StopTask { .. } => Category::ResourceModify,
        }
    }

    /// Until when it may leave; `None`: whenever it is ready.
    pub fn send_by(&self) -> Option<Instant> {
        match self {
            EcsRequest::StartTask(start) => Some(start.send_by),
            EcsRequest::StopTask { send_by, .. } => Some(*send_by),
            _ => None,
        }
    }

    /// The same list from its next page; any other request unchanged.
    pub(crate) fn page(&self, token: Option<String>) -> EcsRequest {
        let mut request = self.clone();
        match &mut request {
            EcsRequest::ListClusters { next_token }
            | EcsRequest::ListContainerInstances { next_token, .. }
            | EcsRequest::ListTasks { next_token, .. } => *next_token = token,
            _ => {}
        }
        request
    }
}
