//! No election through a stall of a database.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::elections::{DEFAULT_TIMING, NO_ECS};
use crate::harness::{Cluster, report};
use crate::load::{Load, leadership};

/// Clients, and the pause of each between two requests: enough that every stall meets work, little enough that nothing else stalls.
const CLIENTS: u64 = 8;
const PAUSE: Duration = Duration::from_millis(50);
/// How long a database does nothing.
const STALL_MS: u64 = 2_000;
/// Seen from outside, a stall may look this much shorter.
const SEEN_LESS_MS: u64 = 300;
/// How often the stalled node is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Which node stalls.
#[derive(Clone, Copy, Debug)]
enum Who {
    Leader,
    Follower,
}

/// What stands still meanwhile.
#[derive(Clone, Copy, Debug)]
enum Database {
    /// Nothing is written to the log.
    Log,
    /// Nothing is applied to the state.
    State,
}

impl Database {
    fn point(self) -> &'static str {
        match self {
            Database::Log => "raft::before-sync",
            Database::State => "store::before-write",
        }
    }
}

/// A write that takes 2 s, in the log of a follower, in its state and in the leader's state, each under load and with the default times:
/// nobody stands for election, heartbeats go on, and the stall is really there (the node stands still for that long).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_election_through_a_stall() {
    let cluster = Cluster::start_with(Cluster::directory(), NO_ECS, &[], DEFAULT_TIMING).await;
    let before = leadership(&cluster).await;
    let load = Load::start(&cluster, CLIENTS, PAUSE);
    for (who, database) in [
        (Who::Follower, Database::Log),
        (Who::Follower, Database::State),
        (Who::Leader, Database::State),
    ] {
        let stood_still = stall(&cluster, who, database).await;
        let after = leadership(&cluster).await;
        println!("{who:?}, {database:?}: stood still for {stood_still:?}; {after:?}");
        assert_eq!(
            before, after,
            "{who:?}, {database:?}: (term, leader, leaders seen) by node, before and after"
        );
        assert!(
            stood_still >= Duration::from_millis(STALL_MS - SEEN_LESS_MS),
            "{who:?}, {database:?}: it did not stall, only {stood_still:?}"
        );
    }
    let (seen, _) = load.stop().await;
    let done = seen.writes.load(Ordering::Relaxed) + seen.reads.load(Ordering::Relaxed);
    let failed = seen.failed.load(Ordering::Relaxed);
    println!("{done} requests, {failed} failed");
    assert_eq!(failed, 0, "requests wait through a stall; they do not fail");
    report(
        "row 19 no election through a stall",
        &[("stalls of 2 s", "3"), ("elections", "0"), ("requests failed", "0")],
    );
}

/// Has a node's database stall once; the longest time that what it does did not move.
async fn stall(cluster: &Cluster, who: Who, database: Database) -> Duration {
    let leader = cluster.leader().await;
    let target = match who {
        Who::Leader => leader,
        Who::Follower => (leader + 1) % cluster.nodes.len(),
    };
    let action = format!("1*sleep({STALL_MS})->off");
    cluster.nodes[target].set_failpoint(database.point(), &action).await;
    let name = &cluster.nodes[target].name;
    let until = Instant::now() + Duration::from_millis(2 * STALL_MS);
    let (mut last, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while Instant::now() < until {
        // The leader knows how far a follower's log is durable; a node itself how far it has applied.
        let asked = match database {
            Database::Log => leader,
            Database::State => target,
        };
        let status = cluster
            .client
            .get_json(&format!("{}/v2/cluster", cluster.nodes[asked].url()))
            .await
            .expect("it answers while its database stalls");
        let progress = match database {
            Database::State => status["applied_index"].as_u64(),
            Database::Log => status["members"]
                .as_array()
                .and_then(|members| members.iter().find(|member| member["name"] == name.as_str()))
                .and_then(|member| member["matched_index"].as_u64()),
        };
        let progress = progress.expect("it says how far it is");
        if progress != last {
            (last, since) = (progress, Instant::now());
        }
        longest = longest.max(since.elapsed());
        tokio::time::sleep(LOOK).await;
    }
    cluster.nodes[target].remove_failpoint(database.point()).await;
    longest
}
