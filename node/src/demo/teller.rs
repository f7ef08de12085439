//! Sentences: what each change means to a reader, and whether it is news.

use std::collections::HashMap;

use serde_json::Value;

/// What was last told of each thing, so that only news is told.
#[derive(Default)]
pub struct Teller {
    told: HashMap<String, String>,
    environments: HashMap<String, String>,
}

impl Teller {
    /// The line for one change; `None` where it is no news to a reader.
    pub fn sentence(&mut self, event: &Value) -> Option<(&'static str, String)> {
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
                let sentence = format!(
                    "{name}: the roll-out of {} is {status}",
                    last_part(&text(object, "task_definition_arn"))
                );
                self.news(&text(event, "id"), &sentence)
                    .then_some(("deployment", sentence))
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
        let (status, definition) = (
            text(document, "lastStatus"),
            last_part(&text(document, "taskDefinitionArn")),
        );
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

    pub fn instance(&mut self, event: &Value, document: &Value, deleted: bool) -> Option<(&'static str, String)> {
        let arn = text(event, "arn");
        let (cluster, name) = (
            last_part(&text(event, "cluster_arn")),
            short(&last_part(&arn)).to_owned(),
        );
        if deleted {
            self.told.remove(&arn);
            return Some(("instance", format!("{cluster}: {name} is forgotten by ECS")));
        }
        let agent = if document["agentConnected"] == false {
            ", its agent is away"
        } else {
            ""
        };
        let sentence = format!("{cluster}: {name} is {}{agent}", text(document, "status"));
        self.news(&arn, &sentence).then_some(("instance", sentence))
    }

    /// Only launches that did not simply work.
    fn launch(&mut self, object: &Value) -> Option<(&'static str, String)> {
        let state = text(object, "state");
        let environment = self
            .environments
            .get(&text(object, "environment_id"))
            .cloned()
            .unwrap_or_else(|| "a daemon".to_owned());
        let instance = last_part(&text(object, "instance_arn"));
        let sentence = match state.as_str() {
            "rejected" => format!(
                "{environment}: not started on {}: {}",
                short(&instance),
                text(object, "reason")
            ),
            "unknown" => format!(
                "{environment}: whether it was started on {} is not known yet; ECS is asked",
                short(&instance)
            ),
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

/// A text member, empty where it is not there.
pub fn text(value: &Value, key: &str) -> String {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        let (name, sentence) = teller
            .sentence(&task("PENDING", "blox:1"))
            .expect("a daemon's start is news");
        assert_eq!(
            (name, sentence.as_str()),
            ("daemon", "alpha: agent:1 is PENDING on 01234567")
        );
        assert!(teller.sentence(&task("PENDING", "blox:1")).is_none());
        let (_, sentence) = teller.sentence(&task("STOPPED", "blox:1")).expect("its end is news");
        assert_eq!(sentence, "alpha: agent:1 is STOPPED on 01234567: replaced");
        assert!(teller.sentence(&task("PENDING", "service:web")).is_none());
        assert_eq!(
            teller.sentence(&task("RUNNING", "service:web")).expect("it runs").0,
            "task"
        );
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
        assert_eq!(
            teller.sentence(&instance(false, 1)).expect("news").1,
            "beta: abcdefgh is ACTIVE, its agent is away"
        );
    }
}
