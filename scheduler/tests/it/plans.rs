//! Plans as text. `BLESS=1 cargo nextest run -p blox-scheduler plans` writes the files anew; read the diff before it is committed.

use std::path::PathBuf;

use blox_scheduler::names::group_of;
use blox_scheduler::planner::input::{DeploymentProgress, Drain, InstanceStatus, LaunchProgress, StopProgress, Task};
use blox_scheduler::planner::plan;

use crate::scene::{NEW, OLD, Scene, task};

fn assert_plan(name: &str, scene: &Scene) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/plans")
        .join(format!("{name}.txt"));
    let actual = plan(&scene.input).to_string();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &actual).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "the plan differs from {}; BLESS=1 writes it anew",
        path.display()
    );
}

/// Proves that a new deployment places on every eligible instance at once, whatever `max_unavailable` says.
#[test]
fn first_placement() {
    let mut scene = Scene::new(DeploymentProgress::Pending);
    scene
        .active("i-1")
        .active("i-2")
        .active("i-3")
        .disconnected("i-4")
        .instance("i-5", InstanceStatus::Inactive);
    assert_plan("first_placement", &scene);
}

/// Proves that where all is well nothing is done, and that the deployment is completed then.
#[test]
fn steady() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    scene
        .active("i-1")
        .active("i-2")
        .daemon("t-1", "i-1", NEW, "RUNNING")
        .daemon("t-2", "i-2", NEW, "RUNNING");
    assert_plan("steady", &scene);
}

/// Proves that a roll-out takes one instance after another.
#[test]
fn roll_out() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    for (instance, task) in [("i-1", "t-1"), ("i-2", "t-2"), ("i-3", "t-3")] {
        scene.active(instance).daemon(task, instance, OLD, "RUNNING");
    }
    assert_plan("roll_out", &scene);
}

/// Proves that an instance that is down already uses up the roll-out's room, and that an outdated task that does not serve is replaced all
/// the same.
#[test]
fn roll_out_with_one_down() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    scene.active("i-1").daemon("t-1", "i-1", OLD, "RUNNING");
    scene.active("i-2").daemon("t-2", "i-2", OLD, "PENDING");
    scene.active("i-3").daemon("t-3", "i-3", NEW, "RUNNING");
    assert_plan("roll_out_with_one_down", &scene);
}

/// Proves that a replacement starts only once the old task is STOPPED, and that a stop under way is not asked twice.
#[test]
fn replacement_waits_for_the_old_task() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    scene.active("i-1").put(Task {
        stop_desired: true,
        group: group_of(&Scene::environment_id()),
        ..task("t-1", "i-1", OLD, "RUNNING")
    });
    scene
        .active("i-2")
        .daemon("t-2", "i-2", OLD, "RUNNING")
        .stop("t-2", "i-2", StopProgress::Intended);
    scene
        .active("i-3")
        .daemon("t-3", "i-3", OLD, "STOPPED")
        .stop("t-3", "i-3", StopProgress::Requested);
    let refused = StopProgress::Failed {
        reason: "ThrottlingException".to_owned(),
        retry_at_elapsed_ms: 104_000,
    };
    scene
        .active("i-4")
        .daemon("t-4", "i-4", OLD, "RUNNING")
        .stop("t-4", "i-4", refused);
    assert_plan("replacement_waits_for_the_old_task", &scene);
}

/// Proves the three drain policies, and that `last` waits for everybody's tasks but daemons'.
#[test]
fn draining() {
    let mut scene = Scene::new(DeploymentProgress::Completed);
    scene
        .instance("i-1", InstanceStatus::Draining)
        .daemon("t-1", "i-1", NEW, "RUNNING")
        .other("t-11", "i-1", "DEPROVISIONING");
    scene
        .instance("i-2", InstanceStatus::Draining)
        .daemon("t-2", "i-2", NEW, "RUNNING")
        .other("t-12", "i-2", "STOPPED");
    scene.put(Task {
        group: "blox:another".to_owned(),
        ..task("t-13", "i-2", NEW, "RUNNING")
    });
    scene.instance("i-3", InstanceStatus::Draining);
    assert_plan("draining_last", &scene);
    scene.wanted().drain = Drain::First;
    assert_plan("draining_first", &scene);
    scene.wanted().drain = Drain::Never;
    assert_plan("draining_never", &scene);
}

/// Proves that of two tasks on one instance the younger is stopped, and the older kept.
#[test]
fn doubles() {
    let mut scene = Scene::new(DeploymentProgress::Completed);
    scene
        .active("i-1")
        .daemon("t-2", "i-1", NEW, "RUNNING")
        .daemon("t-1", "i-1", NEW, "RUNNING");
    scene
        .active("i-2")
        .daemon("t-4", "i-2", NEW, "PENDING")
        .daemon("t-3", "i-2", OLD, "RUNNING");
    assert_plan("doubles", &scene);
}

/// Proves that an agent that is away changes nothing on its instance, and that one that went away in the middle of a replacement holds the
/// roll-out.
#[test]
fn agent_disconnected() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    scene.disconnected("i-1").daemon("t-1", "i-1", OLD, "RUNNING");
    scene
        .disconnected("i-2")
        .launch("i-2", LaunchProgress::Bound { task: "t-9".into() }, 0);
    scene.active("i-3").daemon("t-3", "i-3", OLD, "RUNNING");
    assert_plan("agent_disconnected", &scene);
}

