//! How the demo is shown: sentences for people, or one JSON object a line.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::cluster::{Cluster, Node};
use super::verdict::Verdict;

const SECONDS_PER_DAY: u64 = 86_400;

/// Standard output, shared by everything that has something to tell.
pub struct Screen {
    json: bool,
    colours: bool,
    /// One line at a time.
    writing: Mutex<()>,
}

impl Screen {
    /// Colours only on a terminal, and not where NO_COLOR is set.
    pub fn new(json: bool) -> Screen {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen {
            json,
            colours: !json && wanted && std::io::stdout().is_terminal(),
            writing: Mutex::new(()),
        }
    }

    /// One thing that happened: its name and fields for programs, a sentence for people.
    pub fn say(&self, event: &str, fields: Value, sentence: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.json {
            let mut line = Map::new();
            line.insert("time_ms".into(), json!(now.as_millis() as u64));
            line.insert("event".into(), event.into());
            line.extend(fields.as_object().cloned().unwrap_or_default());
            self.write(&Value::Object(line).to_string());
            return;
        }
        let seconds = now.as_secs() % SECONDS_PER_DAY;
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let (colour, reset) = if self.colours {
            (colour_of(event), "\u{1b}[0m")
        } else {
            ("", "")
        };
        self.write(&format!("{clock} {colour}{event:<12}{reset} {sentence}"));
    }

    /// Where everything is, and what to try.
    pub fn introduce(&self, cluster: &Cluster) {
        let nodes: Vec<Value> = cluster
            .nodes()
            .iter()
            .map(|node| json!({"name": node.name, "url": node.url, "pid": node.pid}))
            .collect();
        if self.json {
            self.say(
                "nodes",
                json!({"nodes": nodes, "simulator": cluster.simulator_url(), "simulator_pid": cluster.simulator_pid()}),
                "",
            );
        } else {
            self.write(&introduction(cluster.nodes(), cluster.simulator_url()));
        }
    }

    /// The verdict at the end.
    pub fn conclude(&self, verdict: &Verdict) {
        let fields = json!({"good": verdict.is_good(), "wrong": verdict.wrong, "daemons": verdict.daemons, "events": verdict.events});
        if verdict.is_good() {
            let sentence = format!(
                "all is well: every node serves, each of {} eligible instances runs its daemon once, and none ever ran it twice ({} events of ECS)",
                verdict.daemons, verdict.events
            );
            self.say("verdict", fields, &sentence);
        } else {
            self.say(
                "verdict",
                fields,
                &format!("something is wrong:\n  {}", verdict.wrong.join("\n  ")),
            );
        }
    }

    fn write(&self, text: &str) {
        let _one_at_a_time = self.writing.lock().expect("nothing panics while it writes");
        // Whoever read the output is gone: the demo goes on, and ends by its own means.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

fn colour_of(event: &str) -> &'static str {
    match event {
        "leader" | "ready" | "verdict" => "\u{1b}[1;32m",
        "node_ended" | "stopped" => "\u{1b}[1;31m",
        "instance" => "\u{1b}[33m",
        "daemon" => "\u{1b}[36m",
        _ => "\u{1b}[2m",
    }
}

fn introduction(nodes: &[Node], simulator_url: &str) -> String {
    let mut text = String::new();
    for node in nodes {
        text += &format!("\n  {}   {}   pid {}", node.name, node.url, node.pid);
    }
    let [first, second, third, ..] = nodes else { return text };
    text += &format!("\n  simulated ECS   {simulator_url}   (its own truth: {simulator_url}/control/state)\n");
    text += &format!(
        "\nTry in another terminal, on any node:\n\
         \x20 curl -s '{}/v2/cluster'\n\
         \x20 curl -s '{}/v1/tasks?cluster=alpha&status=running'\n\
         \x20 curl -s '{}/v2/environments/agent-alpha'\n\
         \x20 curl -sN '{}/v2/watch?kinds=task,instance'\n\
         \x20 curl -s -X PUT '{}/v2/environments/agent-alpha' -d '{{\"cluster\":\"alpha\",\"task_definition\":\"agent:2\",\"max_unavailable\":2}}'\n\
         Kill whichever node you like (kill -9 PID): the others go on, and so does what you read here. Ctrl-C stops everything.\n",
        first.url, second.url, third.url, second.url, third.url
    );
    text
}
