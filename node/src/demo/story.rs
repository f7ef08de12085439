//! What happens, one line each: changes from `/v2/watch`, taken up on another node when one dies, and changes of the leader.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::nodes::Nodes;
use super::screen::Screen;

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

/// What was last told of each thing, so that only news is told.
#[derive(Default)]
struct Teller {
    told: HashMap<String, String>,
    environments: HashMap<String, String>,
}

impl Story {
    /// From the present on.
    pub async fn from_now(nodes: &Nodes) -> anyhow::Result<Story> {
        let cluster = nodes.get("/v2/cluster").await?;
        let revision = cluster["revision"].as_u64().context("a node does not say its revision")?;
        let mut teller = Teller::default();
        // What is there already is no news.
        let instances = nodes.get(&format!("/v2/instances?limit={INSTANCES_KNOWN_MAX}&min_revision={revision}")).await?;
        for item in instances["items"].as_array().into_iter().flatten() {
            teller.instance(item, &item["document"], false);
        }
        Ok(Story { next_revision: revision + 1, position: 0, teller })
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
        let mut answer = tokio::time::timeout(silence, nodes.client().get(path).send()).await??.error_for_status()?;
        if resumed {
            let sentence = format!("the watch goes on from revision {} on {url}: nothing missed, nothing twice", self.next_revision);
            screen.say("resumed", json!({"url": url, "from_revision": self.next_revision}), &sentence);
        }
        let mut waiting: Vec<u8> = Vec::new();
        while let Ok(Ok(Some(chunk))) = tokio::time::timeout(silence, answer.chunk()).await {
            waiting.extend_from_slice(&chunk);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
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
                    let fields = json!({"revision": revision, "kind": event["kind"], "arn": event["arn"], "text": sentence});
                    screen.say(name, fields, &sentence);
                }
            }
            _ => {}
        }
    }
}

impl Teller {
    /// The line for one change; `None` where it is no news to a reader.
    fn sentence(&mut self, event: &Value) -> Option<(&'static str, String)> {
        let deleted = event["type"] == "DELETE";
        let object = &event["object"];
        match event["kind"].as_str()? {
            "task" => self.task(event, &object["document"], deleted),
            "instance" => self.instance(event, &object["document"], deleted),
            "environment" => {
                let name = text(event, "name");
                self.environments.insert(text(object, "id"), name.clone());
                let definition = last_part(&text(object, "task_definition_arn"));
                let revision = object["environment_revision"].as_u64().unwrap_or(0);
                let sentence = match (deleted, object["deleting"] == true) {
                    (true, _) => format!("{name} is gone"),
                    (false, true) => format!("{name} is being deleted"),
                    (false, false) => format!("{name} wants {definition}, revision {revision} of it"),
                };
                self.news(&name, &sentence).then_some(("environment", sentence))
            }
            "deployment" => {
                let (name, status) = (text(object, "environment"), text(object, "status"));
                let sentence = format!("{name}: the roll-out of {} is {status}", last_part(&text(object, "task_definition_arn")));
                self.news(&text(event, "id"), &sentence).then_some(("deployment", sentence))
            }
            "launch" => self.launch(object),
            _ => None,
        }
    }

    fn task(&mut self, event: &Value, document: &Value, deleted: bool) -> Option<(&'static str, String)> {
        let arn = text(event, "arn");
        if deleted {
            self.told.remove(&arn);
            return None;
        }
        let (status, definition) = (text(document, "lastStatus"), last_part(&text(document, "taskDefinitionArn")));
        let group = text(document, "group");
        let ours = group.starts_with("blox:");
        let told = ours || matches!(status.as_str(), "RUNNING" | "STOPPED");
        if !told || !self.news(&arn, &status) {
            return None;
        }
        let instance = last_part(&text(document, "containerInstanceArn"));
        let why = match text(document, "stoppedReason") {
            reason if status == "STOPPED" && !reason.is_empty() => format!(": {reason}"),
            _ => String::new(),
        };
        let cluster = last_part(&text(event, "cluster_arn"));
        let sentence = format!("{cluster}: {definition} is {status} on {}{why}", short(&instance));
        if status == "STOPPED" {
            // It never changes again: what was told of it need not be remembered.
            self.told.remove(&arn);
        }
        Some((if ours { "daemon" } else { "task" }, sentence))
    }

