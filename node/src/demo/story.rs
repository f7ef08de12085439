//! What happens, one line each: changes from `/v2/watch`, taken up on another node when one dies, and changes of the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::nodes::Nodes;
use super::screen::Screen;
use super::teller::{Teller, text};

/// What is told of.
const KINDS: &str = "task,instance,environment,deployment,launch";
/// Without a line (a bookmark comes every few seconds) for so long, a node is taken for dead.
const SILENCE_SECONDS_MAX: u64 = 15;
/// How often the leader is asked for.
const LEADER_MS: u64 = 300;
/// Rest before another node is tried.
const RETRY_MS: u64 = 200;
/// Attempts to take the watch up before the demo gives up: no node has answered for about a minute.
const ATTEMPTS_MAX: usize = 300;
/// Instances that are known before the story begins: the largest page there is.
const INSTANCES_KNOWN_MAX: usize = 1_000;
/// Longest line of a watch.
const LINE_BYTES_MAX: usize = 8 << 20;

/// How far the story was told.
pub struct Story {
    /// The next revision to tell of.
    next_revision: u64,
    /// Which node is asked next.
    position: usize,
    teller: Teller,
}

/// Process ids of the nodes, by name.
pub type Pids = BTreeMap<String, u32>;

impl Story {
    /// From the present on.
    pub async fn from_now(nodes: &Nodes) -> anyhow::Result<Story> {
        let cluster = nodes.get("/v2/cluster").await?;
        let revision = cluster["revision"]
            .as_u64()
            .context("a node does not say its revision")?;
        let mut teller = Teller::default();
        // What is there already is no news.
        let instances = nodes
            .get(&format!(
                "/v2/instances?limit={INSTANCES_KNOWN_MAX}&min_revision={revision}"
            ))
            .await?;
        for item in instances["items"].as_array().into_iter().flatten() {
            teller.instance(item, &item["document"], false);
        }
        Ok(Story {
            next_revision: revision + 1,
            position: 0,
            teller,
        })
    }

    /// Tells until no node can be followed any more.
    pub async fn tell(&mut self, nodes: &Nodes, pids: &Pids, screen: &Screen) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.follow(nodes, screen) => ended,
            () = tell_of_leaders(nodes, pids, screen) => Ok(()),
        }
    }

    async fn follow(&mut self, nodes: &Nodes, screen: &Screen) -> anyhow::Result<()> {
        let mut failures = 0;
        let mut broken = false;
        loop {
            let url = nodes.urls()[self.position % nodes.urls().len()].clone();
            match self.watch(nodes, &url, broken, screen).await {
                Ok(()) => failures = 0,
                Err(error) if failures >= ATTEMPTS_MAX => return Err(error.context("no node could be followed")),
                Err(_) => failures += 1,
            }
            broken = true;
            self.position += 1;
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    /// Follows one node until its stream ends; an error where it could not even begin.
    async fn watch(&mut self, nodes: &Nodes, url: &str, resumed: bool, screen: &Screen) -> anyhow::Result<()> {
        let path = format!("{url}/v2/watch?kinds={KINDS}&from_revision={}", self.next_revision);
        let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
        let mut answer = tokio::time::timeout(silence, nodes.client().get(path).send())
            .await??
            .error_for_status()?;
        if resumed {
            let sentence = format!(
                "the watch goes on from revision {} on {url}: nothing missed, nothing twice",
                self.next_revision
            );
            screen.say(
                "resumed",
                json!({"url": url, "from_revision": self.next_revision}),
                &sentence,
            );
        }
        let mut waiting: Vec<u8> = Vec::new();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(silence, answer.chunk()).await {
            waiting.extend_from_slice(&chunk);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let Ok(event) = serde_json::from_slice::<Value>(&line) else {
                    continue;
                };
                self.tell_line(&event, screen);
            }
            if waiting.len() > LINE_BYTES_MAX {
                bail!("{url} sends a line of more than {LINE_BYTES_MAX} bytes");
            }
        }
        Ok(())
    }

    fn tell_line(&mut self, event: &Value, screen: &Screen) {
        let revision = event["revision"].as_u64().unwrap_or(0);
        match event["type"].as_str() {
            Some("BOOKMARK") => self.next_revision = self.next_revision.max(revision + 1),
            Some("PUT" | "DELETE") => {
                self.next_revision = revision + 1;
                if let Some((name, sentence)) = self.teller.sentence(event) {
                    let fields =
                        json!({"revision": revision, "kind": event["kind"], "arn": event["arn"], "text": sentence});
                    screen.say(name, fields, &sentence);
                }
            }
            _ => {}
        }
    }
}

/// Tells of each new leader, as the nodes themselves know it.
async fn tell_of_leaders(nodes: &Nodes, pids: &Pids, screen: &Screen) {
    let mut told = (0, String::new());
    loop {
        for url in nodes.urls() {
            let Ok(cluster) = nodes.get_from(url, "/v2/cluster").await else {
                continue;
            };
            let (term, leader) = (cluster["term"].as_u64().unwrap_or(0), text(&cluster["leader"], "name"));
            if leader.is_empty() || term < told.0 || (term, &leader) == (told.0, &told.1) {
                continue;
            }
            let before = match told.1.as_str() {
                "" => String::new(),
                before if before == leader => " again".to_owned(),
                before => format!(" after {before}"),
            };
            let hint = pids.get(&leader).map_or(String::new(), |pid| {
                format!("; to see another one do it: kill -9 {pid}")
            });
            let sentence = format!("{leader} leads{before}, in term {term}{hint}");
            screen.say("leader", json!({"leader": leader, "term": term}), &sentence);
            told = (term, leader);
        }
        tokio::time::sleep(Duration::from_millis(LEADER_MS)).await;
    }
}
