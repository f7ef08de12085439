//! One request under one idempotency key, however often and wherever it is sent: done once, answered alike.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use tokio::task::JoinSet;

use crate::harness::{Answer, Client, Cluster, DEADLINE, count, eventually, seeded};

/// Clients of one round; each writes one key once.
const CLIENTS: usize = 24;
/// How impatient a client is with the first nodes it asks.
const GIVES_UP_MS: std::ops::Range<u64> = 1..30;
/// How long a patient client waits for one answer.
const PATIENT: Duration = Duration::from_secs(8);

/// A request that a node has been given so long ago is in its leader's hands, or in a socket on the way there; nobody can say which.
const UNDER_WAY_AFTER: Duration = Duration::from_millis(200);

/// A request that is sent again and again.
#[derive(Clone, Debug)]
struct Request {
    /// Of the key it writes, and its idempotency key.
    name: String,
    value: String,
    /// `If-None-Match: *`: a retry that was executed again would be refused.
    creates: bool,
}

/// What a request was answered, once it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    body: String,
}

/// Clients lose patience and send the same request to another node, while the leader is killed or stands still: each request is executed
/// once, and every answer is the same, through every node, also after all three were killed at once; the same key with another body is
/// refused everywhere and changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_executed_once_through_any_nodes() {
    let (seed, mut random) = seeded();
    let mut cluster = Cluster::prepare(Cluster::directory(), None, "http://127.0.0.1:9", &[], "");
    cluster.begin().await;
    let mut told: BTreeMap<String, (Request, Told)> = BTreeMap::new();
    let mut tries = 0;
    let rounds = count(3, 40);
    for round in 0..rounds {
        let clients = clients(&cluster, seed, round);
        let leader = cluster.leader().await;
        // Some requests are with the leader now, some on their way, some not sent yet.
        tokio::time::sleep(Duration::from_millis(random.random_range(5..40))).await;
        let stands_still = round % 2 == 1;
        if stands_still {
            cluster.nodes[leader].pause();
            tokio::time::sleep(Duration::from_millis(random.random_range(500..2_000))).await;
            cluster.nodes[leader].resume();
        } else {
            cluster.nodes[leader].kill().await;
        }
        for (request, answer, attempts) in clients.join_all().await {
            tries += attempts;
            told.insert(request.name.clone(), (request, answer));
        }
        if !stands_still {
            cluster.nodes[leader].start();
            cluster.ready(leader).await;
        }
    }
    println!("{} requests in {tries} attempts over {rounds} rounds", told.len());
    assert!(tries > told.len(), "nobody lost patience");

    each_was_executed_once(&cluster, &told).await;
    answered_alike_everywhere(&cluster, &told).await;
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    cluster.begin().await;
    answered_alike_everywhere(&cluster, &told).await;
    another_body_is_refused(&cluster, &told).await;
    each_was_executed_once(&cluster, &told).await;
}

/// A write under an idempotency key that is on its way to a leader which stands still is answered by the next leader, in the same request: the
/// node that was asked writes it again, and it is applied once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_outlives_the_leader_it_was_sent_to() {
    let mut cluster = Cluster::prepare(Cluster::directory(), None, "http://127.0.0.1:9", &[], "");
    cluster.begin().await;
    for round in 0..count(2, 20) {
        let leader = cluster.leader().await;
        let follower = cluster.nodes[(leader + 1) % 3].url();
        cluster.nodes[leader].pause();
        let requests = (0..CLIENTS).map(|number| Request {
            name: format!("outlives/{round}/{number}"),
            value: format!("{round}-{number}"),
            creates: true,
        });
        let sent = requests.map(|request| {
            let (client, follower) = (&cluster.client, &follower);
            async move {
                let answer = send(client, follower, &request, &request.value).await;
                (request, answer.expect("it answers"))
            }
        });
        let answers = futures::future::join_all(sent).await;
        cluster.nodes[leader].resume();
        for (request, answer) in answers {
            assert_eq!(answer.status, 200, "{}: {}", request.name, answer.text());
            let read = cluster.get(0, &format!("/v2/kv/{}", request.name)).await;
            assert_eq!(
                (read.text(), read.header("x-blox-version").as_str()),
                (request.value, "1"),
                "{}",
                request.name
            );
        }
    }
}

