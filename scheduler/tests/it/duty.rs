//! The loop of a leader, in virtual time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blox_scheduler::duty::FINISH_MS_MAX;
use blox_scheduler::executor::timer::TokioTimer;
use blox_scheduler::metrics::Metrics;
use blox_scheduler::{Context, DutyEnd, Limits, Surroundings, run};
use blox_store::proto::command::Operation;
use blox_store::proto::{
    CreateEnvironment, DeleteEnvironment, DeploymentStatus, EnvironmentSpec, LaunchRecord, LaunchState, Observe,
    ReconcilePass, ReportSource,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fleet::{CLUSTER, Fate, Fleet, SOURCE};
use crate::state::State;
use crate::world::{ENVIRONMENT, NAME, World, definition, instance};

/// How often the fleet moves and tells.
const FLEET_STEP: Duration = Duration::from_millis(200);

struct Running {
    state: Arc<State>,
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
}

impl Running {
    fn new(instances: usize) -> Running {
        let running = Running {
            state: Arc::new(State::on_virtual_time()),
            fleet: Arc::new(Fleet::default()),
            metrics: Arc::new(Metrics::default()),
        };
        running.fleet.with(|fleet| {
            (0..instances).for_each(|number| fleet.put_instance(&instance(number), "ACTIVE", true, "ssd"))
        });
        running.state.run(Operation::CreateEnvironment(CreateEnvironment {
            id: ENVIRONMENT.to_owned(),
            name: NAME.to_owned(),
            spec: Some(EnvironmentSpec {
                source: SOURCE.to_owned(),
                cluster_arn: CLUSTER.to_owned(),
                task_definition_arn: definition(1),
                max_unavailable: 1,
                ..EnvironmentSpec::default()
            }),
            deployment_token: "token".to_owned(),
            deployment_id: "d-1".to_owned(),
        }));
        running.live();
        running
    }

    /// The fleet lives on by itself, and the feed tells.
    fn live(&self) -> JoinHandle<()> {
        let (state, fleet) = (self.state.clone(), self.fleet.clone());
        tokio::spawn(async move {
            loop {
                let observations: Vec<_> = fleet.with(|fleet| {
                    fleet.advance(FLEET_STEP.as_millis() as u64);
                    fleet.events.drain(..).collect()
                });
                if !observations.is_empty() {
                    state.run(Operation::Observe(Observe {
                        observations,
                        unknown_types: 0,
                        source: SOURCE.to_owned(),
                        ..Observe::default()
                    }));
                }
                tokio::time::sleep(FLEET_STEP).await;
            }
        })
    }

    /// A new leader's duty.
    fn lead(&self) -> (JoinHandle<DutyEnd>, CancellationToken) {
        let cancel = CancellationToken::new();
        let surroundings = Surroundings {
            proposer: self.state.clone(),
            launcher: self.fleet.clone(),
            timer: Arc::new(TokioTimer),
            new_token: Arc::new(|| "next".to_owned()),
            metrics: self.metrics.clone(),
        };
        let context = Context {
            surroundings,
            session: self.state.open_session(),
            limits: Limits::default(),
            cancel: cancel.clone(),
        };
        (tokio::spawn(run(context)), cancel)
    }

    fn running(&self) -> usize {
        self.fleet.with(|fleet| {
            fleet
                .tasks
                .values()
                .filter(|task| task.status == "RUNNING" && task.group == World::group())
                .count()
        })
    }

    /// Waits (virtual time) until it holds.
    async fn until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        for _ in 0..3_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(FLEET_STEP).await;
        }
        panic!("never: {what}");
    }

    fn deployment(&self) -> DeploymentStatus {
        let view = self.state.store.view().expect("memory does not fail");
        view.deployment(ENVIRONMENT, "d-1")
            .expect("memory does not fail")
            .expect("it is there")
            .status()
    }
}

