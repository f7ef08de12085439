//! Readers of `/v2/watch` that change nodes all the time, go on where they stopped, read slowly, and ask for some of it again.
//!
//! Each writes what it was told: `{"connect":"node-1","from":7,"at_ns":1}`, then `{"r":7,"i":"identity"}`, `{"b":9}` (a bookmark), `{"old":5}` (too old, 5 is the
//! oldest kept), `{"end":"why"}`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http::Ask;
use super::{Crew, Site, Work, Worker, WorkloadError, v1_streams};
use crate::check::watch::{Connection, Item, Reader};
use crate::compare::Change;
use crate::observe::NotInTime;
use crate::stream::Line;
use crate::suite::{Call, End, Folder, FolderError, lines};

/// Readers.
pub const READERS: usize = 16;
/// Clients that write beside them, so that there is something to read.
const WRITERS: usize = 3;
/// Keys that they write.
const KEYS: u32 = 4;
/// A reader stays at a node for so long, milliseconds.
const STAY_MS: std::ops::Range<u64> = 0..5_000;
/// How long a watch may take to begin.
const BEGIN: Duration = Duration::from_secs(3);
/// A watch may be silent for so long: a bookmark comes every five seconds.
const SILENCE: Duration = Duration::from_secs(8);
/// Before another node is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// Of a hundred connections so many are read slowly ...
const SLOW: u32 = 10;
/// ... with such pauses between two pieces.
const SLOWLY: Duration = Duration::from_millis(300);
/// Of a hundred connections so many ask for a part of what was told already.
const AGAIN: u32 = 10;
/// So many revisions at most.
const AGAIN_REVISIONS: u64 = 200;

/// What the end of a connection begins with that told a line which is none.
const UNREADABLE: &str = "unreadable: ";

struct Watch {
    site: Site,
    crew: Crew,
    readers: JoinSet<Result<(), WorkloadError>>,
    /// Where readers stop; 0: nowhere yet.
    until: watch::Sender<u64>,
}

/// Begins at once.
pub(super) fn begin(site: &Site, per_second: u32) -> impl Work + use<> {
    let crew = Crew::begin(site, "watch", WRITERS, per_second, write);
    let until = watch::Sender::new(0);
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        readers.spawn(follow(site.clone(), number, until.subscribe()));
    }
    for number in 0..v1_streams::READERS {
        readers.spawn(v1_streams::follow(site.clone(), number, until.subscribe()));
    }
    Watch {
        site: site.clone(),
        crew,
        readers,
        until,
    }
}

impl Work for Watch {
    fn stop(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.crew.stop())
    }

    fn last_reads(&mut self) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Every reader gets to the end.
    fn end(&mut self, revision: u64) -> BoxFuture<'_, Result<(), WorkloadError>> {
        Box::pin(async move {
            self.until.send_replace(revision.max(1));
            let within = self.site.last_read();
            let all = async {
                while let Some(ended) = self.readers.join_next().await {
                    // It neither panics nor is it cancelled before this.
                    ended.unwrap_or(Ok(()))?;
                }
                Ok(())
            };
            let late = |_| NotInTime {
                what: format!("all readers at revision {revision}"),
                within,
                last: "some are not there".to_owned(),
            };
            tokio::time::timeout(within, all).await.map_err(late)?
        })
    }
}

async fn write(mut worker: Worker) {
    while worker.turn().await {
        let node = worker.node();
        let value = worker.fresh();
        let call = Call {
            function: "write",
            key: format!("watch/{}", worker.random.random_range(0..KEYS)),
            value: value.clone(),
            ..Call::default()
        };
        let text = value.as_str().unwrap_or_default().to_owned();
        let ask = Ask::put(format!("/v2/kv/{}", call.key), text, worker.patience());
        worker
            .write(node, call, ask, |reply| End::ok(value, Some(reply.mod_revision)))
            .await;
    }
}

