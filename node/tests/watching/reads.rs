//! Reads where leadership changes: nothing old is ever told as linearizable, and whoever asks for less is told how old it is.

use std::time::{Duration, Instant};

use rand::Rng;
use reqwest::Method;

use crate::harness::{Answer, Cluster, DEADLINE, Network, count, eventually, seeded};
use crate::registers::{self, Did, Operation};
use crate::traffic::{Traffic, found};

/// A node answers within its own deadline (5 s), and a busy machine's delay.
const ANSWER_MAX: Duration = Duration::from_millis(6_500);
/// A leader that is cut off refuses linearizable reads once no quorum has answered for one round, long before the deadline (at the slower
/// times of these tests some two seconds): who asks is better served elsewhere.
const REFUSED_MAX: Duration = Duration::from_millis(4_000);
/// A node that does not keep up says so once its state is 3 s old, and not only at its deadline (5 s).
const BEHIND_MAX: Duration = Duration::from_millis(4_700);
/// How long one node may take to say who leads.
const LOOK: Duration = Duration::from_secs(1);
/// Writes and linearizable reads sent to a leader that was just cut off.
const ASKED_WHEN_CUT_OFF: usize = 4;
/// Reads answered within this of a new term's first answer are those of its first moment.
const FIRST_MOMENT: Duration = Duration::from_millis(50);
/// Writes that the others acknowledge while one stands still.
const WRITES_MEANWHILE: u64 = 20;

/// How a leader loses its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CutOff {
    /// Nothing in, nothing out.
    Isolated,
    /// It is heard and hears nothing.
    Deaf,
    /// It hears and is not heard.
    Mute,
}

/// A leader without its followers refuses linearizable reads within its deadline, says of stale ones how stale they are, and of writes that
/// their outcome is not known, or that nothing was written, which then is so. The others go on; nothing that anybody was told as linearizable
/// is older than what was acknowledged before. Stale reads, taken for linearizable ones, are found to be none: the check can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_never_lies() {
    let Some(mut network) = Network::or_skip("a_leader_that_is_cut_off_never_lies", 3) else {
        return;
    };
    let (seed, _random) = seeded();
    let mut cluster = Cluster::prepare(Cluster::directory(), Some(&network), "http://127.0.0.1:9", &[], "");
    cluster.begin().await;
    let traffic = Traffic::start(&cluster, seed);
    let mut canaries = Vec::new();
    for round in 0..count(2, 20) {
        let manner = [CutOff::Isolated, CutOff::Deaf, CutOff::Mute][round % 3];
        canaries.extend(cut_off(&cluster, &mut network, manner, round).await);
        traffic.goes_on(WRITES_MEANWHILE).await;
    }
    let history = traffic.end().await;
    let operations = history.operations();
    println!(
        "{} reads, {} writes, {} of them unknown, {} refused; {} reads of one's own write elsewhere",
        history.count(|did| matches!(did, Did::Read { .. })),
        history.count(|did| !matches!(did, Did::Read { .. })),
        history.count(|did| matches!(did, Did::MayHaveWritten { .. })),
        history.count(|did| matches!(did, Did::NeverWrote { .. })),
        history.followed
    );
    registers::check(&operations).expect("linearizable");
    assert!(
        registers::check(&canaries).is_err(),
        "stale reads pass for linearizable: {canaries:?}"
    );
    assert!(history.followed > 0);
}