/// Proves that the duty brings a daemon to each of many instances, completes the deployment, replaces one that dies, and comes to rest.
#[tokio::test(start_paused = true)]
async fn one_daemon_on_each_of_many_instances() {
    let world = Running::new(250);
    let (duty, cancel) = world.lead();
    world.until("a daemon on each", |world| world.running() == 250).await;
    world
        .until("completed", |world| world.deployment() == DeploymentStatus::Completed)
        .await;
    let victim = world
        .fleet
        .with(|fleet| fleet.tasks.keys().next().cloned().expect("there are some"));
    world.fleet.with(|fleet| fleet.kill(&victim));
    world.until("replaced", |world| world.running() == 250).await;
    let (calls, applied) = (
        world.fleet.with(|fleet| fleet.start_calls),
        world.state.store.progress().borrow().applied_index,
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        world.fleet.with(|fleet| fleet.start_calls),
        calls,
        "a fleet at rest is left alone"
    );
    assert_eq!(
        world.state.store.progress().borrow().applied_index,
        applied,
        "a fleet at rest proposes nothing"
    );
    assert_eq!(world.fleet.with(|fleet| fleet.doubles.clone()), Vec::<String>::new());
    cancel.cancel();
    assert!(matches!(duty.await, Ok(DutyEnd::Cancelled)));
}

/// Proves that leaders that die or are stopped in the middle of calls, again and again, leave exactly one daemon on each instance.
#[tokio::test(start_paused = true)]
async fn leaders_that_die_leave_no_doubles() {
    let world = Running::new(30);
    for round in 0..20 {
        world.fleet.with(|fleet| {
            fleet
                .fates
                .extend([Fate::CallerDiesAfter, Fate::AnswerLost, Fate::CallerDiesBefore])
        });
        let (duty, cancel) = world.lead();
        tokio::time::sleep(Duration::from_millis(60 + 37 * round)).await;
        if round % 2 == 0 {
            duty.abort();
            assert!(duty.await.is_err_and(|error| error.is_cancelled()));
        } else {
            cancel.cancel();
            assert!(matches!(duty.await, Ok(DutyEnd::Cancelled)));
        }
        let victim = world.fleet.with(|fleet| {
            fleet
                .tasks
                .values()
                .find(|task| task.is_live())
                .map(|task| task.arn.clone())
        });
        victim
            .iter()
            .for_each(|victim| world.fleet.with(|fleet| fleet.kill(victim)));
    }
    world.fleet.with(|fleet| fleet.fates.clear());
    let (_duty, _cancel) = world.lead();
    world.until("a daemon on each", |world| world.running() == 30).await;
    assert_eq!(world.fleet.with(|fleet| fleet.doubles.clone()), Vec::<String>::new());
}

/// Proves that a duty that is stopped records the answers that come while it ends, and waits no longer for the others.
#[tokio::test(start_paused = true)]
async fn a_stopped_duty_records_what_is_answered() {
    let in_time = FINISH_MS_MAX / 2;
    for (answered_after_ms, state) in [
        (in_time, LaunchState::Bound),
        (10 * FINISH_MS_MAX, LaunchState::Intended),
    ] {
        let world = Running::new(30);
        world
            .fleet
            .with(|fleet| fleet.fates.extend([Fate::AnsweredAfter(answered_after_ms); 3]));
        let (duty, cancel) = world.lead();
        world
            .until("three calls", |world| world.fleet.with(|fleet| fleet.start_calls) == 3)
            .await;
        let stopped_at = tokio::time::Instant::now();
        cancel.cancel();
        assert!(matches!(duty.await, Ok(DutyEnd::Cancelled)));
        assert!(stopped_at.elapsed() <= Duration::from_millis(FINISH_MS_MAX + 10));
        let view = world.state.store.view().expect("memory does not fail");
        let launches = view.launches(ENVIRONMENT).expect("memory does not fail");
        let states: Vec<LaunchState> = launches.iter().map(LaunchRecord::state).collect();
        assert_eq!(states, [state; 30]);
    }
}

/// Proves that a duty that is stopped after leadership is lost does not wait for answers that it could not record.
#[tokio::test(start_paused = true)]
async fn a_deposed_duty_waits_for_nothing() {
    let world = Running::new(1);
    world
        .fleet
        .with(|fleet| fleet.fates.push_back(Fate::AnsweredAfter(FINISH_MS_MAX / 2)));
    let (duty, cancel) = world.lead();
    world
        .until("a call", |world| world.fleet.with(|fleet| fleet.start_calls) == 1)
        .await;
    world.state.deposed.store(true, Ordering::SeqCst);
    let stopped_at = tokio::time::Instant::now();
    cancel.cancel();
    assert!(matches!(duty.await, Ok(DutyEnd::Cancelled)));
    assert!(stopped_at.elapsed() < Duration::from_millis(FINISH_MS_MAX / 10));
}