async fn follow(site: Site, number: usize, mut until: watch::Receiver<u64>) -> Result<(), WorkloadError> {
    let path = Folder::open(&site.folder).reader(number);
    let not_written = |source| WorkloadError::NotWritten {
        path: path.clone(),
        source,
    };
    let mut told = Told::create(&path).map_err(not_written)?;
    let mut random = ChaCha8Rng::seed_from_u64(site.seed ^ (number as u64 + 1) << 32);
    loop {
        if told.is_there(*until.borrow()) {
            return told.file.flush().map_err(not_written);
        }
        let node = random.random_range(0..site.nodes.len());
        let stay = Duration::from_millis(random.random_range(STAY_MS));
        let slow = random.random_ratio(SLOW, 100);
        let back = if random.random_ratio(AGAIN, 100) {
            random.random_range(0..AGAIN_REVISIONS)
        } else {
            0
        };
        let from = told.reached.saturating_sub(back) + 1;
        let at_ns = site.recorder.clock().now_ns();
        told.note(&json!({"connect": site.nodes[node].name, "from": from, "at_ns": at_ns}))
            .map_err(not_written)?;
        let ended = told
            .read(&site, node, from, stay, slow, &mut until)
            .await
            .map_err(not_written)?;
        told.note(&json!({"end": ended})).map_err(not_written)?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a reader was told.
struct Told {
    file: BufWriter<File>,
    reached: u64,
}

impl Told {
    fn create(path: &PathBuf) -> std::io::Result<Told> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Told {
            file: BufWriter::new(File::create(path)?),
            reached: 0,
        })
    }

    fn note(&mut self, line: &Value) -> std::io::Result<()> {
        writeln!(self.file, "{line}")
    }

    /// Reads one connection for as long as it is stayed at this node; why it ended.
    async fn read(
        &mut self,
        site: &Site,
        node: usize,
        from: u64,
        stay: Duration,
        slow: bool,
        until: &mut watch::Receiver<u64>,
    ) -> std::io::Result<String> {
        let ask = Ask::get(format!("/v2/watch?from_revision={from}"), BEGIN);
        let mut answer = match site.http.open(&site.nodes[node], &ask).await {
            Ok(answer) => answer,
            Err(error) => return Ok(error.to_string()),
        };
        let status = answer.status().as_u16();
        if status != 200 {
            let problem: Value = tokio::time::timeout(BEGIN, answer.json())
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or_default();
            if let (410, Some(oldest)) = (status, problem["oldest_revision"].as_u64()) {
                self.note(&json!({"old": oldest}))?;
                self.reached = self.reached.max(oldest.saturating_sub(1));
            }
            return Ok(format!("it answers {status}"));
        }
        let leaves = Instant::now() + stay;
        let mut waiting = Vec::new();
        loop {
            // In the end nobody dawdles: one piece may be one change, and so many may be left that it took longer than is waited for.
            if slow && *until.borrow() == 0 {
                tokio::time::sleep(SLOWLY).await;
            }
            let left = leaves.saturating_duration_since(Instant::now());
            let end = *until.borrow_and_update();
            if self.is_there(end) || (end == 0 && left.is_zero()) {
                return Ok("left".to_owned());
            }
            // In the end it stays until it is there.
            let patience = if end > 0 { SILENCE } else { left.min(SILENCE) };
            let piece = tokio::select! {
                piece = tokio::time::timeout(patience, answer.chunk()) => piece,
                changed = until.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ok("left".to_owned()),
                },
            };
            match piece {
                Err(_) if patience == SILENCE => return Ok("silent".to_owned()),
                Err(_) => return Ok("left".to_owned()),
                Ok(Err(error)) => return Ok(format!("broke off: {error}")),
                Ok(Ok(None)) => return Ok("ended".to_owned()),
                Ok(Ok(Some(chunk))) => waiting.extend_from_slice(&chunk),
            }
            for line in lines(&mut waiting) {
                match Line::parse(&line) {
                    Ok(Line::Change(change)) => {
                        self.reached = self.reached.max(change.revision);
                        self.note(&json!({"r": change.revision, "i": crate::suite::word(change)}))?;
                    }
                    Ok(Line::Bookmark(revision)) => {
                        self.reached = self.reached.max(revision);
                        self.note(&json!({"b": revision}))?;
                    }
                    Ok(Line::End(said)) => return Ok(said.trim().to_owned()),
                    Err(why) => return Ok(format!("{UNREADABLE}{why}")),
                }
            }
        }
    }

    /// It was told everything up to this end, if there is one.
    fn is_there(&self, end: u64) -> bool {
        end > 0 && self.reached >= end
    }
}

