//! Watchers: clients that follow a stream, leave it, are thrown out of it, and go on elsewhere. Whatever happens, they write down what they were told.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::deliveries::{End, Line, Session};
use crate::forms::{Form, Said};
use crate::harness::Client;

/// How long a node may take to begin an answer before another one is asked.
const OPENING: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a watcher stays on one stream, at most.
const STAY_MS_MAX: u64 = 2_000;
/// How far back a watcher goes at times, of its own will.
const REWIND_MAX: u64 = 2_000;
/// What a sleeper reads before it sleeps.
const LINES_BEFORE_SLEEP: usize = 200;

/// About how many revisions are on their way to a reader that sleeps: in the buffers of two sockets.
const UNDER_WAY_MAX: usize = 1_500;

/// How a watcher behaves.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Changes nodes after a random while, sometimes going back some revisions.
    Wanders,
    /// Stays on one node while that is possible.
    Stays(usize),
    /// Reads a little, then nothing until what it wants next is long forgotten, then reads on.
    Sleeps,
}

/// What watchers share with the test.
pub struct Shared {
    pub client: Client,
    /// Where the nodes are.
    pub urls: Vec<String>,
    /// Changes told, in sum.
    pub delivered: AtomicU64,
    /// Streams begun.
    pub opened: AtomicU64,
    /// Streams that ended with the word that they are too old.
    pub dropped: AtomicU64,
    /// Streams that did not begin for that reason.
    pub refused: AtomicU64,
    /// Revisions before this one can be served by no node's memory nor history: sleepers that stand before it may wake.
    pub forgotten: AtomicU64,
    /// Up to where to go, by form; `None`: there is no end yet.
    pub goals: watch::Receiver<Option<BTreeMap<Form, u64>>>,
}

/// A watcher's whole life.
pub struct Life {
    pub number: usize,
    pub form: Form,
    pub sessions: Vec<Session>,
}

struct Watcher {
    shared: Arc<Shared>,
    goals: watch::Receiver<Option<BTreeMap<Form, u64>>>,
    form: Form,
    manner: Manner,
    random: ChaCha8Rng,
    /// Where its life begins: before it has come further it goes back nowhere, so that its first session begins there.
    start: u64,
    /// What it wants next.
    next: u64,
}

enum Opening {
    Stream(reqwest::Response),
    TooOld {
        oldest: u64,
    },
    /// This node cannot serve now.
    NotNow,
}

/// Starts watchers at a revision; each ends once it has reached its goal.
pub fn start(shared: &Arc<Shared>, watchers: &[(Form, Manner)], from: u64, seed: u64) -> JoinSet<Life> {
    let mut running = JoinSet::new();
    for (number, (form, manner)) in watchers.iter().enumerate() {
        let watcher = Watcher {
            shared: Arc::clone(shared),
            goals: shared.goals.clone(),
            form: *form,
            manner: *manner,
            random: ChaCha8Rng::seed_from_u64(seed + number as u64),
            start: from,
            next: from,
        };
        running.spawn(watcher.live(number));
    }
    running
}

impl Watcher {
    async fn live(mut self, number: usize) -> Life {
        let mut sessions = Vec::new();
        while !self.is_done() {
            match self.session().await {
                Some(session) => {
                    self.next = self.next.max(session.covered() + 1);
                    if let End::TooOld { oldest } = session.end {
                        self.next = self.next.max(oldest);
                    }
                    sessions.push(session);
                }
                None => tokio::time::sleep(PAUSE).await,
            }
        }
        Life {
            number,
            form: self.form,
            sessions,
        }
    }

    fn goal(&self) -> Option<u64> {
        self.goals.borrow().as_ref().map(|goals| goals[&self.form])
    }

    fn is_done(&self) -> bool {
        self.goal().is_some_and(|goal| self.next > goal)
    }

