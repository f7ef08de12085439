//! Readers of `/v1/stream/tasks` and `/v1/stream/instances` beside those of `/v2/watch`: they change nodes and go on where they stopped, too.
//!
//! Each writes what it was told: `{"connect":"node-1","from":7}`, then `{"r":7,"arn":"arn:..."}`, `{"wrong":"it answers 400"}`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::http::Ask;
use super::{Site, WorkloadError};
use crate::check::v1_stream::{Connection, Reader, Told};
use crate::suite::{Folder, FolderError, lines};

/// What is streamed, what names an item of it, and what is in every ARN of that kind: each reader follows one of them in turn.
pub const STREAMS: [(&str, &str, &str); 2] = [
    ("tasks", "taskARN", ":task/"),
    ("instances", "containerInstanceARN", ":container-instance/"),
];
/// Readers.
pub const READERS: usize = 3;
/// A reader stays at a node for so long, milliseconds.
const STAY_MS: std::ops::Range<u64> = 0..5_000;
/// How long a stream may take to begin.
const BEGIN: Duration = Duration::from_secs(3);
/// These streams do not say how far they are: one that began when nothing changed any more has told all when it is silent for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Before another node is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// Of a hundred connections so many ask for a part of what was told already, so many revisions at most.
const AGAIN: u32 = 10;
const AGAIN_REVISIONS: u64 = 200;