/// Where the leader died with a request in its hands and there is no next one, the answer is that the outcome is not known: that later tries
/// found nobody says nothing of the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_written_is_not_called_refused() {
    let mut cluster = Cluster::prepare(Cluster::directory(), None, "http://127.0.0.1:9", &[], "");
    cluster.begin().await;
    let leader = cluster.leader().await;
    let [asked, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let request = Request {
        name: "in-its-hands".to_owned(),
        value: "perhaps".to_owned(),
        creates: true,
    };
    // The leader has it, as far as anybody knows, when it dies; nobody can be elected.
    cluster.nodes[other].pause();
    cluster.nodes[leader].pause();
    let client = cluster.client.clone();
    let url = cluster.nodes[asked].url();
    let sent = tokio::spawn({
        let request = request.clone();
        async move { send(&client, &url, &request, &request.value).await }
    });
    tokio::time::sleep(UNDER_WAY_AFTER).await;
    cluster.nodes[leader].kill().await;
    let answer = sent.await.expect("no panic").expect("it answers");
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (504, Some("outcome_unknown")),
        "{}",
        answer.text()
    );
    cluster.nodes[other].resume();
    cluster.nodes[leader].start();
    cluster.ready(leader).await;
    let url = cluster.nodes[asked].url();
    let settled = answered(&cluster, &url, &request, &request.value).await;
    assert_eq!(settled.status, 200, "{}", settled.text());
}

fn clients(cluster: &Cluster, seed: u64, round: usize) -> JoinSet<(Request, Told, usize)> {
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
    let mut running = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, urls) = (cluster.client.clone(), urls.clone());
        let random = ChaCha8Rng::seed_from_u64(seed ^ (round * CLIENTS + number) as u64);
        let request = Request {
            name: format!("once/{round}/{number}"),
            value: format!("{round}-{number}"),
            creates: number % 2 == 0,
        };
        running.spawn(async move {
            let (told, attempts) = until_answered(&client, &urls, &request, random).await;
            (request, told, attempts)
        });
    }
    running
}

/// Sends it to one node after another, impatiently at first, until one answers; how many attempts that took.
async fn until_answered(client: &Client, urls: &[String], request: &Request, mut random: ChaCha8Rng) -> (Told, usize) {
    let first: usize = random.random_range(0..urls.len());
    for attempt in 0.. {
        let url = &urls[(first + attempt) % urls.len()];
        let patience = match attempt {
            0..3 => Duration::from_millis(random.random_range(GIVES_UP_MS)),
            _ => PATIENT,
        };
        let sent = tokio::time::timeout(patience, send(client, url, request, &request.value)).await;
        match sent {
            Ok(Ok(answer)) if answer.status < 500 => return (told(&answer), attempt + 1),
            // Not known, or not done: both are answered by asking again.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        assert!(attempt < 1_000, "{request:?} is never answered");
    }
    unreachable!("attempts end with an answer or a panic")
}

async fn send(client: &Client, url: &str, request: &Request, value: &str) -> Result<Answer, String> {
    let url = format!("{url}/v2/kv/{}", request.name);
    let mut headers = vec![("idempotency-key", request.name.as_str())];
    if request.creates {
        headers.push(("if-none-match", "*"));
    }
    client
        .ask(Method::PUT, &url, &headers, Some(value.as_bytes().to_vec()))
        .await
}

fn told(answer: &Answer) -> Told {
    Told {
        status: answer.status,
        body: answer.text(),
    }
}

/// A key's version counts its writes.
async fn each_was_executed_once(cluster: &Cluster, told: &BTreeMap<String, (Request, Told)>) {
    for (position, (name, (request, first))) in told.iter().enumerate() {
        assert_eq!(first.status, 200, "{name}: {}", first.body);
        let answer = cluster.get(position % 3, &format!("/v2/kv/{name}")).await;
        assert_eq!(
            (answer.text(), answer.header("x-blox-version").as_str()),
            (request.value.clone(), "1"),
            "{name}"
        );
    }
}

async fn answered_alike_everywhere(cluster: &Cluster, told_first: &BTreeMap<String, (Request, Told)>) {
    for (request, first) in told_first.values() {
        for node in &cluster.nodes {
            let again = answered(cluster, &node.url(), request, &request.value).await;
            assert_eq!(told(&again), *first, "{request:?} through {}", node.name);
            assert_eq!(
                again.header("x-blox-replayed"),
                "true",
                "{request:?} through {}",
                node.name
            );
        }
    }
}

async fn another_body_is_refused(cluster: &Cluster, told: &BTreeMap<String, (Request, Told)>) {
    for (position, (request, _)) in told.values().enumerate() {
        let node = &cluster.nodes[position % cluster.nodes.len()];
        let refused = answered(cluster, &node.url(), request, "another body").await;
        assert_eq!(
            (refused.status, refused.json()["code"].as_str()),
            (409, Some("idempotency_conflict"))
        );
    }
}

/// Asks one node until it can answer.
async fn answered(cluster: &Cluster, url: &str, request: &Request, value: &str) -> Answer {
    eventually(&request.name, DEADLINE, || async {
        let answer = send(&cluster.client, url, request, value).await?;
        if answer.status < 500 {
            Ok(answer)
        } else {
            Err(answer.text())
        }
    })
    .await
}
