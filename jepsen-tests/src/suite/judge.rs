//! The verdict on a run, from the files of its folder alone.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::fault_records::{self, FaultRecord};
use super::figures::figures;
use super::files::Files;
use super::folder::{Folder, FolderError};
use super::judgement::Judgement;
use super::stage::LIVE_KEYS;
use super::truth::Truth;
use super::{crashes, lives};
use crate::check::faults::Fault;
use crate::check::history::History;
use crate::check::{self, Findings, Verdict};
use crate::check::{always, append, availability, committed, idempotent, linear, queries, sessions, set, stale};
use crate::clock::ns;
use crate::compare::Change;
use crate::nemesis::Nemesis;
use crate::workload::{Workload, daemon, ingest, v1_streams, watch};

/// The longest time without an acknowledged write while a majority is whole, nanoseconds.
const PAUSE_NS_MAX: u64 = 5_000_000_000;
/// After so much time without any fault a write must have been acknowledged, nanoseconds.
const CALM_NS_MIN: u64 = 10_000_000_000;
/// In a fault that lasts so long every workload by itself must have asked something: all clients of one may wait for answers for up to seven seconds,
/// and the slowest ones ask once a second.
const GOES_ON: Duration = Duration::from_secs(10);

/// Judges everything that the run recorded.
pub fn judge(folder: &Folder) -> Result<Judgement, FolderError> {
    let files = Files::read(folder)?;
    let mut judgement = Judgement {
        figures: figures(&files),
        ..Judgement::default()
    };
    // What had no effect is told once, below; and that somebody asked during each fault, too.
    let is_long = |fault: &&Fault| {
        let until_ns = fault.until_ns.unwrap_or(u64::MAX);
        until_ns - fault.from_ns >= ns(GOES_ON) && !fault.effects.is_empty()
    };
    let long: Vec<Fault> = files.faults.iter().filter(is_long).cloned().collect();
    for workload in files.workloads() {
        of_workload(workload, &files, &mut judgement)?;
        let own = files.of(workload);
        if !workload.functions().is_empty() {
            let expected = always::Expected {
                functions: workload.functions(),
                faults: &[],
            };
            judgement.add(
                &format!("{}: went on", workload.word()),
                files.on_the_whole(always::check(&own, &long, expected)),
            );
        }
    }
    judgement.add("revisions grow over all keys", linear::revisions::check(&files.history));
    if let Some(truth) = &files.truth {
        judgement.add("all nodes tell one history", one_history(truth));
        judgement.add("writes are as committed", as_committed(&files, truth));
        judgement.add("sessions never go back", sessions::check(&truth.sessions));
    }
    judgement.add("faults had their effect", faults_had_effect(&files));
    if files
        .workloads()
        .iter()
        .any(|workload| workload.functions().contains(&"write"))
    {
        let verdict = writes_go_on(&files);
        judgement.add("writes go on after each fault", files.on_the_whole(verdict));
    }
    let gaps = files.gaps();
    let records = fault_records::of_run(folder, &files.plan, &files.end, &gaps)?;
    judgement.figure("faults", records.iter().map(FaultRecord::to_json).collect());
    let course = crashes::Course {
        faults: &files.faults,
        load_ns: files.end["load_ns"].as_u64().unwrap_or(0),
        zero_ns: files.end["zero_ns"].as_u64().unwrap_or(0),
        patience: files.patience(),
    };
    judgement.add(
        "no node ended by itself",
        crashes::judge(folder, &files.nodes, &course)?,
    );
    judgement.add("whole in the end", whole(&files.end));
    Ok(judgement)
}

