//! Faults: of events, of listings, of calls and of answers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, REGION, ecs_target, exception, start_request, strings, tasks};

/// A duplicate is the same event under another message; a lost one is in the journal and in no queue.
#[tokio::test]
async fn events_are_duplicated_and_lost() {
    let client = Client::start().await;
    client.control("clusters", json!({"cluster": "one"})).await;
    client
        .set_faults(json!({"events": {"duplicate_probability": 0.5}}))
        .await;
    client
        .control("instances", json!({"cluster": "one", "count": 40}))
        .await;
    let journal = client.show("journal").await;
    let copies: Vec<usize> = journal["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["messages"].as_array().map_or(0, Vec::len))
        .collect();
    assert!(
        copies.iter().all(|count| *count >= 1) && copies.iter().any(|count| *count > 1),
        "{copies:?}"
    );
    let total: usize = copies.iter().sum();
    let events = client.events_in(REGION, |events| events.len() >= total).await;
    let mut ids: Vec<String> = events.iter().map(|event| event["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((events.len(), ids.len()), (total, 40));
    let journal = client.show("journal").await;
    let deleted = |message: &Value| message["deleted_ms"].is_number() && message["first_received_ms"].is_number();
    let messages = journal["events"]
        .as_array()
        .expect("events")
        .iter()
        .flat_map(|event| event["messages"].as_array().expect("messages"));
    assert!(
        messages.into_iter().all(deleted),
        "the journal follows each message to its end"
    );

    client.set_faults(json!({"events": {"loss_probability": 1.0}})).await;
    let arn = client.control("instances", json!({"cluster": "one"})).await["instances"][0].clone();
    let resources = client.show("journal/resources").await;
    let lost = &resources["resources"][arn.as_str().expect("an ARN")];
    assert_eq!(
        (&lost["highest_version_sent"], &lost["highest_version_queued"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(client.show("queues").await["queues"][0]["visible"], 0);
}

/// Reordered events arrive in another order than they were sent, and all of them.
#[tokio::test]
async fn events_are_reordered() {
    let client = Client::start().await;
    client.control("clusters", json!({"cluster": "one"})).await;
    client
        .set_faults(json!({"events": {"reorder_probability": 0.5, "reorder_ms_max": 200}}))
        .await;
    let sent = strings(
        &client
            .control("instances", json!({"cluster": "one", "count": 50}))
            .await["instances"],
    );
    let events = client.events_in(REGION, |events| events.len() == 50).await;
    let mut arrived: Vec<String> = events
        .iter()
        .map(|event| event["resources"][0].as_str().expect("an ARN").into())
        .collect();
    assert_ne!(arrived, sent);
    let mut expected = sent;
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
}

/// A listing that lags does not show a new task which a description that does not lag shows; then it does.
#[tokio::test]
async fn listings_lag() {
    let (client, instances) = Client::with_fleet(1).await;
    client.set_faults(json!({"lag": {"list_tasks_ms": 200_000}})).await;
    let arn = client.start_task(&instances[0], "g").await["taskArn"].clone();
    let listed = client.ecs("ListTasks", json!({"cluster": "one"})).await;
    assert_eq!(listed["taskArns"], json!([]));
    assert_eq!(client.describe_task(&arn).await["taskArn"], arn);
    client
        .set_faults(json!({"lag": {"list_tasks_ms": 0, "describe_ms": 200_000}}))
        .await;
    assert_eq!(
        client.ecs("ListTasks", json!({"cluster": "one"})).await["taskArns"],
        json!([arn])
    );
    assert_eq!(client.describe_task(&arn).await, json!(null));
}

/// A held StartTask has taken effect, is seen to be held, and answers when it is released.
#[tokio::test]
async fn a_held_answer_comes_when_released() {
    let (client, instances) = Client::with_fleet(1).await;
    client
        .control(
            "answers",
            json!({"operation": "StartTask", "action": "hold", "calls": 1}),
        )
        .await;
    let call = tokio::spawn(
        client
            .request(REGION, &ecs_target("StartTask"), start_request(&instances[0], "g"))
            .send(),
    );
    let held = client.show("held?operation=StartTask&at_least=1&wait_ms=20000").await;
    assert_eq!(held["held"], 1, "{held}");
    assert_eq!(tasks(&client.show("state").await).len(), 1);
    assert!(!call.is_finished());
    assert_eq!(
        client.control("release", json!({"operation": "StartTask"})).await["released"],
        1
    );
    let answer: Value = call
        .await
        .expect("no panic")
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        client.start_task(&instances[0], "h").await["group"],
        "h",
        "one call was to be held, not two"
    );
}

/// A caller that dies while its answer is held is no longer counted as held; what it did stays done.
#[tokio::test]
async fn a_dead_caller_is_forgotten() {
    let (client, instances) = Client::with_fleet(1).await;
    client
        .control("answers", json!({"operation": "StartTask", "action": "hold"}))
        .await;
    let call = tokio::spawn(
        client
            .request(REGION, &ecs_target("StartTask"), start_request(&instances[0], "g"))
            .send(),
    );
    assert_eq!(client.show("held?at_least=1&wait_ms=20000").await["held"], 1);
    call.abort();
    client
        .wait_for("held", |held| held["held"] == 0 && held["held_ever"] == 1)
        .await;
    assert_eq!(tasks(&client.show("state").await).len(), 1);
}

/// A lost answer is a closed connection after the effect; so is a held one whose time ends with `drop`.
#[tokio::test]
async fn answers_are_lost() {
    let (client, instances) = Client::with_fleet(2).await;
    let send = || {
        client
            .request(REGION, &ecs_target("StartTask"), start_request(&instances[0], "g"))
            .send()
    };
    client
        .control(
            "answers",
            json!({"operation": "StartTask", "action": "lose", "calls": 1}),
        )
        .await;
    assert!(send().await.is_err(), "no answer comes");
    let hold = json!({"operation": "StartTask", "action": "hold", "calls": 1, "hold_ms": 50, "then": "drop"});
    client.control("answers", hold).await;
    assert!(send().await.is_err(), "no answer comes");
    assert_eq!(tasks(&client.show("state").await).len(), 2);
    let journal = client.show("journal").await;
    let answers: Vec<&Value> = journal["calls"]
        .as_array()
        .expect("calls")
        .iter()
        .map(|call| &call["answer"])
        .collect();
    assert_eq!(answers, ["lost", "held"]);
}

/// A delayed call has no effect before it is released; then it has, although its caller is gone. The journal names its instance.
#[tokio::test]
async fn a_delayed_call_arrives_late() {
    let (client, instances) = Client::with_fleet(1).await;
    let delay = json!({"operation": "StartTask", "action": "delay", "calls": 1});
    client.control("answers", delay).await;
    let call = tokio::spawn(
        client
            .request(REGION, &ecs_target("StartTask"), start_request(&instances[0], "g"))
            .send(),
    );
    assert_eq!(client.show("held?at_least=1&wait_ms=20000").await["held"], 1);
    call.abort();
    let _ = call.await;
    client.start_task(&instances[0], "h").await;
    let groups = |state: &Value| -> Vec<String> {
        let mut groups = strings(&tasks(state).iter().map(|task| task["group"].clone()).collect());
        groups.sort();
        groups
    };
    assert_eq!(groups(&client.show("state").await), ["h"]);
    client.control("release", json!({"operation": "StartTask"})).await;
    client.wait_for("state", |state| groups(state) == ["g", "h"]).await;
    let journal = client
        .wait_for("journal", |journal| {
            journal["calls"].as_array().is_some_and(|calls| calls.len() == 2)
        })
        .await;
    assert_eq!(journal["calls"][1]["resources"], json!([instances[0]]));
}

/// Buckets are empty after their burst with AWS's error, per region; injected errors come before any effect.
#[tokio::test]
async fn calls_are_throttled_and_fail() {
    let (client, instances) = Client::with_fleet(1).await;
    let rates = json!({"cluster_resource_modify": {"burst": 2, "per_second": 0}});
    client
        .set_faults(json!({"throttling": {"enabled": true, "rates": rates}}))
        .await;
    client.start_task(&instances[0], "a").await;
    client.start_task(&instances[0], "b").await;
    let (status, answer) = client
        .ecs_in(REGION, "StartTask", start_request(&instances[0], "c"))
        .await;
    assert_eq!(
        (status, exception(&answer).as_str(), &answer["message"]),
        (400, "ThrottlingException", &json!("Rate exceeded"))
    );
    let (_, elsewhere) = client
        .ecs_in("eu-west-1", "StartTask", start_request(&instances[0], "c"))
        .await;
    assert_eq!(exception(&elsewhere), "ClusterNotFoundException");
    client
        .set_faults(json!({"throttling": {"enabled": false}, "errors": {"StartTask": 1.0}}))
        .await;
    let (status, _) = client
        .ecs_in(REGION, "StartTask", start_request(&instances[0], "c"))
        .await;
    assert_eq!(status, 500);
    assert_eq!(tasks(&client.show("state").await).len(), 2);
}

/// Held answers and long polls do not keep the simulator from stopping within a second.
#[tokio::test]
async fn stopping_waits_for_nobody() {
    let (client, instances) = Client::with_fleet(1).await;
    client
        .control("answers", json!({"operation": "StartTask", "action": "hold"}))
        .await;
    client.sqs("PurgeQueue", json!({"QueueUrl": "x/blox-events"})).await;
    client.set_faults(json!({"events": {"loss_probability": 1.0}})).await;
    let held = tokio::spawn(
        client
            .request(REGION, &ecs_target("StartTask"), start_request(&instances[0], "g"))
            .send(),
    );
    let poll = json!({"QueueUrl": "x/blox-events", "WaitTimeSeconds": 20});
    let polling = tokio::spawn(client.request(REGION, "AmazonSQS.ReceiveMessage", poll).send());
    assert_eq!(client.show("held?at_least=1&wait_ms=20000").await["held"], 1);
    tokio::time::timeout(Duration::from_secs(2), client.simulator.shutdown())
        .await
        .expect("a stop within two seconds");
    assert!(held.await.expect("no panic").is_err(), "the held answer is dropped");
    // Answered empty, or never accepted: either way it is over.
    let _ = tokio::time::timeout(Duration::from_secs(2), polling)
        .await
        .expect("the long poll is over");
}
