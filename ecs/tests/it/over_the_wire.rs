//! What the SDK and the simulator make of each call.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use blox_ecs::budget::Budgets;
use blox_ecs::{CallError, DutyEnd, EcsMetrics, Source, SourceConfig, StartTasks, run_duty};
use blox_raft::SystemClock;
use blox_store::Kind;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::child::{Control, with_simulator};
use crate::memory_state::MemoryState;

/// How long a test waits for the fleet to show.
const PATIENCE: Duration = Duration::from_secs(60);

async fn source(change: impl FnOnce(&mut SourceConfig)) -> Source {
    let mut config = SourceConfig {
        name: "main".into(),
        region: "us-east-1".into(),
        role_arn: None,
        queue: Some("blox-events".into()),
        clusters: Vec::new(),
        reconcile_pause_ms: 500,
    };
    change(&mut config);
    Source::connect(config, &Budgets::new(), Arc::new(SystemClock::new()), EcsMetrics::new()).await
}

/// A cluster `one` with this many instances, and a task definition `agent`.
async fn fleet(control: &Control, instances: usize) -> (String, Vec<String>) {
    control.post("/clusters", r#"{"cluster":"one"}"#).await;
    control
        .post("/task-definitions", r#"{"family":"agent","cpu":64,"memory_mib":64}"#)
        .await;
    control
        .post("/instances", &format!(r#"{{"cluster":"one","count":{instances}}}"#))
        .await;
    let source = source(|_| {}).await;
    let cluster = source
        .describe_cluster("one")
        .await
        .expect("answered")
        .expect("there")
        .arn;
    (cluster, truth(control, "instances").await.into_keys().collect())
}

/// What the simulator holds to be true: version by ARN, of `instances` or `tasks` of cluster `one`.
async fn truth(control: &Control, what: &str) -> HashMap<String, i64> {
    let state = control
        .ask("GET", "/state?region=us-east-1&cluster=one&documents=true", "")
        .await;
    let mut found = HashMap::new();
    collect(
        &state,
        if what == "instances" {
            "containerInstanceArn"
        } else {
            "taskArn"
        },
        what == "tasks",
        &mut found,
    );
    found
}

/// Finds every document with `name` and a version, wherever it stands.
fn collect(value: &Value, name: &str, task: bool, found: &mut HashMap<String, i64>) {
    match value {
        Value::Object(object) => {
            // A task names its instance, too.
            let is_other = !task && object.contains_key("taskArn");
            let pair = (
                object.get(name).and_then(Value::as_str),
                object.get("version").and_then(Value::as_i64),
            );
            if let ((Some(arn), Some(version)), false) = (pair, is_other) {
                found.insert(arn.to_string(), version);
            }
            object.values().for_each(|value| collect(value, name, task, found));
        }
        Value::Array(array) => array.iter().for_each(|value| collect(value, name, task, found)),
        _ => {}
    }
}

/// A time by which any call has left.
fn in_time() -> Instant {
    Instant::now() + PATIENCE
}

/// Starting, listing, describing and stopping tasks through the unmodified SDK; each document is kept as the service sent it.
#[test]
fn calls_for_the_scheduler() {
    with_simulator("over_the_wire::calls_for_the_scheduler", |control| async move {
        let (cluster, instances) = fleet(&control, 3).await;
        let source = source(|_| {}).await;
        let definition = source
            .describe_task_definition("agent")
            .await
            .expect("answered")
            .expect("there");
        assert_eq!((definition.family.as_str(), definition.revision), ("agent", 1));
        assert!(definition.document.starts_with(b"{"));
        assert_eq!(source.describe_task_definition("not-there").await, Ok(None));

        let mut wanted = instances.clone();
        wanted.push(format!("{}-not-there", instances[0]));
        let start = StartTasks {
            cluster: cluster.clone(),
            task_definition: definition.arn.clone(),
            instances: wanted,
            started_by: "deployment-1".into(),
            group: "blox:environment".into(),
            send_by: in_time(),
        };
        let answer = source.start_tasks(start).await.expect("answered");
        assert_eq!(answer.tasks.len(), 3);
        assert_eq!(
            answer
                .failures
                .iter()
                .map(|failure| failure.reason.as_str())
                .collect::<Vec<_>>(),
            ["MISSING"]
        );
        for task in &answer.tasks {
            let document: Value = serde_json::from_slice(&task.document).expect("JSON");
            assert_eq!(document["taskArn"], task.arn);
            assert_eq!(document["group"], "blox:environment");
            assert_eq!(document["startedBy"], "deployment-1");
            assert_eq!(
                (task.cluster_arn.as_str(), task.ecs_version),
                (cluster.as_str(), document["version"].as_i64())
            );
        }

        let mut listed = source
            .list_tasks_started_by(&cluster, "deployment-1")
            .await
            .expect("answered");
        let mut started: Vec<_> = answer.tasks.iter().map(|task| task.arn.clone()).collect();
        listed.sort();
        started.sort();
        assert_eq!(listed, started);
        let stopped = source
            .stop_task(&cluster, &started[0], "enough", in_time())
            .await
            .expect("answered")
            .expect("a task");
        assert_eq!(stopped.arn, started[0]);
        let asked = [started[0].clone(), format!("{}0", started[1])];
        let described = source.describe_tasks(&cluster, &asked).await.expect("answered");
        assert_eq!(described.observations.len(), 1);
        assert_eq!(described.missing().collect::<Vec<_>>(), [asked[1].as_str()]);
    });
}

/// Errors are sorted by what they say of the call's effect: refused, not sent, or unknown.
#[test]
fn errors_are_sorted_by_effect() {
    with_simulator("over_the_wire::errors_are_sorted_by_effect", |control| async move {
        let (cluster, instances) = fleet(&control, 1).await;
        let source = source(|_| {}).await;
        let start = |cluster: &str, definition: &str| StartTasks {
            cluster: cluster.to_string(),
            task_definition: definition.to_string(),
            instances: instances.clone(),
            started_by: "d".into(),
            group: "blox:e".into(),
            send_by: in_time(),
        };
        let refused = source
            .start_tasks(start(&cluster, "not-there"))
            .await
            .expect_err("refused");
        assert!(
            matches!(&refused, CallError::Refused { code, .. } if code == "ClientException"),
            "{refused}"
        );
        let refused = source
            .start_tasks(start("not-there", "agent"))
            .await
            .expect_err("refused");
        assert!(refused.is_cluster_not_found() && refused.is_definite(), "{refused}");

        control
            .post("/answers", r#"{"operation":"StartTask","action":"lose","calls":1}"#)
            .await;
        let lost = source.start_tasks(start(&cluster, "agent")).await.expect_err("lost");
        assert!(matches!(lost, CallError::Unknown { .. }), "{lost}");
        assert_eq!(
            truth(&control, "tasks").await.len(),
            1,
            "the lost answer's call took effect"
        );

        control.ask("PATCH", "/faults", r#"{"errors":{"StartTask":1.0}}"#).await;
        let failed = source
            .start_tasks(start(&cluster, "agent"))
            .await
            .expect_err("a server error");
        assert!(matches!(failed, CallError::Unknown { .. }), "{failed}");
        let calls = source
            .metrics()
            .value("blox_ecs_api_requests_total", &[("op", "StartTask")]);
        assert_eq!(calls, 4.0, "no call was repeated by the SDK");

        control
            .ask(
                "PUT",
                "/faults",
                r#"{"throttling":{"enabled":true,"rates":{"cluster_resource_modify":{"burst":0,"per_second":0}}}}"#,
            )
            .await;
        let throttled = source
            .start_tasks(start(&cluster, "agent"))
            .await
            .expect_err("throttled");
        assert!(throttled.is_throttled() && throttled.is_definite(), "{throttled}");
    });
}

/// A call that is ready only after its time does not leave, and says so: neither a start nor a stop.
#[test]
fn a_call_that_is_late_does_not_leave() {
    with_simulator(
        "over_the_wire::a_call_that_is_late_does_not_leave",
        |control| async move {
            let (cluster, instances) = fleet(&control, 1).await;
            let source = source(|_| {}).await;
            let start = |send_by| StartTasks {
                cluster: cluster.clone(),
                task_definition: "agent".into(),
                instances: instances.clone(),
                started_by: "d".into(),
                group: "blox:e".into(),
                send_by,
            };
            let late = source.start_tasks(start(Instant::now())).await.expect_err("late");
            assert!(
                matches!(&late, CallError::NotSent { cause, .. } if cause.contains("had to leave")),
                "{late}"
            );
            assert_eq!(truth(&control, "tasks").await.len(), 0);
            let started = source.start_tasks(start(in_time())).await.expect("in time");
            let late = source
                .stop_task(&cluster, &started.tasks[0].arn, "late", Instant::now())
                .await;
            assert!(matches!(late, Err(CallError::NotSent { .. })), "{late:?}");
        },
    );
}

/// A call to an address where nobody listens was never sent, and says so.
#[test]
fn a_refused_connection_is_not_sent() {
    with_simulator(
        "over_the_wire::a_refused_connection_is_not_sent",
        |control| async move {
            let source = source(|_| {}).await;
            source.describe_cluster("one").await.expect("it answers while it runs");
            // The parent's simulator closes its port when told to end; here a closed port stands in for it.
            let _ = control;
            let closed = std::net::TcpListener::bind("127.0.0.1:0")
                .expect("a port")
                .local_addr()
                .expect("an address");
            let config = SourceConfig {
                role_arn: Some("arn:aws:iam::123456789012:role/blox".into()),
                ..source.config().clone()
            };
            let assumed =
                Source::connect(config, &Budgets::new(), Arc::new(SystemClock::new()), EcsMetrics::new()).await;
            assert_eq!(
                assumed.describe_cluster("one").await.map(|found| found.is_some()),
                Ok(false),
                "an assumed role works"
            );
            let error = connect_error(closed).await;
            assert!(matches!(error, CallError::NotSent { .. }), "{error}");
        },
    );
}

/// What a StartTask to `address` ends with: asked in a grandchild, whose environment says so.
async fn connect_error(address: std::net::SocketAddr) -> CallError {
    let output = tokio::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "over_the_wire::prints_what_a_call_ends_with", "--nocapture"])
        .env("BLOX_ECS_TEST_PRINT", "1")
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .output()
        .await
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let cause = text
        .lines()
        .find_map(|line| line.split("ENDED ").nth(1))
        .unwrap_or_else(|| panic!("no end in {text}"));
    match cause.starts_with("not sent") {
        true => CallError::NotSent {
            operation: "StartTask",
            cause: cause.into(),
        },
        false => CallError::Unknown {
            operation: "StartTask",
            code: None,
            cause: cause.into(),
        },
    }
}

/// The grandchild of the test above; nothing by itself.
#[test]
fn prints_what_a_call_ends_with() {
    if std::env::var("BLOX_ECS_TEST_PRINT").is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let source = source(|_| {}).await;
        let start = StartTasks {
            cluster: "one".into(),
            task_definition: "agent".into(),
            instances: vec!["i".into()],
            started_by: "d".into(),
            group: "g".into(),
            send_by: in_time(),
        };
        match source.start_tasks(start).await.expect_err("nobody listens") {
            CallError::NotSent { cause, .. } => println!("ENDED not sent: {cause}"),
            error => println!("ENDED {error}"),
        }
    });
}

/// Feed and reconcile of one source bring a fleet into the state, keep up with its changes in spite of duplicates and reordering, empty the
/// queue, and put poison into quarantine.
#[test]
fn a_source_is_mirrored() {
    with_simulator("over_the_wire::a_source_is_mirrored", |control| async move {
        let (_, instances) = fleet(&control, 12).await;
        control
            .ask(
                "PATCH",
                "/faults",
                r#"{"events":{"duplicate_probability":0.3,"reorder_probability":0.3,"reorder_ms_max":300}}"#,
            )
            .await;
        let source = Arc::new(source(|_| {}).await);
        let state = Arc::new(MemoryState::new());
        let cancel = CancellationToken::new();
        let duty = tokio::spawn(run_duty(source.clone(), state.clone(), cancel.clone()));

        control
            .post(
                "/tasks/start",
                r#"{"cluster":"one","task_definition":"agent","count":12}"#,
            )
            .await;
        control.post("/messages", r#"{"body":"{ not json","count":3}"#).await;
        mirrored(&control, &state).await;
        control.post("/tasks/stop", r#"{"cluster":"one","count":5}"#).await;
        control.post("/instances/drain", r#"{"cluster":"one","count":2}"#).await;
        mirrored(&control, &state).await;
        assert_eq!(state.versions(Kind::Instance).len(), instances.len());
        assert_eq!(state.versions(Kind::Cluster).len(), 1);

        let begun = Instant::now();
        while state.store.quarantine(0, 10).expect("a list").len() < 3 {
            assert!(begun.elapsed() < PATIENCE, "poison never came into quarantine");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let status = state.store.sources().expect("a list");
        assert!(
            status
                .iter()
                .any(|status| status.source == "main" && status.reconciled_at_ms > 0),
            "{status:?}"
        );
        assert!(source.metrics().value("blox_sqs_deleted_total", &[]) > 0.0);
        cancel.cancel();
        assert_eq!(duty.await.expect("no panic"), DutyEnd::Cancelled);
    });
}

/// Waits until the state holds every instance and task as the simulator has them.
async fn mirrored(control: &Control, state: &MemoryState) {
    let begun = Instant::now();
    loop {
        let (instances, tasks) = (truth(control, "instances").await, truth(control, "tasks").await);
        let queues = control.ask("GET", "/queues", "").await;
        if instances == state.versions(Kind::Instance) && tasks == state.versions(Kind::Task) && !tasks.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "not mirrored:\n{instances:?}\n{:?}\n{tasks:?}\n{:?}\n{queues}",
            state.versions(Kind::Instance),
            state.versions(Kind::Task)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