fn of_workload(workload: Workload, files: &Files<'_>, judgement: &mut Judgement) -> Result<(), FolderError> {
    let own = files.of(workload);
    let unknown = || Verdict::unknown("the run did not come to its end: what was committed is not known");
    let truth = files.truth.as_ref();
    let name = |promise: &str| format!("{}: {promise}", workload.word());
    match (workload, truth) {
        (Workload::Register, _) => judgement.add(&name("linearizable"), linear::check(&own)),
        (Workload::Set, _) => judgement.add(&name("nothing is lost"), set::check(&own)),
        (Workload::Append, _) => judgement.add(&name("one order"), append::check(&own)),
        (Workload::Queries, _) => {
            let compared = queries::check(&answers(&own), &files.nodes);
            judgement.figure("lists_compared", json!(compared.groups));
            judgement.add(&name("equal at one revision"), compared.verdict);
        }
        (Workload::Daemon, _) => match files.folder.ecs().exists() {
            false => judgement.add(&name("one an instance"), unknown()),
            true => {
                let record = daemon::record(files.folder, &files.nodes, files.disturbed(), files.patience())?;
                let judged = check::daemon::check(&record);
                judgement.figure("starts", json!(record.starts.len()));
                judgement.figure(
                    "starts_unanswered",
                    json!(record.starts.iter().filter(|start| start.answer_lost).count()),
                );
                judgement.figure("lags", json!(record.lags.len()));
                judgement.figure("doubles", json!(judged.doubles.len()));
                judgement.figure("doubles_told", judged.doubles.iter().map(double).collect());
                judgement.add(&name("one an instance"), judged.verdict);
            }
        },
        (_, None) => judgement.add(&name("as committed"), unknown()),
        (Workload::Stale, Some(truth)) => {
            let zero_ns = files.end["zero_ns"].as_u64().unwrap_or(0);
            let lives = files
                .nodes
                .iter()
                .map(|node| Ok((node.clone(), lives::starts(files.folder, node)?)));
            let mut own = own;
            lives::note(
                &mut own,
                "stale",
                &lives.collect::<Result<Vec<_>, FolderError>>()?,
                zero_ns,
            );
            judgement.add(&name("old, never wrong"), stale::check(&own, &truth.keys));
            let as_linearizable = linear::check(&stale::as_linearizable(&own));
            judgement.figure("stale_as_linearizable", json!(as_linearizable.word()));
        }
        (Workload::Idempotent, Some(truth)) => {
            judgement.add(&name("applied once"), idempotent::check(&own, &truth.keys));
        }
        (Workload::Watch, Some(truth)) => {
            let readers = watch::readers(files.folder, truth.until)?;
            let log = check::watch::Log {
                from: truth.from,
                until: truth.until,
                changes: &truth.log,
            };
            let told = readers
                .iter()
                .flat_map(|reader| &reader.connections)
                .map(|one| one.items.len());
            judgement.figure("watch_lines", json!(told.sum::<usize>()));
            judgement.add(&name("told as committed"), check::watch::check(log, &readers));
            for (position, (stream, _, in_arns)) in v1_streams::STREAMS.iter().enumerate() {
                let own = truth.shown.iter().filter(|shown| shown.version.is_some());
                let own = own.filter(|shown| shown.arn.contains(in_arns));
                let log = own.map(|shown| (shown.revision, shown.arn.clone())).collect();
                let readers = v1_streams::readers(files.folder, position, truth.until)?;
                let verdict = check::v1_stream::check(&log, &readers);
                judgement.add(&name(&format!("/v1/stream/{stream} told as committed")), verdict);
            }
        }
        (Workload::Ingest, Some(truth)) => {
            let of_clock = |fault: &Fault| Nemesis::from_str(&fault.name, false).is_ok_and(Nemesis::needs_clocks);
            let clocks_were_set = files.faults.iter().any(of_clock);
            let record = ingest::record(files.folder, truth, !clocks_were_set)?;
            judgement.figure("events", json!(record.sent.len()));
            judgement.add(&name("everything arrived"), check::ingest::check(&record));
        }
    }
    Ok(())
}

fn double(double: &check::daemon::Double) -> Value {
    json!({"instance": double.instance, "lasted_ms": double.lasted_ms, "explanation": double.explanation})
}

fn answers(history: &History) -> Vec<queries::Answer> {
    let answered = history.operations.iter().filter(|one| one.succeeded("query"));
    let answer = |one: &check::history::Operation| {
        Some(queries::Answer {
            node: one.node.as_ref()?.to_string(),
            query: one.key.to_string(),
            revision: one.reached()?,
            items: one.answered.as_array()?.clone(),
        })
    };
    answered.filter_map(answer).collect()
}

/// Each planned kind came, and each fault was seen to have its effect. A run that was broken off owes neither those that were to come nor those that
/// were under way.
fn faults_had_effect(files: &Files<'_>) -> Verdict {
    if files.is_broken_off() {
        let over: Vec<Fault> = files
            .faults
            .iter()
            .filter(|fault| fault.until_ns.is_some())
            .cloned()
            .collect();
        let verdict = always::check(&files.history, &over, always::Expected::default());
        return files.on_the_whole(verdict);
    }
    let planned = names(&files.plan["schedule"], "nemesis");
    let too_late = names(&files.end["too_late"], "nemesis");
    let expected: Vec<&str> = planned.into_iter().filter(|name| !too_late.contains(name)).collect();
    let expected = always::Expected {
        functions: &[],
        faults: &expected,
    };
    always::check(&files.history, &files.faults, expected)
}

/// Where a fault leaves a majority whole, it costs its users an election and some time on a busy machine.
fn writes_go_on(files: &Files<'_>) -> Verdict {
    let patience = files.patience();
    let minority = (files.nodes.len() - 1) / 2;
    availability::check(&files.gaps(), CALM_NS_MIN * patience, |fault| {
        let kind = Nemesis::from_str(&fault.name, false).ok()?;
        let hurt = files.nodes.iter().filter(|node| fault.fell_on(node)).count();
        ((1..=minority).contains(&hurt) && leaves_the_others_alone(kind)).then_some(PAUSE_NS_MAX * patience)
    })
}

