//! The life of a task: states, versions, events, resources, and what judges count.

use serde_json::{Value, json};

use crate::client::{Client, REGION, details, tasks};

fn column(details: &[Value], name: &str) -> Vec<Value> {
    details.iter().map(|detail| detail[name].clone()).collect()
}

fn remaining(instance: &Value, name: &str) -> Value {
    let resources = instance["remainingResources"].as_array().expect("resources");
    let resource = resources.iter().find(|one| one["name"] == name).expect("the resource");
    resource["integerValue"].clone()
}

/// Every state has its event, versions rise by one, and the instance's resources move with the task.
#[tokio::test]
async fn each_state_has_its_event() {
    let (client, instances) = Client::with_fleet(1).await;
    let arn = client.start_task(&instances[0], "g").await["taskArn"].clone();
    let has = |events: &[Value], status: &str| {
        details(events, &arn)
            .iter()
            .any(|detail| detail["lastStatus"] == status)
    };
    let mut events = client.events_in(REGION, |events| has(events, "RUNNING")).await;
    client
        .ecs("StopTask", json!({"cluster": "one", "task": arn, "reason": "enough"}))
        .await;
    let at_end = |events: &[Value]| {
        let free = |detail: &Value| remaining(detail, "MEMORY") == 3904;
        has(events, "STOPPED") && details(events, &json!(instances[0])).last().is_some_and(free)
    };
    events.extend(client.events_in(REGION, at_end).await);

    let task = details(&events, &arn);
    let states = [
        "PENDING",
        "ACTIVATING",
        "RUNNING",
        "RUNNING",
        "DEACTIVATING",
        "STOPPING",
        "STOPPED",
    ];
    assert_eq!(column(&task, "lastStatus"), states);
    assert_eq!(column(&task, "version"), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(task[3]["desiredStatus"], "STOPPED");
    let last = task.last().expect("a last event");
    assert_eq!(
        (&last["stopCode"], &last["stoppedReason"]),
        (&json!("UserInitiated"), &json!("enough"))
    );
    assert!(
        last["stoppedAt"].as_str().is_some_and(|time| time.ends_with('Z')),
        "events spell times: {last}"
    );

    let instance = details(&events, &json!(instances[0]));
    let versions: Vec<u64> = column(&instance, "version").iter().filter_map(Value::as_u64).collect();
    assert_eq!(
        versions,
        (1..=versions.len() as u64).collect::<Vec<_>>(),
        "no gap, no repetition"
    );
    assert_eq!(remaining(&instance[0], "MEMORY"), 3904);
    assert_eq!(remaining(&instance[1], "MEMORY"), 3840);
    assert!(instance.iter().any(|detail| detail["runningTasksCount"] == 1));

    let described = client.describe_task(&arn).await;
    assert_eq!(described["version"], 7);
    assert!(
        described["stoppedAt"].is_number(),
        "the API counts seconds: {described}"
    );
    assert!(described.get("updatedAt").is_none() && last.get("updatedAt").is_some());
    assert!(described.get("healthStatus").is_some() && last.get("healthStatus").is_none());
}

/// A Fargate task has no instance, begins PROVISIONING, and its interface has another type in events than in the API.
#[tokio::test]
async fn fargate_tasks_have_no_instance() {
    let (client, _) = Client::with_fleet(0).await;
    let started = client
        .control(
            "tasks/start",
            json!({"cluster": "one", "task_definition": "agent", "launch_type": "FARGATE"}),
        )
        .await;
    let arn = started["tasks"][0].clone();
    let events = client
        .events_in(REGION, |events| {
            details(events, &arn).iter().any(|one| one["lastStatus"] == "RUNNING")
        })
        .await;
    let task = details(&events, &arn);
    assert_eq!(
        column(&task, "lastStatus"),
        ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"]
    );
    assert_eq!(task[3]["attachments"][0]["type"], "eni");
    let described = client.describe_task(&arn).await;
    assert_eq!(described["attachments"][0]["type"], "ElasticNetworkInterface");
    assert!(described.get("containerInstanceArn").is_none());
}

/// A terminated instance is noticed late; until then its tasks look alive, then they are STOPPED and it is INACTIVE.
#[tokio::test]
async fn termination_is_noticed_late() {
    let (client, instances) = Client::with_fleet(1).await;
    client.set_delay("agent_loss", 50).await;
    client.set_delay("termination_notice", 300).await;
    let arn = client.start_task(&instances[0], "g").await["taskArn"].clone();
    client
        .wait_for("state", |state| tasks(state)[0]["lastStatus"] == "RUNNING")
        .await;
    client.control("instances/terminate", json!({"cluster": "one"})).await;
    let stopped = |events: &[Value]| details(events, &arn).iter().any(|one| one["lastStatus"] == "STOPPED");
    let gone = |events: &[Value]| {
        details(events, &json!(instances[0]))
            .iter()
            .any(|one| one["status"] == "INACTIVE")
    };
    let events = client.events_in(REGION, |events| stopped(events) && gone(events)).await;
    let instance = details(&events, &json!(instances[0]));
    let seen: Vec<_> = instance
        .iter()
        .map(|one| (one["agentConnected"] == true, one["status"].clone()))
        .collect();
    assert!(
        seen.contains(&(false, json!("ACTIVE"))),
        "the agent's loss is seen before the notice: {seen:?}"
    );
    assert_eq!(
        details(&events, &arn).last().expect("an event")["stopCode"],
        "TerminationNotice"
    );
    let listed = client.ecs("ListContainerInstances", json!({"cluster": "one"})).await;
    assert_eq!(
        listed["containerInstanceArns"],
        json!([]),
        "INACTIVE is listed only when asked for"
    );
    let described = client
        .ecs(
            "DescribeContainerInstances",
            json!({"cluster": "one", "containerInstances": instances}),
        )
        .await;
    assert_eq!(described["containerInstances"][0]["status"], "INACTIVE");
}

/// DRAINING leaves a standalone task alone, an agent's flap too; a crash ends it with its exit code.
#[tokio::test]
async fn drains_and_flaps_do_not_stop_tasks() {
    let (client, instances) = Client::with_fleet(1).await;
    let arn = client.start_task(&instances[0], "g").await["taskArn"].clone();
    client
        .wait_for("state", |state| tasks(state)[0]["lastStatus"] == "RUNNING")
        .await;
    client.control("instances/drain", json!({"cluster": "one"})).await;
    client
        .control("instances/flap", json!({"cluster": "one", "away_ms": 20}))
        .await;
    let flapped = |events: &[Value]| {
        let instance = details(events, &json!(instances[0]));
        instance
            .windows(2)
            .any(|pair| pair[0]["agentConnected"] == false && pair[1]["agentConnected"] == true)
    };
    let events = client.events_in(REGION, flapped).await;
    assert!(
        details(&events, &json!(instances[0]))
            .iter()
            .any(|one| one["status"] == "DRAINING")
    );
    assert_eq!(client.describe_task(&arn).await["desiredStatus"], "RUNNING");
    let held = json!({"cluster": "one", "containerInstance": instances[0]});
    assert_eq!(
        client.ecs_error("DeregisterContainerInstance", held).await,
        "InvalidParameterException"
    );
    client
        .control(
            "tasks/crash",
            json!({"cluster": "one", "tasks": [arn], "exit_code": 137}),
        )
        .await;
    client
        .wait_for("state", |state| tasks(state)[0]["lastStatus"] == "STOPPED")
        .await;
    let crashed = client.describe_task(&arn).await;
    assert_eq!(
        (&crashed["stopCode"], &crashed["containers"][0]["exitCode"]),
        (&json!("EssentialContainerExited"), &json!(137))
    );
}

/// Two tasks of one group on one instance are seen, with their names and for how long, also after one stopped.
#[tokio::test]
async fn the_judge_remembers_two() {
    let (client, instances) = Client::with_fleet(2).await;
    let first = client.start_task(&instances[0], "blox:a").await["taskArn"].clone();
    client.start_task(&instances[1], "blox:a").await;
    let counts = client.show("counts?group_prefix=blox:").await;
    assert_eq!(
        (&counts["current_max"], &counts["maximum_by_group"]),
        (&json!(1), &json!(1))
    );
    let second = client.start_task(&instances[0], "blox:a").await["taskArn"].clone();
    client.ecs("StopTask", json!({"cluster": "one", "task": second})).await;
    client
        .wait_for("counts?group_prefix=blox:", |counts| counts["current_max"] == 1)
        .await;
    let counts = client.show("counts?group_prefix=blox:&above=1").await;
    let pairs = counts["pairs"].as_array().expect("pairs");
    assert_eq!(pairs.len(), 1, "{counts}");
    assert_eq!(
        (&pairs[0]["maximum"], &pairs[0]["instance"]),
        (&json!(2), &json!(instances[0]))
    );
    let mut both = vec![first, second];
    both.sort_by_key(Value::to_string);
    assert_eq!(pairs[0]["tasks_at_maximum"], json!(both));
    assert!(pairs[0]["above_one_ms"].as_u64().is_some_and(|ms| ms > 0), "{counts}");
    assert_eq!(
        client.show("counts?started_by=me").await["maximum_by_family_and_starter"],
        2
    );
    client.control("counts/reset", json!({})).await;
    assert_eq!(client.show("counts").await["maximum_by_group"], 1);
}
