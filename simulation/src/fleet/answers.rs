//! What ECS says to a call, and does.

use std::sync::Arc;

use blox_ecs::{CallError, EcsRequest, StartTasks, TaskListing};
use blox_runtime::random::between;

use super::{CLUSTER, Fleet, LISTING_LAG_MS_MAX, age_ms};
use crate::oracles::Fact;

/// Cluster documents never change here.
const CLUSTER_DOCUMENT: &str =
    r#"{"clusterArn":"arn:aws:ecs:us-east-1:123456789012:cluster/edge","clusterName":"edge","status":"ACTIVE"}"#;

impl Fleet {
    /// The call has reached ECS: what it does, and the answer's body.
    pub(super) fn answer(self: &Arc<Self>, request: &EcsRequest) -> Result<String, CallError> {
        let lag_ms = between(0..=LISTING_LAG_MS_MAX);
        match request {
            EcsRequest::ListClusters { .. } => Ok(format!(r#"{{"clusterArns":["{CLUSTER}"]}}"#)),
            EcsRequest::DescribeClusters { .. } => Ok(format!(r#"{{"clusters":[{CLUSTER_DOCUMENT}],"failures":[]}}"#)),
            EcsRequest::ListContainerInstances { .. } => Ok(self.list_instances(lag_ms)),
            EcsRequest::ListTasks { listing, .. } => Ok(self.list_tasks(listing, lag_ms)),
            EcsRequest::DescribeContainerInstances { instances, .. } => {
                let inner = self.inner.lock();
                let found = |arn: &String| Some(inner.instances.get(arn)?.describe_lagging(arn, lag_ms));
                Ok(described("containerInstances", instances, found))
            }
            EcsRequest::DescribeTasks { tasks, .. } => {
                let inner = self.inner.lock();
                let found = |arn: &String| Some(inner.tasks.get(arn)?.describe_lagging(arn, lag_ms));
                Ok(described("tasks", tasks, found))
            }
            EcsRequest::StartTask(start) => Ok(self.start(start)),
            EcsRequest::StopTask { task, reason, .. } => self.stop(task, reason),
            EcsRequest::DescribeTaskDefinition { .. } => Err(refused(
                "DescribeTaskDefinition",
                "ClientException",
                "nobody asks for these here",
            )),
        }
    }

    fn list_instances(&self, lag_ms: u64) -> String {
        let inner = self.inner.lock();
        let listed = inner
            .instances
            .iter()
            .filter(|(_, instance)| instance.status != "INACTIVE" && age_ms(instance.joined) >= lag_ms);
        list("containerInstanceArns", listed.map(|(arn, _)| arn))
    }

    fn list_tasks(&self, listing: &TaskListing, lag_ms: u64) -> String {
        let inner = self.inner.lock();
        let listed = inner.tasks.iter().filter(|(_, task)| {
            let is_asked_for = match listing {
                TaskListing::Running => !task.stop_desired,
                TaskListing::Stopped => task.stop_desired,
                TaskListing::StartedBy(started_by) => !task.stop_desired && task.started_by == *started_by,
            };
            is_asked_for && age_ms(task.created) >= lag_ms
        });
        list("taskArns", listed.map(|(arn, _)| arn))
    }

    fn start(self: &Arc<Self>, start: &StartTasks) -> String {
        self.tell(&Fact::StartArrives(start));
        let mut inner = self.inner.lock();
        inner.modifying_calls += 1;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for instance in &start.instances {
            let refusal = match inner.instances.get(instance) {
                None => Some("MISSING"),
                Some(known) if known.status != "ACTIVE" => Some("INACTIVE"),
                Some(known) if !known.agent_connected => Some("AGENT"),
                Some(_) => None,
            };
            match refusal {
                Some(reason) => failures.push(format!(r#"{{"arn":"{instance}","reason":"{reason}"}}"#)),
                None => {
                    let arn = self.make_task(&mut inner, instance, start);
                    tasks.push(inner.tasks[&arn].describe(&arn));
                }
            }
        }
        format!(
            r#"{{"tasks":[{}],"failures":[{}]}}"#,
            tasks.join(","),
            failures.join(",")
        )
    }

    fn stop(self: &Arc<Self>, task: &str, reason: &str) -> Result<String, CallError> {
        self.tell(&Fact::StopArrives { task });
        let mut inner = self.inner.lock();
        inner.modifying_calls += 1;
        self.change_task(&mut inner, task, |task| task.ask_stop(reason));
        let known = inner.tasks.get(task);
        let known = known.ok_or_else(|| refused("StopTask", "InvalidParameterException", "no such task"))?;
        Ok(format!(r#"{{"task":{}}}"#, known.describe(task)))
    }
}

/// What ECS says when it does not do what it is asked.
pub(super) fn refused(operation: &'static str, code: &str, message: &str) -> CallError {
    CallError::Refused {
        operation,
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn list<'a>(name: &str, arns: impl Iterator<Item = &'a String>) -> String {
    let arns: Vec<String> = arns.map(|arn| format!("\"{arn}\"")).collect();
    format!(r#"{{"{name}":[{}]}}"#, arns.join(","))
}

fn described(name: &str, asked: &[String], found: impl Fn(&String) -> Option<String>) -> String {
    let shown: Vec<String> = asked.iter().filter_map(&found).collect();
    let missing = asked.iter().filter(|arn| found(arn).is_none());
    let missing: Vec<String> = missing
        .map(|arn| format!(r#"{{"arn":"{arn}","reason":"MISSING"}}"#))
        .collect();
    format!(
        r#"{{"{name}":[{}],"failures":[{}]}}"#,
        shown.join(","),
        missing.join(",")
    )
}
