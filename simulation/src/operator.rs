//! Who says what is to run: environments that come, change and go, through whichever node answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blox_runtime::random::{between, id};
use blox_runtime::time::{Instant, sleep, timeout};
use blox_store::View;
use blox_store::proto::command::Operation;
use blox_store::proto::outcome::Result as Did;
use blox_store::proto::{
    Attribute, Command, CreateEnvironment, DeleteEnvironment, DrainPolicy, EnvironmentRecord, EnvironmentSpec,
    RefusalCode, UpdateEnvironment,
};

use crate::cluster::Cluster;
use crate::fleet::{CLUSTER, Fleet, SOURCE};
use crate::oracles::converged::Wanted;

/// Between two changes, milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 500..=2_500;
/// What the operator gives a node, and how long it waits itself.
const DEADLINE: Duration = Duration::from_millis(800);
const PATIENCE: Duration = Duration::from_millis(1_200);
/// Rest between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(150);
/// The environments' names.
const NAMES: [&str; 2] = ["logs", "metrics"];

/// Begins to work, until `until`. The second environment exists in every other run.
pub fn begin(cluster: &Arc<Cluster>, until: Instant) {
    let count = usize::try_from(between(1..=2)).expect("small");
    for name in NAMES.into_iter().take(count) {
        let cluster = cluster.clone();
        drop(blox_runtime::spawn(async move {
            keep_changing(&cluster, name, until).await
        }));
    }
}

async fn keep_changing(cluster: &Cluster, name: &'static str, until: Instant) {
    let mut version = 1;
    let mut exists = false;
    while Instant::now() < until {
        let operation = match (exists, between(0..=7)) {
            (false, _) => create(name, version),
            (true, 0) if name != NAMES[0] => delete(name),
            (true, _) => update(name, version),
        };
        version += 1;
        let is_delete = matches!(operation, Operation::DeleteEnvironment(_));
        cluster.trace.say(format_args!(
            "the operator asks for version {version} of {name}, delete: {is_delete}"
        ));
        // It has an outcome in the end, or is left as it may be.
        if let Some(is_there) = insist(cluster, &operation, until).await {
            exists = is_there && !is_delete;
        }
        sleep(Duration::from_millis(between(PAUSE_MS))).await;
    }
}

/// Asks until there is an answer; whether the environment is there then, as far as it says.
async fn insist(cluster: &Cluster, operation: &Operation, until: Instant) -> Option<bool> {
    while Instant::now() < until {
        if let Some(did) = ask(cluster, operation).await {
            return match did {
                Did::Refusal(refusal) => match refusal.code() {
                    RefusalCode::EnvironmentMissing => Some(false),
                    RefusalCode::EnvironmentExists | RefusalCode::EnvironmentDeleting => Some(true),
                    code => {
                        let wrong = format!("operator: refused with {code:?}: {}", refusal.message);
                        cluster.checker.lock().violated(wrong);
                        None
                    }
                },
                _ => Some(true),
            };
        }
        sleep(TRY_AGAIN).await;
    }
    None
}

async fn ask(cluster: &Cluster, operation: &Operation) -> Option<Did> {
    let running = cluster.running();
    let last = running.len().checked_sub(1)?;
    let node = running[usize::try_from(between(0..=last as u64)).expect("small")].clone();
    let command = Command {
        actor: "api".to_owned(),
        operation: Some(operation.clone()),
        ..Command::default()
    };
    let asked = node
        .process
        .enter(|| blox_runtime::spawn(async move { node.consensus.propose(command, DEADLINE).await }));
    match timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(outcome))) => outcome.result,
        _ => None,
    }
}

fn create(name: &str, version: u64) -> Operation {
    Operation::CreateEnvironment(CreateEnvironment {
        id: id().to_string(),
        name: name.to_owned(),
        spec: Some(spec(name, version)),
        deployment_token: id().to_string(),
        deployment_id: id().to_string(),
    })
}

fn update(name: &str, version: u64) -> Operation {
    Operation::UpdateEnvironment(UpdateEnvironment {
        name: name.to_owned(),
        spec: Some(spec(name, version)),
        deployment_id: id().to_string(),
        deployment_token: id().to_string(),
        mod_revision: 0,
    })
}

fn delete(name: &str) -> Operation {
    Operation::DeleteEnvironment(DeleteEnvironment {
        name: name.to_owned(),
        stop_tasks: true,
        mod_revision: 0,
    })
}

fn spec(name: &str, version: u64) -> EnvironmentSpec {
    let ssd = Attribute {
        name: "disk".to_owned(),
        value: "ssd".to_owned(),
    };
    let only_ssd = between(0..=2) == 0;
    let drain_policy = [DrainPolicy::Last, DrainPolicy::First][usize::from(between(0..=1) == 1)];
    EnvironmentSpec {
        source: SOURCE.to_owned(),
        cluster_arn: CLUSTER.to_owned(),
        task_definition_arn: format!("arn:aws:ecs:us-east-1:123456789012:task-definition/{name}:{version}"),
        attributes: if only_ssd { vec![ssd] } else { Vec::new() },
        max_unavailable: u32::try_from(between(1..=3)).expect("small"),
        drain_policy: drain_policy.into(),
    }
}

/// What a state says is to run on the fleet as it is.
pub fn wanted(view: &View, fleet: &Fleet) -> Vec<Wanted> {
    let environments = view.environments().expect("memory does not fail");
    let eligible = fleet.eligible();
    let wanted = |environment: EnvironmentRecord| {
        let spec = environment.spec.unwrap_or_default();
        let matches = |disk: &String| spec.attributes.iter().all(|attribute| attribute.value == *disk);
        let instances: BTreeSet<String> = eligible
            .iter()
            .filter(|(_, disk)| matches(disk) && !environment.deleting)
            .map(|(arn, _)| arn.clone())
            .collect();
        Wanted {
            group: format!("blox:{}", environment.id),
            definition: spec.task_definition_arn,
            instances,
        }
    };
    environments.into_iter().map(wanted).collect()
}