/// One round; the stale reads that were told while it lasted, as operations on a register of their own.
async fn cut_off(cluster: &Cluster, network: &mut Network, manner: CutOff, round: usize) -> Vec<Operation> {
    let canary = format!("canary/{round}");
    let clock = Instant::now();
    let (leader, before, cut) = loop {
        let leader = leader_among(cluster, &[0, 1, 2]).await;
        let before = written(cluster, leader, &canary, "before", clock).await;
        let others = (0..3).filter(|node| *node != leader);
        match manner {
            CutOff::Isolated => network.isolate(leader),
            CutOff::Deaf => others.for_each(|other| network.cut(other, leader)),
            CutOff::Mute => others.for_each(|other| network.cut(leader, other)),
        }
        let cut = Instant::now();
        // On a busy machine another one may have been elected in the moment before: then nothing is shown by this.
        if says_it_leads(cluster, leader).await {
            break (leader, before, cut);
        }
        network.heal();
    };
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let mut told = vec![before];

    let refused = refused_linearizable(cluster, leader, &canary);
    let lost = async {
        let mut lost = lost_writes(cluster, leader, &format!("lost/{round}/at-once")).await;
        assert!(
            !lost.unknown.is_empty() || manner != CutOff::Isolated,
            "it believed itself leader"
        );
        // It has known for long now that it leads no more.
        if manner == CutOff::Isolated {
            lost.never.extend(
                lost_writes(cluster, leader, &format!("lost/{round}/later"))
                    .await
                    .only_never(),
            );
        }
        lost
    };
    let majority = async {
        let next = leader_among(cluster, &others).await;
        let after = written(cluster, next, &canary, "after", clock).await;
        let took = cut.elapsed();
        let stale = stale_read(cluster, leader, &canary, manner, cut, clock).await;
        (next, after, stale, took)
    };
    let (slowest, lost, (next, after, stale, took)) = tokio::join!(refused, lost, majority);
    // It does not lead any more, and still says how old its state is.
    let still_stale = stale_read(cluster, leader, &canary, manner, cut, clock).await;
    let term = term_of(cluster, next).await;
    println!(
        "round {round}: {manner:?}: {} acknowledges after {:.2} s; the old leader refuses reads after {:.2} s at most; {} writes unknown, {} refused",
        cluster.nodes[next].name,
        took.as_secs_f64(),
        slowest.as_secs_f64(),
        lost.unknown.len(),
        lost.never.len()
    );
    told.extend([after, stale, still_stale]);

    network.heal();
    healed(cluster, leader, &canary).await;
    lost.check(cluster).await;
    assert_eq!(
        term_of(cluster, leader).await,
        term,
        "the node that came back has deposed the leader"
    );
    told
}

async fn says_it_leads(cluster: &Cluster, node: usize) -> bool {
    let url = format!("{}/v2/cluster", cluster.nodes[node].url());
    let status = cluster.client.get_json(&url).await.expect("the test reaches it");
    status["node"]["role"] == "leader"
}

async fn written(cluster: &Cluster, node: usize, key: &str, value: &str, clock: Instant) -> Operation {
    let url = format!("{}/v2/kv/{key}", cluster.nodes[node].url());
    let nanoseconds = || u64::try_from(clock.elapsed().as_nanos()).expect("a test is short");
    let begin = nanoseconds();
    let answer = cluster
        .client
        .ask(Method::PUT, &url, &[], Some(value.as_bytes().to_vec()))
        .await;
    let answer = answer.expect("it can be asked");
    assert_eq!(answer.status, 200, "{}", answer.text());
    Operation {
        key: key.to_owned(),
        begin,
        end: nanoseconds(),
        did: Did::Wrote {
            value: value.to_owned(),
            revision: answer.json()["mod_revision"].as_u64().expect("a revision"),
        },
        by: format!("through node {node}"),
    }
}

/// Every linearizable read is refused in time; how long the slowest refusal took.
async fn refused_linearizable(cluster: &Cluster, node: usize, key: &str) -> Duration {
    let url = format!("{}/v2/kv/{key}", cluster.nodes[node].url());
    let asked = (0..ASKED_WHEN_CUT_OFF).map(|_| async {
        let began = Instant::now();
        let answer = cluster.client.get(&url).await.expect("the test reaches it");
        assert_eq!(answer.status, 503, "told as linearizable: {}", answer.text());
        assert_eq!(answer.json()["code"], "no_leader");
        began.elapsed()
    });
    let slowest = futures::future::join_all(asked)
        .await
        .into_iter()
        .max()
        .unwrap_or_default();
    assert!(slowest < REFUSED_MAX, "refused only after {slowest:?}");
    slowest
}

/// Writes sent to a leader that is cut off, by what it said of them.
#[derive(Default)]
struct Lost {
    unknown: Vec<String>,
    never: Vec<String>,
}

