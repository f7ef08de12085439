//! A crash at every step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::daemons::{every_instance_is_served, never_two};
use crate::harness::member::{endpoints, member, waits_to_be_taken_in, well};
use crate::harness::{Cluster, DEADLINE, REGION, SimulatorProcess, count, eventually, seeded};
use crate::load::Load;
use crate::watchers::Watchers;

const INSTANCES: usize = 4;
const WRITERS: usize = 4;
/// Log entries between snapshots, and kept behind one: a node that is away is soon beyond the log. History soon has something to compact.
const LIMITS: &str = "[snapshot]\nentries = 60\nkeep_entries = 20\n[history]\nrevisions = 1000\n";
/// Entries that a node may take between its word and its end, while users write.
const TAKEN_MEANWHILE: f64 = 500.0;
/// Written after each round.
const WRITES_BETWEEN: usize = 10;

/// A leader comes by its points within this, or it is looked whether it leads still.
const LEADS_STILL: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(25);

/// Points that any node comes by while users write.
const UNDER_LOAD: [&str; 11] = [
    "raft::before-append",
    "raft::before-sync",
    "raft::after-sync",
    "raft::before-apply",
    "raft::after-apply",
    "raft::before-checkpoint",
    "raft::after-checkpoint",
    "raft::before-snapshot-rename",
    "raft::after-snapshot-rename",
    "raft::before-purge",
    "raft::after-purge",
];
/// Points that a leader comes by when an instance joins.
const OF_A_LAUNCH: [&str; 4] = [
    "scheduler::before-intent",
    "scheduler::after-intent",
    "scheduler::before-outcome",
    "scheduler::after-outcome",
];
/// Points that a leader comes by when ECS tells of something.
const OF_THE_FEED: [&str; 2] = ["ecs::before-delete", "ecs::after-delete"];
/// Points of a compaction, which a leader proposes some seconds after it began: in its first step, in its second, and after it.
const OF_COMPACTION: [&str; 3] = ["store::compacting", "store::sweeping", "node::after-compact"];
/// Points that some follower comes by when the leader is gone.
const OF_AN_ELECTION: [&str; 4] = [
    "raft::before-save-vote",
    "raft::after-save-vote",
    "node::before-open-session",
    "node::after-open-session",
];
/// Points on the way of a snapshot into a node that was away, in this order: after each of them it still needs one ...
const BEFORE_THE_SWAP: [&str; 4] = [
    "raft::receiving-snapshot",
    "raft::snapshot-received",
    "store::before-install",
    "store::before-swap",
];
/// ... and after these it has it.
const AFTER_THE_SWAP: [&str; 2] = ["store::after-swap", "raft::snapshot-installed"];
const OF_SENDING: &str = "raft::sending-snapshot";
/// Points around the change of the voters, which two leaders come by one after the other.
const OF_A_MEMBERSHIP_CHANGE: [&str; 2] = ["raft::before-membership-change", "raft::after-membership-change"];

/// One long-lived cluster crashes at every named step, each of them so many times, while users write, ECS tells of changes and daemons are
/// launched; it is started again each time. A point that no node comes by fails the test. In the end everything acknowledged is there, no
/// instance ever had two daemons and each has one, and the nodes hold the same state by its chained hash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_every_step_loses_nothing() {
    let (seed, mut random) = seeded();
    let directory = Cluster::directory();
    let simulator = SimulatorProcess::start(seed, &[REGION], directory.path()).await;
    simulator.cluster(REGION, "alpha", INSTANCES).await;
    simulator.definition(REGION, "web").await;
    simulator.definition(REGION, "agent").await;
    let source = SimulatorProcess::source("main", REGION);
    let cluster = Cluster::start_with(directory, &simulator.url(), &[source], LIMITS).await;
    cluster.reconciled().await;
    let wanted = json!({"cluster": "alpha", "task_definition": "agent", "max_unavailable": 4});
    cluster.put("/v2/environments/agent", &wanted).await;
    let lively = json!({"task_starts_per_minute": 120.0, "task_stops_per_minute": 110.0, "instances_min": INSTANCES});
    simulator.put("/liveliness", lively).await;

    let mut scene = Scene {
        load: Load::begin(&cluster, WRITERS, Duration::from_millis(2)),
        watchers: Some(Watchers::begin(&cluster, 1, 1)),
        cluster,
        simulator,
        instances: INSTANCES,
        crashes: BTreeMap::new(),
    };
    for _ in 0..count(1, 10) {
        scene.every_point(&mut random).await;
    }
    scene.end(count(true, false)).await;
}

/// The cluster and all that goes on in it.
struct Scene {
    cluster: Cluster,
    simulator: SimulatorProcess,
    load: Load,
    watchers: Option<Watchers>,
    instances: usize,
    /// By point.
    crashes: BTreeMap<&'static str, usize>,
}

