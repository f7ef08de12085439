//! Rolling out a new task definition, and leaving instances that are drained.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, DEADLINE, Lines, REGION, SimulatorProcess, eventually, seeded};

const INSTANCES: usize = 8;
const MAX_UNAVAILABLE: usize = 2;

/// Waits until an environment's summary counts so many daemons ready and up to date.
async fn all_ready(cluster: &Cluster, environment: &str, count: usize) {
    eventually("every daemon runs", DEADLINE, || async {
        let environment = cluster.get(0, &format!("/v2/environments/{environment}")).await.json();
        let summary = &environment["summary"];
        let well = ["desired", "ready", "updated"].iter().all(|key| summary[key] == count)
            && environment["deployment"]["status"] == "completed";
        if well { Ok(()) } else { Err(environment.to_string()) }
    })
    .await;
}

/// What the events say of the daemons: by instance, the ARNs of those that are RUNNING and wanted so.
#[derive(Default)]
struct Daemons {
    running: BTreeMap<String, Vec<String>>,
    definitions: BTreeMap<String, String>,
}

impl Daemons {
    fn follow(&mut self, event: &Value) {
        let document = &event["object"]["document"];
        if event["kind"] != "task"
            || !document["group"]
                .as_str()
                .is_some_and(|group| group.starts_with("blox:"))
        {
            return;
        }
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let (arn, instance) = (text("taskArn"), text("containerInstanceArn"));
        let on_instance = self.running.entry(instance).or_default();
        on_instance.retain(|running| *running != arn);
        if text("lastStatus") == "RUNNING" && text("desiredStatus") == "RUNNING" {
            on_instance.push(arn.clone());
            self.definitions.insert(arn, text("taskDefinitionArn"));
        } else {
            self.definitions.remove(&arn);
        }
    }

    fn without(&self) -> usize {
        self.running.values().filter(|running| running.is_empty()).count()
    }

    fn all_of(&self, definition: &str) -> bool {
        self.definitions.len() == INSTANCES && self.definitions.values().all(|running| running == definition)
    }
}

/// At no event of a roll-out are more instances without a running daemon than was allowed, and never is there a second one on an instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_out_keeps_within_what_may_be_unavailable() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    let first = simulator.definition(REGION, "agent").await;
    let second = simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    let begin = cluster.get(0, "/v2/cluster").await.json()["revision"]
        .as_u64()
        .expect("a revision")
        + 1;
    let wanted = |definition: &str| json!({"cluster": "alpha", "task_definition": definition, "max_unavailable": MAX_UNAVAILABLE});
    cluster.put("/v2/environments/agent", &wanted(&first)).await;
    all_ready(&cluster, "agent", INSTANCES).await;
    cluster.put("/v2/environments/agent", &wanted("agent:2")).await;
    all_ready(&cluster, "agent", INSTANCES).await;

    let url = format!("{}/v2/watch?kinds=task&from_revision={begin}", cluster.nodes[1].url());
    let mut lines = Lines::open(&cluster.client, &url).await.expect("the history is kept");
    let mut daemons = Daemons::default();
    let mut rolling = false;
    let mut worst = 0;
    while !daemons.all_of(&second) {
        let event = lines
            .next(DEADLINE)
            .await
            .expect("the watch goes on")
            .expect("the roll-out is in the history");
        daemons.follow(&event);
        // First placements are not limited: what is allowed counts from when all run.
        rolling |= daemons.all_of(&first);
        if rolling {
            worst = worst.max(daemons.without());
            assert!(
                daemons.without() <= MAX_UNAVAILABLE,
                "{} instances without a daemon at {event}",
                daemons.without()
            );
        }
    }
    assert!(rolling && worst > 0, "the roll-out was seen");
    for pair in simulator.counts("blox:").await {
        assert_eq!(pair["maximum"], 1, "never two on one instance: {pair}");
    }
}

/// On an instance that is drained ours stays while anything else runs there, and leaves when nothing else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_draining_instance_ours_leaves_last() {
    let (seed, _) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    let instances = simulator.cluster(REGION, "alpha", 2).await;
    for family in ["agent", "web"] {
        simulator.definition(REGION, family).await;
    }
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start(directory, &simulator.url(), &[source]).await;
    cluster.reconciled().await;
    cluster
        .put(
            "/v2/environments/agent",
            &json!({"cluster": "alpha", "task_definition": "agent"}),
        )
        .await;
    all_ready(&cluster, "agent", instances.len()).await;
    let drained = &instances[0];
    let order = json!({"cluster": "alpha", "task_definition": "web", "instances": [drained]});
    let application = simulator.post("/tasks/start", order).await["tasks"][0]
        .as_str()
        .expect("it starts")
        .to_owned();
    simulator.wait_until_still().await;
    cluster.holds_the_truth_of(&simulator, REGION).await;

    let mut lines = Lines::open(
        &cluster.client,
        &format!("{}/v2/watch?kinds=task,instance", cluster.nodes[2].url()),
    )
    .await
    .expect("a watch");
    simulator
        .post("/instances/drain", json!({"cluster": "alpha", "instances": [drained]}))
        .await;
    let on_it = |event: &Value| event["object"]["document"]["containerInstanceArn"] == json!(drained);
    let mut quiet_bookmarks = 0;
    let mut draining = false;
    // Bookmarks come when nothing else does: two of them in a row after the drain are ten quiet seconds, in which ours must stay.
    while quiet_bookmarks < 2 {
        let event = lines
            .next(DEADLINE)
            .await
            .expect("the watch goes on")
            .expect("bookmarks come");
        if event["type"] == "BOOKMARK" {
            quiet_bookmarks += usize::from(draining);
        } else if on_it(&event) {
            quiet_bookmarks = 0;
            draining |= event["object"]["document"]["status"] == "DRAINING";
            assert_ne!(
                event["object"]["document"]["desiredStatus"], "STOPPED",
                "nothing may stop while another's task runs: {event}"
            );
        }
    }
    simulator
        .post("/tasks/stop", json!({"cluster": "alpha", "tasks": [application]}))
        .await;
    let mut application_stopped = false;
    loop {
        let event = lines
            .next(DEADLINE)
            .await
            .expect("the watch goes on")
            .expect("ours leaves");
        let document = &event["object"]["document"];
        if event["kind"] != "task" || !on_it(&event) {
            continue;
        }
        if document["taskArn"] == json!(application) {
            application_stopped |= document["lastStatus"] == "STOPPED";
        } else if document["desiredStatus"] == "STOPPED" {
            assert!(application_stopped, "ours stops only when the other has: {event}");
            if document["lastStatus"] == "STOPPED" {
                break;
            }
        }
    }
    tokio::time::timeout(
        Duration::from_secs(60),
        all_ready(&cluster, "agent", instances.len() - 1),
    )
    .await
    .expect("one instance is left");
}
