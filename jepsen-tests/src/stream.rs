//! Streams as users should follow them: one a node, taken up again where they broke, from the revision after the last one seen, on any node.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Client, Node, Request};
use crate::clock::Clock;
use crate::compare::{Change, Told};

/// Under load something changes all the time: a stream that is silent for so long is taken up elsewhere.
const SILENCE_LOADED: Duration = Duration::from_secs(2);
/// Without load only bookmarks come, every few seconds.
const SILENCE_QUIET: Duration = Duration::from_secs(15);
/// How long a stream may take to begin.
const BEGIN: Duration = Duration::from_secs(2);
/// Before the next node is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// What a reader has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every change, in the order told.
    pub told: Vec<Told>,
    /// Everything up to this revision was delivered.
    pub reached: u64,
    /// When it broke or was left, and why.
    pub breaks: Vec<(u64, String)>,
    /// The history that it needed was no longer there, or an answer could not be read: nothing that resuming mends.
    pub hopeless: Option<String>,
}

/// One reader.
pub struct Reader {
    seen: Arc<Mutex<Seen>>,
    quiet: Arc<AtomicBool>,
    come_home: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Follows everything from a revision on, at home where it can.
    pub fn begin(nodes: Arc<Vec<Node>>, home: usize, client: Client, clock: Clock, from_revision: u64) -> Reader {
        let seen = Arc::new(Mutex::new(Seen {
            reached: from_revision - 1,
            ..Seen::default()
        }));
        let quiet = Arc::new(AtomicBool::new(false));
        let (come_home, called) = watch::channel(());
        let follower = Follower {
            nodes,
            home,
            client,
            clock,
            seen: Arc::clone(&seen),
            quiet: Arc::clone(&quiet),
            called,
        };
        let task = tokio::spawn(follower.follow());
        Reader {
            seen,
            quiet,
            come_home,
            task,
        }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the stream up on its own node again where it is elsewhere.
    pub fn come_home(&self) {
        self.come_home.send_replace(());
    }

    /// From here on silence means little.
    pub fn expect_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    nodes: Arc<Vec<Node>>,
    home: usize,
    client: Client,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    quiet: Arc<AtomicBool>,
    called: watch::Receiver<()>,
}

/// Why a stream is read no further.
enum Left {
    /// It broke, or did not begin: why.
    Broken(String),
    /// To go home.
    Called,
    /// Nothing that resuming mends.
    Hopeless(String),
}

impl Follower {
    async fn follow(mut self) {
        let mut offset = 0;
        loop {
            let at = (self.home + offset) % self.nodes.len();
            self.called.mark_unchanged();
            let before = self.seen().reached;
            match self.read(at).await {
                Left::Called => {
                    self.note(format!("left {} for home", self.nodes[at].name));
                    offset = 0;
                }
                Left::Broken(why) => {
                    // One that never began is the same break still.
                    if self.seen().reached > before {
                        self.note(format!("{}: {why}", self.nodes[at].name));
                    }
                    offset += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Left::Hopeless(why) => {
                    self.seen().hopeless = Some(format!("{}: {why}", self.nodes[at].name));
                    return;
                }
            }
        }
    }

    async fn read(&mut self, at: usize) -> Left {
        let from = self.seen().reached + 1;
        let request = Request::get(format!("/v2/watch?from_revision={from}"));
        let mut answer = match tokio::time::timeout(BEGIN, self.client.open(&self.nodes[at], &request)).await {
            Err(_) => return Left::Broken("does not begin".to_owned()),
            Ok(Err(error)) => return Left::Broken(error.to_string()),
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status().as_u16();
        if status != 200 {
            let said = format!("answers {status}");
            return if (400..500).contains(&status) && status != 429 {
                Left::Hopeless(said)
            } else {
                Left::Broken(said)
            };
        }
        let mut waiting = Vec::new();
        loop {
            let silence = if self.quiet.load(Ordering::Relaxed) {
                SILENCE_QUIET
            } else {
                SILENCE_LOADED
            };
            let chunk = tokio::select! {
                chunk = tokio::time::timeout(silence, answer.chunk()) => chunk,
                _ = self.called.changed(), if at != self.home => return Left::Called,
            };
            match chunk {
                Err(_) => return Left::Broken("silent".to_owned()),
                Ok(Err(error)) => return Left::Broken(format!("broke off: {error}")),
                Ok(Ok(None)) => return Left::Broken("ended".to_owned()),
                Ok(Ok(Some(chunk))) => waiting.extend_from_slice(&chunk),
            }
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                match Line::parse(&line) {
                    Ok(Line::Change(change)) => self.tell(change),
                    Ok(Line::Bookmark(revision)) => {
                        let mut seen = self.seen();
                        seen.reached = seen.reached.max(revision);
                    }
                    Ok(Line::End(said)) => return Left::Broken(said),
                    Err(why) => return Left::Hopeless(why),
                }
            }
        }
    }

    fn tell(&self, change: Change) {
        let at_ns = self.clock.now_ns();
        let mut seen = self.seen();
        seen.reached = seen.reached.max(change.revision);
        seen.told.push(Told { change, at_ns });
    }

    fn note(&self, why: String) {
        let at_ns = self.clock.now_ns();
        self.seen().breaks.push((at_ns, why));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The history from a revision up to another one, as a fresh watch on one node tells it.
pub async fn history(client: &Client, node: &Node, from: u64, until: u64) -> Result<Vec<Change>, String> {
    let request = Request::get(format!("/v2/watch?from_revision={from}"));
    let url = format!("{}{}", node.url, request.path);
    let mut answer = client
        .open(node, &request)
        .await
        .map_err(|error| format!("{url}: {error}"))?;
    if answer.status().as_u16() != 200 {
        return Err(format!("{url} answers {}", answer.status()));
    }
    let mut changes = Vec::new();
    let mut waiting = Vec::new();
    let mut reached = from - 1;
    while reached < until {
        match tokio::time::timeout(SILENCE_QUIET, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => waiting.extend_from_slice(&chunk),
            ended => return Err(format!("{url} ended at revision {reached} of {until}: {ended:?}")),
        }
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            match Line::parse(&line)? {
                Line::Change(change) => {
                    reached = reached.max(change.revision);
                    if change.revision <= until {
                        changes.push(change);
                    }
                }
                Line::Bookmark(revision) => reached = reached.max(revision),
                Line::End(said) => return Err(format!("{url}: {said}")),
            }
        }
    }
    Ok(changes)
}

/// A line of a watch.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Something changed.
    Change(Change),
    /// Everything up to this revision was told.
    Bookmark(u64),
    /// The node says why it ends the stream.
    End(String),
}

impl Line {
    /// Takes a line apart; an error shows it.
    pub fn parse(line: &[u8]) -> Result<Line, String> {
        let shown = || String::from_utf8_lossy(line).into_owned();
        let event: Value = serde_json::from_slice(line).map_err(|error| format!("{error}: {}", shown()))?;
        let revision = || {
            event["revision"]
                .as_u64()
                .ok_or_else(|| format!("no revision: {}", shown()))
        };
        match event["type"].as_str() {
            Some("BOOKMARK") => Ok(Line::Bookmark(revision()?)),
            Some(verb @ ("PUT" | "DELETE")) => Ok(Line::Change(Change {
                revision: revision()?,
                identity: identity(verb, &event),
            })),
            Some("ERROR") => Ok(Line::End(shown())),
            _ => Err(format!("unknown line: {}", shown())),
        }
    }
}

/// A hash of what changed and of what it is now. Of a deletion only the key: its last value may be compacted away meanwhile.
fn identity(verb: &str, event: &Value) -> u64 {
    const KEYS: [&str; 9] = [
        "kind",
        "source",
        "cluster_arn",
        "arn",
        "name",
        "environment_id",
        "id",
        "instance_arn",
        "task_arn",
    ];
    let mut hasher = DefaultHasher::new();
    verb.hash(&mut hasher);
    for key in KEYS.iter().chain(&["key_base64"]) {
        event[*key].as_str().hash(&mut hasher);
    }
    if verb == "PUT" {
        event["object"].to_string().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(line: &str) -> Change {
        match Line::parse(line.as_bytes()) {
            Ok(Line::Change(change)) => change,
            other => panic!("{other:?}"),
        }
    }

    /// The same change is the same wherever it is told; another key, value or verb is not.
    #[test]
    fn changes_are_told_apart() {
        let put =
            r#"{"type":"PUT","revision":7,"kind":"kv","key":"k","key_base64":"aw==","object":{"value_base64":"Nw=="}}"#;
        assert_eq!(change(put), change(put));
        assert_eq!(change(put).revision, 7);
        for (from, to) in [
            ("aw==", "bA=="),
            ("Nw==", "OA=="),
            ("PUT", "DELETE"),
            (r#""kv""#, r#""task""#),
        ] {
            assert_ne!(change(put).identity, change(&put.replace(from, to)).identity, "{to}");
        }
        let deleted =
            r#"{"type":"DELETE","revision":7,"kind":"kv","key_base64":"aw==","object":{"value_base64":"Nw=="}}"#;
        let compacted = deleted.replace(r#"{"value_base64":"Nw=="}"#, "null");
        assert_eq!(change(deleted), change(&compacted));
    }

    /// Bookmarks and a node's last word are no changes; nonsense is an error.
    #[test]
    fn other_lines_are_read() {
        assert_eq!(
            Line::parse(br#"{"type":"BOOKMARK","revision":9}"#),
            Ok(Line::Bookmark(9))
        );
        assert!(matches!(
            Line::parse(br#"{"type":"ERROR","code":"stopping"}"#),
            Ok(Line::End(_))
        ));
        assert!(Line::parse(br#"{"type":"PUT"}"#).is_err() && Line::parse(b"nonsense").is_err());
    }
}
