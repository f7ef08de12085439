//! Planner, executor, state and fleet together, moved on step by step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blox_scheduler::executor::timer::Timer;
use blox_scheduler::executor::{Executor, LaunchOrder, LookUpOrder, RecordsOrder, StopOrder, TaskToStop};
use blox_scheduler::metrics::Metrics;
use blox_scheduler::mirror::Mirror;
use blox_scheduler::names::{EnvironmentId, group_of};
use blox_scheduler::planner::plan::{EnvironmentPlan, Plan, StopReason};
use blox_scheduler::planner::{PlannerInput, plan};
use blox_scheduler::{Limits, Surroundings};
use blox_store::proto::command::Operation;
use blox_store::proto::{
    CreateEnvironment, DrainPolicy, EnvironmentSpec, Observe, ReconcilePass, ReportSource, UpdateEnvironment,
};
use futures::future::{BoxFuture, FutureExt};

use crate::fleet::{CLUSTER, Fleet, SOURCE};
use crate::state::State;

pub const ENVIRONMENT: &str = "e-1";
pub const NAME: &str = "logs";

/// Waiting moves the state's clock on, and nothing else.
pub struct Clock(Arc<State>);

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0
            .elapsed_ms
            .fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
        std::future::ready(()).boxed()
    }
}

pub struct World {
    pub state: Arc<State>,
    pub fleet: Arc<Fleet>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub spec: EnvironmentSpec,
    executor: Executor,
    deployments: u32,
}

impl World {
    /// An environment with one deployment, under its first session; no instances yet.
    pub fn new(max_unavailable: u32) -> World {
        let state = Arc::new(State::new());
        let fleet = Arc::new(Fleet::default());
        let metrics = Arc::new(Metrics::default());
        let spec = EnvironmentSpec {
            source: SOURCE.to_owned(),
            cluster_arn: CLUSTER.to_owned(),
            task_definition_arn: definition(1),
            attributes: Vec::new(),
            max_unavailable,
            drain_policy: DrainPolicy::Last.into(),
        };
        state.run(Operation::CreateEnvironment(CreateEnvironment {
            id: ENVIRONMENT.to_owned(),
            name: NAME.to_owned(),
            spec: Some(spec.clone()),
            deployment_token: "token-0".to_owned(),
            deployment_id: "d-1".to_owned(),
        }));
        let limits = Limits::default();
        let session = state.open_session();
        let executor = Executor::new(surroundings(&state, &fleet, &metrics), session, limits.clone());
        World {
            state,
            fleet,
            metrics,
            limits,
            spec,
            executor,
            deployments: 1,
        }
    }

    /// Another node leads.
    pub fn change_leader(&mut self) {
        let session = self.state.open_session();
        let surroundings = surroundings(&self.state, &self.fleet, &self.metrics);
        self.executor = Executor::new(surroundings, session, self.limits.clone());
    }

    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Another specification, rolled out.
    pub fn update(&mut self, change: impl FnOnce(&mut EnvironmentSpec)) {
        change(&mut self.spec);
        self.deployments += 1;
        self.state.run(Operation::UpdateEnvironment(UpdateEnvironment {
            name: NAME.to_owned(),
            spec: Some(self.spec.clone()),
            deployment_id: format!("d-{}", self.deployments),
            deployment_token: format!("token-{}", self.deployments),
            mod_revision: 0,
        }));
    }

    pub fn advance(&self, ms: u64) {
        self.state.elapsed_ms.fetch_add(ms, Ordering::SeqCst);
        self.fleet.with(|fleet| fleet.advance(ms));
    }

    /// Tells the state of up to so many of the fleet's changes.
    pub fn tell(&self, events: usize) {
        let observations: Vec<_> = self.fleet.with(|fleet| {
            let count = events.min(fleet.events.len());
            fleet.events.drain(..count).collect()
        });
        if !observations.is_empty() {
            self.state.run(Operation::Observe(Observe {
                observations,
                unknown_types: 0,
                source: SOURCE.to_owned(),
                ..Observe::default()
            }));
        }
    }