impl Scene {
    async fn every_point(&mut self, random: &mut ChaCha8Rng) {
        // A follower crashes somewhere else at the same time: three nodes bear one of both.
        let mut under_load = UNDER_LOAD.to_vec().into_iter();
        let of_a_leader = OF_A_LAUNCH.into_iter().chain(OF_THE_FEED);
        for point in of_a_leader {
            let leader = self.cluster.leader().await;
            let mut crashing = vec![(leader, point)];
            crashing.extend(
                under_load
                    .next()
                    .map(|other| ((leader + random.random_range(1..3)) % 3, other)),
            );
            self.arm(&crashing).await;
            self.crash_of_a_leader(leader, point).await;
            for (position, point) in crashing.into_iter().skip(1) {
                self.crashed(position, point).await;
            }
            self.go_on().await;
        }
        while let Some(point) = under_load.next() {
            let first = random.random_range(0..3);
            let mut crashing = vec![(first, point)];
            crashing.extend(under_load.next().map(|other| ((first + 1) % 3, other)));
            self.arm(&crashing).await;
            self.crash(&crashing).await;
        }
        for point in OF_AN_ELECTION {
            self.crash_in_an_election(point).await;
        }
        self.crash_in_compaction(random).await;
        self.crash_in_a_transfer(random).await;
        self.crash_in_a_membership_change(random).await;
    }

