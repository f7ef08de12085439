//! Fakes for the unit tests: a clock, a queue, a replicated state and an ECS, all in memory and in tokio's time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blox_raft::{Clock, ProposeError};
use blox_store::StoreError;
use blox_store::proto::{
    Command, Done, Observation, Observed, Outcome, QuarantinedMessage, Refusal, RefusalCode, Removed, ReportSource,
    ResourceKind, command::Operation, outcome,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{RECONCILE_PAUSE_MS_DEFAULT, SourceConfig};
use crate::error::CallError;
use crate::metrics::EcsMetrics;
use crate::queue::{Message, QUEUE_BATCH_MESSAGES_MAX, Queue, ReceiptHandle, ReceiveOptions};
use crate::request::{EcsApi, EcsRequest};
use crate::source::Source;
use crate::state::{Effect, KnownResource, ReplicatedState};

/// Wall clock at the start of a test, milliseconds since the epoch.
pub(crate) const EPOCH_MS: i64 = 1_800_000_000_000;

/// Both clocks from tokio's, so that a paused test moves them.
pub(crate) struct TestClock {
    started: Instant,
}

impl TestClock {
    pub(crate) fn new() -> Arc<TestClock> {
        Arc::new(TestClock { started: Instant::now() })
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        EPOCH_MS + self.started.elapsed().as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

pub(crate) fn config() -> SourceConfig {
    SourceConfig {
        name: "main".into(),
        region: "us-east-1".into(),
        role_arn: None,
        queue: Some("events".into()),
        clusters: Vec::new(),
        reconcile_pause_ms: RECONCILE_PAUSE_MS_DEFAULT,
    }
}

pub(crate) fn source(config: SourceConfig, api: Arc<dyn EcsApi>, queue: Option<Arc<dyn Queue>>) -> Arc<Source> {
    Arc::new(Source::with_parts(config, api, queue, TestClock::new(), EcsMetrics::new()))
}

pub(crate) fn cluster_arn(name: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:cluster/{name}")
}

pub(crate) fn task_arn(cluster: &str, id: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:task/{cluster}/{id}")
}

pub(crate) fn instance_arn(cluster: &str, id: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:container-instance/{cluster}/{id}")
}

/// A task event's body.
pub(crate) fn task_event(cluster: &str, id: &str, version: i64) -> String {
    let (task, cluster) = (task_arn(cluster, id), cluster_arn(cluster));
    format!(
        r#"{{"version":"0","id":"e","detail-type":"ECS Task State Change","source":"aws.ecs","account":"123456789012","time":"2027-01-15T08:00:00Z","region":"us-east-1","resources":["{task}"],"detail":{{"taskArn":"{task}","clusterArn":"{cluster}","lastStatus":"RUNNING","version":{version}}}}}"#
    )
}

// ------------------------------------------------------------------------------------------------------------------ the state

/// One resource of the fake state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) observation: Observation,
    pub(crate) mod_revision: u64,
}

/// The state as a map: higher versions win, nothing else.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) resources: BTreeMap<(i32, String), Held>,
    pub(crate) revision: u64,
    pub(crate) commands: Vec<Command>,
    pub(crate) quarantine: Vec<QuarantinedMessage>,
    pub(crate) reports: Vec<ReportSource>,
    pub(crate) unknown_types: u64,
}

/// A replicated state that applies each proposal after `delay`.
pub(crate) struct FakeState {
    clock: Arc<TestClock>,
    pub(crate) held: Mutex<Contents>,
    /// How long a proposal takes.
    pub(crate) delay: Mutex<Duration>,
    /// What proposals fail with instead, first to last.
    pub(crate) failures: Mutex<VecDeque<ProposeError>>,
    pub(crate) has_quorum: AtomicBool,
    pub(crate) session_is_stale: AtomicBool,
}

impl FakeState {
    pub(crate) fn new() -> Arc<FakeState> {
        Arc::new(FakeState {
            clock: TestClock::new(),
            held: Mutex::default(),
            delay: Mutex::new(Duration::from_millis(5)),
            failures: Mutex::default(),
            has_quorum: AtomicBool::new(true),
            session_is_stale: AtomicBool::new(false),
        })
    }

    /// Puts a resource in, as if observed with version 1.
    pub(crate) fn put(&self, kind: ResourceKind, cluster: &str, arn: &str) {
        let observation = Observation {
            kind: kind.into(),
            source: "main".into(),
            cluster_arn: cluster_arn(cluster),
            arn: arn.into(),
            ecs_version: Some(1),
            document: Bytes::from_static(b"{}"),
            ..Observation::default()
        };
        let mut held = self.held.lock();
        held.revision += 1;
        let mod_revision = held.revision;
        held.resources.insert((kind.into(), arn.into()), Held { observation, mod_revision });
    }

    pub(crate) fn holds(&self, kind: ResourceKind, arn: &str) -> bool {
        self.held.lock().resources.contains_key(&(kind.into(), arn.to_string()))
    }

    pub(crate) fn arns(&self, kind: ResourceKind) -> Vec<String> {
        let kind = i32::from(kind);
        self.held.lock().resources.keys().filter(|(of, _)| *of == kind).map(|(_, arn)| arn.clone()).collect()
    }

    fn apply(&self, command: Command) -> Outcome {
        if self.session_is_stale.load(Ordering::Relaxed) {
            let refusal = Refusal { code: RefusalCode::StaleSession.into(), ..Refusal::default() };
            return Outcome { result: Some(outcome::Result::Refusal(refusal)), ..Outcome::default() };
        }
        let mut held = self.held.lock();
        held.commands.push(command.clone());
        let result = match command.operation.expect("every command has an operation") {
            Operation::Observe(observe) => {
                held.unknown_types += observe.unknown_types;
                outcome::Result::Observed(held.observe(observe.observations))
            }
            Operation::ForgetResources(forget) => {
                let mut count = 0;
                for resource in forget.resources {
                    let key = (resource.kind, resource.arn);
                    if held.resources.get(&key).is_some_and(|held| held.mod_revision == resource.mod_revision) {
                        held.resources.remove(&key);
                        count += 1;
                    }
                }
                outcome::Result::Removed(Removed { count, more: false })
            }
            Operation::QuarantineMessages(quarantine) => {
                held.quarantine.extend(quarantine.messages);
                outcome::Result::Done(Done {})
            }
            Operation::ReportSource(report) => {
                held.reports.push(report);
                outcome::Result::Done(Done {})
            }
            other => panic!("neither feed nor reconcile proposes {other:?}"),
        };
        Outcome { result: Some(result), ..Outcome::default() }
    }
}

impl Contents {
    fn effect(&self, observation: &Observation) -> Effect {
        if observation.document.starts_with(br#"{"unreadable""#) {
            return Effect::Unreadable("the test says so".into());
        }
        match self.resources.get(&(observation.kind, observation.arn.clone())) {
            None => Effect::Created,
            Some(held) => match observation.ecs_version.cmp(&held.observation.ecs_version) {
                std::cmp::Ordering::Less => Effect::Stale,
                std::cmp::Ordering::Equal => Effect::Duplicate,
                std::cmp::Ordering::Greater => Effect::Changed { missed: true },
            },
        }
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Observed {
        let mut observed = Observed::default();
        for observation in observations {
            match self.effect(&observation) {
                Effect::Created | Effect::Changed { .. } => {
                    observed.applied += 1;
                    self.revision += 1;
                    let key = (observation.kind, observation.arn.clone());
                    self.resources.insert(key, Held { observation, mod_revision: self.revision });
                }
                Effect::Duplicate => observed.duplicates += 1,
                _ => observed.stale += 1,
            }
        }
        observed
    }
}

impl ReplicatedState for FakeState {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        async move {
            let delay = *self.delay.lock();
            tokio::time::sleep(delay).await;
            match self.failures.lock().pop_front() {
                Some(failure) => Err(failure),
                None => Ok(self.apply(command)),
            }
        }
        .boxed()
    }

    fn has_recent_quorum(&self, _within: Duration) -> bool {
        self.has_quorum.load(Ordering::Relaxed)
    }

    fn session(&self) -> u64 {
        7
    }

    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn effects(&self, observations: &[Observation]) -> Result<Vec<Effect>, StoreError> {
        let held = self.held.lock();
        Ok(observations.iter().map(|observation| held.effect(observation)).collect())
    }

    fn known(&self, kind: ResourceKind, _source: &str, cluster: Option<&str>) -> Result<Vec<KnownResource>, StoreError> {
        let kind = i32::from(kind);
        let held = self.held.lock();
        let of_cluster = held.resources.iter().filter(|((of, _), held)| {
            *of == kind && cluster.is_none_or(|cluster| held.observation.cluster_arn == cluster)
        });
        let known = of_cluster.map(|((_, arn), held)| KnownResource {
            arn: arn.clone(),
            mod_revision: held.mod_revision,
            ecs_version: held.observation.ecs_version,
            forgotten: false,
        });
        Ok(known.collect())
    }

    fn last_passes(&self, _source: &str) -> Result<HashMap<String, i64>, StoreError> {
        let held = self.held.lock();
        let passes = held.reports.iter().flat_map(|report| report.passes.iter());
        Ok(passes.map(|pass| (pass.cluster_arn.clone(), pass.ended_at_ms)).collect())
    }
}

// ------------------------------------------------------------------------------------------------------------------ the queue

struct Queued {
    id: u64,
    body: String,
    visible_at: Instant,
    receives: u32,
}

#[derive(Default)]
struct Queues {
    messages: Vec<Queued>,
    next_id: u64,
    deleted: Vec<u64>,
    receives: u64,
    delete_failures: u32,
    missing: bool,
}

/// A queue as SQS is: at least once, hidden for a while, in no order that anyone relies on.
#[derive(Default)]
pub(crate) struct FakeQueue {
    queues: Mutex<Queues>,
}

impl FakeQueue {
    pub(crate) fn new() -> Arc<FakeQueue> {
        Arc::default()
    }

    pub(crate) fn send(&self, body: impl Into<String>) -> u64 {
        let mut queues = self.queues.lock();
        let id = queues.next_id;
        queues.next_id += 1;
        queues.messages.push(Queued { id, body: body.into(), visible_at: Instant::now(), receives: 0 });
        id
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.lock().messages.is_empty()
    }

    pub(crate) fn deleted(&self) -> usize {
        self.queues.lock().deleted.len()
    }

    /// How often messages were asked for.
    pub(crate) fn receives(&self) -> u64 {
        self.queues.lock().receives
    }

    /// The most deliveries of one message that is still there.
    pub(crate) fn deliveries_max(&self) -> u32 {
        self.queues.lock().messages.iter().map(|message| message.receives).max().unwrap_or(0)
    }

    /// Messages that a receive would get now.
    pub(crate) fn visible(&self) -> usize {
        let now = Instant::now();
        self.queues.lock().messages.iter().filter(|message| message.visible_at <= now).count()
    }

    /// The next so many deletions fail.
    pub(crate) fn fail_deletions(&self, count: u32) {
        self.queues.lock().delete_failures = count;
    }

    /// Whether the queue exists.
    pub(crate) fn set_missing(&self, missing: bool) {
        self.queues.lock().missing = missing;
    }

    fn take(&self, visibility: Duration) -> Vec<Message> {
        let mut queues = self.queues.lock();
        let now = Instant::now();
        let visible = queues.messages.iter_mut().filter(|message| message.visible_at <= now);
        let taken = visible.take(QUEUE_BATCH_MESSAGES_MAX).map(|message| {
            message.visible_at = now + visibility;
            message.receives += 1;
            Message {
                id: format!("message-{}", message.id),
                receipt: ReceiptHandle(message.id.to_string()),
                body: Bytes::from(message.body.clone()),
                sent_at_ms: Some(EPOCH_MS),
            }
        });
        taken.collect()
    }
}

impl Queue for FakeQueue {
    fn receive(&self, options: ReceiveOptions) -> BoxFuture<'_, Result<Vec<Message>, CallError>> {
        async move {
            let until = Instant::now() + options.wait;
            {
                let mut queues = self.queues.lock();
                queues.receives += 1;
                if queues.missing {
                    let code = "AWS.SimpleQueueService.NonExistentQueue".into();
                    return Err(CallError::Refused { operation: "ReceiveMessage", code, message: String::new() });
                }
            }
            loop {
                let taken = self.take(options.visibility);
                if !taken.is_empty() || Instant::now() >= until {
                    return Ok(taken);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        .boxed()
    }

    fn delete(&self, receipts: Vec<ReceiptHandle>) -> BoxFuture<'_, Result<usize, CallError>> {
        async move {
            assert!(receipts.len() <= QUEUE_BATCH_MESSAGES_MAX);
            let mut queues = self.queues.lock();
            if queues.delete_failures > 0 {
                queues.delete_failures -= 1;
                return Err(CallError::Unknown { operation: "DeleteMessageBatch", code: None, cause: "reset".into() });
            }
            let ids: Vec<u64> = receipts.iter().map(|receipt| receipt.0.parse().expect("ours")).collect();
            queues.messages.retain(|message| !ids.contains(&message.id));
            queues.deleted.extend(ids);
            Ok(0)
        }
        .boxed()
    }

    fn extend(&self, receipts: Vec<ReceiptHandle>, visibility: Duration) -> BoxFuture<'_, Result<usize, CallError>> {
        async move {
            assert!(receipts.len() <= QUEUE_BATCH_MESSAGES_MAX);
            let ids: Vec<u64> = receipts.iter().map(|receipt| receipt.0.parse().expect("ours")).collect();
            let mut queues = self.queues.lock();
            for message in queues.messages.iter_mut().filter(|message| ids.contains(&message.id)) {
                message.visible_at = Instant::now() + visibility;
            }
            Ok(0)
        }
        .boxed()
    }
}

// -------------------------------------------------------------------------------------------------------------------- the ECS

#[derive(Default, Clone)]
pub(crate) struct FakeCluster {
    /// ARN -> version.
    pub(crate) instances: BTreeMap<String, i64>,
    /// ARN -> version, desired RUNNING.
    pub(crate) tasks: BTreeMap<String, i64>,
    /// Can be described, is in no list.
    pub(crate) unlisted: BTreeMap<String, i64>,
    pub(crate) inactive: bool,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) clusters: BTreeMap<String, FakeCluster>,
    /// Operation (of a cluster, after a `/`) -> error to answer.
    pub(crate) failures: HashMap<String, CallError>,
    /// The next so many lists of this operation come back empty.
    pub(crate) empty_lists: HashMap<&'static str, u32>,
    /// Items a page.
    pub(crate) page_size: usize,
    /// Describe leaves out what it does not know, without a failure.
    pub(crate) silent: bool,
    pub(crate) calls: Vec<EcsRequest>,
}