    /// A reconcile pass has ended.
    pub fn reconciled(&self) {
        let pass = ReconcilePass {
            cluster_arn: CLUSTER.to_owned(),
            ..ReconcilePass::default()
        };
        self.state.run(Operation::ReportSource(ReportSource {
            source: SOURCE.to_owned(),
            passes: vec![pass],
            ..ReportSource::default()
        }));
    }

    pub fn input(&self) -> PlannerInput {
        let view = self.state.store.view().expect("memory does not fail");
        let mut mirror = Mirror::of(&view, self.limits.clone()).expect("memory does not fail");
        mirror.note_sources(&self.state.store.sources().expect("memory does not fail"));
        mirror.input_mut().now_elapsed_ms = self.state.elapsed_ms.load(Ordering::SeqCst);
        mirror.input().clone()
    }

    /// Plans, and carries the plan out; a call whose caller dies ends that order.
    pub fn step(&self) -> Plan {
        self.step_checked(|_, _| {})
    }

    /// The same, with a look at what was planned from what.
    pub fn step_checked(&self, check: impl FnOnce(&PlannerInput, &Plan)) -> Plan {
        let input = self.input();
        let plan = plan(&input);
        check(&input, &plan);
        for environment in &plan.environments {
            self.carry_out(environment);
        }
        plan
    }

    fn carry_out(&self, plan: &EnvironmentPlan) {
        if let Some(order) = RecordsOrder::of(plan) {
            self.finish(self.executor.update_records(order));
        }
        for look_up in &plan.look_up {
            self.finish(self.executor.look_up(LookUpOrder {
                environment: plan.environment.clone(),
                cluster: look_up.cluster.clone(),
                deployment: look_up.deployment.clone(),
                launches: vec![look_up.clone()],
            }));
        }
        let tasks = tasks_to_stop(plan);
        if !tasks.is_empty() {
            self.finish(self.executor.stop(StopOrder {
                environment: plan.environment.clone(),
                tasks,
            }));
        }
        if let (Some(target), false) = (&plan.target, plan.place.is_empty()) {
            self.finish(self.executor.launch(LaunchOrder {
                environment: plan.environment.clone(),
                target: target.clone(),
                placements: plan.place.clone(),
            }));
        }
    }

    /// Nothing here waits for anything but the fleet: what is not done at once never will be, its caller is dead.
    fn finish<T>(&self, work: impl Future<Output = T>) {
        let _ = work.now_or_never();
    }

    pub fn group() -> String {
        group_of(&EnvironmentId::from(ENVIRONMENT))
    }
}

pub fn tasks_to_stop(plan: &EnvironmentPlan) -> Vec<TaskToStop> {
    let replaced = plan.replace.iter().map(|replacement| TaskToStop {
        cluster: plan.target.as_ref().expect("only a target replaces").cluster.clone(),
        instance: replacement.instance.clone(),
        task: replacement.task.clone(),
        reason: StopReason::Replaced,
        attempts: replacement.attempts,
        deployment: plan.target.as_ref().map(|target| target.deployment.clone()),
    });
    let stopped = plan.stop.iter().map(|stop| TaskToStop {
        cluster: stop.cluster.clone(),
        instance: stop.instance.clone(),
        task: stop.task.clone(),
        reason: stop.reason,
        attempts: stop.attempts,
        deployment: None,
    });
    replaced.chain(stopped).collect()
}

pub fn definition(revision: u32) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:task-definition/logs:{revision}")
}

pub fn instance(number: usize) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:container-instance/edge/{number:02}")
}

pub fn surroundings(state: &Arc<State>, fleet: &Arc<Fleet>, metrics: &Arc<Metrics>) -> Surroundings {
    Surroundings {
        proposer: state.clone(),
        launcher: fleet.clone(),
        timer: Arc::new(Clock(state.clone())),
        new_token: Arc::new(|| "next-token".to_owned()),
        metrics: metrics.clone(),
    }
}
