//! Environments and deployments: the texts and the order of checks of Blox 0.3, roll-outs, removal.

use super::{CLUSTER, INSTANCE, State, TASK_DEFINITION, code, create_environment, instance_observation, spec};
use crate::commands::deployments::ENDED_DEPLOYMENTS_MAX;
use crate::key::Key;
use crate::proto::command::Operation;
use crate::proto::outcome::Result as Answer;
use crate::proto::{
    Attribute, CreateDeployment, DeleteEnvironment, DeploymentRecord, DeploymentStatus, EnvironmentSpec,
    IntendLaunches, IntendStops, LaunchIntent, RefusalCode, RemoveEnvironment, StopIntent, UpdateDeployment,
    UpdateEnvironment,
};

fn deploy(id: &str, token: &str) -> Operation {
    Operation::CreateDeployment(CreateDeployment {
        id: id.into(),
        environment_name: "web".into(),
        token: token.into(),
    })
}

fn move_to(deployment_id: &str, status: DeploymentStatus, next_token: &str) -> Operation {
    Operation::UpdateDeployment(UpdateDeployment {
        environment_name: "web".into(),
        deployment_id: deployment_id.into(),
        status: status as i32,
        next_deployment_token: next_token.into(),
    })
}

fn change(spec: EnvironmentSpec, deployment_id: &str, mod_revision: u64) -> Operation {
    Operation::UpdateEnvironment(UpdateEnvironment {
        name: "web".into(),
        spec: Some(spec),
        deployment_id: deployment_id.into(),
        deployment_token: format!("token-of-{deployment_id}"),
        mod_revision,
    })
}

fn delete(stop_tasks: bool, mod_revision: u64) -> Operation {
    Operation::DeleteEnvironment(DeleteEnvironment {
        name: "web".into(),
        stop_tasks,
        mod_revision,
    })
}

fn deployment_of(state: &mut State, operation: Operation) -> DeploymentRecord {
    match state.apply(operation) {
        Answer::Deployment(deployment) => deployment,
        other => panic!("no deployment: {other:?}"),
    }
}

fn status_of(state: &State, deployment_id: &str) -> DeploymentStatus {
    let found = state
        .store()
        .view()
        .expect("a view")
        .deployment("id-web", deployment_id)
        .expect("readable");
    found.expect("the deployment").status()
}

fn web_2() -> EnvironmentSpec {
    EnvironmentSpec {
        task_definition_arn: TASK_DEFINITION.replace(":1", ":2"),
        ..spec()
    }
}

#[test]
fn an_environment_of_v1_waits_for_its_deployment() {
    let mut state = State::new();
    let environment = state.environment_of(create_environment("web", ""));
    assert_eq!(
        (environment.environment_revision, environment.deployment_id.as_str()),
        (1, "")
    );
    assert_eq!(
        (environment.deployment_token.as_str(), environment.mod_revision),
        ("token-1", 1)
    );
    let refusal = state.refusal_of(create_environment("web", ""));
    assert_eq!(code(&refusal), RefusalCode::EnvironmentExists);
    assert_eq!(
        refusal.message,
        "Error saving environment web to store: An environment with name web already exists"
    );
}

#[test]
fn an_environment_with_a_deployment_rolls_out_at_once() {
    let mut state = State::new();
    let environment = state.environment_of(create_environment("web", "d1"));
    assert_eq!(environment.deployment_id, "d1");
    let deployment = state
        .store()
        .view()
        .expect("a view")
        .deployment("id-web", "d1")
        .expect("readable")
        .expect("there");
    assert_eq!(
        (deployment.status(), deployment.environment_revision),
        (DeploymentStatus::Pending, 1)
    );
    assert_eq!(deployment.task_definition_arn, TASK_DEFINITION);
    let refusal = state.refusal_of(deploy("d2", "token-1"));
    assert_eq!(
        (code(&refusal), refusal.detail.as_str()),
        (RefusalCode::DeploymentInProgress, "d1")
    );
    assert_eq!(refusal.message, "There is already a deployment in progress: d1");
}

#[test]
fn tokens_are_checked_in_the_order_of_the_original() {
    let mut state = State::new();
    let refusal = state.refusal_of(deploy("d1", "token-1"));
    assert_eq!(
        (code(&refusal), refusal.message.as_str()),
        (
            RefusalCode::EnvironmentMissing,
            "Environment with name 'web' does not exist"
        )
    );
    state.environment_of(create_environment("web", ""));
    let refusal = state.refusal_of(deploy("d1", "other"));
    assert_eq!(code(&refusal), RefusalCode::TokenOutdated);
    assert_eq!(
        refusal.message,
        "Token 'other' is outdated and does not match the environment token"
    );
    let deployment = deployment_of(&mut state, deploy("d1", "token-1"));
    assert_eq!(
        (deployment.status(), deployment.token.as_str()),
        (DeploymentStatus::Pending, "token-1")
    );
    let used = "Deployment with token 'token-1' already exists";
    let refusal = state.refusal_of(deploy("d2", "token-1"));
    assert_eq!(
        (code(&refusal), refusal.message.as_str()),
        (RefusalCode::TokenUsed, used)
    );
    deployment_of(&mut state, move_to("d1", DeploymentStatus::Running, ""));
    deployment_of(&mut state, move_to("d1", DeploymentStatus::Completed, "token-2"));
    let refusal = state.refusal_of(deploy("d2", "token-1"));
    assert_eq!(
        code(&refusal),
        RefusalCode::TokenOutdated,
        "it was used, but it is no longer the environment's"
    );
    deployment_of(&mut state, deploy("d2", "token-2"));
}