/// An ECS in memory.
pub(crate) struct FakeEcs {
    pub(crate) world: Mutex<World>,
}

impl FakeEcs {
    pub(crate) fn new() -> Arc<FakeEcs> {
        Arc::new(FakeEcs { world: Mutex::new(World { page_size: 100, ..World::default() }) })
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.world.lock())
    }

    pub(crate) fn refuse(operation: &'static str, code: &str) -> CallError {
        CallError::Refused { operation, code: code.into(), message: "the test says so".into() }
    }
}

impl World {
    pub(crate) fn cluster(&mut self, name: &str) -> &mut FakeCluster {
        self.clusters.entry(cluster_arn(name)).or_default()
    }

    pub(crate) fn calls_of(&self, operation: &str) -> usize {
        self.calls.iter().filter(|call| call.operation() == operation).count()
    }

    fn answer(&mut self, request: &EcsRequest) -> Result<String, CallError> {
        let operation = request.operation();
        let cluster = match request {
            EcsRequest::ListContainerInstances { cluster, .. }
            | EcsRequest::DescribeContainerInstances { cluster, .. }
            | EcsRequest::ListTasks { cluster, .. }
            | EcsRequest::DescribeTasks { cluster, .. } => cluster.clone(),
            _ => String::new(),
        };
        let failure = self.failures.get(operation).or_else(|| self.failures.get(&format!("{operation}/{cluster}")));
        if let Some(failure) = failure {
            return Err(failure.clone());
        }
        let of = self.clusters.get(&cluster).cloned().unwrap_or_default();
        let described = |arns: &[String], known: &[&BTreeMap<String, i64>], array: &str, name: &str| {
            let version = |arn: &String| known.iter().find_map(|known| known.get(arn));
            let shown = arns.iter().filter_map(|arn| version(arn).map(|version| (arn, version)));
            let shown: Vec<String> =
                shown.map(|(arn, version)| format!(r#"{{"{name}":"{arn}","version":{version}}}"#)).collect();
            let missing = arns.iter().filter(|arn| version(arn).is_none() && !self.silent);
            let missing: Vec<String> = missing.map(|arn| format!(r#"{{"arn":"{arn}","reason":"MISSING"}}"#)).collect();
            format!(r#"{{"{array}":[{}],"failures":[{}]}}"#, shown.join(","), missing.join(","))
        };
        Ok(match request {
            EcsRequest::ListClusters { next_token } => {
                let active = self.clusters.iter().filter(|(_, cluster)| !cluster.inactive);
                let arns: Vec<String> = active.map(|(arn, _)| arn.clone()).collect();
                self.page(operation, "clusterArns", arns, next_token)
            }
            EcsRequest::DescribeClusters { clusters } => {
                let find = |wanted: &String| {
                    self.clusters.iter().find(|(arn, _)| *arn == wanted || arn.rsplit('/').next() == Some(wanted))
                };
                let shown = clusters.iter().filter_map(find).map(|(arn, cluster)| {
                    let status = if cluster.inactive { "INACTIVE" } else { "ACTIVE" };
                    format!(r#"{{"clusterArn":"{arn}","status":"{status}"}}"#)
                });
                let missing = clusters.iter().filter(|wanted| find(wanted).is_none());
                let missing = missing.map(|arn| format!(r#"{{"arn":"{arn}","reason":"MISSING"}}"#));
                let (shown, missing): (Vec<_>, Vec<_>) = (shown.collect(), missing.collect());
                format!(r#"{{"clusters":[{}],"failures":[{}]}}"#, shown.join(","), missing.join(","))
            }
            EcsRequest::ListContainerInstances { next_token, .. } => {
                self.page(operation, "containerInstanceArns", of.instances.into_keys().collect(), next_token)
            }
            EcsRequest::ListTasks { listing, next_token, .. } => {
                let running = *listing != crate::request::TaskListing::Stopped;
                let arns = if running { of.tasks.into_keys().collect() } else { Vec::new() };
                self.page(operation, "taskArns", arns, next_token)
            }
            EcsRequest::DescribeContainerInstances { instances, .. } => {
                described(instances, &[&of.instances, &of.unlisted], "containerInstances", "containerInstanceArn")
            }
            EcsRequest::DescribeTasks { tasks, .. } => described(tasks, &[&of.tasks, &of.unlisted], "tasks", "taskArn"),
            other => panic!("reconcile does not call {other:?}"),
        })
    }

    fn page(&mut self, operation: &'static str, name: &str, arns: Vec<String>, token: &Option<String>) -> String {
        let empty = self.empty_lists.entry(operation).or_default();
        if *empty > 0 {
            *empty -= 1;
            return format!(r#"{{"{name}":[]}}"#);
        }
        let from: usize = token.as_ref().map_or(0, |token| token.parse().expect("our token"));
        let page: Vec<String> = arns.iter().skip(from).take(self.page_size).map(|arn| format!("\"{arn}\"")).collect();
        let next = from + page.len();
        let token = if next < arns.len() { format!(r#","nextToken":"{next}""#) } else { String::new() };
        format!(r#"{{"{name}":[{}]{token}}}"#, page.join(","))
    }
}

impl EcsApi for FakeEcs {
    fn call(&self, request: EcsRequest) -> BoxFuture<'_, Result<Bytes, CallError>> {
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut world = self.world.lock();
            world.calls.push(request.clone());
            world.answer(&request).map(Bytes::from)
        }
        .boxed()
    }
}
