//! The processes of the demo: a simulator and three nodes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::Options;
use super::child::Child;
use super::nodes::Nodes;
use super::ports::Ports;
use super::screen::Screen;

/// Names of the nodes.
const NAMES: [&str; 3] = ["blox-1", "blox-2", "blox-3"];
/// First port of the peers, and the simulator's, as in the documentation.
const PEER_PORT: u16 = 2010;
const SIMULATOR_PORT: u16 = 2020;
/// Where the simulated fleet is, and the queue of its events.
const REGION: &str = "us-east-1";
const QUEUE: &str = "blox-events";
/// How often readiness is asked for.
const ASK_MS: u64 = 100;

/// The running demo.
pub struct Cluster {
    simulator: Child,
    simulator_url: String,
    nodes: Vec<Node>,
}

/// One node of it.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where its users are served.
    pub url: String,
    /// Process id, for whoever wants to kill it.
    pub pid: u32,
    /// Still running, as far as was looked.
    pub alive: bool,
    child: Child,
}

impl Cluster {
    /// Chooses ports, writes configurations, starts everything.
    pub fn start(options: &Options, directory: &Path, screen: &Screen) -> anyhow::Result<Cluster> {
        let mut ports = Ports::default();
        let mut choose = |wanted: u16| ports.choose(wanted).context("there is no free port on 127.0.0.1");
        let simulator_port = choose(SIMULATOR_PORT)?;
        let http: Vec<u16> = (0..3)
            .map(|offset| choose(options.base_port + offset))
            .collect::<Result<_, _>>()?;
        let peer: Vec<u16> = (0..3)
            .map(|offset| choose(PEER_PORT + offset))
            .collect::<Result<_, _>>()?;
        if !ports.taken.is_empty() {
            let sentence = format!("ports {:?} are taken; others are used instead", ports.taken);
            screen.say("ports", json!({"taken": ports.taken}), &sentence);
        }
        drop(ports);

        let simulator_url = format!("http://127.0.0.1:{simulator_port}");
        let arguments = [
            "simulator",
            "--preset",
            "demo",
            "--seed",
            &options.seed.to_string(),
            "--listen",
            &format!("127.0.0.1:{simulator_port}"),
        ];
        let simulator = Child::start("simulator", &arguments.map(str::to_owned), &[], directory)?;
        let members: Vec<String> = NAMES
            .iter()
            .zip(&peer)
            .map(|(name, port)| format!("{{ name = \"{name}\", peer_address = \"127.0.0.1:{port}\" }}"))
            .collect();
        let environment = environment(&simulator_url);
        let mut nodes = Vec::new();
        for (position, name) in NAMES.iter().enumerate() {
            let file = directory.join(format!("{name}.toml"));
            let text = configuration(
                name,
                &directory.join(name),
                http[position],
                peer[position],
                &members.join(", "),
            );
            std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            let arguments = ["node".to_owned(), "--config".to_owned(), file.display().to_string()];
            let child = Child::start(name, &arguments, &environment, directory)?;
            let url = format!("http://127.0.0.1:{}", http[position]);
            nodes.push(Node {
                name: (*name).to_owned(),
                url,
                pid: child.pid,
                alive: true,
                child,
            });
        }
        Ok(Cluster {
            simulator,
            simulator_url,
            nodes,
        })
    }

    /// Where the users of each node are served.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url.clone()).collect()
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where the simulator is.
    pub fn simulator_url(&self) -> &str {
        &self.simulator_url
    }

    /// Process id of the simulator.
    pub fn simulator_pid(&self) -> u32 {
        self.simulator.pid
    }

    /// Waits until every node is ready and has seen the fleet; an error as soon as one ends.
    pub async fn wait_until_ready(&mut self, nodes: &Nodes, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let simulator = std::iter::once(&mut self.simulator);
            for child in simulator.chain(self.nodes.iter_mut().map(|node| &mut node.child)) {
                if let Some(status) = child.ended() {
                    bail!("{} ended with {status}:\n{}", child.name, child.last_words());
                }
            }
            let waiting = nodes.not_ready().await;
            if waiting.is_empty() {
                return Ok(());
            }
            if started.elapsed() > deadline {
                bail!("not ready after {deadline:?}:\n{}", waiting.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(ASK_MS)).await;
        }
    }

    /// Tells of each node that has ended since it was last looked; an error when the simulator or the last node has.
    pub fn tell_of_the_dead(&mut self, screen: &Screen) -> anyhow::Result<()> {
        if let Some(status) = self.simulator.ended() {
            bail!("the simulator ended with {status}:\n{}", self.simulator.last_words());
        }
        for node in self.nodes.iter_mut().filter(|node| node.alive) {
            if let Some(status) = node.child.ended() {
                node.alive = false;
                let sentence = format!("{} (pid {}) has ended: {status}", node.name, node.pid);
                screen.say(
                    "node_ended",
                    json!({"node": node.name, "pid": node.pid, "status": status.to_string()}),
                    &sentence,
                );
            }
        }
        if self.nodes.iter().all(|node| !node.alive) {
            bail!("all nodes have ended");
        }
        Ok(())
    }

    /// Stops everything: nodes first, each gracefully, then what they observe.
    pub async fn stop(&mut self) {
        futures::future::join_all(self.nodes.iter_mut().map(|node| node.child.stop())).await;
        self.simulator.stop().await;
    }
}

/// What the AWS SDK of the nodes reads: the simulator, and credentials that mean nothing. A profile of the user's is not to be mixed in.
fn environment(simulator_url: &str) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", simulator_url),
        ("AWS_ACCESS_KEY_ID", "demo"),
        ("AWS_SECRET_ACCESS_KEY", "demo"),
        ("AWS_SESSION_TOKEN", ""),
        ("AWS_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn configuration(name: &str, data: &Path, http: u16, peer: u16, members: &str) -> String {
    format!(
        "name = {name:?}\ndata_directory = {data:?}\ninitial_members = [{members}]\n\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n\n[peer]\nlisten = \"127.0.0.1:{peer}\"\n\n\
         [[source]]\nname = \"demo\"\nregion = \"{REGION}\"\nqueue = \"{QUEUE}\"\nreconcile_pause = \"20s\"\n"
    )
}