/// Proves that a state that cannot be followed ends the duty at once: it is never tried again.
#[tokio::test(start_paused = true)]
async fn an_unreadable_state_ends_the_duty() {
    let world = Running::new(1);
    world.state.unreadable.store(true, Ordering::SeqCst);
    let (duty, _cancel) = world.lead();
    let end = tokio::time::timeout(Duration::from_secs(60), duty)
        .await
        .expect("it ends")
        .expect("it does not panic");
    assert!(matches!(end, DutyEnd::Storage(_)), "{end:?}");
}

/// Proves that the duty ends by itself once another session has begun, and calls nobody any more.
#[tokio::test(start_paused = true)]
async fn a_newer_session_ends_the_duty() {
    let world = Running::new(3);
    let (duty, _cancel) = world.lead();
    world.until("a daemon on each", |world| world.running() == 3).await;
    world.state.open_session();
    let calls = world.fleet.with(|fleet| fleet.start_calls);
    world
        .fleet
        .with(|fleet| fleet.put_instance(&instance(7), "ACTIVE", true, "ssd"));
    let end = tokio::time::timeout(Duration::from_secs(60), duty)
        .await
        .expect("it ends")
        .expect("it does not panic");
    assert!(matches!(end, DutyEnd::SessionOver(_)), "{end:?}");
    assert_eq!(world.fleet.with(|fleet| fleet.start_calls), calls);
}

/// Proves that a deleted environment's tasks are stopped, and that it is removed once they are.
#[tokio::test(start_paused = true)]
async fn a_deleted_environment_goes_with_its_tasks() {
    let world = Running::new(3);
    let (_duty, _cancel) = world.lead();
    world.until("a daemon on each", |world| world.running() == 3).await;
    world.state.run(Operation::DeleteEnvironment(DeleteEnvironment {
        name: NAME.to_owned(),
        stop_tasks: true,
        mod_revision: 0,
    }));
    world.until("nothing runs", |world| world.running() == 0).await;
    world
        .until("removed", |world| {
            let view = world.state.store.view().expect("memory does not fail");
            view.environments().expect("memory does not fail").is_empty()
        })
        .await;
}

/// After a restore, reconcile brings in the daemons that the old cluster had started since the backup and reports its pass, in the moment before
/// the duty reads the report (one reading after the other): none of them is launched again, however old the duty's own picture is.
#[tokio::test(start_paused = true)]
async fn what_reconcile_has_just_brought_in_is_not_launched_again() {
    for reading in 1..=3 {
        let world = Running::new(5);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let log_id = 1_000_000_u64.to_be_bytes().to_vec().into();
        world.state.store.begin_anew(log_id, 0).expect("memory does not fail");
        let fleet = world.fleet.clone();
        let brings_in = move |state: &State| {
            let observations = fleet.with(|fleet| {
                for number in 0..5 {
                    fleet.put_daemon(&instance(number), &definition(1), &World::group());
                }
                fleet.events.drain(..).collect()
            });
            state.run(Operation::Observe(Observe {
                observations,
                source: SOURCE.to_owned(),
                ..Observe::default()
            }));
            let pass = ReconcilePass {
                cluster_arn: CLUSTER.to_owned(),
                ..ReconcilePass::default()
            };
            state.run(Operation::ReportSource(ReportSource {
                source: SOURCE.to_owned(),
                passes: vec![pass],
                source_reconciled: true,
                ..ReportSource::default()
            }));
        };
        {
            let mut before = world
                .state
                .before_sources
                .lock()
                .expect("no test panics while it holds this");
            before.push(Box::new(brings_in));
            for _ in 1..reading {
                before.push(Box::new(|_| {}));
            }
        }
        let (duty, cancel) = world.lead();
        world.until("the daemons run", |world| world.running() == 5).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.fleet.with(|fleet| fleet.start_calls), 0, "reading {reading}");
        assert_eq!(world.running(), 5, "reading {reading}: none is stopped either");
        cancel.cancel();
        assert!(matches!(duty.await, Ok(DutyEnd::Cancelled)));
    }
}