/// Follows one stream, until `until` is above 0 and all of it was told.
pub(super) async fn follow(site: Site, number: usize, until: watch::Receiver<u64>) -> Result<(), WorkloadError> {
    let path = Folder::open(&site.folder).v1_reader(number);
    let not_written = |source| WorkloadError::NotWritten {
        path: path.clone(),
        source,
    };
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let file = made.and_then(|()| File::create(&path)).map_err(not_written)?;
    let (stream, name, _) = STREAMS[number % STREAMS.len()];
    let mut following = Following {
        site: &site,
        name,
        until: &until,
        reached: 0,
        file: BufWriter::new(file),
    };
    let mut random = ChaCha8Rng::seed_from_u64(site.seed ^ (number as u64 + 1) << 40);
    loop {
        let node = random.random_range(0..site.nodes.len());
        let stay = Duration::from_millis(random.random_range(STAY_MS));
        let back = match random.random_ratio(AGAIN, 100) {
            true => random.random_range(0..AGAIN_REVISIONS),
            false => 0,
        };
        let from = following.reached.saturating_sub(back) + 1;
        following
            .note(&json!({"connect": site.nodes[node].name, "from": from}))
            .map_err(not_written)?;
        let path = format!("/v1/stream/{stream}?entityVersion={from}");
        if following.read(node, path, stay).await.map_err(not_written)? {
            return following.file.flush().map_err(not_written);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Following<'a> {
    site: &'a Site,
    /// The member that names an item.
    name: &'static str,
    until: &'a watch::Receiver<u64>,
    reached: u64,
    file: BufWriter<File>,
}

impl Following<'_> {
    fn note(&mut self, line: &Value) -> std::io::Result<()> {
        writeln!(self.file, "{line}")
    }

    /// Reads one connection for as long as it is stayed at this node; whether all there is was told.
    async fn read(&mut self, node: usize, path: String, stay: Duration) -> std::io::Result<bool> {
        let is_last = *self.until.borrow() > 0;
        let leaves = Instant::now() + stay;
        let Ok(mut answer) = self
            .site
            .http
            .open(&self.site.nodes[node], &Ask::get(path, BEGIN))
            .await
        else {
            return Ok(false);
        };
        let status = answer.status().as_u16();
        if status != 200 {
            // Nothing is too old here, nothing is asked for that is not there yet: it may have no leader, or too much to do.
            if (400..500).contains(&status) && status != 429 {
                self.note(&json!({"wrong": format!("it answers {status}")}))?;
            }
            return Ok(false);
        }
        let mut waiting = Vec::new();
        loop {
            let patience = match is_last {
                true => QUIET * self.site.patience,
                false => leaves.saturating_duration_since(Instant::now()),
            };
            match tokio::time::timeout(patience, answer.chunk()).await {
                Err(_) => return Ok(is_last),
                Ok(Err(_) | Ok(None)) => return Ok(false),
                Ok(Ok(Some(chunk))) => waiting.extend_from_slice(&chunk),
            }
            for line in lines(&mut waiting) {
                match told(&line, self.name) {
                    Some(told) => {
                        self.reached = self.reached.max(told.revision);
                        self.note(&json!({"r": told.revision, "arn": told.arn}))?;
                    }
                    None => {
                        let said = String::from_utf8_lossy(&line);
                        self.note(&json!({"wrong": format!("no line: {}", said.trim())}))?;
                        return Ok(false);
                    }
                }
            }
        }
    }
}

/// `{"entity":{"taskARN":...},"metadata":{"entityVersion":"7"}}`; `None`: something else.
fn told(line: &[u8], name: &str) -> Option<Told> {
    let line: Value = serde_json::from_slice(line).ok()?;
    Some(Told {
        revision: line["metadata"]["entityVersion"].as_str()?.parse().ok()?,
        arn: line["entity"][name].as_str()?.to_owned(),
    })
}

/// What readers of a stream, by its place in [`STREAMS`], were told up to a revision, from their files. Those of a run without such readers are none.
pub fn readers(folder: &Folder, stream: usize, until: u64) -> Result<Vec<Reader>, FolderError> {
    let own = (0..READERS).filter(|number| number % STREAMS.len() == stream);
    let there = own.filter(|number| folder.v1_reader(*number).exists());
    there.map(|number| reader(folder, number, until)).collect()
}

fn reader(folder: &Folder, number: usize, until: u64) -> Result<Reader, FolderError> {
    let mut connections: Vec<Connection> = Vec::new();
    for line in folder.read_lines(&folder.v1_reader(number))? {
        if let (Some(node), Some(from)) = (line["connect"].as_str(), line["from"].as_u64()) {
            // What begins beyond the log says nothing about it, nor does what comes after that.
            if from > until {
                break;
            }
            connections.push(Connection {
                node: node.to_owned(),
                from,
                ..Connection::default()
            });
        }
        let Some(connection) = connections.last_mut() else {
            continue;
        };
        if let (Some(revision), Some(arn)) = (line["r"].as_u64(), line["arn"].as_str())
            && revision <= until
        {
            let arn = arn.to_owned();
            connection.told.push(Told { revision, arn });
        }
        if let Some(wrong) = line["wrong"].as_str() {
            connection.wrong = Some(wrong.to_owned());
        }
    }
    Ok(Reader {
        name: format!("v1 reader {number}"),
        connections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as Blox 0.3 wrote them; anything else is none.
    #[test]
    fn lines_are_read() {
        let line = br#"{"entity":{"clusterARN":"c","taskARN":"t"},"metadata":{"entityVersion":"7"}}"#;
        let expected = Told {
            revision: 7,
            arn: "t".to_owned(),
        };
        assert_eq!(told(line, "taskARN"), Some(expected));
        assert_eq!(told(line, "containerInstanceARN"), None);
        assert_eq!(told(b"{}", "taskARN"), None);
        assert_eq!(told(b"nonsense", "taskARN"), None);
    }

    /// Files are read back as what was told, cut at the end of the log, by stream.
    #[test]
    fn readers_are_read_back() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-v1-streams-{}", std::process::id())));
        let text = "{\"connect\":\"n\",\"from\":1}\n{\"r\":3,\"arn\":\"t\"}\n{\"r\":9,\"arn\":\"t\"}\n{\"connect\":\"o\",\"from\":4}\n{\"wrong\":\"it answers 400\"}\n{\"connect\":\"n\",\"from\":6}\n{\"wrong\":\"x\"}\n";
        folder.write(&folder.v1_reader(0), text).expect("writable");
        let (tasks, instances) = (readers(&folder, 0, 5), readers(&folder, 1, 5));
        std::fs::remove_dir_all(folder.path()).expect("removable");
        let tasks = tasks.expect("readable");
        assert_eq!((tasks.len(), instances.expect("readable").len()), (1, 0));
        let [first, second] = &tasks[0].connections[..] else {
            panic!("{tasks:?}")
        };
        assert_eq!((first.told.len(), first.from, second.from), (1, 1, 4));
        assert_eq!(second.wrong.as_deref(), Some("it answers 400"));
    }
}