/// Proves the ways of a launch whose answer was lost: bound by what the state shows, looked up at once, then left until its look-up may
/// close it; and that an intent is left to its executor until that must have given up.
#[test]
fn lost_answers() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    let unknown = LaunchProgress::Unknown {
        first_empty_look_up_elapsed_ms: None,
    };
    let group = group_of(&Scene::environment_id());
    scene.active("i-1").launch("i-1", unknown.clone(), 0);
    scene.put(Task {
        group: group.clone(),
        create_revision: 11,
        ..task("t-1", "i-1", NEW, "RUNNING")
    });
    scene.active("i-2").launch("i-2", unknown.clone(), 0);
    scene.put(Task {
        group,
        ..task("t-2", "i-2", NEW, "STOPPED")
    });
    let looked_up = LaunchProgress::Unknown {
        first_empty_look_up_elapsed_ms: Some(95_000),
    };
    scene.active("i-3").launch("i-3", looked_up, 0);
    scene.active("i-4").launch("i-4", LaunchProgress::Intended, 0);
    scene.input.now_elapsed_ms = 96_000;
    assert_plan("lost_answers", &scene);
    scene.input.now_elapsed_ms = 150_000;
    assert_plan("lost_answers_later", &scene);
}

/// Proves that failures hold an instance back by their reason: refused, dead young, AGENT; that a long life and a stop that was asked for are
/// none; and that a new deployment starts afresh.
#[test]
fn failures() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    let rejected = |reason: &str, retry_at_elapsed_ms| LaunchProgress::Rejected {
        reason: reason.to_owned(),
        detail: String::new(),
        retry_at_elapsed_ms,
    };
    scene
        .active("i-1")
        .launch("i-1", rejected("RESOURCE:MEMORY", 130_000), 5);
    scene.active("i-2").launch("i-2", rejected("AGENT", 104_000), 2);
    scene
        .active("i-3")
        .launch("i-3", rejected("RESOURCE:MEMORY", 99_000), 5);
    let died = |arn: &str, instance: &str, ran_ms: i64, code: &str| Task {
        started_at_ms: 80_000,
        stopped_at_ms: 80_000 + ran_ms,
        created_at_ms: 70_000,
        stop_code: code.to_owned(),
        stopped_reason: "Essential container in task exited".to_owned(),
        ..task(arn, instance, NEW, "STOPPED")
    };
    for (instance, arn, ran_ms, code, failures) in [
        ("i-4", "t-4", 15_000, "EssentialContainerExited", 3),
        ("i-5", "t-5", 60_000, "EssentialContainerExited", 3),
        ("i-6", "t-6", 15_000, "UserInitiated", 3),
        ("i-7", "t-7", 10_000, "EssentialContainerExited", 0),
    ] {
        scene.active(instance).put(died(arn, instance, ran_ms, code));
        scene.launch(instance, LaunchProgress::Bound { task: arn.into() }, failures);
    }
    scene
        .active("i-8")
        .launch("i-8", rejected("RESOURCE:MEMORY", 900_000), 5);
    let old = scene.environment().launches.get_mut("i-8").expect("just made");
    old.deployment = "d-1".into();
    assert_plan("failures", &scene);
}

/// Proves that tasks leave instances that no longer match, and that instances that are gone are left to ECS and forgotten.
#[test]
fn no_longer_matching() {
    let mut scene = Scene::new(DeploymentProgress::Completed);
    scene.wanted().attributes = vec![("disk".to_owned(), "ssd".to_owned()), ("gpu".to_owned(), String::new())];
    scene.put_instance("i-1", InstanceStatus::Active, true, &[("disk", "ssd"), ("gpu", "a")]);
    scene.put_instance("i-2", InstanceStatus::Active, true, &[("disk", "hdd"), ("gpu", "a")]);
    scene.put_instance("i-3", InstanceStatus::Active, true, &[("disk", "ssd")]);
    for (task, instance) in [("t-1", "i-1"), ("t-2", "i-2"), ("t-3", "i-3"), ("t-4", "i-4")] {
        scene
            .daemon(task, instance, NEW, "RUNNING")
            .launch(instance, LaunchProgress::Bound { task: task.into() }, 0);
    }
    scene.launch("i-5", LaunchProgress::Vanished, 1);
    assert_plan("no_longer_matching", &scene);
}

/// Proves that an environment being deleted stops all its tasks, resolves its launches, and goes when nothing of it is left.
#[test]
fn deleting() {
    let mut scene = Scene::new(DeploymentProgress::Completed);
    scene.wanted().deleting = true;
    scene.active("i-1").daemon("t-1", "i-1", NEW, "RUNNING");
    scene
        .disconnected("i-2")
        .daemon("t-2", "i-2", NEW, "RUNNING")
        .stop("t-2", "i-2", StopProgress::Requested);
    scene.active("i-3").launch(
        "i-3",
        LaunchProgress::Unknown {
            first_empty_look_up_elapsed_ms: None,
        },
        0,
    );
    assert_plan("deleting", &scene);

    let mut scene = Scene::new(DeploymentProgress::Completed);
    scene.wanted().deleting = true;
    scene
        .active("i-1")
        .daemon("t-1", "i-1", NEW, "STOPPED")
        .stop("t-1", "i-1", StopProgress::Requested);
    scene.launch("i-1", LaunchProgress::Bound { task: "t-1".into() }, 0);
    assert_plan("deleting_last_step", &scene);
    scene.environment().stops.clear();
    scene.environment().launches.clear();
    assert_plan("deleted", &scene);
}

/// Proves that without a deployment nothing is done, and that a deployment over no instances is completed only where the cluster was
/// compared with ECS.
#[test]
fn empty_clusters() {
    let mut scene = Scene::new(DeploymentProgress::Running);
    assert_plan("unknown_cluster", &scene);
    scene.input.reconciled.insert(Scene::cluster());
    assert_plan("empty_cluster", &scene);
    scene.active("i-1").daemon("t-1", "i-1", NEW, "RUNNING");
    scene.wanted().deployment = None;
    assert_plan("no_deployment", &scene);
}
