//! The cluster as faults need it: its containers, who leads, and whose container is in somebody's hands already.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::under_way::Calm;
use super::{Clocks, Disks, Found, Limits, Links, LossyDisks, NemesisError, Relays, Target, UnderWay, logs};
use crate::client::Node;
use crate::command;
use crate::compose::{Compose, Container, SERVICES};
use crate::observe::{NotInTime, Observer, eventually};
use crate::suite::{Folder, collect};
use crate::workload::{Ecs, Http};

/// How long Docker may take to show what it was told to do.
const EFFECT: Duration = Duration::from_secs(20);
/// After how long it is asked again whether something came to be.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How long nodes that others have stopped are waited for, and how often it is looked for them.
const LOOK: Duration = Duration::from_millis(300);
const RUNS: Duration = Duration::from_secs(20);
/// How long a leader is looked for before anybody is taken in its place.
const LEADER: Duration = Duration::from_secs(3);

/// See the module. What is dropped first stands first: containers go before their disks.
pub struct Cluster {
    /// Drives the containers.
    pub compose: Compose,
    /// All of them.
    pub nodes: Arc<Vec<Node>>,
    /// Asks them who leads.
    pub observer: Observer,
    /// Asks them everything else.
    pub http: Http,
    /// The other end of them.
    pub ecs: Ecs,
    /// What is cut.
    pub links: Links,
    /// What is late.
    pub relays: Relays,
    /// Whose memory is limited to less than it should be.
    pub limits: Limits,
    /// Faults that have begun and are not over.
    pub under_way: UnderWay,
    /// What they came upon.
    pub found: Found,
    /// How long the cluster may take to be whole.
    pub whole: Duration,
    /// Where logs of containers are kept that are removed.
    pub folder: Folder,
    /// Of the nodes.
    pub image: String,
    /// Of their own; `None`: where Docker puts volumes.
    pub disks: Option<Disks>,
    /// Disks that lose what was not synced; `None`: others.
    pub lossy: Option<LossyDisks>,
    /// That can be set; `None`: the machine's.
    pub clocks: Option<Clocks>,
    /// Held by who takes something of a node for ever: one at a time.
    pub wound: Mutex<()>,
    /// Who starts and stops a node's container holds its lock meanwhile.
    pub hands: [Arc<Mutex<()>>; SERVICES.len()],
}

/// Who leads, and since which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leads {
    /// Raft's.
    pub term: u64,
    /// Of its node.
    pub position: usize,
}

/// Containers in one fault's hands.
pub struct Held {
    /// Positions of their nodes, ascending.
    pub positions: Vec<usize>,
    _hands: Vec<OwnedMutexGuard<()>>,
}

impl Cluster {
    /// A node's name, which is its service's.
    pub fn name(&self, position: usize) -> &str {
        &self.nodes[position].name
    }

    /// Names of several, for people.
    pub fn names(&self, positions: &[usize]) -> String {
        let names: Vec<&str> = positions.iter().map(|position| self.name(*position)).collect();
        names.join(", ")
    }