/// What readers were told up to a revision, from their files.
pub fn readers(folder: &Folder, until: u64) -> Result<Vec<Reader>, FolderError> {
    (0..READERS).map(|number| reader(folder, number, until)).collect()
}

fn reader(folder: &Folder, number: usize, until: u64) -> Result<Reader, FolderError> {
    let path = folder.reader(number);
    let mut reader = Reader {
        name: format!("reader {number}"),
        connections: Vec::new(),
    };
    let mut beyond = false;
    for line in folder.read_lines(&path)? {
        if let Some(from) = line["from"].as_u64() {
            beyond = from > until;
        }
        // What begins beyond the log says nothing about it.
        if beyond {
            continue;
        }
        if let Some(node) = line["connect"].as_str() {
            reader.connections.push(Connection {
                node: node.to_owned(),
                from: line["from"].as_u64(),
                ..Connection::default()
            });
            continue;
        }
        let Some(connection) = reader.connections.last_mut() else {
            continue;
        };
        if let Some(why) = line["end"].as_str().and_then(|end| end.strip_prefix(UNREADABLE)) {
            connection.unreadable = Some(why.to_owned());
        }
        connection.items.extend(item(&line, until));
    }
    Ok(reader)
}

/// What lies beyond the log says nothing about it; a bookmark there says that all of it was told.
fn item(line: &Value, until: u64) -> Option<Item> {
    if let Some(revision) = line["r"].as_u64() {
        let identity = u64::from_str_radix(line["i"].as_str()?, 16).ok()?;
        return (revision <= until).then_some(Item::Change(Change { revision, identity }));
    }
    if let Some(revision) = line["b"].as_u64() {
        return Some(Item::Bookmark(revision.min(until)));
    }
    line["old"].as_u64().map(Item::TooOld)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files are read back as what was told, cut at the end of the log.
    #[test]
    fn readers_are_read_back() {
        let folder = Folder::open(std::env::temp_dir().join(format!("blox-watch-{}", std::process::id())));
        for number in 0..READERS {
            let text = "{\"connect\":\"n\",\"from\":1,\"at_ns\":5}\n{\"b\":0}\n{\"r\":3,\"i\":\"00000000000000ff\"}\n{\"r\":9,\"i\":\"01\"}\n{\"b\":9}\n{\"end\":\"left\"}\n{\"connect\":\"o\",\"from\":4,\"at_ns\":6}\n{\"old\":2}\n{\"end\":\"unreadable: x\"}\n{\"connect\":\"n\",\"from\":6,\"at_ns\":7}\n{\"b\":5}\n";
            folder.write(&folder.reader(number), text).expect("writable");
        }
        let all = readers(&folder, 5).expect("readable");
        std::fs::remove_dir_all(folder.path()).expect("removable");
        let change = Item::Change(Change {
            revision: 3,
            identity: 255,
        });
        assert_eq!((all.len(), all[0].connections.len()), (READERS, 2));
        assert_eq!(
            all[0].connections[0].items,
            [Item::Bookmark(0), change, Item::Bookmark(5)]
        );
        assert_eq!(
            (all[0].connections[1].from, &all[0].connections[1].items[..]),
            (Some(4), &[Item::TooOld(2)][..])
        );
        assert_eq!(all[0].connections[0].unreadable, None);
        assert_eq!(all[0].connections[1].unreadable.as_deref(), Some("x"));
    }
}
