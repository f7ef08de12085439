//! A fleet behind the launcher's trait: instances and tasks with versions of their own, events that wait to be told, listings that lag,
//! answers that get lost. It counts what it must never see: two tasks of one group on one instance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use blox_scheduler::executor::launcher::{
    CallError, DescribeTasks, LaunchFailure, Launcher, ListTasks, StartAnswer, StartTasks, StopTask,
};
use blox_store::proto::{Form, Observation, ResourceKind};

pub const SOURCE: &str = "east";
pub const CLUSTER: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/edge";
/// ECS's wall clock at the fleet's zero, milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What becomes of the next StartTask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It works, and is answered.
    Answered,
    /// It works, and the answer comes this much later, in milliseconds of tokio's clock.
    AnsweredAfter(u64),
    /// It works, and the answer gets lost.
    AnswerLost,
    /// It gets lost on its way.
    CallLost,
    /// It works this much later, in milliseconds, and the answer gets lost.
    Late(u64),
    /// ECS refuses every instance for this reason.
    Failing(&'static str),
    /// ECS refuses the whole call.
    Refused,
    /// It works, and its caller dies before it hears of it.
    CallerDiesAfter,
    /// Its caller dies before it makes it.
    CallerDiesBefore,
}

#[derive(Clone, Debug)]
pub struct FleetTask {
    pub arn: String,
    pub instance: String,
    pub definition: String,
    pub group: String,
    pub started_by: String,
    pub status: &'static str,
    pub stop_desired: bool,
    pub created_at_ms: u64,
    started_at_ms: u64,
    stopped_at_ms: u64,
    stop_code: &'static str,
    stopped_reason: String,
    version: i64,
}

impl FleetTask {
    pub fn is_live(&self) -> bool {
        self.status != "STOPPED"
    }
}

#[derive(Clone, Debug)]
pub struct FleetInstance {
    pub status: &'static str,
    pub agent_connected: bool,
    pub disk: &'static str,
    version: i64,
}

#[derive(Default)]
pub struct Inner {
    pub now_ms: u64,
    pub instances: BTreeMap<String, FleetInstance>,
    pub tasks: BTreeMap<String, FleetTask>,
    /// Changes nobody was told of yet.
    pub events: VecDeque<Observation>,
    pub fates: VecDeque<Fate>,
    /// Calls that will work later: when, what, where.
    late: Vec<(u64, StartTasks, String)>,
    /// Tasks do not appear in listings before they are this old.
    pub listing_lag_ms: u64,
    pub start_calls: u64,
    pub stop_calls: u64,
    pub list_calls: u64,
    /// Two live tasks of one group on one instance, ever: what, where.
    pub doubles: Vec<String>,
    made: u64,
    clock: i64,
}

/// The fleet.
#[derive(Default)]
pub struct Fleet {
    inner: Mutex<Inner>,
}

impl Fleet {
    pub fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().expect("no test panics while it holds this"))
    }
}

impl Inner {
    pub fn put_instance(&mut self, arn: &str, status: &'static str, agent_connected: bool, disk: &'static str) {
        self.clock += 1;
        let instance = FleetInstance {
            status,
            agent_connected,
            disk,
            version: self.clock,
        };
        self.events.push_back(describe_instance(arn, &instance, self.now_ms));
        self.instances.insert(arn.to_owned(), instance);
    }

    /// A task of somebody else.
    pub fn put_other(&mut self, instance: &str) -> String {
        self.make(instance, "task-definition/web:1", "service:web", "ecs-svc/1")
    }

    /// A daemon's task that nobody here has started.
    pub fn put_daemon(&mut self, instance: &str, definition: &str, group: &str) -> String {
        self.make(instance, definition, group, "an-earlier-deployment")
    }

