//! Reconcile against a fake ECS: what is brought in, what is forgotten and when, and what never is.

use std::sync::Arc;

use blox_store::proto::ReconcilePass;
use blox_store::proto::command::Operation;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{FakeEcs, FakeState, cluster_arn, config, instance_arn, source, task_arn};

struct Running {
    state: Arc<FakeState>,
    source: Arc<Source>,
    cancel: CancellationToken,
    duty: tokio::task::JoinHandle<DutyEnd>,
}

/// Reconcile with a pass about every 10 s.
fn run(ecs: &Arc<FakeEcs>, state: &Arc<FakeState>, clusters: &[&str]) -> Running {
    let clusters = clusters.iter().map(|cluster| cluster.to_string()).collect();
    let config = crate::SourceConfig {
        reconcile_pause_ms: 10_000,
        queue: None,
        clusters,
        ..config()
    };
    let source = source(config, ecs.clone(), None);
    let cancel = CancellationToken::new();
    let duty = tokio::spawn(crate::run_duty(source.clone(), state.clone(), cancel.clone()));
    Running {
        state: state.clone(),
        source,
        cancel,
        duty,
    }
}

impl Running {
    /// Lets this much time pass.
    async fn wait(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.source.metrics().value(name, labels)
    }

    fn reconciled(&self) -> usize {
        self.state
            .held
            .lock()
            .reports
            .iter()
            .filter(|report| report.source_reconciled)
            .count()
    }

    /// The passes that were reported, in order.
    fn passes(&self) -> Vec<ReconcilePass> {
        let held = self.state.held.lock();
        held.reports.iter().flat_map(|report| report.passes.clone()).collect()
    }

    fn forget_commands(&self) -> usize {
        let held = self.state.held.lock();
        held.commands
            .iter()
            .filter(|one| matches!(one.operation, Some(Operation::ForgetResources(_))))
            .count()
    }

    async fn stop(self) {
        self.cancel.cancel();
        assert_eq!(self.duty.await.expect("the duty does not panic"), DutyEnd::Cancelled);
    }
}

/// A cluster of `instances` and `tasks` in both ECS and nothing in the state.
fn ecs_with(cluster: &str, instances: usize, tasks: usize) -> Arc<FakeEcs> {
    let ecs = FakeEcs::new();
    ecs.change(|world| {
        let of = world.cluster(cluster);
        of.instances = (0..instances)
            .map(|number| (instance_arn(cluster, &format!("i{number:04}")), 3))
            .collect();
        of.tasks = (0..tasks)
            .map(|number| (task_arn(cluster, &format!("t{number:04}")), 3))
            .collect();
    });
    ecs
}

