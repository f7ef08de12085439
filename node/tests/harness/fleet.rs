//! Three nodes against one simulator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::node::NodeOptions;
use super::{Answer, Client, DEADLINE, Network, Node, Port, SimulatorProcess, eventually};

/// A cluster of nodes and what they observe.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub client: Client,
    /// Removed with it.
    _directory: TempDir,
}

/// One `[[source]]`.
pub struct SourceText<'a> {
    pub name: &'a str,
    pub region: &'a str,
    pub queue: &'a str,
    pub reconcile_pause: &'a str,
}

impl Cluster {
    /// A directory for the whole test.
    pub fn directory() -> TempDir {
        tempfile::Builder::new()
            .prefix("blox-test-")
            .tempdir()
            .expect("the temporary directory can be written")
    }

    /// Three nodes that observe `endpoint` by these sources; returns when all are ready.
    pub async fn start(directory: TempDir, endpoint: &str, sources: &[SourceText<'_>]) -> Cluster {
        Cluster::start_with(directory, endpoint, sources, "").await
    }

    /// As [`Cluster::start`], with more configuration.
    pub async fn start_with(directory: TempDir, endpoint: &str, sources: &[SourceText<'_>], more: &str) -> Cluster {
        let mut cluster = Cluster::prepare(directory, None, endpoint, sources, more);
        cluster.begin().await;
        cluster
    }

    /// Three nodes, configured and not started: on loopback, or each at its place in a network.
    pub fn prepare(
        directory: TempDir,
        network: Option<&Network>,
        endpoint: &str,
        sources: &[SourceText<'_>],
        more: &str,
    ) -> Cluster {
        let port = |place: usize| network.map_or_else(Port::take, |network| Port::take_at(network, place));
        let names = ["a", "b", "c"].into_iter().enumerate();
        let places: Vec<(String, Port, Port)> = names
            .map(|(place, name)| (name.to_owned(), port(place), port(place)))
            .collect();
        let members: Vec<String> = places
            .iter()
            .map(|(name, _, peer)| format!("{{name={name:?}, peer_address={:?}}}", peer.address()))
            .collect();
        let members = format!("initial_members = [{}]", members.join(", "));
        let sources: String = sources.iter().map(source_text).collect();
        let environment: Vec<(String, String)> = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let options = NodeOptions {
            members: &members,
            sources: &sources,
            environment: &environment,
            more,
        };
        let nodes: Vec<Node> = places
            .into_iter()
            .map(|(name, http, peer)| Node::prepare(&name, http, peer, directory.path(), &options))
            .collect();
        Cluster {
            nodes,
            client: Client::new(),
            _directory: directory,
        }
    }

    /// Starts all nodes; returns when all are ready.
    pub async fn begin(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
        for position in 0..self.nodes.len() {
            self.ready(position).await;
        }
    }

    /// Waits until a node is ready.
    pub async fn ready(&mut self, position: usize) {
        let url = format!("{}/readyz", self.nodes[position].url());
        let started = Instant::now();
        loop {
            self.nodes[position].assert_runs();
            let seen = match self.client.get(&url).await {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => answer.text(),
                Err(error) => error,
            };
            if started.elapsed() > DEADLINE {
                panic!(
                    "{url}: not ready within {DEADLINE:?}: {seen}\n{}",
                    self.nodes[position].log()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until no node that runs has the entry behind this one in its log any more: who holds no further one comes back by snapshot.
    pub async fn purged_beyond(&self, held: f64) {
        eventually("logs are purged", DEADLINE, || async {
            for node in self.running() {
                let purged = self.client.metric(&node.url(), "blox_raft_purged_index").await?;
                if purged <= held {
                    return Err(format!("node {} has purged up to {purged}, {held} was held", node.name));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Waits until every source has been reconciled once and every node has caught up with that.
    pub async fn reconciled(&self) {
        for node in self.running() {
            let url = format!("{}/readyz?require=reconciled", node.url());
            eventually("reconciled", DEADLINE, || async {
                match self.client.get(&url).await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(answer.text()),
                    Err(error) => Err(error),
                }
            })
            .await;
        }
    }

    /// kill -9 of every node that runs, at once.
    pub async fn kill_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.runs()) {
            node.signal(Signal::SIGKILL);
        }
        for node in self.nodes.iter_mut().filter(|node| node.runs()) {
            node.kill().await;
        }
    }

    /// Starts every node that does not run; returns when all are ready.
    pub async fn start_all(&mut self) {
        self.start_all_but(usize::MAX).await;
    }

    /// As [`Cluster::start_all`], without one.
    pub async fn start_all_but(&mut self, position: usize) {
        let others = (0..self.nodes.len()).filter(|other| *other != position);
        for other in others
            .clone()
            .filter(|other| !self.nodes[*other].runs())
            .collect::<Vec<_>>()
        {
            self.nodes[other].start();
        }
        for other in others {
            self.ready(other).await;
        }
    }

    /// What a node says its state is: applied index, revision, chained hash.
    pub async fn state_of(&self, position: usize) -> Result<(u64, u64, String), String> {
        let url = format!("{}/v2/cluster", self.nodes[position].url());
        let state = self.client.get_json(&url).await?["state"].take();
        let number = |key: &str| state[key].as_u64().ok_or_else(|| format!("{url}: no {key} in {state}"));
        let hash = state["hash"].as_str().unwrap_or_default().to_owned();
        Ok((number("applied_index")?, number("revision")?, hash))
    }

    /// Waits until all running nodes stand at the same applied index, and panics where they do not hold the same there. The index and hash.
    pub async fn same_state(&self) -> (u64, String) {
        eventually("the nodes at one applied index", DEADLINE, || async {
            let running = (0..self.nodes.len()).filter(|position| self.nodes[*position].runs());
            let states = futures::future::try_join_all(running.map(|position| self.state_of(position))).await?;
            let (index, revision, hash) = states.first().cloned().ok_or("no node runs")?;
            if states.iter().any(|(other, ..)| *other != index) {
                return Err(format!("{states:?}"));
            }
            assert!(
                states.iter().all(|state| state.1 == revision && state.2 == hash),
                "the states differ at applied index {index}: {states:?}"
            );
            Ok((index, hash))
        })
        .await
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.runs())
    }

    /// Position of the leader, as a running node that leads says of itself.
    pub async fn leader(&self) -> usize {
        eventually("a leader", DEADLINE, || async {
            let mut seen = Vec::new();
            for (position, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
                match self.client.get_json(&format!("{}/v2/cluster", node.url())).await {
                    Ok(status) if leads(&status, &node.name) => return Ok(position),
                    Ok(status) => seen.push(status.to_string()),
                    Err(error) => seen.push(error),
                }
            }
            Err(seen.join("; "))
        })
        .await
    }

    /// Position of some node that runs and does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.nodes.len())
            .find(|position| *position != leader && self.nodes[*position].runs())
            .expect("a follower runs")
    }

    /// A GET answered with 200 by some running node, from the given one on.
    pub async fn get(&self, first: usize, path: &str) -> Answer {
        eventually(path, DEADLINE, || async {
            let mut seen = Vec::new();
            for offset in 0..self.nodes.len() {
                let node = &self.nodes[(first + offset) % self.nodes.len()];
                if !node.runs() {
                    continue;
                }
                match self.client.get(&format!("{}{path}", node.url())).await {
                    Ok(answer) if answer.is_success() => return Ok(answer),
                    Ok(answer) => seen.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => seen.push(error),
                }
            }
            Err(seen.join("; "))
        })
        .await
    }

    /// A PUT of JSON answered with success by some running node.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        eventually(path, DEADLINE, || async {
            let mut seen = Vec::new();
            for node in self.running() {
                match self.client.put_json(&format!("{}{path}", node.url()), body).await {
                    Ok(answer) if answer.is_success() => return Ok(answer),
                    Ok(answer) => seen.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => seen.push(error),
                }
            }
            Err(seen.join("; "))
        })
        .await
    }

    /// Waits until the state is what the simulator knows of a region, by ARN, ECS version and status: nothing less, nothing more, nothing old.
    pub async fn holds_the_truth_of(&self, simulator: &SimulatorProcess, region: &str) {
        for kind in ["instances", "tasks"] {
            eventually(kind, DEADLINE, || async {
                let (ours, truth) = (self.state(region, kind).await, simulator.truth(region, kind).await);
                let differing =
                    |one: &BTreeMap<String, (i64, String)>, other: &BTreeMap<String, (i64, String)>| -> Vec<String> {
                        one.iter()
                            .filter(|(arn, known)| other.get(*arn) != Some(known))
                            .map(|(arn, known)| format!("{arn} {known:?}"))
                            .collect()
                    };
                let (ahead, behind) = (differing(&truth, &ours), differing(&ours, &truth));
                if ahead.is_empty() && behind.is_empty() {
                    return Ok(());
                }
                Err(format!("ECS has {ahead:?}, the state has {behind:?}"))
            })
            .await;
        }
    }

    /// ARN, ECS version and status of everything of a kind in a region, page by page.
    async fn state(&self, region: &str, kind: &str) -> BTreeMap<String, (i64, String)> {
        let status = if kind == "tasks" { "lastStatus" } else { "status" };
        let mut found = BTreeMap::new();
        let mut query = format!("/v2/{kind}?limit=500");
        loop {
            let page = self.get(0, &query).await.json();
            for item in page["items"].as_array().expect("a list") {
                let arn = item["arn"].as_str().expect("an ARN").to_owned();
                if arn.split(':').nth(3) == Some(region) {
                    let document = &item["document"];
                    let version = document["version"].as_i64().expect("the simulated ECS counts versions");
                    found.insert(arn, (version, document[status].as_str().unwrap_or_default().to_owned()));
                }
            }
            match page["next_token"].as_str() {
                Some(token) => query = format!("/v2/{kind}?limit=500&next_token={token}"),
                None => return found,
            }
        }
    }
}

fn leads(status: &Value, name: &str) -> bool {
    status["leader"].as_str() == Some(name) || status["leader"]["name"].as_str() == Some(name)
}

fn source_text(source: &SourceText<'_>) -> String {
    format!(
        "[[source]]\nname = {:?}\nregion = {:?}\nqueue = {:?}\nreconcile_pause = {:?}\n",
        source.name, source.region, source.queue, source.reconcile_pause
    )
}

impl SimulatorProcess {
    /// The usual source: one region, its event queue, a short pause so that tests see reconcile.
    pub fn source<'a>(name: &'a str, region: &'a str) -> SourceText<'a> {
        SourceText {
            name,
            region,
            queue: "blox-events",
            reconcile_pause: "5s",
        }
    }
}