#[test]
fn deployments_only_move_forward() {
    let mut state = State::new();
    let refusal = state.refusal_of(move_to("d1", DeploymentStatus::Running, ""));
    assert_eq!(
        (code(&refusal), refusal.message.as_str()),
        (RefusalCode::EnvironmentMissing, "Environment web does not exist")
    );
    state.environment_of(create_environment("web", "d1"));
    let refusal = state.refusal_of(move_to("d9", DeploymentStatus::Running, ""));
    assert_eq!(
        (code(&refusal), refusal.message.as_str()),
        (
            RefusalCode::DeploymentMissing,
            "Deployment d9 does not exist for environment web"
        )
    );
    let running = deployment_of(&mut state, move_to("d1", DeploymentStatus::Running, ""));
    assert!(running.started_at_ms > 0 && running.ended_at_ms == 0);
    let revision = state.revision();
    deployment_of(&mut state, move_to("d1", DeploymentStatus::Running, ""));
    assert_eq!(state.revision(), revision, "the same status changes nothing");
    assert_eq!(
        code(&state.refusal_of(move_to("d1", DeploymentStatus::Completed, ""))),
        RefusalCode::Invalid
    );
    let completed = deployment_of(&mut state, move_to("d1", DeploymentStatus::Completed, "token-2"));
    assert!(completed.ended_at_ms > 0);
    let refusal = state.refusal_of(move_to("d1", DeploymentStatus::Running, ""));
    assert_eq!(
        (code(&refusal), refusal.message.as_str()),
        (
            RefusalCode::Invalid,
            "Deployment cannot move from completed to in-progress"
        )
    );
    assert_eq!(
        code(&state.refusal_of(move_to("d1", DeploymentStatus::Superseded, ""))),
        RefusalCode::Invalid
    );
    let environment = state
        .store()
        .view()
        .expect("a view")
        .environment("web")
        .expect("readable")
        .expect("there");
    assert_eq!(environment.deployment_token, "token-2");
}

#[test]
fn the_same_specification_changes_nothing() {
    let mut state = State::new();
    let tagged = |names: [&str; 2]| EnvironmentSpec {
        attributes: names
            .map(|name| Attribute {
                name: name.into(),
                value: String::new(),
            })
            .to_vec(),
        max_unavailable: 0,
        ..spec()
    };
    state.environment_of(create_environment("web", "d1"));
    let changed = state.environment_of(change(tagged(["a", "b"]), "d2", 0));
    assert_eq!(
        (
            changed.environment_revision,
            changed.spec.clone().expect("a spec").max_unavailable
        ),
        (2, 1)
    );
    let revision = state.revision();
    let same = state.environment_of(change(tagged(["b", "a"]), "d3", changed.mod_revision));
    assert_eq!(same, changed);
    assert_eq!(state.revision(), revision);
}

/// Proves that of the deployments that have ended the newest are kept, up to the limit, whatever their ids' order, and the current one always.
#[test]
fn the_oldest_ended_deployments_go() {
    let mut state = State::new();
    state.environment_of(create_environment("web", "first"));
    let specs = [web_2(), spec()];
    let id = |number: usize| format!("d{}", 1_000 - number);
    for number in 0..=ENDED_DEPLOYMENTS_MAX {
        state.environment_of(change(specs[number % 2].clone(), &id(number), 0));
    }
    let has = |state: &State, id: &str| state.has(&Key::deployment("id-web", id));
    assert!(!has(&state, "first"), "{ENDED_DEPLOYMENTS_MAX} newer ones have ended");
    for number in 0..=ENDED_DEPLOYMENTS_MAX {
        assert!(has(&state, &id(number)), "{}", id(number));
    }
    state.environment_of(change(specs[(ENDED_DEPLOYMENTS_MAX + 1) % 2].clone(), "last", 0));
    assert!(!has(&state, &id(0)) && has(&state, &id(1)) && has(&state, "last"));
}

#[test]
fn a_change_supersedes_what_is_in_progress() {
    let mut state = State::new();
    let created = state.environment_of(create_environment("web", "d1"));
    let changed = state.environment_of(change(web_2(), "d2", created.mod_revision));
    assert_eq!(
        (changed.environment_revision, changed.deployment_id.as_str()),
        (2, "d2")
    );
    assert_eq!(changed.deployment_token, "token-of-d2");
    assert_eq!(status_of(&state, "d1"), DeploymentStatus::Superseded);
    assert_eq!(status_of(&state, "d2"), DeploymentStatus::Pending);
    assert_eq!(
        code(&state.refusal_of(move_to("d1", DeploymentStatus::Completed, "x"))),
        RefusalCode::Invalid
    );
    deployment_of(&mut state, move_to("d2", DeploymentStatus::Completed, "token-3"));
    state.environment_of(change(spec(), "d3", 0));
    assert_eq!(
        status_of(&state, "d2"),
        DeploymentStatus::Completed,
        "what was completed stays so"
    );
}

