//! What was done to the cluster, from the nemesis lines of a history.
//!
//! `{"process":"nemesis","type":"invoke","f":"kill","value":"node-1","time":ns}` begins a fault on a target; `info` lines of the same `f` and `value` with a
//! member `effect` say how it was seen to take effect, with a member `hindered` that another fault may have kept it from that; `ok` says that it is
//! mended. One that is never mended lasts to the end; other lines are passed over.

use serde_json::Value;

use super::history::{Event, History, Name, Phase};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `kill`, `pause`, `cut`, ...
    pub name: Name,
    /// To whom, as the lines say it.
    pub target: String,
    /// When it was done.
    pub from_ns: u64,
    /// When it was mended.
    pub until_ns: Option<u64>,
    /// How it was seen to take effect.
    pub effects: Vec<String>,
    /// Another fault may have stood in its way.
    pub hindered: bool,
}

impl Fault {
    /// Whether its target names this node.
    pub fn fell_on(&self, node: &str) -> bool {
        self.target.split_whitespace().any(|word| word == node)
    }

    /// For people: `kill of node-1 at 12.3 s`.
    pub fn told(&self) -> String {
        format!(
            "{} of {} at {:.1} s",
            self.name,
            self.target,
            crate::clock::seconds(self.from_ns)
        )
    }
}

/// All faults, in the order in which they began.
pub fn of(history: &History) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for event in history.events.iter().filter(|event| &*event.actor == "nemesis") {
        let target = text(&event.value);
        if event.phase == Phase::Invoke {
            let effects = effect(event).into_iter().collect();
            faults.push(Fault {
                name: Name::clone(&event.what),
                target,
                from_ns: event.at_ns,
                until_ns: None,
                effects,
                hindered: false,
            });
            continue;
        }
        let open = faults
            .iter_mut()
            .rev()
            .find(|one| one.until_ns.is_none() && one.name == event.what && one.target == target);
        let Some(fault) = open else { continue };
        fault.effects.extend(effect(event));
        fault.hindered |= event.more.contains_key("hindered");
        if event.phase != Phase::Info {
            fault.until_ns = Some(event.at_ns);
        }
    }
    faults
}

fn effect(event: &Event) -> Option<String> {
    event
        .more
        .get("effect")
        .filter(|effect| !effect.is_null())
        .map(text)
        .filter(|effect| !effect.trim().is_empty())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::history;

    /// Begun, seen, mended; two at once are told apart, and one that never ends lasts.
    #[test]
    fn faults_are_paired() {
        let history = history(
            "nemesis invoke kill - {\"value\":\"a\"}\nnemesis invoke kill - {\"value\":\"b\"}\nnemesis info kill - {\"value\":\"a\",\"effect\":\"exited 137\"}\n\
             nemesis ok kill - {\"value\":\"a\",\"effect\":\" \"}\nnemesis info heal - {\"value\":\"a\"}\nnemesis invoke cut - {\"value\":[\"a\",\"b\"]}",
        );
        let faults = of(&history);
        let shown: Vec<String> = faults
            .iter()
            .map(|one| {
                format!(
                    "{} {:?} {:?}",
                    one.told(),
                    one.until_ns.map(crate::clock::ms),
                    one.effects
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "kill of a at 0.0 s Some(4) [\"exited 137\"]",
                "kill of b at 0.0 s None []",
                "cut of [\"a\",\"b\"] at 0.0 s None []"
            ]
        );
    }
}
