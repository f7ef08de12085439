//! What the executor asks of ECS. The binary wires it to the ECS client; tests to a fleet of their own.

use std::time::Duration;

use async_trait::async_trait;
use blox_runtime::time::Instant;
use blox_store::proto::Observation;

/// Starts, stops and looks up tasks. Every call ends within its own `within`, retries nothing by itself, and says honestly whether it is
/// known that nothing happened.
#[async_trait]
pub trait Launcher: Send + Sync + 'static {
    /// StartTask. Must not be sent after `send_by`: a caller that was paused, or waited for its call budget, answers
    /// [`CallError::NotSent`] instead.
    async fn start_tasks(&self, request: StartTasks) -> Result<StartAnswer, CallError>;

    /// StopTask. The answer is the task as ECS then describes it.
    async fn stop_task(&self, request: StopTask) -> Result<Option<Observation>, CallError>;

    /// ListTasks by `startedBy`, all pages, of the tasks that are wanted RUNNING: the ARNs. One that is wanted STOPPED is left out: it is no
    /// double, and an event or a reconcile pass binds it.
    async fn list_tasks_started_by(&self, request: ListTasks) -> Result<Vec<String>, CallError>;

    /// DescribeTasks of at most [`crate::limits::TASKS_PER_DESCRIBE_CALL`] tasks. Those that ECS calls MISSING are left out.
    async fn describe_tasks(&self, request: DescribeTasks) -> Result<Vec<Observation>, CallError>;
}

/// One StartTask.
#[derive(Clone, Debug)]
pub struct StartTasks {
    /// Name of the source to call through.
    pub source: String,
    /// The cluster.
    pub cluster_arn: String,
    /// What to run.
    pub task_definition_arn: String,
    /// Where: 1 to [`crate::limits::INSTANCES_PER_START_CALL`] instances.
    pub instance_arns: Vec<String>,
    /// The deployment's id.
    pub started_by: String,
    /// The environment's group.
    pub group: String,
    /// Not to be sent after this moment.
    pub send_by: Instant,
    /// Give up waiting for the answer after this.
    pub within: Duration,
}

/// What StartTask answered.
#[derive(Clone, Debug, Default)]
pub struct StartAnswer {
    /// The tasks it started, as described.
    pub tasks: Vec<Observation>,
    /// Instances where it started none.
    pub failures: Vec<LaunchFailure>,
}

/// An instance where StartTask started nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFailure {
    /// The instance.
    pub instance_arn: String,
    /// ECS's word: `RESOURCE:MEMORY`, `AGENT`, `MISSING`, ...
    pub reason: String,
    /// More of it; may be empty.
    pub detail: String,
}

/// One StopTask.
#[derive(Clone, Debug)]
pub struct StopTask {
    /// Name of the source to call through.
    pub source: String,
    /// The cluster.
    pub cluster_arn: String,
    /// The task.
    pub task_arn: String,
    /// Shown by ECS as `stoppedReason`.
    pub reason: String,
    /// Not to be sent after this moment.
    pub send_by: Instant,
    /// Give up waiting for the answer after this.
    pub within: Duration,
}

/// One ListTasks, all its pages.
#[derive(Clone, Debug)]
pub struct ListTasks {
    /// Name of the source to call through.
    pub source: String,
    /// The cluster.
    pub cluster_arn: String,
    /// `startedBy`.
    pub started_by: String,
    /// Give up after this, over all pages.
    pub within: Duration,
}

/// One DescribeTasks.
#[derive(Clone, Debug)]
pub struct DescribeTasks {
    /// Name of the source to call through.
    pub source: String,
    /// The cluster.
    pub cluster_arn: String,
    /// The tasks.
    pub task_arns: Vec<String>,
    /// Give up waiting for the answer after this.
    pub within: Duration,
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// ECS refused the whole call: nothing happened.
    #[error("ECS refused: {code}: {message}")]
    Refused {
        /// ECS's error code, such as `InvalidParameterException`.
        code: String,
        /// What it says.
        message: String,
    },
    /// The call never left: nothing happened.
    #[error("the call was not sent: {0}")]
    NotSent(String),
    /// It was sent, and what became of it is not known.
    #[error("the outcome of the call is not known: {0}")]
    Unknown(String),
}
