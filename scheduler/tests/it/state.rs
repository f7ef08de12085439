//! The state without consensus: commands are applied straight to a store in memory.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use blox_raft::{ProposeError, ReadError};
use blox_scheduler::executor::proposer::Proposer;
use blox_store::proto::command::Operation;
use blox_store::proto::{Command, Entry, OpenSession, Outcome, SourceStatus, outcome};
use blox_store::{LogEntry, Store, StoreError, View, WatchEnd, WatchRequest, Watcher};
use prost::Message;
use tokio::time::Instant;

/// Something that happens to the state.
pub type Happening = Box<dyn FnOnce(&State) + Send>;

/// A store with the replicated clock of a test.
pub struct State {
    pub store: Store,
    pub elapsed_ms: AtomicU64,
    /// Where it is not the test that moves the clock: tokio's (virtual) clock.
    virtual_start: Option<Instant>,
    applied: Mutex<u64>,
    /// The next proposal's outcome gets lost: applied, or not.
    pub lose_applied: AtomicBool,
    pub lose_unapplied: AtomicBool,
    /// The leader check fails.
    pub deposed: AtomicBool,
    /// The storage fails under a watch.
    pub unreadable: AtomicBool,
    /// What happens just before the sources are read, from the next time on: once.
    pub before_sources: Mutex<Vec<Happening>>,
}

impl State {
    /// With a clock that the test moves.
    pub fn new() -> State {
        State {
            store: Store::in_memory(),
            elapsed_ms: AtomicU64::new(1_000),
            virtual_start: None,
            applied: Mutex::new(0),
            lose_applied: AtomicBool::new(false),
            lose_unapplied: AtomicBool::new(false),
            deposed: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
            before_sources: Mutex::default(),
        }
    }

    /// With tokio's clock.
    pub fn on_virtual_time() -> State {
        State {
            virtual_start: Some(Instant::now()),
            ..State::new()
        }
    }

    pub fn apply(&self, command: Command) -> Outcome {
        let mut applied = self.applied.lock().expect("no test panics while it holds this");
        *applied += 1;
        let entry = Entry {
            wall_time_ms: 1_700_000_000_000,
            elapsed_ms: self.elapsed_ms(),
            commands: vec![command],
        };
        let entry = LogEntry {
            index: *applied,
            log_id: applied.to_be_bytes().to_vec().into(),
            membership: None,
            payload: Some(entry.encode_to_vec().into()),
        };
        let mut done = self.store.apply(&[entry]).expect("memory does not fail");
        done[0].outcomes.remove(0)
    }

    /// A command of nobody's session.
    pub fn run(&self, operation: Operation) -> Outcome {
        let outcome = self.apply(Command {
            actor: "test".to_owned(),
            operation: Some(operation),
            ..Command::default()
        });
        if let Some(outcome::Result::Refusal(refusal)) = &outcome.result {
            panic!("the state refused what the test asked: {}", refusal.message);
        }
        outcome
    }

    pub fn open_session(&self) -> u64 {
        let outcome = self.run(Operation::OpenSession(OpenSession {
            node: "test".to_owned(),
            term: 1,
        }));
        match outcome.result {
            Some(outcome::Result::SessionOpened(opened)) => opened.session,
            other => panic!("no session: {other:?}"),
        }
    }
}

#[async_trait]
impl Proposer for State {
    async fn propose(&self, command: Command, within: Duration) -> Result<Outcome, ProposeError> {
        let unknown = ProposeError::Unknown {
            waited: within,
            cause: "the test lost it".to_owned(),
        };
        if self.lose_unapplied.swap(false, Ordering::SeqCst) {
            return Err(unknown);
        }
        let outcome = self.apply(command);
        if self.lose_applied.swap(false, Ordering::SeqCst) {
            return Err(unknown);
        }
        Ok(outcome)
    }

    async fn confirm_leadership(&self, within: Duration) -> Result<Instant, ReadError> {
        match self.deposed.load(Ordering::SeqCst) {
            true => Err(ReadError::NoLeader { waited: within }),
            false => Ok(Instant::now()),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        match self.virtual_start {
            Some(start) => 1_000 + start.elapsed().as_millis() as u64,
            None => self.elapsed_ms.load(Ordering::SeqCst),
        }
    }

    fn view(&self) -> Result<View, StoreError> {
        self.store.view()
    }

    fn watch(&self, request: WatchRequest) -> Result<Watcher, WatchEnd> {
        match self.unreadable.load(Ordering::SeqCst) {
            true => Err(WatchEnd::Storage("the test broke it".to_owned())),
            false => self.store.watch(request),
        }
    }

    fn sources(&self) -> Result<Vec<SourceStatus>, StoreError> {
        let next = self
            .before_sources
            .lock()
            .expect("no test panics while it holds this")
            .pop();
        if let Some(act) = next {
            act(self);
        }
        self.store.sources()
    }
}