    /// All nodes but one.
    pub fn others(&self, position: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |other| *other != position)
    }

    /// As many nodes as that is, by lot, ascending: of a leader any.
    pub fn draw(&self, target: Target, random: &mut ChaCha8Rng) -> Vec<usize> {
        let nodes = self.nodes.len();
        let mut drawn = sample(random, nodes, target.count(nodes)).into_vec();
        drawn.sort_unstable();
        drawn
    }

    /// Who leads by its own word, in the newest term.
    pub async fn leader(&self) -> Option<usize> {
        self.leads().await.map(|leads| leads.position)
    }

    /// The same with its term.
    pub async fn leads(&self) -> Option<Leads> {
        let found = eventually("a leader", LEADER, || async {
            let statuses = self.observer.statuses().await;
            let leads = statuses.iter().enumerate().filter_map(|(position, status)| {
                let status = status.as_ref().ok()?;
                let term = status.term;
                (status.role == "leader").then_some(Leads { term, position })
            });
            leads.max().ok_or_else(String::new)
        });
        found.await.ok()
    }

    /// Waits until nobody else holds one of these containers.
    pub async fn hold(&self, positions: Vec<usize>) -> Held {
        let mut hands = Vec::new();
        // In one order for all, so that nobody waits for each other.
        for position in &positions {
            hands.push(Arc::clone(&self.hands[*position]).lock_owned().await);
        }
        Held {
            positions,
            _hands: hands,
        }
    }

    /// A node's container as it is now.
    pub async fn container(&self, position: usize) -> Result<Container, NemesisError> {
        Ok(self.compose.container(self.name(position)).await?)
    }

    /// The containers of several nodes.
    pub async fn containers(&self, positions: &[usize]) -> Result<Vec<Container>, NemesisError> {
        let mut containers = Vec::new();
        for position in positions {
            containers.push(self.container(*position).await?);
        }
        Ok(containers)
    }

    /// The containers of several nodes that are in our hands, all of which run. One that does not has ended by itself, which is told; it is started.
    pub async fn running(&self, positions: &[usize]) -> Result<Vec<Container>, NemesisError> {
        let mut containers = Vec::new();
        for position in positions {
            let found = self.container(*position).await?;
            if found.status == "running" {
                containers.push(found);
                continue;
            }
            // Paused is who was left so by a fault that broke off.
            if found.status != "paused" {
                self.ended_by_itself(*position, &found);
            }
            self.revive(*position).await?;
            let runs = self.in_state(&found, "running").await;
            containers.push(runs.map_err(NemesisError::NoEffect)?);
        }
        Ok(containers)
    }

    /// Keeps that a container in our hands was found not to run.
    pub(super) fn ended_by_itself(&self, position: usize, found: &Container) {
        let name = self.name(position);
        let (status, code) = (&found.status, found.exit_code);
        let sentence = format!("{name} ended by itself: its container was {status}, with exit code {code}");
        self.found.ended(position, sentence);
    }

    /// Waits until every node has a process, for a while: others may have stopped some.
    pub async fn all_run(&self) {
        let began = Instant::now();
        // What comes too late is done without it: a rule is set when its container is started.
        while began.elapsed() < RUNS && !self.do_all_run().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn do_all_run(&self) -> bool {
        let positions: Vec<usize> = (0..self.nodes.len()).collect();
        let containers = self.containers(&positions).await;
        containers.is_ok_and(|all| all.iter().all(|container| container.pid > 0))
    }

    /// Asks until the answer is `Ok`, or too late: the time that the cluster has to be whole, without any other fault.
    pub async fn in_calm<T, F, A>(&self, what: &str, mut ask: F) -> Result<T, NotInTime>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, String>>,
    {
        let mut calm = Calm::new(self.whole, Instant::now());
        loop {
            let last = match ask().await {
                Ok(found) => return Ok(found),
                Err(last) => last,
            };
            if calm.is_over(self.under_way.look(), Instant::now()) {
                return Err(NotInTime {
                    what: what.to_owned(),
                    within: self.whole,
                    last,
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// A container once it is in this state.
    pub async fn in_state(&self, container: &Container, status: &str) -> Result<Container, String> {
        let reached = eventually("a container's state", EFFECT, || async {
            let now = self.compose.inspect(&container.id).await;
            match now {
                Ok(now) if now.status == status => Ok(now),
                Ok(now) => Err(format!("container {} is {}", now.short_id(), now.status)),
                Err(error) => Err(error.to_string()),
            }
        });
        reached.await.map_err(|late| late.last)
    }

    /// Starts containers, and sets the rules and the relays again that have to do with them.
    pub async fn start(&self, positions: &[usize]) -> Result<(), NemesisError> {
        let containers = self.containers(positions).await?;
        let all: Vec<&Container> = containers.iter().collect();
        self.compose.start(&all).await?;
        for position in positions {
            self.links.renew(&self.compose, self.name(*position)).await?;
            self.relays.renew(&self.compose, self.name(*position)).await?;
        }
        Ok(())
    }

    /// Keeps what a container has said: it is gone with the container.
    pub async fn keep_log(&self, service: &str, container: &Container) -> Result<(), NemesisError> {
        Ok(collect::log(&self.compose, &self.folder, service, container).await?)
    }

    /// Has a node's container run that may have ended by itself, however long Docker would wait before it starts it again.
    pub async fn revive(&self, position: usize) -> Result<(), NemesisError> {
        let container = self.container(position).await?;
        match container.status.as_str() {
            "running" => {}
            "paused" => self.compose.unpause(&container).await?,
            "restarting" => {
                self.halt(&container).await?;
                self.start(&[position]).await?;
            }
            _ => self.start(&[position]).await?,
        }
        Ok(())
    }

    /// Has Docker start a container no more that ends again and again.
    pub async fn halt(&self, container: &Container) -> Result<(), NemesisError> {
        command::run("docker", &["stop", "--time", "0", &container.id], &[]).await?;
        Ok(())
    }

    /// Undoes whatever faults may have left.
    pub async fn mend(&self) -> Result<(), NemesisError> {
        self.relays.end_all().await?;
        self.links.mend_all(&self.compose).await?;
        for position in 0..self.nodes.len() {
            self.mend_node(position).await?;
        }
        Ok(())
    }

    /// Undoes whatever a fault may have left of one node, links apart: its clock, its reader, its disk frozen, full, read-only or dead, its memory, its
    /// container paused or stopped.
    pub async fn mend_node(&self, position: usize) -> Result<(), NemesisError> {
        let name = self.name(position);
        if let Some(clocks) = &self.clocks {
            clocks.set(name, 0)?;
        }
        // Before anything is asked of Docker: whose reader stands still can be neither stopped nor entered.
        let container = self.container(position).await?;
        logs::read_on(container.pid).await?;
        if let Some(disks) = &self.disks {
            // Of one that is not frozen nothing can be thawed.
            let _ = disks.thaw(name).await;
            disks.relieve(name).await?;
            if disks.refuses(name).await {
                self.halt(&container).await?;
                disks.remount(name).await?;
            }
        }
        if let Some(lossy) = &self.lossy {
            lossy.fail_syncs(name, None).await?;
            lossy.restore(name).await?;
        }
        self.limits.restore(&container.id).await?;
        self.revive(position).await
    }
}
