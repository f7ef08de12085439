//! What became of each fault of a run, as campaigns count it: whether it had its effect, what it cost clients, and of some kinds a little more.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::folder::{Folder, FolderError};
use crate::check::availability::Gap;
use crate::clock::ms;
use crate::nemesis::damage;

/// A roll-out is under way where ECS starts or stops a daemon's task so shortly before a fault begins, and again so shortly after it, milliseconds.
const ROLLING_MS: u64 = 15_000;
/// Of what was seen of a fault so much is kept, characters.
const EVIDENCE_MAX: usize = 160;

/// One fault, as it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultRecord {
    /// Its number in its run.
    pub number: u64,
    /// `kill`, ...
    pub fault: String,
    /// `leader`, ...
    pub target: String,
    /// It was seen to have its effect.
    pub seen: bool,
    /// It was the only one, and began on a whole cluster.
    pub alone: bool,
    /// A roll-out of the daemon was under way.
    pub rolling: bool,
    /// The longest time without an acknowledged write that began in it, by clients that may use any node, milliseconds.
    pub gap_ms: u64,
    /// From its order to the acknowledgement of a write called after it, milliseconds.
    pub next_ms: Option<u64>,
    /// Of damaged files: what became of the node.
    pub came: Option<Came>,
    /// Of damaged files: the kind of file.
    pub file: Option<String>,
    /// What was seen.
    pub evidence: String,
}

/// What becomes of a node with a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    /// It refused to start, and was replaced as the manual says.
    Refused,
    /// It rebuilt by itself what was damaged.
    Rebuilt,
    /// It went on: what was damaged was not needed, or could be told and cut off.
    WentOn,
}

impl Came {
    const ALL: [Came; 3] = [Came::Refused, Came::Rebuilt, Came::WentOn];

    /// As it stands in a campaign's state.
    pub fn word(self) -> &'static str {
        match self {
            Came::Refused => "refused",
            Came::Rebuilt => "rebuilt",
            Came::WentOn => "went-on",
        }
    }

    fn told_by(evidence: &str) -> Option<Came> {
        if evidence.contains(damage::REFUSES) {
            Some(Came::Refused)
        } else if evidence.contains(damage::REBUILT) {
            Some(Came::Rebuilt)
        } else if evidence.contains(damage::READY) {
            Some(Came::WentOn)
        } else {
            None
        }
    }
}

impl FaultRecord {
    /// As it stands in a campaign's state: what is not known, or not so, is left out.
    pub fn to_json(&self) -> Value {
        let mut record = json!({"number": self.number, "fault": self.fault, "target": self.target, "seen": self.seen, "gap_ms": self.gap_ms,
            "next_ms": self.next_ms, "evidence": self.evidence});
        for (name, is_so) in [("alone", self.alone), ("rolling", self.rolling)] {
            if is_so {
                record[name] = json!(true);
            }
        }
        if let Some(came) = self.came {
            record["came"] = json!(came.word());
        }
        if let Some(file) = &self.file {
            record["file"] = json!(file);
        }
        record
    }

    /// Back from there.
    pub fn of_json(record: &Value) -> FaultRecord {
        let word = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let is_so = |name: &str| record[name].as_bool().unwrap_or(false);
        FaultRecord {
            number: record["number"].as_u64().unwrap_or(0),
            fault: word("fault"),
            target: word("target"),
            seen: is_so("seen"),
            alone: is_so("alone"),
            rolling: is_so("rolling"),
            gap_ms: record["gap_ms"].as_u64().unwrap_or(0),
            next_ms: record["next_ms"].as_u64(),
            came: Came::ALL.into_iter().find(|came| record["came"] == came.word()),
            file: record["file"].as_str().map(str::to_owned),
            evidence: word("evidence"),
        }
    }
}

/// The record of each fault of a run, in their order, from its folder and the gaps of its history.
pub fn of_run(folder: &Folder, plan: &Value, end: &Value, gaps: &[Gap]) -> Result<Vec<FaultRecord>, FolderError> {
    let committed = match folder.faults().exists() {
        true => folder.read_lines(&folder.faults())?,
        false => Vec::new(),
    };
    let committed: BTreeMap<u64, &Value> = committed
        .iter()
        .filter_map(|line| Some((line["number"].as_u64()?, line)))
        .collect();
    let changes_ms = match folder.ecs().exists() {
        true => daemons_changed(&folder.read_json(&folder.ecs())?["memory"]),
        false => Vec::new(),
    };
    let zero_ms = ms(end["zero_ns"].as_u64().unwrap_or(0));
    let records = gaps.iter().map(|gap| {
        let mut words = gap.fault.target.split(' ');
        let target = words.next().unwrap_or_default().to_owned();
        let number = words.next_back().and_then(|word| word.strip_prefix('#')?.parse().ok());
        let line = number.and_then(|number: u64| committed.get(&number).copied());
        let evidence = line.map_or_else(|| gap.fault.effects.join("; "), evidence_of);
        let began_ms = zero_ms + ms(gap.fault.from_ns);
        let ended_ms = zero_ms + ms(gap.fault.until_ns.unwrap_or(gap.fault.from_ns));
        FaultRecord {
            number: number.unwrap_or(0),
            fault: gap.fault.name.to_string(),
            target,
            seen: !gap.fault.effects.is_empty(),
            alone: plan["rhythm"] == "dense",
            rolling: is_rolling(&changes_ms, began_ms, ended_ms),
            gap_ms: ms(gap.pause_ns),
            next_ms: gap.next_ns.map(ms),
            came: Came::told_by(&evidence),
            file: file_of(&evidence),
            evidence: evidence.chars().take(EVIDENCE_MAX).collect(),
        }
    });
    Ok(records.collect())
}

