//! What was committed: every change from the first revision on, as a watch of each node tells it once the cluster is whole. Other records are held
//! against it; and all nodes must tell the same.
//!
//! `changes.jsonl` is that of the first node: a head `{"node","from","until"}`, then a line a change,
//! `{"revision","identity","kind","key"?,"value"?,"arn"?,"version"?,"time_ms"?,"session"?}`. Of the other nodes only revision and identity are kept.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::base64;
use super::folder::{Folder, FolderError};
use crate::check::changes::{Change as KeyChange, Changes};
use crate::check::ingest::Shown;
use crate::check::sessions::{Mark, session_of};
use crate::client::Node;
use crate::compare::Change;
use crate::observe::NotInTime;
use crate::stream::Line;
use crate::workload::http::{Ask, Http};

/// How long a watch may be silent before its end: bookmarks come every five seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// How often a node that refuses is asked for its changes, and after how long again.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// A node does not tell it: a verdict.
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
    /// It cannot be kept.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// See the module.
pub struct Truth {
    /// Of users' keys.
    pub keys: Changes,
    /// Of everything, as [`crate::compare`] compares it.
    pub log: Vec<Change>,
    /// The first revision in it.
    pub from: u64,
    /// The last revision that it covers.
    pub until: u64,
    /// Of tasks and instances.
    pub shown: Vec<Shown>,
    /// Of leaders' duties.
    pub sessions: Vec<Mark>,
    /// What the other nodes tell of everything, by their names.
    pub others: Vec<(String, Vec<Change>)>,
}

/// Reads the changes of every node up to a revision into the folder.
pub async fn keep(http: &Http, nodes: &[Node], folder: &Folder, until: u64) -> Result<(), TruthError> {
    for (position, node) in nodes.iter().enumerate() {
        let path = folder.changes(position, &node.name);
        let not_written = |source| FolderError::NotWritten {
            path: path.clone(),
            source,
        };
        let whole = position == 0;
        let mut tries = 0;
        loop {
            tries += 1;
            let file = BufWriter::new(File::create(&path).map_err(not_written)?);
            match follow(http, node, until, file, whole).await {
                Ok(()) => break,
                Err(Ended::NotWritten(source)) => return Err(not_written(source).into()),
                // A busy node may say so; a stream that has begun tells everything.
                Err(Ended::Refused(_)) if tries < TRIES => tokio::time::sleep(TRY_AGAIN).await,
                Err(Ended::Refused(last) | Ended::Late(last)) => {
                    let what = format!("the changes of {} up to revision {until}", node.name);
                    let within = SILENCE;
                    return Err(TruthError::NotInTime(NotInTime { what, within, last }));
                }
            }
        }
    }
    Ok(())
}

enum Ended {
    /// Before the stream had begun.
    Refused(String),
    /// Before everything was told.
    Late(String),
    NotWritten(std::io::Error),
}

async fn follow(http: &Http, node: &Node, until: u64, mut file: BufWriter<File>, whole: bool) -> Result<(), Ended> {
    let mut from = 1;
    let mut answer = loop {
        let ask = Ask::get(format!("/v2/watch?from_revision={from}"), SILENCE);
        let opened = http.open(node, &ask).await;
        let answer = opened.map_err(|error| Ended::Refused(error.to_string()))?;
        if answer.status().as_u16() != 410 {
            break answer;
        }
        // The beginning is compacted away: from where it is kept.
        let problem = answer.json::<Value>().await;
        let problem = problem.map_err(|error| Ended::Refused(error.to_string()))?;
        let oldest = problem["oldest_revision"].as_u64().filter(|oldest| *oldest > from);
        from = oldest.ok_or_else(|| Ended::Late(format!("it answers 410: {problem}")))?;
    };
    if answer.status().as_u16() != 200 {
        return Err(Ended::Refused(format!("it answers {}", answer.status())));
    }
    writeln!(file, "{}", json!({"node": node.name, "from": from, "until": until})).map_err(Ended::NotWritten)?;
    let (mut waiting, mut reached) = (Vec::new(), 0);
    while reached < until {
        match tokio::time::timeout(SILENCE, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => waiting.extend_from_slice(&chunk),
            ended => return Err(Ended::Late(format!("it ended at revision {reached}: {ended:?}"))),
        }
        for line in lines(&mut waiting) {
            match Line::parse(&line).map_err(Ended::Late)? {
                Line::Bookmark(revision) => reached = reached.max(revision),
                Line::End(said) => return Err(Ended::Late(said)),
                Line::Change(change) => {
                    reached = reached.max(change.revision);
                    if change.revision <= until {
                        let kept = if whole {
                            kept(&line, change)
                        } else {
                            json!({"revision": change.revision, "identity": word(change)})
                        };
                        writeln!(file, "{kept}").map_err(Ended::NotWritten)?;
                    }
                }
            }
        }
    }
    file.flush().map_err(Ended::NotWritten)
}