#[test]
fn a_change_is_refused_where_it_cannot_be_meant() {
    let mut state = State::new();
    assert_eq!(
        code(&state.refusal_of(change(web_2(), "d2", 0))),
        RefusalCode::EnvironmentMissing
    );
    let created = state.environment_of(create_environment("web", "d1"));
    let refusal = state.refusal_of(change(web_2(), "d2", created.mod_revision + 7));
    assert_eq!(
        (code(&refusal), refusal.detail),
        (RefusalCode::PreconditionFailed, created.mod_revision.to_string())
    );
    let elsewhere = EnvironmentSpec {
        cluster_arn: format!("{CLUSTER}-other"),
        ..spec()
    };
    assert_eq!(
        code(&state.refusal_of(change(elsewhere, "d2", 0))),
        RefusalCode::Invalid
    );
    let elsewhere = EnvironmentSpec {
        source: "west".into(),
        ..spec()
    };
    assert_eq!(
        code(&state.refusal_of(change(elsewhere, "d2", 0))),
        RefusalCode::Invalid
    );
    assert_eq!(
        code(&state.refusal_of(change(EnvironmentSpec::default(), "d2", 0))),
        RefusalCode::Invalid
    );
    assert!(state.environment_of(delete(true, 0)).deleting);
    assert_eq!(
        code(&state.refusal_of(change(web_2(), "d2", 0))),
        RefusalCode::EnvironmentDeleting
    );
    assert_eq!(
        code(&state.refusal_of(deploy("d2", "token-1"))),
        RefusalCode::EnvironmentDeleting
    );
}

/// An environment with one deployment, one launch and one stop.
fn full_environment(state: &mut State) -> [Key; 4] {
    state.observe(&[instance_observation(1, "ACTIVE")]);
    state.environment_of(create_environment("web", "d1"));
    state.environment_of(create_environment("web-2", "d1"));
    let intent = LaunchIntent {
        launch_id: "l1".into(),
        environment_id: "id-web".into(),
        deployment_id: "d1".into(),
        source: super::SOURCE.into(),
        cluster_arn: CLUSTER.into(),
        instance_arn: INSTANCE.into(),
        ..LaunchIntent::default()
    };
    state.apply_as_leader(Operation::IntendLaunches(IntendLaunches { intents: vec![intent] }));
    let stop = StopIntent {
        environment_id: "id-web".into(),
        task_arn: "t1".into(),
        ..StopIntent::default()
    };
    state.apply_as_leader(Operation::IntendStops(IntendStops { intents: vec![stop] }));
    let keys = [
        Key::environment("web"),
        Key::deployment("id-web", "d1"),
        Key::launch("id-web", INSTANCE),
        Key::stop("id-web", "t1"),
    ];
    for key in &keys {
        assert!(state.has(key), "{:?}", key.parts());
    }
    keys
}

#[test]
fn deletion_at_once_takes_everything_of_the_environment_and_nothing_else() {
    let mut state = State::new();
    assert_eq!(
        code(&state.refusal_of(delete(false, 0))),
        RefusalCode::EnvironmentMissing
    );
    let keys = full_environment(&mut state);
    assert_eq!(
        code(&state.refusal_of(delete(false, 1_000))),
        RefusalCode::PreconditionFailed
    );
    assert!(matches!(state.apply(delete(false, 0)), Answer::Done(_)));
    for key in &keys {
        assert!(!state.has(key), "{:?}", key.parts());
    }
    assert!(state.has(&Key::environment("web-2")) && state.has(&Key::deployment("id-web-2", "d1")));
}

#[test]
fn deletion_with_its_tasks_waits_for_the_scheduler() {
    let mut state = State::new();
    let keys = full_environment(&mut state);
    let remove = |id: &str| {
        Operation::RemoveEnvironment(RemoveEnvironment {
            name: "web".into(),
            environment_id: id.into(),
        })
    };
    assert_eq!(code(&state.refusal_of(remove("id-web"))), RefusalCode::Invalid);
    let deleting = state.environment_of(delete(true, 0));
    assert!(deleting.deleting);
    let revision = state.revision();
    assert_eq!(state.environment_of(delete(true, 0)), deleting);
    assert_eq!(state.revision(), revision);
    assert!(matches!(state.apply_as_leader(remove("another")), Answer::Removed(removed) if removed.count == 0));
    assert!(matches!(state.apply_as_leader(remove("id-web")), Answer::Removed(removed) if removed.count == 4));
    for key in &keys {
        assert!(!state.has(key), "{:?}", key.parts());
    }
}