/// Whether the other nodes can do without those that it falls on, and know that at once. A slow, full or starved leader may go on to lead.
fn leaves_the_others_alone(nemesis: Nemesis) -> bool {
    use Nemesis::{
        BitFlip, Clock, Cut, Flap, Halves, Isolate, Kill, Launch, LogBlock, Pause, PowerCut, ReadOnly, Replace, Strobe,
        Term, Truncate, Zero,
    };
    matches!(
        nemesis,
        Kill | Pause
            | Term
            | Isolate
            | Halves
            | Cut
            | Flap
            | Launch
            | Replace
            | ReadOnly
            | PowerCut
            | BitFlip
            | Truncate
            | Zero
            | LogBlock
            | Clock
            | Strobe
    )
}

/// What clients wrote stands in the log, and on their keys nothing else.
fn as_committed(files: &Files<'_>, truth: &Truth) -> Verdict {
    let workloads = files.workloads();
    let words: Vec<&str> = workloads
        .iter()
        .map(|workload| workload.word())
        .chain([LIVE_KEYS])
        .collect();
    committed::check(&files.history, &truth.keys, |key| {
        key.split_once('/').is_some_and(|(word, _)| words.contains(&word))
    })
}

/// Every node tells the changes that the first one tells.
fn one_history(truth: &Truth) -> Verdict {
    let mut findings = Findings::default();
    for (node, changes) in &truth.others {
        let count = truth.log.len().max(changes.len());
        let different = (0..count).find(|position| truth.log.get(*position) != changes.get(*position));
        if let Some(position) = different {
            let revision = |all: &[Change]| all.get(position).map_or(0, |change| change.revision);
            findings.note(format!(
                "change {position} is another one on {node}: revision {} there, {} on the first node",
                revision(changes),
                revision(&truth.log)
            ));
        }
    }
    findings.into()
}

