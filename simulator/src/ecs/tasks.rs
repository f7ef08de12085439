//! ListTasks, DescribeTasks, StopTask.

use serde::Deserialize;
use serde_json::json;

use super::Answer;
use super::request::{check_count, cluster_key, failure, id_of, page, task_key};
use crate::wire::{AwsError, Call};
use crate::world::{DesiredStatus, LaunchType, Name, StopCode, Task, World, api_form};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListInput {
    cluster: Option<String>,
    container_instance: Option<String>,
    family: Option<String>,
    started_by: Option<String>,
    service_name: Option<String>,
    desired_status: Option<String>,
    launch_type: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// What a listing lets pass.
struct Filter {
    desired_status: DesiredStatus,
    launch_type: Option<LaunchType>,
    instance: Option<String>,
    group: Option<String>,
    family: Option<String>,
    started_by: Option<String>,
}

impl ListInput {
    fn filter(&self) -> Result<Filter, AwsError> {
        let others = [
            &self.container_instance,
            &self.family,
            &self.service_name,
            &self.launch_type,
        ];
        if self.started_by.is_some() && others.iter().any(|other| other.is_some()) {
            return Err(AwsError::invalid_parameter(
                "startedBy must be the only filter that is used.",
            ));
        }
        let desired_status = match self.desired_status.as_deref() {
            None | Some("RUNNING" | "PENDING") => DesiredStatus::Running,
            Some("STOPPED") => DesiredStatus::Stopped,
            Some(_) => return Err(AwsError::invalid_parameter("Unrecognized desired status.")),
        };
        let launch_type = match self.launch_type.as_deref() {
            None => None,
            Some("EC2") => Some(LaunchType::Ec2),
            Some("FARGATE") => Some(LaunchType::Fargate),
            Some(_) => return Err(AwsError::invalid_parameter("Unrecognized launch type.")),
        };
        Ok(Filter {
            desired_status,
            launch_type,
            instance: self
                .container_instance
                .as_deref()
                .map(|reference| id_of(reference).to_owned()),
            group: self
                .service_name
                .as_deref()
                .map(|name| format!("service:{}", id_of(name))),
            family: self.family.clone(),
            started_by: self.started_by.clone(),
        })
    }
}

impl Filter {
    fn passes(&self, task: &Task) -> bool {
        let on_instance = |wanted: &String| task.instance.as_ref().is_some_and(|(id, _)| **id == **wanted);
        task.desired_status == self.desired_status
            && self.launch_type.is_none_or(|wanted| task.launch_type == wanted)
            && self.instance.as_ref().is_none_or(on_instance)
            && self.group.as_ref().is_none_or(|wanted| task.group == *wanted)
            && self
                .family
                .as_ref()
                .is_none_or(|wanted| task.definition.family == *wanted)
            && self
                .started_by
                .as_ref()
                .is_none_or(|wanted| task.started_by.as_ref() == Some(wanted))
    }
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let input: ListInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    let filter = input.filter()?;
    let seen_ms = world.now_ms().saturating_sub(world.settings.faults.lag.list_tasks_ms());
    let cluster = world.cluster(&key).ok_or_else(AwsError::cluster_not_found)?;
    // One instance's tasks are found by index; a filter by anything else reads the cluster's.
    let of_instance = filter
        .instance
        .as_ref()
        .map(|id| cluster.tasks_by_instance.get(id.as_str()));
    let indexed = of_instance.flatten().into_iter().flatten();
    let all = cluster.tasks.keys().filter(|_| filter.instance.is_none());
    let items = indexed.chain(all).filter_map(|id| {
        let task = cluster.tasks.get(id)?.as_of(seen_ms)?;
        filter.passes(task).then(|| (&**id, Name::clone(&task.arn)))
    });
    page(items, input.max_results, input.next_token.as_deref(), "taskArns")
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DescribeInput {
    cluster: Option<String>,
    tasks: Vec<String>,
    include: Vec<String>,
}

pub(super) fn describe(world: &mut World, call: &Call) -> Answer {
    let input: DescribeInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    check_count("Tasks", input.tasks.len(), 100)?;
    let form = api_form(input.include.iter().any(|included| included == "TAGS"), false);
    let seen_ms = world.now_ms().saturating_sub(world.settings.faults.lag.describe_ms);
    let cluster = world.cluster(&key).ok_or_else(AwsError::cluster_not_found)?;
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for reference in &input.tasks {
        match cluster
            .tasks
            .get(id_of(reference))
            .and_then(|versioned| versioned.as_of(seen_ms))
        {
            Some(task) => tasks.push(task.document(form)),
            None => failures.push(failure(world, &key, "task", reference, "MISSING")),
        }
    }
    Ok(json!({"tasks": tasks, "failures": failures}))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StopInput {
    cluster: Option<String>,
    task: String,
    reason: Option<String>,
}

pub(super) fn stop(world: &mut World, call: &Call) -> Answer {
    let input: StopInput = call.input()?;
    let key = cluster_key(world, call, input.cluster.as_deref())?;
    let reason = input.reason.as_deref().unwrap_or("Task stopped by user");
    let task = world
        .stop_task(&task_key(&key, &input.task), StopCode::UserInitiated, reason)
        .ok_or_else(|| AwsError::invalid_parameter("The referenced task was not found."))?;
    Ok(json!({"task": task.document(api_form(false, false))}))
}
