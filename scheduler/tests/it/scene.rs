//! Planner inputs written by hand: instances `i-1`, `i-2`, ..., tasks `t-1`, ..., one environment `logs`.

use blox_scheduler::Limits;
use blox_scheduler::names::{ClusterId, EnvironmentId, group_of};
use blox_scheduler::planner::PlannerInput;
use blox_scheduler::planner::input::{
    Deployment, DeploymentProgress, Drain, Environment, Instance, InstanceStatus, Launch, LaunchProgress, Stop,
    StopProgress, Task, Wanted,
};

/// The current task definition, and the one before it.
pub const NEW: &str = "task-definition/logs:2";
pub const OLD: &str = "task-definition/logs:1";
/// The current deployment.
pub const DEPLOYMENT: &str = "d-2";
const ENVIRONMENT: &str = "e-1";

pub struct Scene {
    pub input: PlannerInput,
}

impl Scene {
    /// An environment whose deployment has this status, at 100 s of the replicated clock.
    pub fn new(status: DeploymentProgress) -> Scene {
        let mut input = PlannerInput::new(Limits::default());
        input.now_elapsed_ms = 100_000;
        let deployment = Deployment {
            task_definition: NEW.into(),
            status,
        };
        let environment = Environment {
            wanted: Some(Wanted {
                name: "logs".to_owned(),
                cluster: Scene::cluster(),
                attributes: Vec::new(),
                max_unavailable: 1,
                drain: Drain::Last,
                deployment: Some(DEPLOYMENT.into()),
                deleting: false,
            }),
            deployments: [(DEPLOYMENT.into(), deployment)].into(),
            ..Environment::default()
        };
        input.environments.insert(Scene::environment_id(), environment);
        Scene { input }
    }

    pub fn environment_id() -> EnvironmentId {
        EnvironmentId::from(ENVIRONMENT)
    }

    pub fn cluster() -> ClusterId {
        ClusterId::new("east", "cluster/edge")
    }

    pub fn environment(&mut self) -> &mut Environment {
        self.input
            .environments
            .get_mut(&Scene::environment_id())
            .expect("every scene has one")
    }

    pub fn wanted(&mut self) -> &mut Wanted {
        self.environment().wanted.as_mut().expect("every scene has one")
    }

    pub fn instance(&mut self, arn: &str, status: InstanceStatus) -> &mut Scene {
        self.put_instance(arn, status, true, &[])
    }

    pub fn active(&mut self, arn: &str) -> &mut Scene {
        self.instance(arn, InstanceStatus::Active)
    }

    pub fn disconnected(&mut self, arn: &str) -> &mut Scene {
        self.put_instance(arn, InstanceStatus::Active, false, &[])
    }

    pub fn put_instance(
        &mut self,
        arn: &str,
        status: InstanceStatus,
        agent_connected: bool,
        attributes: &[(&str, &str)],
    ) -> &mut Scene {
        let attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let instance = Instance {
            arn: arn.into(),
            status,
            agent_connected,
            attributes,
        };
        self.input.put_instance(&Scene::cluster(), instance);
        self
    }

    /// A task of the environment.
    pub fn daemon(&mut self, arn: &str, instance: &str, definition: &str, status: &str) -> &mut Scene {
        let task = Task {
            group: group_of(&Scene::environment_id()),
            ..task(arn, instance, definition, status)
        };
        self.put(task)
    }

    /// A task of somebody else.
    pub fn other(&mut self, arn: &str, instance: &str, status: &str) -> &mut Scene {
        self.put(Task {
            group: "service:web".to_owned(),
            ..task(arn, instance, "task-definition/web:7", status)
        })
    }

    pub fn put(&mut self, task: Task) -> &mut Scene {
        self.input.put_task(&Scene::cluster(), task);
        self
    }

    pub fn launch(&mut self, instance: &str, state: LaunchProgress, failures: u32) -> &mut Scene {
        let launch = Launch {
            id: format!("1-{}", instance.trim_start_matches("i-")).into(),
            deployment: DEPLOYMENT.into(),
            cluster: Scene::cluster(),
            state,
            intent_revision: 10,
            intended_at_elapsed_ms: 70_000,
            call_deadline_elapsed_ms: 90_000,
            failures,
            not_sent: 0,
        };
        self.environment().launches.insert(instance.into(), launch);
        self
    }

    pub fn stop(&mut self, task: &str, instance: &str, state: StopProgress) -> &mut Scene {
        let stop = Stop {
            cluster: Scene::cluster(),
            instance: instance.into(),
            state,
            call_deadline_elapsed_ms: 110_000,
            attempts: 1,
        };
        self.environment().stops.insert(task.into(), stop);
        self
    }
}

/// A task without a group, created at its number's second.
pub fn task(arn: &str, instance: &str, definition: &str, status: &str) -> Task {
    let number: i64 = arn
        .trim_start_matches("t-")
        .parse()
        .expect("tasks are called t-1, t-2, ...");
    Task {
        arn: arn.into(),
        create_revision: 5,
        group: String::new(),
        started_by: DEPLOYMENT.to_owned(),
        task_definition: definition.into(),
        instance: instance.into(),
        last_status: status.to_owned(),
        stop_desired: false,
        created_at_ms: number * 1_000,
        started_at_ms: 0,
        stopped_at_ms: 0,
        stop_code: String::new(),
        stopped_reason: String::new(),
    }
}
