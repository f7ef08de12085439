//! The SQS wire: visibility, long polls, redrive, batches, attributes.

use serde_json::{Value, json};

use crate::client::{Client, REGION, exception};

async fn create(client: &Client, name: &str, attributes: Value) -> Value {
    client
        .sqs("CreateQueue", json!({"QueueName": name, "Attributes": attributes}))
        .await["QueueUrl"]
        .clone()
}

async fn receive(client: &Client, url: &Value, wait_seconds: u64) -> Vec<Value> {
    let request = json!({
        "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": wait_seconds, "VisibilityTimeout": 1,
        "MessageSystemAttributeNames": ["All"],
    });
    client.sqs("ReceiveMessage", request).await["Messages"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// An undeleted message comes again after its visibility timeout with another receipt, whose predecessor deletes
/// nothing; after the allowed number of receives it is in the dead-letter queue.
#[tokio::test]
async fn messages_come_again_until_they_are_dead() {
    let client = Client::start().await;
    let dead = create(&client, "dead", json!({})).await;
    let policy = json!({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2});
    let url = create(&client, "work", json!({"RedrivePolicy": policy.to_string()})).await;
    let sent = client
        .sqs("SendMessage", json!({"QueueUrl": url, "MessageBody": "message digest"}))
        .await;
    assert_eq!(sent["MD5OfMessageBody"], "f96b697d7cb7938d525a2f31aaf161d0");

    let first = receive(&client, &url, 0).await.remove(0);
    assert_eq!(first["MD5OfBody"], "f96b697d7cb7938d525a2f31aaf161d0");
    assert_eq!(first["Attributes"]["ApproximateReceiveCount"], "1");
    assert!(receive(&client, &url, 0).await.is_empty(), "in flight");
    let second = receive(&client, &url, 10).await.remove(0);
    assert_eq!(
        (&second["MessageId"], &second["Attributes"]["ApproximateReceiveCount"]),
        (&first["MessageId"], &json!("2"))
    );
    client
        .sqs(
            "DeleteMessage",
            json!({"QueueUrl": url, "ReceiptHandle": first["ReceiptHandle"]}),
        )
        .await;
    assert!(
        receive(&client, &url, 2).await.is_empty(),
        "given up instead of a third receive"
    );
    let letter = receive(&client, &dead, 10).await.remove(0);
    assert_eq!(letter["Body"], "message digest");
    client
        .sqs(
            "DeleteMessage",
            json!({"QueueUrl": dead, "ReceiptHandle": letter["ReceiptHandle"]}),
        )
        .await;
    let names = json!(["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]);
    let left = client
        .sqs("GetQueueAttributes", json!({"QueueUrl": dead, "AttributeNames": names}))
        .await;
    let none = json!({"ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0"});
    assert_eq!(left["Attributes"], none);

    let queues = client.show("queues").await;
    let totals = |name: &str| {
        let queues = queues["queues"].as_array().into_iter().flatten();
        let mut named = queues.filter(|queue| queue["queue"] == name);
        named.next().map(|queue| queue["totals"].clone()).expect("it exists")
    };
    let work = totals("work");
    let counted = ["sent", "received", "deleted", "dead"].map(|key| work[key].as_u64());
    assert_eq!(counted, [Some(1), Some(2), Some(0), Some(1)]);
    let dead = totals("dead");
    let counted = ["sent", "received", "deleted", "dead"].map(|key| dead[key].as_u64());
    assert_eq!(counted, [Some(1), Some(1), Some(1), Some(0)]);
    let steps = client.text("journal/queue?queue=work").await;
    let what: Vec<&str> = steps.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(what, ["sent", "received", "received", "dead"]);
}

/// A long poll answers when a message arrives, long before its own end.
#[tokio::test]
async fn a_long_poll_wakes() {
    let client = Client::start().await;
    let url = create(&client, "work", json!({})).await;
    let poll = json!({"QueueUrl": url, "WaitTimeSeconds": 20});
    let polling = tokio::spawn(client.request(REGION, "AmazonSQS.ReceiveMessage", poll).send());
    let begun = std::time::Instant::now();
    client
        .sqs("SendMessage", json!({"QueueUrl": url, "MessageBody": "b"}))
        .await;
    let answer: Value = polling
        .await
        .expect("no panic")
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["Messages"][0]["Body"], "b");
    assert!(begun.elapsed().as_secs() < 15, "the poll did not wait for its end");
}

/// Batches succeed and fail entry by entry; a visibility of zero gives a message back at once.
#[tokio::test]
async fn batches_fail_entry_by_entry() {
    let client = Client::start().await;
    let url = create(&client, "work", json!({})).await;
    let entries: Vec<Value> = (0..10)
        .map(|number| json!({"Id": number.to_string(), "MessageBody": "b"}))
        .collect();
    client
        .sqs("SendMessageBatch", json!({"QueueUrl": url, "Entries": entries}))
        .await;
    let request = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600});
    let received = client.sqs("ReceiveMessage", request.clone()).await["Messages"]
        .as_array()
        .cloned()
        .expect("messages");
    assert_eq!(received.len(), 10);
    let back = json!({"QueueUrl": url, "ReceiptHandle": received[0]["ReceiptHandle"], "VisibilityTimeout": 0});
    client.sqs("ChangeMessageVisibility", back).await;
    let again = client.sqs("ReceiveMessage", request).await;
    assert_eq!(again["Messages"][0]["MessageId"], received[0]["MessageId"]);
    let delete = json!({"QueueUrl": url, "Entries": [
        {"Id": "good", "ReceiptHandle": received[1]["ReceiptHandle"]},
        {"Id": "bad", "ReceiptHandle": "nonsense"},
    ]});
    let deleted = client.sqs("DeleteMessageBatch", delete).await;
    assert_eq!(
        (&deleted["Successful"][0]["Id"], &deleted["Failed"][0]["Id"]),
        (&json!("good"), &json!("bad"))
    );
    let eleven: Vec<Value> = (0..11)
        .map(|number| json!({"Id": number.to_string(), "MessageBody": "b"}))
        .collect();
    let (_, refused) = client
        .sqs_in(REGION, "SendMessageBatch", json!({"QueueUrl": url, "Entries": eleven}))
        .await;
    assert_eq!(exception(&refused), "TooManyEntriesInBatchRequest");
    let (_, nowhere) = client
        .sqs_in(REGION, "ReceiveMessage", json!({"QueueUrl": "x/none"}))
        .await;
    assert_eq!(exception(&nowhere), "QueueDoesNotExist");
}

/// Any body can be put on the event queue, byte for byte as far as text goes.
#[tokio::test]
async fn raw_bodies_arrive() {
    let client = Client::start().await;
    client.control("messages", json!({"body": "{ not json"})).await;
    client
        .control("messages", json!({"body": {"detail-type": "Unheard Of"}, "count": 2}))
        .await;
    let url = json!("x/blox-events");
    let bodies: Vec<Value> = receive(&client, &url, 0)
        .await
        .iter()
        .map(|message| message["Body"].clone())
        .collect();
    assert_eq!(
        bodies,
        [
            "{ not json",
            "{\"detail-type\":\"Unheard Of\"}",
            "{\"detail-type\":\"Unheard Of\"}"
        ]
    );
}