/// The first pass begins at once and brings in everything, over all pages and chunks, in few commands; a second pass over the same
/// proposes nothing, and both are reported.
#[tokio::test(start_paused = true)]
async fn the_first_pass_brings_everything_in() {
    let (ecs, state) = (ecs_with("prod", 150, 2_050), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(9).await;
    assert_eq!(running.reconciled(), 1);
    assert_eq!(state.arns(ResourceKind::Cluster), [cluster_arn("prod")]);
    assert_eq!(state.arns(ResourceKind::Instance).len(), 150);
    assert_eq!(state.arns(ResourceKind::Task).len(), 2_050);
    let observed = |state: &FakeState| {
        let held = state.held.lock();
        held.commands
            .iter()
            .filter(|one| matches!(one.operation, Some(Operation::Observe(_))))
            .count()
    };
    let commands = observed(&state);
    assert!(commands <= 5, "{commands} commands");
    running.wait(30).await;
    assert!(running.reconciled() >= 2);
    assert_eq!(observed(&state), commands, "a pass without drift proposed observations");
    let reports: Vec<_> = state
        .held
        .lock()
        .reports
        .iter()
        .flat_map(|report| report.passes.clone())
        .collect();
    assert_eq!(
        (reports[0].instances, reports[0].tasks, reports[0].drift_added),
        (150, 2_050, 2_200)
    );
    assert_eq!(
        (reports[1].drift_added, reports[1].drift_changed, reports[1].drift_gone),
        (0, 0, 0)
    );
    assert_eq!(
        running.metric("blox_reconcile_drift_total", &[("kind", "added")]),
        2_200.0
    );
    running.stop().await;
}

/// What changed without an event is brought in by the next pass, and counted as drift.
#[tokio::test(start_paused = true)]
async fn a_missed_change_is_brought_in() {
    let (ecs, state) = (ecs_with("prod", 1, 1), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    ecs.change(|world| *world.cluster("prod").tasks.values_mut().next().expect("one task") = 9);
    running.wait(20).await;
    assert_eq!(
        running.metric("blox_reconcile_drift_total", &[("kind", "changed")]),
        1.0
    );
    running.stop().await;
}

/// What is neither listed nor described is forgotten after a minute of absence, not before; what reappears in between is kept.
#[tokio::test(start_paused = true)]
async fn absence_is_believed_after_a_minute() {
    let (ecs, state) = (ecs_with("prod", 2, 0), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    let gone = instance_arn("prod", "i0000");
    let comes_back = instance_arn("prod", "i0001");
    ecs.change(|world| world.cluster("prod").instances.clear());
    running.wait(50).await;
    assert!(
        state.holds(ResourceKind::Instance, &gone),
        "forgotten before a minute was over"
    );
    ecs.change(|world| world.cluster("prod").instances.insert(comes_back.clone(), 3));
    running.wait(40).await;
    assert!(!state.holds(ResourceKind::Instance, &gone));
    assert!(state.holds(ResourceKind::Instance, &comes_back));
    assert_eq!(running.metric("blox_reconcile_drift_total", &[("kind", "gone")]), 1.0);
    running.stop().await;
}

/// Not being listed is no absence while Describe knows the resource: INACTIVE instances and tasks just stopped are in no list.
#[tokio::test(start_paused = true)]
async fn what_describe_knows_is_never_forgotten() {
    let (ecs, state) = (ecs_with("prod", 1, 1), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    ecs.change(|world| {
        let of = world.cluster("prod");
        of.unlisted.extend(std::mem::take(&mut of.instances));
        of.unlisted.extend(std::mem::take(&mut of.tasks));
    });
    running.wait(300).await;
    assert_eq!(
        state.arns(ResourceKind::Instance).len() + state.arns(ResourceKind::Task).len(),
        2
    );
    assert_eq!(running.forget_commands(), 0);
    running.stop().await;
}

/// A stand-in that leaves unknown tasks out of its answer, without calling them MISSING, has said nothing: silence is no absence.
#[tokio::test(start_paused = true)]
async fn silence_is_no_absence() {
    let (ecs, state) = (ecs_with("prod", 1, 3), FakeState::new());
    ecs.change(|world| world.silent = true);
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    ecs.change(|world| world.cluster("prod").tasks.clear());
    running.wait(300).await;
    assert_eq!(state.arns(ResourceKind::Task).len(), 3);
    running.stop().await;
}

/// A list that fails proves nothing: nothing is forgotten, however long it fails.
#[tokio::test(start_paused = true)]
async fn a_failed_list_forgets_nothing() {
    let (ecs, state) = (ecs_with("prod", 5, 5), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    ecs.change(|world| {
        *world.cluster("prod") = Default::default();
        world.failures.insert(
            "ListContainerInstances".into(),
            FakeEcs::refuse("ListContainerInstances", "AccessDeniedException"),
        );
    });
    running.wait(300).await;
    assert_eq!(state.arns(ResourceKind::Instance).len(), 5);
    assert_eq!(state.arns(ResourceKind::Task).len(), 5);
    assert!(running.metric("blox_reconcile_failures_total", &[]) > 1.0);
    running.stop().await;
}

/// An empty list where there were instances is looked at a second time within the pass.
#[tokio::test(start_paused = true)]
async fn an_empty_list_gets_a_second_look() {
    let (ecs, state) = (ecs_with("prod", 5, 0), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    let lists_before = ecs.change(|world| {
        world.empty_lists.insert("ListContainerInstances", 1);
        world.calls_of("ListContainerInstances")
    });
    running.wait(13).await;
    assert_eq!(
        ecs.change(|world| world.calls_of("ListContainerInstances")) - lists_before,
        2
    );
    assert_eq!(running.forget_commands(), 0);
    running.stop().await;
}

/// A resource that changed after it was read, while the lists ran, is not forgotten: the command carries the revision read before them.
#[tokio::test(start_paused = true)]
async fn only_what_was_read_before_the_lists_is_forgotten() {
    let (ecs, state) = (ecs_with("prod", 1, 0), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    let arn = instance_arn("prod", "i0000");
    let (touched, touching) = (arn.clone(), state.clone());
    ecs.change(|world| {
        world.cluster("prod").instances.clear();
        world.on_call = Some(Arc::new(move |request| {
            let is_there = touching.holds(ResourceKind::Instance, &touched);
            if request.operation() == "ListContainerInstances" && is_there {
                touching.put(ResourceKind::Instance, "prod", &touched);
            }
        }));
    });
    running.wait(120).await;
    assert!(running.forget_commands() > 0, "the pass never tried");
    assert!(state.holds(ResourceKind::Instance, &arn));
    // What is missing and still held is not judged: the pass must not count as one that settles a cluster.
    let passes = running.passes();
    assert!(
        passes.len() > 1 && passes[1..].iter().all(|pass| pass.missing == 1),
        "{passes:?}"
    );
    ecs.change(|world| world.on_call = None);
    running.wait(30).await;
    assert!(!state.holds(ResourceKind::Instance, &arn));
    running.stop().await;
}

/// A cluster that fails touches nobody else's state, and its own stays as it was.
#[tokio::test(start_paused = true)]
async fn one_clusters_failure_is_its_own() {
    let (ecs, state) = (ecs_with("good", 3, 3), FakeState::new());
    ecs.change(|world| {
        world.cluster("bad").instances.insert(instance_arn("bad", "i1"), 1);
        let key = format!("ListTasks/{}", cluster_arn("bad"));
        world
            .failures
            .insert(key, FakeEcs::refuse("ListTasks", "ServerException"));
    });
    state.put(ResourceKind::Task, "bad", &task_arn("bad", "old"));
    let running = run(&ecs, &state, &[]);
    running.wait(200).await;
    assert_eq!(
        state
            .arns(ResourceKind::Task)
            .iter()
            .filter(|arn| arn.contains("/good/"))
            .count(),
        3
    );
    assert!(state.holds(ResourceKind::Task, &task_arn("bad", "old")));
    assert_eq!(
        running.reconciled(),
        0,
        "a source with a failing cluster is not reconciled"
    );
    let passes: Vec<_> = state
        .held
        .lock()
        .reports
        .iter()
        .flat_map(|report| report.passes.clone())
        .collect();
    assert!(passes.iter().any(|pass| pass.cluster_arn == cluster_arn("good")));
    assert!(passes.iter().all(|pass| pass.cluster_arn != cluster_arn("bad")));
    running.stop().await;
}

/// A cluster that this node may not read does not keep the source from being reconciled; its state stays as it was.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_denied_does_not_keep_the_source_waiting() {
    let (ecs, state) = (ecs_with("good", 3, 3), FakeState::new());
    ecs.change(|world| {
        world.cluster("bad");
        let key = format!("ListTasks/{}", cluster_arn("bad"));
        let denied = FakeEcs::refuse("ListTasks", "AccessDeniedException");
        world.failures.insert(key, denied);
    });
    state.put(ResourceKind::Task, "bad", &task_arn("bad", "old"));
    let running = run(&ecs, &state, &[]);
    running.wait(200).await;
    assert!(running.reconciled() > 0);
    assert!(state.holds(ResourceKind::Task, &task_arn("bad", "old")));
    assert!(running.metric("blox_reconcile_failures_total", &[]) > 1.0);
    running.stop().await;
}

/// A cluster that Describe cannot show, though it exists, was not looked at: the source is not reconciled until it was.
#[tokio::test(start_paused = true)]
async fn a_skipped_cluster_makes_the_pass_incomplete() {
    let (ecs, state) = (ecs_with("good", 1, 1), FakeState::new());
    ecs.change(|world| {
        world.cluster("odd");
        world.undescribed.insert(cluster_arn("odd"), "UNAVAILABLE");
    });
    let running = run(&ecs, &state, &[]);
    running.wait(60).await;
    assert!(state.holds(ResourceKind::Instance, &instance_arn("good", "i0000")));
    assert_eq!(running.reconciled(), 0);
    ecs.change(|world| world.undescribed.clear());
    running.wait(15).await;
    assert!(running.reconciled() > 0);
    running.stop().await;
}

/// What changes while a deleted cluster is asked for is not forgotten: its revision was read before.
#[tokio::test(start_paused = true)]
async fn only_what_was_read_before_the_cluster_was_asked_for_is_forgotten() {
    let (ecs, state) = (ecs_with("prod", 1, 0), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    let arn = instance_arn("prod", "i0000");
    let (touched, touching) = (arn.clone(), state.clone());
    ecs.change(|world| {
        world.cluster("prod").inactive = true;
        world.on_call = Some(Arc::new(move |request| {
            let is_there = touching.holds(ResourceKind::Instance, &touched);
            if request.operation() == "DescribeClusters" && is_there {
                touching.put(ResourceKind::Instance, "prod", &touched);
            }
        }));
    });
    running.wait(150).await;
    assert!(running.forget_commands() > 0, "the pass never tried");
    assert!(state.holds(ResourceKind::Instance, &arn));
    running.stop().await;
}

/// Reads are tried again after throttling; the pass comes to its end when it is over.
#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out() {
    let (ecs, state) = (ecs_with("prod", 1, 1), FakeState::new());
    ecs.change(|world| {
        world
            .failures
            .insert("ListTasks".into(), FakeEcs::refuse("ListTasks", "ThrottlingException"))
    });
    let running = run(&ecs, &state, &[]);
    running.wait(1).await;
    ecs.change(|world| world.failures.clear());
    running.wait(5).await;
    assert_eq!(running.reconciled(), 1);
    assert!(running.metric("blox_ecs_api_throttled_total", &[("op", "ListTasks")]) > 0.0);
    running.stop().await;
}

/// Only configured clusters are looked at; one that does not exist fails nothing.
#[tokio::test(start_paused = true)]
async fn only_configured_clusters_are_looked_at() {
    let (ecs, state) = (ecs_with("prod", 1, 1), FakeState::new());
    ecs.change(|world| world.cluster("other").instances.insert(instance_arn("other", "i1"), 1));
    let running = run(&ecs, &state, &["prod", "not-there"]);
    running.wait(5).await;
    assert_eq!(running.reconciled(), 1);
    assert_eq!(state.arns(ResourceKind::Cluster), [cluster_arn("prod")]);
    assert_eq!(state.arns(ResourceKind::Instance), [instance_arn("prod", "i0000")]);
    assert_eq!(ecs.change(|world| world.calls_of("ListClusters")), 0);
    running.stop().await;
}

/// A deleted cluster's resources go after a minute without it, and the cluster itself once Describe does not know it; nothing goes sooner.
#[tokio::test(start_paused = true)]
async fn a_deleted_cluster_goes_with_all_it_held() {
    let (ecs, state) = (ecs_with("prod", 2, 2), FakeState::new());
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    ecs.change(|world| world.cluster("prod").inactive = true);
    running.wait(45).await;
    assert_eq!(state.arns(ResourceKind::Instance).len(), 2);
    running.wait(50).await;
    assert_eq!(
        state.arns(ResourceKind::Instance).len() + state.arns(ResourceKind::Task).len(),
        0
    );
    assert_eq!(state.arns(ResourceKind::Cluster).len(), 1, "ECS still describes it");
    ecs.change(|world| world.clusters.clear());
    running.wait(120).await;
    assert_eq!(state.arns(ResourceKind::Cluster).len(), 0);
    running.stop().await;
}

/// Tasks of other clusters in a list, as one stand-in has it, are not taken for this cluster's.
#[tokio::test(start_paused = true)]
async fn foreign_tasks_in_a_list_are_left_out() {
    let ecs = FakeEcs::new();
    ecs.change(|world| {
        world.cluster("probe").tasks.insert(task_arn("probe", "t1"), 1);
        world.cluster("probe-2");
    });
    let state = FakeState::new();
    let running = run(&ecs, &state, &[]);
    running.wait(5).await;
    let passes: Vec<_> = state
        .held
        .lock()
        .reports
        .iter()
        .flat_map(|report| report.passes.clone())
        .collect();
    assert_eq!(passes.iter().map(|pass| pass.tasks).sum::<u64>(), 1);
    running.stop().await;
}