/// Whole lines are taken away.
pub fn lines(waiting: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let end = waiting
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    let whole: Vec<u8> = waiting.drain(..end).collect();
    whole
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// An identity as it is written: numbers of 64 bits do not survive every reader.
pub fn word(change: Change) -> String {
    format!("{:016x}", change.identity)
}

/// What a verdict needs of a change.
fn kept(line: &[u8], change: Change) -> Value {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    let kind = event["kind"].as_str().unwrap_or_default();
    let there = event["type"] == "PUT";
    let mut kept = json!({"revision": change.revision, "identity": word(change), "kind": kind});
    match kind {
        "kv" => {
            let value = event["object"]["value_base64"].as_str().filter(|_| there);
            kept["key"] = event["key"].clone();
            kept["value"] = value
                .and_then(base64::decode)
                .map_or(Value::Null, |bytes| json!(String::from_utf8_lossy(&bytes)));
        }
        "task" | "instance" => {
            kept["arn"] = event["arn"].clone();
            kept["version"] = if there {
                event["object"]["document"]["version"].clone()
            } else {
                Value::Null
            };
            kept["time_ms"] = event["time_ms"].clone();
        }
        _ => {}
    }
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    if let Some(session) = session_of(text("actor"), text("request_id")) {
        kept["session"] = json!(session);
    }
    kept
}

/// Reads what [`keep`] has kept.
pub fn read(folder: &Folder, nodes: &[String]) -> Result<Truth, FolderError> {
    let mut others = Vec::new();
    for (position, node) in nodes.iter().enumerate().skip(1) {
        let path = folder.changes(position, node);
        let (_, lines) = head_and_lines(folder, &path)?;
        others.push((node.clone(), lines.iter().filter_map(change_of).collect()));
    }
    let path = folder.changes(0, &nodes[0]);
    let (head, lines) = head_and_lines(folder, &path)?;
    let wrong = |why: String| FolderError::Wrong {
        path: path.clone(),
        why,
    };
    let number = |name: &str| {
        head[name]
            .as_u64()
            .ok_or_else(|| wrong(format!("the head has no {name}")))
    };
    let (from, until) = (number("from")?, number("until")?);
    let keys = lines.iter().filter(|line| line["kind"] == "kv").filter_map(|line| {
        Some(KeyChange {
            revision: line["revision"].as_u64()?,
            key: line["key"].as_str()?.into(),
            value: Some(line["value"].clone()).filter(|value| !value.is_null()),
        })
    });
    let truth = Truth {
        keys: Changes::new(from, until, keys.collect()).map_err(wrong)?,
        log: lines.iter().filter_map(change_of).collect(),
        from,
        until,
        shown: lines.iter().filter_map(shown_of).collect(),
        sessions: lines.iter().filter_map(mark_of).collect(),
        others,
    };
    Ok(truth)
}

fn head_and_lines(folder: &Folder, path: &Path) -> Result<(Value, Vec<Value>), FolderError> {
    let mut lines = folder.read_lines(path)?;
    if lines.is_empty() {
        return Err(FolderError::Wrong {
            path: path.to_owned(),
            why: "it is empty".to_owned(),
        });
    }
    let head = lines.remove(0);
    Ok((head, lines))
}

fn change_of(line: &Value) -> Option<Change> {
    Some(Change {
        revision: line["revision"].as_u64()?,
        identity: u64::from_str_radix(line["identity"].as_str()?, 16).ok()?,
    })
}

fn mark_of(line: &Value) -> Option<Mark> {
    Some(Mark {
        revision: line["revision"].as_u64()?,
        session: line["session"].as_u64()?,
    })
}

fn shown_of(line: &Value) -> Option<Shown> {
    Some(Shown {
        arn: line["arn"].as_str()?.to_owned(),
        revision: line["revision"].as_u64()?,
        version: line["version"].as_u64(),
        proposed_ms: line["time_ms"].as_u64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Change {
        match Line::parse(line.as_bytes()) {
            Ok(Line::Change(change)) => change,
            other => panic!("{other:?}"),
        }
    }

    /// A user's key with its value, a task with its version, a deletion with neither.
    #[test]
    fn what_is_needed_is_kept() {
        let put =
            r#"{"type":"PUT","revision":7,"kind":"kv","key":"k","key_base64":"aw==","object":{"value_base64":"Zm8="}}"#;
        let line = kept(put.as_bytes(), parsed(put));
        assert_eq!((&line["key"], &line["value"]), (&json!("k"), &json!("fo")));
        assert_eq!(change_of(&line), Some(parsed(put)));
        let deleted = put.replace("PUT", "DELETE");
        assert_eq!(kept(deleted.as_bytes(), parsed(&deleted))["value"], Value::Null);
        let task = r#"{"type":"PUT","revision":9,"kind":"task","arn":"a","object":{"document":{"version":4}},"time_ms":5,"actor":"feed","request_id":"feed-m-3-8"}"#;
        let mark = mark_of(&kept(task.as_bytes(), parsed(task))).expect("a duty's");
        assert_eq!((mark.revision, mark.session), (9, 3));
        let shown = shown_of(&kept(task.as_bytes(), parsed(task))).expect("a record");
        assert_eq!(
            (shown.version, shown.proposed_ms, shown.revision),
            (Some(4), Some(5), 9)
        );
        let gone = task.replace("PUT", "DELETE");
        assert_eq!(
            shown_of(&kept(gone.as_bytes(), parsed(&gone)))
                .expect("a record")
                .version,
            None
        );
    }

    /// Only whole lines are taken.
    #[test]
    fn lines_are_whole() {
        let mut waiting = b"one\ntwo\nthr".to_vec();
        assert_eq!(lines(&mut waiting), [b"one\n".to_vec(), b"two\n".to_vec()]);
        assert_eq!(waiting, b"thr");
        assert!(lines(&mut waiting).is_empty());
    }
}