fn names<'a>(list: &'a Value, member: &str) -> Vec<&'a str> {
    let all = list.as_array().into_iter().flatten();
    let mut names: Vec<&str> = all.filter_map(|one| one[member].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The run came to its end, and the whole cluster took every write.
fn whole(end: &Value) -> Verdict {
    let refused = end["live_refused"].as_array().into_iter().flatten();
    let refused: Verdict = refused.filter_map(Value::as_str).map(Verdict::invalid).collect();
    refused.merge(match (end["violation"].as_str(), end["obstacle"].as_str()) {
        (Some(violation), _) => Verdict::invalid(violation),
        (None, Some(obstacle)) => Verdict::unknown(obstacle),
        (None, None) => Verdict::Valid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::SERVICES;

    /// A folder with a history, as a run leaves it; `end`: what else was seen in the end.
    fn folder(name: &str, history: &[&str], end: &Value) -> Folder {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-judge-{name}-{}", std::process::id())));
        let plan = json!({"workloads": ["register"], "schedule": [{"nemesis": "kill"}]});
        folder.write(&folder.plan(), plan.to_string()).expect("writable");
        folder.write(&folder.history(), history.join("\n")).expect("writable");
        folder.write(&folder.end(), end.to_string()).expect("writable");
        for node in SERVICES {
            let log = folder.logs().join(format!("{node}-abc.log"));
            folder
                .write(&log, "1970-01-01T00:00:00Z INFO n blox::run: starts version=1\n")
                .expect("writable");
        }
        folder
    }

    const HISTORY: [&str; 10] = [
        r#"{"process":"nemesis","type":"invoke","f":"kill","value":"one n #1","time":1}"#,
        r#"{"process":0,"type":"invoke","f":"write","key":"register/0","value":"a","time":2}"#,
        r#"{"process":0,"type":"ok","f":"write","key":"register/0","value":"a","revision":3,"time":3}"#,
        r#"{"process":0,"type":"invoke","f":"cas","key":"register/0","value":["a","b"],"revision":3,"time":4}"#,
        r#"{"process":0,"type":"ok","f":"cas","key":"register/0","value":["a","b"],"revision":5,"time":5}"#,
        r#"{"process":0,"type":"invoke","f":"read","key":"register/0","time":6}"#,
        r#"{"process":0,"type":"ok","f":"read","key":"register/0","value":"b","revision":5,"time":7}"#,
        r#"{"process":"nemesis","type":"ok","f":"kill","value":"one n #1","effect":"gone","time":8}"#,
        r#"{"process":0,"type":"invoke","f":"delete","key":"register/0","time":9}"#,
        r#"{"process":0,"type":"ok","f":"delete","key":"register/0","revision":0,"deleted_at":6,"time":10}"#,
    ];

    fn judged(name: &str, history: &[&str], end: &Value) -> Judgement {
        let folder = folder(name, history, end);
        let judgement = judge(&folder).expect("readable");
        std::fs::remove_dir_all(folder.path()).expect("removable");
        judgement
    }

    /// The name of the one check that is not valid.
    fn broken(judgement: &Judgement) -> Vec<(&str, &str)> {
        let bad = judgement.checks.iter().filter(|check| check.verdict != Verdict::Valid);
        bad.map(|check| (check.name.as_str(), check.verdict.word())).collect()
    }

    /// A run in which everything is as it must be, and its figures.
    #[test]
    fn a_good_run_is_valid() {
        let judgement = judged("good", &HISTORY, &json!({"live_writes_ms": 5}));
        assert_eq!(broken(&judgement), []);
        assert_eq!(judgement.figures["operations"], 4);
        assert_eq!(judgement.figures["gaps"][0]["target"], "one");
        assert_eq!(judgement.figures["faults"][0]["seen"], true);
    }

    /// Each kind of fault of a run is told by the check that it belongs to.
    #[test]
    fn each_fault_has_its_check() {
        let stale = HISTORY.map(|line| {
            line.replace(
                r#""f":"read","key":"register/0","value":"b","revision":5"#,
                r#""f":"read","key":"register/0","value":"a","revision":3"#,
            )
        });
        let stale: Vec<&str> = stale.iter().map(String::as_str).collect();
        let end = json!({});
        assert_eq!(
            broken(&judged("stale", &stale, &end)),
            [("register: linearizable", "invalid")]
        );
        let unseen = HISTORY.map(|line| line.replace(r#","effect":"gone""#, ""));
        let unseen: Vec<&str> = unseen.iter().map(String::as_str).collect();
        assert_eq!(
            broken(&judged("unseen", &unseen, &end)),
            [("faults had their effect", "invalid")]
        );
        assert_eq!(
            broken(&judged("calm", &HISTORY[1..7], &end)).len(),
            2,
            "no kill, no delete"
        );
        // A fault of twelve seconds after everything else: the workload has stopped.
        let moved = HISTORY[1..7]
            .iter()
            .chain(&HISTORY[8..])
            .chain([&HISTORY[0], &HISTORY[7]]);
        let silent = moved.enumerate().map(|(place, line)| {
            let (line, _) = line.rsplit_once("\"time\":").expect("a time");
            let at_ns = if place == 9 { 12_000_000_000 } else { place };
            format!("{line}\"time\":{at_ns}}}")
        });
        let silent: Vec<String> = silent.collect();
        let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
        let judgement = judged("silent", &silent, &end);
        assert!(
            broken(&judgement).contains(&("register: went on", "invalid")),
            "{judgement:?}"
        );
        let late = json!({"violation": "all nodes ready: not within 60 s"});
        assert_eq!(
            broken(&judged("late", &HISTORY, &late)),
            [("whole in the end", "invalid")]
        );
        let refused = json!({"live_refused": ["the cluster is whole, and node-2 did not take live/4"]});
        assert_eq!(
            broken(&judged("refused", &HISTORY, &refused)),
            [("whole in the end", "invalid")]
        );
        let obstacle = json!({"obstacle": "docker is gone"});
        assert_eq!(
            broken(&judged("obstacle", &HISTORY, &obstacle)),
            [("whole in the end", "unknown")]
        );
    }

    /// What a harness that gave up has left half done, or has not done, speaks against nobody.
    #[test]
    fn an_obstacle_is_no_violation() {
        let obstacle = json!({"obstacle": "docker is gone"});
        // No kill came, no delete was tried, and no compare-and-set succeeded so far.
        let early = HISTORY.map(|line| line.replace(r#""type":"ok","f":"cas""#, r#""type":"info","f":"cas""#));
        let early: Vec<&str> = early.iter().map(String::as_str).collect();
        assert_eq!(judged("early", &early[1..5], &obstacle).verdict().word(), "unknown");
        assert_eq!(judged("whole", &early[1..5], &json!({})).verdict().word(), "invalid");
        // A fault under way, not seen yet, after which no write was acknowledged any more.
        let half = [
            HISTORY[1],
            HISTORY[2],
            r#"{"process":"nemesis","type":"invoke","f":"pause","value":"one n #2","time":3}"#,
        ];
        let judgement = judged("half", &half, &obstacle);
        assert_eq!(judgement.verdict().word(), "unknown", "{:?}", broken(&judgement));
        // What a client saw still counts.
        let stale = [
            HISTORY[1],
            HISTORY[2],
            HISTORY[5],
            r#"{"process":0,"type":"ok","f":"read","key":"register/0","value":null,"revision":0,"time":7}"#,
        ];
        assert_eq!(judged("seen", &stale, &obstacle).verdict().word(), "invalid");
    }
}