    fn instance(&mut self, event: &Value, document: &Value, deleted: bool) -> Option<(&'static str, String)> {
        let arn = text(event, "arn");
        let (cluster, name) = (last_part(&text(event, "cluster_arn")), short(&last_part(&arn)).to_owned());
        if deleted {
            self.told.remove(&arn);
            return Some(("instance", format!("{cluster}: {name} is forgotten by ECS")));
        }
        let agent = if document["agentConnected"] == false { ", its agent is away" } else { "" };
        let sentence = format!("{cluster}: {name} is {}{agent}", text(document, "status"));
        self.news(&arn, &sentence).then_some(("instance", sentence))
    }

    /// Only launches that did not simply work.
    fn launch(&mut self, object: &Value) -> Option<(&'static str, String)> {
        let state = text(object, "state");
        let environment = self.environments.get(&text(object, "environment_id")).cloned().unwrap_or_else(|| "a daemon".to_owned());
        let instance = last_part(&text(object, "instance_arn"));
        let sentence = match state.as_str() {
            "rejected" => format!("{environment}: not started on {}: {}", short(&instance), text(object, "reason")),
            "unknown" => format!("{environment}: whether it was started on {} is not known yet; ECS is asked", short(&instance)),
            "vanished" => format!("{environment}: it was not started on {} after all", short(&instance)),
            _ => return None,
        };
        Some(("launch", sentence))
    }

    /// Whether this was not the last thing told of it.
    fn news(&mut self, of: &str, what: &str) -> bool {
        self.told.insert(of.to_owned(), what.to_owned()).as_deref() != Some(what)
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Of an ARN, the name.
fn last_part(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or(arn).to_owned()
}

/// The first characters of an id are enough to tell one from another.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Tells of each new leader, as the nodes themselves know it.
async fn tell_of_leaders(nodes: &Nodes, pids: &Pids, screen: &Screen) {
    let mut told = (0, String::new());
    loop {
        for url in nodes.urls() {
            let Ok(cluster) = nodes.get_from(url, "/v2/cluster").await else { continue };
            let (term, leader) = (cluster["term"].as_u64().unwrap_or(0), text(&cluster["leader"], "name"));
            if leader.is_empty() || term < told.0 || (term, &leader) == (told.0, &told.1) {
                continue;
            }
            let before = match told.1.as_str() {
                "" => String::new(),
                before if before == leader => " again".to_owned(),
                before => format!(" after {before}"),
            };
            let hint = pids.get(&leader).map_or(String::new(), |pid| format!("; to see another one do it: kill -9 {pid}"));
            let sentence = format!("{leader} leads{before}, in term {term}{hint}");
            screen.say("leader", json!({"leader": leader, "term": term}), &sentence);
            told = (term, leader);
        }
        tokio::time::sleep(Duration::from_millis(LEADER_MS)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(status: &str, group: &str) -> Value {
        json!({
            "type": "PUT", "revision": 7, "kind": "task", "cluster_arn": "arn:aws:ecs:r:1:cluster/alpha", "arn": "arn:t/1",
            "object": {"document": {
                "lastStatus": status, "group": group, "taskDefinitionArn": "arn:x/agent:1", "containerInstanceArn": "arn:y/alpha/0123456789",
                "stoppedReason": "replaced",
            }},
        })
    }

    /// A status is told once, a stop with its reason, and applications only when they begin and end.
    #[test]
    fn only_news_is_told() {
        let mut teller = Teller::default();
        let (name, sentence) = teller.sentence(&task("PENDING", "blox:1")).expect("a daemon's start is news");
        assert_eq!((name, sentence.as_str()), ("daemon", "alpha: agent:1 is PENDING on 01234567"));
        assert!(teller.sentence(&task("PENDING", "blox:1")).is_none());
        let (_, sentence) = teller.sentence(&task("STOPPED", "blox:1")).expect("its end is news");
        assert_eq!(sentence, "alpha: agent:1 is STOPPED on 01234567: replaced");
        assert!(teller.sentence(&task("PENDING", "service:web")).is_none());
        assert_eq!(teller.sentence(&task("RUNNING", "service:web")).expect("it runs").0, "task");
    }

    /// An instance is told of when status or agent change, not with each change of its resources.
    #[test]
    fn instances_are_told_of_when_they_change() {
        let instance = |agent: bool, tasks: u64| {
            json!({
                "type": "PUT", "revision": 8, "kind": "instance", "cluster_arn": "arn:c/beta", "arn": "arn:i/abcdefghij",
                "object": {"document": {"status": "ACTIVE", "agentConnected": agent, "runningTasksCount": tasks}},
            })
        };
        let mut teller = Teller::default();
        assert!(teller.sentence(&instance(true, 0)).is_some());
        assert!(teller.sentence(&instance(true, 1)).is_none());
        assert_eq!(teller.sentence(&instance(false, 1)).expect("news").1, "beta: abcdefgh is ACTIVE, its agent is away");
    }
}