    async fn arm(&self, crashing: &[(usize, &'static str)]) {
        for (position, point) in crashing {
            self.cluster.nodes[*position].set_failpoint(point, "panic").await;
        }
    }

    /// Waits until a leader has crashed at its point: where another one leads meanwhile, that one is armed instead.
    async fn crash_of_a_leader(&mut self, mut leader: usize, point: &'static str) {
        let until = Instant::now() + 3 * DEADLINE;
        loop {
            if OF_A_LAUNCH.contains(&point) {
                self.simulator.instances(REGION, "alpha", 1).await;
                self.instances += 1;
            }
            let looked = Instant::now();
            while looked.elapsed() < LEADS_STILL {
                if self.cluster.nodes[leader].has_ended() {
                    return self.crashed(leader, point).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
            assert!(Instant::now() < until, "a crash at {point}: no leader came by");
            let now = self.cluster.leader().await;
            if now != leader && self.disarmed(leader, point).await {
                self.arm(&[(now, point)]).await;
                leader = now;
            }
        }
    }

    /// Waits until each of these has crashed at its point, starts all again, and lets some writes go by.
    async fn crash(&mut self, crashing: &[(usize, &'static str)]) {
        for (position, point) in crashing {
            self.crashed(*position, point).await;
        }
        self.go_on().await;
    }

    async fn go_on(&mut self) {
        self.cluster.start_all().await;
        self.load.more(WRITES_BETWEEN).await;
    }

    /// It has ended at this point, and at no other.
    async fn crashed(&mut self, position: usize, point: &'static str) {
        let node = std::cell::RefCell::new(&mut self.cluster.nodes[position]);
        eventually(&format!("a crash at {point}"), DEADLINE, || async {
            if node.borrow_mut().has_ended() {
                Ok(())
            } else {
                Err("no node came by".to_owned())
            }
        })
        .await;
        let node = node.into_inner();
        node.ended_by_itself().await;
        let log = node.log();
        let words = format!("failpoint {point} panic");
        let last = log
            .lines()
            .rev()
            .find(|line| line.contains("failpoint "))
            .unwrap_or_default();
        assert!(
            last.contains(&words),
            "{} ended otherwise than at {point}:\n{}",
            node.name,
            tail(&log)
        );
        *self.crashes.entry(point).or_default() += 1;
    }

    /// Both followers are armed and the leader is killed: the first to come by crashes, and no quorum is left.
    async fn crash_in_an_election(&mut self, point: &'static str) {
        let leader = self.cluster.leader().await;
        let followers = [(leader + 1) % 3, (leader + 2) % 3];
        self.arm(&followers.map(|follower| (follower, point))).await;
        self.cluster.nodes[leader].kill().await;
        self.one_crashed(followers, point).await;
        self.go_on().await;
    }

    /// Waits until one of the two has crashed, and disarms the other, which may come by in the same moment.
    async fn one_crashed(&mut self, armed: [usize; 2], point: &'static str) {
        let nodes = std::cell::RefCell::new(&mut self.cluster.nodes);
        let ended = eventually(&format!("a crash at {point}"), DEADLINE, || async {
            let mut nodes = nodes.borrow_mut();
            let ended = armed.into_iter().find(|position| nodes[*position].has_ended());
            ended.ok_or_else(|| "no node came by".to_owned())
        })
        .await;
        self.crashed(ended, point).await;
        let other = if ended == armed[0] { armed[1] } else { armed[0] };
        if !self.disarmed(other, point).await {
            self.crashed(other, point).await;
        }
    }

    /// Whether it is disarmed, and has not crashed before.
    async fn disarmed(&mut self, position: usize, point: &'static str) -> bool {
        self.cluster.nodes[position].try_remove_failpoint(point).await && !self.cluster.nodes[position].has_ended()
    }

    /// The leader crashes while it applies a compaction, a follower when it comes to that; then the next leader after the next one.
    async fn crash_in_compaction(&mut self, random: &mut ChaCha8Rng) {
        let [first_step, second_step, after] = OF_COMPACTION;
        let leader = self.cluster.leader().await;
        let crashing = [
            (leader, second_step),
            ((leader + random.random_range(1..3)) % 3, first_step),
        ];
        self.arm(&crashing).await;
        self.crash(&crashing).await;
        let crashing = [(self.cluster.leader().await, after)];
        self.arm(&crashing).await;
        self.crash(&crashing).await;
    }

    /// A node is away until the log no longer reaches back to it. The leader crashes while it sends the snapshot; then the node at each step of
    /// receiving and installing it, started again each time with the next step armed.
    async fn crash_in_a_transfer(&mut self, random: &mut ChaCha8Rng) {
        let away = *[0, 1, 2].choose(random).expect("there are three");
        self.be_away(away).await;
        let leader = self.cluster.leader().await;
        self.arm(&[(leader, OF_SENDING)]).await;
        self.cluster.nodes[away].start();
        self.crashed(leader, OF_SENDING).await;
        self.cluster.nodes[away].kill().await;
        self.cluster.start_all_but(away).await;
        for point in BEFORE_THE_SWAP {
            self.cluster.nodes[away].start_with_failpoints(&format!("{point}=panic"));
            self.crashed(away, point).await;
        }
        self.go_on().await;
        for point in AFTER_THE_SWAP {
            self.be_away(away).await;
            self.cluster.nodes[away].start_with_failpoints(&format!("{point}=panic"));
            self.crash(&[(away, point)]).await;
        }
    }

    /// A node's disk is lost. The command that gives its place to a new one goes on though the leader crashes before it changes the voters, and
    /// the next leader once it has.
    async fn crash_in_a_membership_change(&mut self, random: &mut ChaCha8Rng) {
        let [before, after] = OF_A_MEMBERSHIP_CHANGE;
        let leader = self.cluster.leader().await;
        let lost = (leader + random.random_range(1..3)) % 3;
        let other = 3 - leader - lost;
        self.cluster.nodes[lost].kill().await;
        std::fs::remove_dir_all(self.cluster.nodes[lost].data()).expect("its disk can be lost");
        self.cluster.nodes[lost].start();
        waits_to_be_taken_in(&self.cluster, lost).await;
        self.arm(&[(leader, before), (other, after)]).await;
        let (endpoints, name) = (endpoints(&self.cluster), self.cluster.nodes[lost].name.clone());
        let replacing = tokio::spawn(async move { member(&endpoints, &["replace", &name]).await });
        self.crashed(leader, before).await;
        self.cluster.nodes[leader].start_with_failpoints(&format!("{after}=panic"));
        self.one_crashed([leader, other], after).await;
        self.cluster.start_all_but(lost).await;
        well(&replacing.await.expect("the command ends"));
        self.go_on().await;
    }

    /// Kills a node, and waits until neither of the others' logs reaches back to what it has. What that is, it says once it has caught up: right
    /// after a start its log may be further behind than its state.
    async fn be_away(&mut self, position: usize) {
        self.cluster.ready(position).await;
        let url = self.cluster.nodes[position].url();
        let held = self.cluster.client.metric(&url, "blox_raft_last_log_index").await;
        self.cluster.nodes[position].kill().await;
        let held = held.expect("it runs") + TAKEN_MEANWHILE;
        self.cluster.purged_beyond(held).await;
    }

    /// `open_will_do`: see [`every_instance_is_served`].
    async fn end(mut self, open_will_do: bool) {
        self.simulator.put("/liveliness", json!({})).await;
        self.load.end(&self.cluster).await;
        let watchers = self.watchers.take().expect("nobody took them");
        every_instance_is_served(&self.simulator, self.instances, open_will_do, || async {
            watchers.seen()
        })
        .await;
        never_two(&self.simulator).await;
        let (index, hash) = self.cluster.same_state().await;
        let crashes: usize = self.crashes.values().sum();
        println!(
            "{crashes} crashes at {} points; all nodes hold {hash} at index {index}",
            self.crashes.len()
        );
        let all = [
            &UNDER_LOAD[..],
            &OF_A_LAUNCH,
            &OF_THE_FEED,
            &OF_COMPACTION,
            &OF_AN_ELECTION,
            &BEFORE_THE_SWAP,
            &AFTER_THE_SWAP,
            &[OF_SENDING],
            &OF_A_MEMBERSHIP_CHANGE,
        ];
        for point in all.concat() {
            assert!(
                self.crashes.get(point) >= Some(&count(1, 10)),
                "{point}: {:?}",
                self.crashes.get(point)
            );
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
