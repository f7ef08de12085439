//! ECS through the SDK: one request in, the answer's body as received out.

use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{ClusterField, ContainerInstanceField, DesiredStatus, TaskField};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::aws::capture::Capture;
use crate::aws::failure::body_or_error;
use crate::error::CallError;
use crate::request::{EcsApi, EcsRequest, TaskListing};

/// The ECS API of one account and region.
pub(crate) struct AwsEcs {
    client: Client,
}

impl AwsEcs {
    pub(crate) fn new(client: Client) -> AwsEcs {
        AwsEcs { client }
    }
}

/// Sends a fluent builder with a capture, and gives the captured body.
macro_rules! send {
    ($operation:expr, $send_by:expr, $builder:expr) => {{
        let capture = Capture::until($send_by);
        let sent = $builder.customize().interceptor(capture.clone()).send();
        async move { body_or_error($operation, sent.await, &capture) }.boxed()
    }};
}

impl EcsApi for AwsEcs {
    fn call(&self, request: EcsRequest) -> BoxFuture<'_, Result<Bytes, CallError>> {
        let operation = request.operation();
        let send_by = request.send_by();
        let client = &self.client;
        match request {
            EcsRequest::ListClusters { next_token } => {
                send!(operation, send_by, client.list_clusters().set_next_token(next_token))
            }
            EcsRequest::DescribeClusters { clusters } => {
                send!(
                    operation,
                    send_by,
                    client
                        .describe_clusters()
                        .set_clusters(Some(clusters))
                        .include(ClusterField::Tags)
                        .include(ClusterField::Settings)
                        .include(ClusterField::Statistics)
                )
            }
            EcsRequest::ListContainerInstances { cluster, next_token } => {
                send!(
                    operation,
                    send_by,
                    client
                        .list_container_instances()
                        .cluster(cluster)
                        .set_next_token(next_token)
                )
            }
            EcsRequest::DescribeContainerInstances { cluster, instances } => send!(
                operation,
                send_by,
                client
                    .describe_container_instances()
                    .cluster(cluster)
                    .set_container_instances(Some(instances))
                    .include(ContainerInstanceField::Tags)
                    .include(ContainerInstanceField::ContainerInstanceHealth)
            ),
            EcsRequest::ListTasks {
                cluster,
                listing,
                next_token,
            } => {
                let list = client.list_tasks().cluster(cluster).set_next_token(next_token);
                // ECS wants `startedBy` to be the only filter.
                let list = match listing {
                    TaskListing::Running => list.desired_status(DesiredStatus::Running),
                    TaskListing::Stopped => list.desired_status(DesiredStatus::Stopped),
                    TaskListing::StartedBy(started_by) => list.started_by(started_by),
                };
                send!(operation, send_by, list)
            }
            EcsRequest::DescribeTasks { cluster, tasks } => send!(
                operation,
                send_by,
                client
                    .describe_tasks()
                    .cluster(cluster)
                    .set_tasks(Some(tasks))
                    .include(TaskField::Tags)
            ),
            EcsRequest::DescribeTaskDefinition { task_definition } => {
                send!(
                    operation,
                    send_by,
                    client.describe_task_definition().task_definition(task_definition)
                )
            }
            EcsRequest::StartTask(start) => send!(
                operation,
                send_by,
                client
                    .start_task()
                    .cluster(start.cluster)
                    .task_definition(start.task_definition)
                    .set_container_instances(Some(start.instances))
                    .started_by(start.started_by)
                    .group(start.group)
            ),
            EcsRequest::StopTask {
                cluster, task, reason, ..
            } => {
                send!(
                    operation,
                    send_by,
                    client.stop_task().cluster(cluster).task(task).reason(reason)
                )
            }
        }
    }
}