async fn lost_writes(cluster: &Cluster, node: usize, keys: &str) -> Lost {
    let asked = (0..ASKED_WHEN_CUT_OFF).map(|number| async move {
        let key = format!("{keys}/{number}");
        let url = format!("{}/v2/kv/{key}", cluster.nodes[node].url());
        let began = Instant::now();
        let answer = cluster.client.ask(Method::PUT, &url, &[], Some(b"lost".to_vec())).await;
        let answer = answer.expect("the test reaches it");
        assert!(
            began.elapsed() < ANSWER_MAX,
            "answered only after {:?}",
            began.elapsed()
        );
        (key, answer)
    });
    let mut lost = Lost::default();
    for (key, answer) in futures::future::join_all(asked).await {
        match (answer.status, answer.json()["code"].as_str()) {
            (504, Some("outcome_unknown")) => lost.unknown.push(key),
            (503, Some("no_leader")) => lost.never.push(key),
            _ => panic!(
                "a write on a leader that is cut off: {} {}",
                answer.status,
                answer.text()
            ),
        }
    }
    lost
}

impl Lost {
    /// The keys, where nothing was written for certain.
    fn only_never(self) -> Vec<String> {
        assert!(
            self.unknown.is_empty(),
            "it knew that it does not lead, and does not know what it did: {:?}",
            self.unknown
        );
        self.never
    }

    /// What was said never to be written is not there; of the rest all nodes say the same.
    async fn check(&self, cluster: &Cluster) {
        for key in &self.never {
            for node in 0..cluster.nodes.len() {
                assert_eq!(
                    linearizable(cluster, node, key).await.status,
                    404,
                    "{key} was said not to be written"
                );
            }
        }
        for key in &self.unknown {
            let first = linearizable(cluster, 0, key).await.status;
            for node in 1..cluster.nodes.len() {
                assert_eq!(linearizable(cluster, node, key).await.status, first, "{key}");
            }
        }
    }
}

/// Stale reads go on, say how old they are, and are refused where that is too old.
async fn stale_read(
    cluster: &Cluster,
    node: usize,
    key: &str,
    manner: CutOff,
    cut: Instant,
    clock: Instant,
) -> Operation {
    let nanoseconds = || u64::try_from(clock.elapsed().as_nanos()).expect("a test is short");
    let url = format!("{}/v2/kv/{key}?consistency=stale", cluster.nodes[node].url());
    let (begin, at_least) = (nanoseconds(), cut.elapsed());
    let answer = cluster.client.get(&url).await.expect("the test reaches it");
    let did = found(&answer).unwrap_or_else(|| panic!("a stale read needs nobody: {}", answer.text()));
    let read = Operation {
        key: key.to_owned(),
        begin,
        end: nanoseconds(),
        did,
        by: "stale".to_owned(),
    };
    // One that hears the new leader may be as new as it.
    if manner != CutOff::Mute {
        let contact = answer.header("x-blox-leader-contact-ms");
        let age: u128 = contact
            .parse()
            .unwrap_or_else(|_| panic!("it does not say how stale it is: {:?}", answer.headers));
        assert!(
            age >= at_least.as_millis(),
            "cut off for {at_least:?}, it says that it heard of a quorum {age} ms ago"
        );
        let fresh = cluster
            .client
            .get(&format!("{url}&max_stale=200ms"))
            .await
            .expect("the test reaches it");
        assert_eq!((fresh.status, fresh.json()["code"].as_str()), (503, Some("too_stale")));
    }
    read
}

/// Waits until the node that was cut off serves again: then it must know what the others acknowledged meanwhile.
async fn healed(cluster: &Cluster, node: usize, canary: &str) {
    let answer = linearizable(cluster, node, canary).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "after"));
}

async fn linearizable(cluster: &Cluster, node: usize, key: &str) -> Answer {
    let url = format!("{}/v2/kv/{key}", cluster.nodes[node].url());
    eventually("a linearizable read", DEADLINE, || async {
        let answer = cluster.client.get(&url).await?;
        match answer.status {
            200 | 404 => Ok(answer),
            _ => Err(answer.text()),
        }
    })
    .await
}

