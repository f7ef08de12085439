//! After a restore from a backup nothing is done in a cluster before it was reconciled.

use blox_scheduler::names::ClusterId;
use blox_scheduler::planner::input::{DeploymentProgress, InstanceStatus, LaunchProgress};
use blox_scheduler::planner::{PlannerInput, plan};

use crate::scene::{NEW, OLD, Scene};

/// Everything there could be to do: place, replace, stop, a double, an open launch, a stop that is over.
fn busy(settled: Option<&[ClusterId]>) -> PlannerInput {
    let mut scene = Scene::new(DeploymentProgress::Running);
    scene
        .active("i-1")
        .active("i-2")
        .daemon("t-2", "i-2", OLD, "RUNNING")
        .active("i-3")
        .daemon("t-3", "i-3", NEW, "RUNNING")
        .daemon("t-4", "i-3", NEW, "RUNNING")
        .instance("i-5", InstanceStatus::Draining)
        .daemon("t-5", "i-5", NEW, "RUNNING");
    scene.active("i-6").launch(
        "i-6",
        LaunchProgress::Unknown {
            first_empty_look_up_elapsed_ms: None,
        },
        0,
    );
    scene.input.settled_since_restore = settled.map(|clusters| clusters.iter().cloned().collect());
    scene.input
}

/// Proves that a cluster that was not settled since the restore is left alone, whatever there is to do, and that it is worked on once it is,
/// or where nothing was ever restored.
#[test]
fn nothing_is_done_before_a_cluster_is_settled() {
    let other = ClusterId::new("east", "cluster/another");
    for held in [[].as_slice(), std::slice::from_ref(&other)] {
        let input = busy(Some(held));
        assert_eq!(input.held_clusters(), [Scene::cluster()].into());
        let plan = plan(&input);
        assert!(plan.is_idle(), "{plan}");
        let text = plan.to_string();
        assert_eq!(
            text.matches("restored from a backup, and not reconciled with ECS since")
                .count(),
            5,
            "{text}"
        );
    }
    let usual = plan(&busy(None));
    assert!(!usual.is_idle());
    let settled = busy(Some(&[Scene::cluster(), other]));
    assert!(settled.held_clusters().is_empty());
    assert_eq!(plan(&settled), usual);
    // One that is being deleted stops nothing either.
    let mut deleting = busy(Some(&[]));
    let environment = deleting.environments.get_mut(&Scene::environment_id()).expect("there");
    environment.wanted.as_mut().expect("wanted").deleting = true;
    assert!(plan(&deleting).is_idle());
}