    /// Time passes: late calls arrive, tasks move on by one state.
    pub fn advance(&mut self, ms: u64) {
        let now = self.now_ms + ms;
        let (mut due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.late = later;
        due.sort_by_key(|(at, ..)| *at);
        // Each at its own time, however long the step is: from then on it ages, and appears in listings.
        for (at, call, instance) in due {
            self.now_ms = at;
            self.start(&call, &instance);
        }
        self.now_ms = now;
        let arns: Vec<String> = self.tasks.keys().cloned().collect();
        for arn in arns {
            let connected = self.tasks.get(&arn).is_some_and(|task| {
                self.instances
                    .get(&task.instance)
                    .is_some_and(|instance| instance.agent_connected)
            });
            self.change(&arn, |task, now| match (task.status, task.stop_desired) {
                (_, true) if connected => stopped(task, now, "UserInitiated"),
                ("PENDING", false) if connected => {
                    task.status = "RUNNING";
                    task.started_at_ms = now;
                    true
                }
                _ => false,
            });
        }
    }

    /// A task's essential container exits.
    pub fn kill(&mut self, arn: &str) {
        self.change(arn, |task, now| {
            task.stopped_reason = "Essential container in task exited".to_owned();
            stopped(task, now, "EssentialContainerExited")
        });
    }

    pub fn live_on(&self, instance: &str, group: &str) -> Vec<&FleetTask> {
        self.tasks
            .values()
            .filter(|task| task.is_live() && task.instance == instance && task.group == group)
            .collect()
    }

    pub fn has_late_calls(&self) -> bool {
        !self.late.is_empty()
    }

    fn change(&mut self, arn: &str, act: impl FnOnce(&mut FleetTask, u64) -> bool) {
        let now = self.now_ms;
        let Some(task) = self.tasks.get_mut(arn).filter(|task| task.is_live()) else {
            return;
        };
        if act(task, now) {
            task.version += 1;
            let observation = describe_task(task, now);
            self.events.push_back(observation);
        }
    }

    fn start(&mut self, call: &StartTasks, instance: &str) -> String {
        if let Some(other) = self.live_on(instance, &call.group).first() {
            let double = format!(
                "{} at {} ms beside {} of {} ms",
                instance, self.now_ms, other.arn, other.created_at_ms
            );
            self.doubles.push(double);
        }
        self.make(instance, &call.task_definition_arn, &call.group, &call.started_by)
    }

    fn make(&mut self, instance: &str, definition: &str, group: &str, started_by: &str) -> String {
        self.made += 1;
        let arn = format!("arn:aws:ecs:us-east-1:123456789012:task/edge/{:04}", self.made);
        let task = FleetTask {
            arn: arn.clone(),
            instance: instance.to_owned(),
            definition: definition.to_owned(),
            group: group.to_owned(),
            started_by: started_by.to_owned(),
            status: "PENDING",
            stop_desired: false,
            created_at_ms: self.now_ms,
            started_at_ms: 0,
            stopped_at_ms: 0,
            stop_code: "",
            stopped_reason: String::new(),
            version: 1,
        };
        self.events.push_back(describe_task(&task, self.now_ms));
        self.tasks.insert(arn.clone(), task);
        arn
    }

    fn answer(&mut self, call: &StartTasks) -> StartAnswer {
        let mut answer = StartAnswer::default();
        for instance in &call.instance_arns {
            let refusal = match self.instances.get(instance) {
                None => Some("MISSING"),
                Some(known) if known.status != "ACTIVE" => Some("INACTIVE"),
                Some(known) if !known.agent_connected => Some("AGENT"),
                Some(_) => None,
            };
            match refusal {
                Some(reason) => answer.failures.push(failure(instance, reason)),
                None => {
                    let arn = self.start(call, instance);
                    answer.tasks.push(describe_task(&self.tasks[&arn], self.now_ms));
                }
            }
        }
        answer
    }
}

fn stopped(task: &mut FleetTask, now: u64, code: &'static str) -> bool {
    task.status = "STOPPED";
    task.stop_desired = true;
    task.stopped_at_ms = now;
    task.stop_code = code;
    true
}

fn failure(instance: &str, reason: &str) -> LaunchFailure {
    LaunchFailure {
        instance_arn: instance.to_owned(),
        reason: reason.to_owned(),
        detail: String::new(),
    }
}

fn observation(kind: ResourceKind, arn: &str, version: i64, now_ms: u64, document: String) -> Observation {
    Observation {
        kind: kind.into(),
        source: SOURCE.to_owned(),
        cluster_arn: CLUSTER.to_owned(),
        arn: arn.to_owned(),
        form: Form::Describe.into(),
        ecs_version: Some(version),
        observed_at_ms: (EPOCH_MS + now_ms) as i64,
        document: document.into(),
    }
}

fn describe_instance(arn: &str, instance: &FleetInstance, now_ms: u64) -> Observation {
    let FleetInstance {
        status,
        agent_connected,
        disk,
        version,
    } = instance;
    let document = format!(
        r#"{{"containerInstanceArn":"{arn}","clusterArn":"{CLUSTER}","status":"{status}","agentConnected":{agent_connected},"attributes":[{{"name":"disk","value":"{disk}"}}],"version":{version}}}"#
    );
    observation(ResourceKind::Instance, arn, *version, now_ms, document)
}

fn describe_task(task: &FleetTask, now_ms: u64) -> Observation {
    let seconds = |ms: u64| (EPOCH_MS + ms) as f64 / 1_000.0;
    let mut document = format!(
        r#"{{"taskArn":"{}","clusterArn":"{CLUSTER}","containerInstanceArn":"{}","taskDefinitionArn":"{}","group":"{}","startedBy":"{}","lastStatus":"{}","desiredStatus":"{}","createdAt":{:.3},"version":{}"#,
        task.arn,
        task.instance,
        task.definition,
        task.group,
        task.started_by,
        task.status,
        if task.stop_desired { "STOPPED" } else { "RUNNING" },
        seconds(task.created_at_ms),
        task.version,
    );
    if task.started_at_ms > 0 {
        document += &format!(r#","startedAt":{:.3}"#, seconds(task.started_at_ms));
    }
    if !task.is_live() {
        document += &format!(
            r#","stoppedAt":{:.3},"stopCode":"{}","stoppedReason":"{}""#,
            seconds(task.stopped_at_ms),
            task.stop_code,
            task.stopped_reason
        );
    }
    observation(ResourceKind::Task, &task.arn, task.version, now_ms, document + "}")
}

#[async_trait]
impl Launcher for Fleet {
    async fn start_tasks(&self, call: StartTasks) -> Result<StartAnswer, CallError> {
        let lost = Err(CallError::Unknown("the test lost it".to_owned()));
        let fate = self.with(|fleet| {
            fleet.start_calls += 1;
            fleet.fates.pop_front().unwrap_or(Fate::Answered)
        });
        match fate {
            Fate::Answered => Ok(self.with(|fleet| fleet.answer(&call))),
            Fate::AnsweredAfter(ms) => {
                let answer = self.with(|fleet| fleet.answer(&call));
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(answer)
            }
            Fate::AnswerLost => {
                self.with(|fleet| fleet.answer(&call));
                lost
            }
            Fate::CallLost => lost,
            Fate::Late(ms) => {
                self.with(|fleet| {
                    for instance in &call.instance_arns {
                        fleet.late.push((fleet.now_ms + ms, call.clone(), instance.clone()));
                    }
                });
                lost
            }
            Fate::Failing(reason) => {
                let failures = call
                    .instance_arns
                    .iter()
                    .map(|instance| failure(instance, reason))
                    .collect();
                Ok(StartAnswer {
                    tasks: Vec::new(),
                    failures,
                })
            }
            Fate::Refused => Err(CallError::Refused {
                code: "ThrottlingException".to_owned(),
                message: "Rate exceeded".to_owned(),
            }),
            Fate::CallerDiesAfter => {
                self.with(|fleet| fleet.answer(&call));
                std::future::pending().await
            }
            Fate::CallerDiesBefore => std::future::pending().await,
        }
    }

    async fn stop_task(&self, call: StopTask) -> Result<Option<Observation>, CallError> {
        self.with(|fleet| {
            fleet.stop_calls += 1;
            let now = fleet.now_ms;
            match fleet.tasks.get_mut(&call.task_arn) {
                None => Err(CallError::Refused {
                    code: "InvalidParameterException".to_owned(),
                    message: "not found".to_owned(),
                }),
                Some(task) => {
                    if task.is_live() && !task.stop_desired {
                        task.stop_desired = true;
                        task.stopped_reason = call.reason;
                        task.version += 1;
                    }
                    Ok(Some(describe_task(task, now)))
                }
            }
        })
    }

    async fn list_tasks_started_by(&self, call: ListTasks) -> Result<Vec<String>, CallError> {
        self.with(|fleet| {
            fleet.list_calls += 1;
            let seen = |task: &&FleetTask| task.created_at_ms + fleet.listing_lag_ms <= fleet.now_ms;
            let listed = fleet
                .tasks
                .values()
                .filter(seen)
                .filter(|task| task.started_by == call.started_by && !task.stop_desired);
            Ok(listed.map(|task| task.arn.clone()).collect())
        })
    }

    async fn describe_tasks(&self, call: DescribeTasks) -> Result<Vec<Observation>, CallError> {
        self.with(|fleet| {
            let known = call.task_arns.iter().filter_map(|arn| fleet.tasks.get(arn));
            Ok(known.map(|task| describe_task(task, fleet.now_ms)).collect())
        })
    }
}