/// A node whose state is older than a disk stands still says so, before its deadline: who reads linearizably is better served by another node. It
/// answers again as soon as it has caught up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_behind_says_so() {
    let mut cluster = Cluster::prepare(Cluster::directory(), None, "http://127.0.0.1:9", &[], "");
    cluster.begin().await;
    let leader = leader_among(&cluster, &[0, 1, 2]).await;
    let follower = (leader + 1) % cluster.nodes.len();
    assert_eq!(linearizable(&cluster, follower, "k").await.status, 404);
    // Otherwise consensus would stand still with it.
    for (point, action) in [("raft::apply-on-its-thread", "return"), ("raft::before-apply", "pause")] {
        cluster.nodes[follower].set_failpoint(point, action).await;
    }
    let url = |node: usize| format!("{}/v2/kv/k", cluster.nodes[node].url());
    let to_leader = url(leader);
    let written = cluster
        .client
        .ask(Method::PUT, &to_leader, &[], Some(b"v".to_vec()))
        .await;
    assert!(written.expect("the test reaches it").is_success());
    let began = Instant::now();
    let answer = cluster.client.get(&url(follower)).await.expect("it answers");
    let took = began.elapsed();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("behind")));
    assert!(took < BEHIND_MAX, "{took:?}");
    cluster.nodes[follower].remove_failpoint("raft::before-apply").await;
    let answer = linearizable(&cluster, follower, "k").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "v"));
}

async fn term_of(cluster: &Cluster, node: usize) -> u64 {
    let url = format!("{}/v2/cluster", cluster.nodes[node].url());
    let status = cluster.client.get_json(&url).await.expect("it answers");
    status["term"].as_u64().expect("a term")
}

/// The one of these that says of itself that it leads.
async fn leader_among(cluster: &Cluster, nodes: &[usize]) -> usize {
    eventually("a leader", DEADLINE, || async {
        let mut seen = Vec::new();
        for node in nodes {
            let url = format!("{}/v2/cluster", cluster.nodes[*node].url());
            match tokio::time::timeout(LOOK, cluster.client.get_json(&url)).await {
                Ok(Ok(status)) if status["node"]["role"] == "leader" => return Ok(*node),
                Ok(status) => seen.push(format!("{status:?}")),
                Err(_) => seen.push("no answer".to_owned()),
            }
        }
        Err(seen.join("; "))
    })
    .await
}

/// Leaders stand still for seconds and go on as if nothing had happened, or die, while every node is asked all the time: also within the first
/// moment after an election, when the new leader may not have applied yet what its predecessor acknowledged, nothing older than that is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_stand_still_or_die_leave_no_stale_reads() {
    let (seed, mut random) = seeded();
    let mut cluster = Cluster::prepare(Cluster::directory(), None, "http://127.0.0.1:9", &[], "");
    cluster.begin().await;
    let traffic = Traffic::start(&cluster, seed);
    traffic.goes_on(WRITES_MEANWHILE).await;
    for round in 0..count(2, 20) {
        let pause = Duration::from_millis(random.random_range(1_000..=count(2_500, 5_000)));
        let still = leader_among(&cluster, &[0, 1, 2]).await;
        cluster.nodes[still].pause();
        let began = Instant::now();
        let others: Vec<usize> = (0..3).filter(|node| *node != still).collect();
        // Those that ask the one that stands still wait for it; the others' answers are what must not be lost.
        if pause > Duration::from_millis(1_800) {
            leader_among(&cluster, &others).await;
            let url = format!("{}/v2/kv/meanwhile", cluster.nodes[others[0]].url());
            let answer = cluster.client.ask(Method::PUT, &url, &[], Some(b"x".to_vec())).await;
            assert!(answer.is_ok());
        }
        tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
        cluster.nodes[still].resume();
        println!("round {round}: stood still for {:?}", began.elapsed());
        traffic.goes_on(WRITES_MEANWHILE).await;

        let dead = leader_among(&cluster, &[0, 1, 2]).await;
        cluster.nodes[dead].kill().await;
        let others: Vec<usize> = (0..3).filter(|node| *node != dead).collect();
        leader_among(&cluster, &others).await;
        traffic.goes_on(WRITES_MEANWHILE).await;
        cluster.nodes[dead].start();
        cluster.ready(dead).await;
    }
    let history = traffic.end().await;
    let first_moments = history.reads_within(FIRST_MOMENT);
    println!(
        "{} reads, {} writes, {} of them unknown; {} reads of one's own write elsewhere; reads in the first {FIRST_MOMENT:?} of each term: {first_moments:?}",
        history.count(|did| matches!(did, Did::Read { .. })),
        history.count(|did| matches!(did, Did::Wrote { .. })),
        history.count(|did| matches!(did, Did::MayHaveWritten { .. })),
        history.followed
    );
    registers::check(&history.operations()).expect("linearizable");
    assert!(
        first_moments.iter().sum::<usize>() > 0,
        "no read fell into a term's first moment"
    );
    assert!(history.followed > 0);
}