    /// One stream; `None`: the chosen node cannot serve now.
    async fn session(&mut self) -> Option<Session> {
        let nodes = self.shared.urls.len();
        let node = match self.manner {
            Manner::Stays(node) if self.random.random_bool(0.9) => node,
            _ => self.random.random_range(0..nodes),
        };
        let back = match self.manner {
            Manner::Wanders if self.next > self.start && self.random.random_bool(0.7) => {
                self.random.random_range(0..=REWIND_MAX)
            }
            _ => 0,
        };
        let from = self.next.saturating_sub(back).max(1);
        let mut session = Session {
            from,
            lines: Vec::new(),
            end: End::Left,
        };
        match timeout(OPENING, self.open(node, from)).await {
            Ok(Opening::Stream(stream)) => {
                self.shared.opened.fetch_add(1, Ordering::Relaxed);
                self.read(stream, &mut session).await;
            }
            Ok(Opening::TooOld { oldest }) => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                session.end = End::TooOld { oldest };
            }
            Ok(Opening::NotNow) | Err(_) => return None,
        }
        Some(session)
    }

    async fn open(&self, node: usize, from: u64) -> Opening {
        let url = format!("{}{}", self.shared.urls[node], self.form.path(from));
        let Ok(answer) = self.shared.client.streaming.get(&url).send().await else {
            return Opening::NotNow;
        };
        let status = answer.status().as_u16();
        if status == 200 {
            return Opening::Stream(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        match status {
            410 => {
                let problem: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{url}: {why}: {text}"));
                Opening::TooOld {
                    oldest: problem["oldest_revision"]
                        .as_u64()
                        .expect("it names the oldest revision"),
                }
            }
            // The old contract says no more than that it cannot be served.
            400 if self.form.is_v1() && text.contains("out of range") => self.oldest_of(node, from).await,
            // No leader for a moment, or a node that has just started or stops.
            503 | 504 => Opening::NotNow,
            // 400 among them: what was told by one node is ahead of no other, as a watch begins behind a read barrier.
            _ => panic!("{url}: {status} {text}"),
        }
    }

    async fn oldest_of(&self, node: usize, from: u64) -> Opening {
        let url = format!("{}/v2/cluster", self.shared.urls[node]);
        match self.shared.client.get_json(&url).await {
            Ok(status) => {
                let oldest = status["oldest_revision"].as_u64().expect("a revision");
                assert!(
                    oldest > from,
                    "a v1 stream from {from} is refused, and {oldest} is the oldest: {status}"
                );
                Opening::TooOld { oldest }
            }
            Err(_) => Opening::NotNow,
        }
    }

    /// Reads until it is time to leave, the stream ends, or the goal is reached.
    async fn read(&mut self, mut stream: reqwest::Response, session: &mut Session) {
        let leave = Instant::now() + Duration::from_millis(self.random.random_range(0..=STAY_MS_MAX));
        let mut waiting = Vec::new();
        let mut sleep_at = LINES_BEFORE_SLEEP;
        let mut goals = self.goals.clone();
        goals.mark_unchanged();
        loop {
            if self.goal().is_some_and(|goal| session.covered() >= goal) {
                return;
            }
            if matches!(self.manner, Manner::Sleeps) && session.lines.len() >= sleep_at {
                self.sleep_until_forgotten(session.covered()).await;
                // More of what is under way already.
                sleep_at = session.lines.len() + UNDER_WAY_MAX;
            }
            let stays = !matches!(self.manner, Manner::Wanders) || self.goal().is_some();
            tokio::select! {
                chunk = stream.chunk() => match chunk {
                    Ok(Some(chunk)) => waiting.extend_from_slice(&chunk),
                    // Broken off, with or without a last line: what is left over is no whole line.
                    Ok(None) | Err(_) => return,
                },
                () = sleep_until(leave), if !stays => return,
                // The goal may lie behind already.
                _ = goals.changed() => continue,
            }
            if !self.take_lines(&mut waiting, session) {
                return;
            }
        }
    }

    /// Takes the whole lines; `false`: the last one said that the stream ends.
    fn take_lines(&self, waiting: &mut Vec<u8>, session: &mut Session) -> bool {
        let mut taken = 0;
        let mut goes_on = true;
        while goes_on {
            let length = (&waiting[taken..]).skip_until(b'\n').expect("memory can be read");
            let line = &waiting[taken..taken + length];
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match self.form.read(line) {
                Said::Line(line) => {
                    if let Line::Change(_) = line {
                        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
                    }
                    session.lines.push(line);
                }
                Said::TooOld { oldest } => {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    session.end = End::TooOld { oldest };
                    goes_on = false;
                }
                Said::Stopping => goes_on = false,
            }
            taken += length;
        }
        waiting.drain(..taken);
        goes_on
    }

    async fn sleep_until_forgotten(&mut self, covered: u64) {
        let next = covered + UNDER_WAY_MAX as u64;
        while self.shared.forgotten.load(Ordering::Relaxed) <= next && self.goal().is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
