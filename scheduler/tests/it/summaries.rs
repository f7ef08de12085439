//! The counters.

use blox_scheduler::counts::{FailedInstance, summary_of};
use blox_scheduler::planner::input::{DeploymentProgress, InstanceStatus, LaunchProgress, Task};
use blox_scheduler::{EnvironmentSummary, FailedInstance as Failed};

use crate::scene::{NEW, OLD, Scene, task};

/// Proves each counter on a fleet in which no two are equal by chance.
#[test]
fn every_counter_counts_its_own() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    scene.active("i-1").daemon("t-1", "i-1", NEW, "RUNNING");
    scene.active("i-2").daemon("t-2", "i-2", OLD, "RUNNING");
    scene.active("i-3").daemon("t-3", "i-3", NEW, "PENDING");
    scene.active("i-4");
    scene.active("i-5").put(Task {
        stop_desired: true,
        group: "blox:e-1".to_owned(),
        ..task("t-5", "i-5", OLD, "RUNNING")
    });
    scene.disconnected("i-6").daemon("t-6", "i-6", NEW, "RUNNING");
    scene
        .instance("i-7", InstanceStatus::Draining)
        .daemon("t-7", "i-7", NEW, "RUNNING");
    let expected = EnvironmentSummary {
        desired: 5,
        current: 4,
        ready: 3,
        updated: 2,
        available: 2,
        unavailable: 3,
        misscheduled: 1,
        failed: Vec::new(),
    };
    assert_eq!(summary_of(&scene.input, &Scene::environment_id()), expected);
}

/// Proves that a failed instance stays failed through its retries, with its reason, until its daemon runs.
#[test]
fn a_failure_stays_until_the_daemon_runs() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    let rejected = LaunchProgress::Rejected {
        reason: "RESOURCE:CPU".to_owned(),
        detail: "too little".to_owned(),
        retry_at_elapsed_ms: 120_000,
    };
    scene.active("i-1").launch("i-1", rejected, 0);
    let failed = |reason: &str, retry_at_elapsed_ms| {
        vec![FailedInstance {
            instance_arn: "i-1".to_owned(),
            reason: reason.to_owned(),
            retry_at_elapsed_ms,
        }]
    };
    let shown = |scene: &Scene| -> Vec<Failed> { summary_of(&scene.input, &Scene::environment_id()).failed };
    assert_eq!(shown(&scene), failed("RESOURCE:CPU: too little", 120_000));

    scene.launch("i-1", LaunchProgress::Intended, 1);
    assert_eq!(shown(&scene), failed("failures in a row: 1; being tried again", 0));

    scene
        .daemon("t-1", "i-1", NEW, "PENDING")
        .launch("i-1", LaunchProgress::Bound { task: "t-1".into() }, 1);
    assert_eq!(shown(&scene), failed("failures in a row: 1; being tried again", 0));

    scene.put(Task {
        group: "blox:e-1".to_owned(),
        stopped_at_ms: 2_000,
        stopped_reason: "CannotPullContainerError".to_owned(),
        ..task("t-1", "i-1", NEW, "STOPPED")
    });
    assert_eq!(shown(&scene), failed("CannotPullContainerError", 73_000));

    scene.launch("i-1", LaunchProgress::Intended, 2);
    assert_eq!(shown(&scene), failed("CannotPullContainerError", 0));

    scene
        .daemon("t-2", "i-1", NEW, "RUNNING")
        .launch("i-1", LaunchProgress::Bound { task: "t-2".into() }, 2);
    assert_eq!(shown(&scene), Vec::new());
}