fn evidence_of(line: &Value) -> String {
    let all = line["evidence"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

/// When ECS started and stopped tasks at somebody's wish, milliseconds since 1970, in order.
fn daemons_changed(memory: &Value) -> Vec<u64> {
    let calls = memory["calls"].as_array().into_iter().flatten();
    let done = calls.filter(|call| {
        call["outcome"] == "ok" && matches!(call["operation"].as_str(), Some("StartTask" | "StopTask" | "RunTask"))
    });
    let mut at_ms: Vec<u64> = done.filter_map(|call| call["at_ms"].as_u64()).collect();
    at_ms.sort_unstable();
    at_ms
}

fn is_rolling(changes_ms: &[u64], began_ms: u64, ended_ms: u64) -> bool {
    let within = |from_ms: u64, until_ms: u64| {
        let first = changes_ms.partition_point(|at_ms| *at_ms < from_ms);
        changes_ms.get(first).is_some_and(|at_ms| *at_ms <= until_ms)
    };
    within(began_ms.saturating_sub(ROLLING_MS), began_ms) && within(began_ms, ended_ms + ROLLING_MS)
}

/// The kind of file in `... of raft/db/000004.log (LogAhead, 900 bytes); ...`.
fn file_of(evidence: &str) -> Option<String> {
    Came::told_by(evidence)?;
    let (kind, _) = evidence.split_once('(')?.1.split_once(',')?;
    Some(kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{availability, faults, history::History};

    /// Effect, cost, damage and roll-out of each fault; what is written can be read back.
    #[test]
    fn faults_are_recorded() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-fault-records-{}", std::process::id())));
        let flip = format!(
            "node-2: 3 bits flipped of raft/db/000004.log (LogAhead, 900 bytes); {}",
            damage::REBUILT
        );
        let lines = [
            json!({"number": 1, "evidence": ["node-1 ended by SIGKILL"]}),
            json!({"number": 2, "evidence": [flip]}),
        ];
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        folder.write(&folder.faults(), lines).expect("writable");
        let call = |at_ms: u64, operation: &str| json!({"at_ms": at_ms, "operation": operation, "outcome": "ok"});
        let calls = [call(1_000_500, "StartTask"), call(1_004_000, "StopTask")];
        folder
            .write(&folder.ecs(), json!({"memory": {"calls": calls}}).to_string())
            .expect("writable");
        let history = History::parse(
            "{\"process\":\"nemesis\",\"type\":\"invoke\",\"f\":\"kill\",\"value\":\"leader node-1 #1\",\"time\":1000000000}\n\
             {\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"k\",\"value\":\"a\",\"time\":1100000000}\n\
             {\"process\":0,\"type\":\"ok\",\"f\":\"write\",\"key\":\"k\",\"value\":\"a\",\"time\":1600000000}\n\
             {\"process\":\"nemesis\",\"type\":\"ok\",\"f\":\"kill\",\"value\":\"leader node-1 #1\",\"effect\":\"gone\",\"time\":2000000000}\n\
             {\"process\":\"nemesis\",\"type\":\"invoke\",\"f\":\"bit-flip\",\"value\":\"one node-2 #2\",\"time\":30000000000}\n\
             {\"process\":\"nemesis\",\"type\":\"ok\",\"f\":\"bit-flip\",\"value\":\"one node-2 #2\",\"effect\":\"flipped\",\"time\":31000000000}",
        )
        .expect("a history");
        let gaps = availability::gaps(&history, &faults::of(&history), u64::MAX);
        let end = json!({"zero_ns": 1_000_000_000_000_u64});
        let records = of_run(&folder, &json!({"rhythm": "dense"}), &end, &gaps).expect("readable");
        std::fs::remove_dir_all(folder.path()).expect("removable");
        let [kill, flip] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((kill.number, &*kill.fault, &*kill.target), (1, "kill", "leader"));
        assert!(kill.seen && kill.alone && kill.rolling, "{kill:?}");
        assert_eq!((kill.next_ms, kill.came), (Some(600), None));
        assert_eq!(kill.evidence, "node-1 ended by SIGKILL");
        assert_eq!(
            (flip.came, flip.file.as_deref()),
            (Some(Came::Rebuilt), Some("LogAhead"))
        );
        assert!(!flip.rolling, "no task was started or stopped after it");
        for record in &records {
            assert_eq!(FaultRecord::of_json(&record.to_json()), *record);
        }
    }
}
