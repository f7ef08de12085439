//! A store with a log beside it, commands in short, and random logs.

use std::path::Path;

use blox_store::proto::command::Operation;
use blox_store::proto::outcome::Result as Answer;
use blox_store::proto::{
    Command, Compact, DeleteKey, Entry, Expire, ForgetResource, ForgetResources, Form, Idempotency, Observation,
    Observe, OpenSession, Outcome, PutKey, QuarantineMessages, QuarantinedMessage, ReconcilePass, ReportSource,
    ResourceKind,
};
use blox_store::{LogEntry, Revision, Store};
use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The seed of random tests: `BLOX_SEED`, or always the same.
pub fn seed() -> u64 {
    let seed = std::env::var("BLOX_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("BLOX_SEED={seed}");
    seed
}

/// Runs a test on both engines.
pub fn on_both_engines(test: impl Fn(Store)) {
    let directory = tempfile::tempdir().expect("a directory");
    println!("engine: RocksDB");
    test(Store::open(&directory.path().join("state")).expect("opens"));
    println!("engine: memory");
    test(Store::in_memory());
}

/// A store that is fed one entry after the other.
pub struct Fed {
    pub store: Store,
    pub next_index: u64,
    pub elapsed_ms: u64,
}

impl Fed {
    pub fn new(store: Store) -> Fed {
        let next_index = store.progress().borrow().applied_index + 1;
        let elapsed_ms = store.progress().borrow().elapsed_ms;
        Fed {
            store,
            next_index,
            elapsed_ms,
        }
    }

    /// Applies an entry of these commands.
    pub fn entry(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let entry = log_entry(self.next_index, self.elapsed_ms, commands);
        self.next_index += 1;
        self.store
            .apply(&[entry])
            .expect("the entry is applied")
            .remove(0)
            .outcomes
    }

    /// Applies a command of a user.
    pub fn apply(&mut self, operation: Operation) -> Answer {
        self.command(command(operation))
            .result
            .expect("every outcome has a result")
    }

    /// Applies a command.
    pub fn command(&mut self, command: Command) -> Outcome {
        self.entry(vec![command]).remove(0)
    }

    pub fn put(&mut self, key: &str, value: &str) -> Revision {
        self.command(command(put(key, value))).revision
    }

    /// Writes a key so many times: "0", "1" and so on.
    pub fn puts(&mut self, key: &str, count: usize) {
        for value in 0..count {
            self.put(key, &value.to_string());
        }
    }

    pub fn delete(&mut self, key: &str) -> Revision {
        self.command(command(delete(key))).revision
    }

    pub fn compact(&mut self, revision: Revision) {
        let answer = self.apply(Operation::Compact(Compact { revision }));
        assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
    }

    /// Applies entries without commands, so that what lags behind is done.
    pub fn idle(&mut self, entries: u64) {
        for _ in 0..entries {
            self.entry(Vec::new());
        }
    }

    pub fn revision(&self) -> Revision {
        self.store.progress().borrow().revision
    }
}

pub fn log_entry(index: u64, elapsed_ms: u64, commands: Vec<Command>) -> LogEntry {
    let entry = Entry {
        wall_time_ms: 1_700_000_000_000 + elapsed_ms as i64,
        elapsed_ms,
        commands,
    };
    LogEntry {
        index,
        log_id: log_id(index),
        membership: None,
        payload: Some(entry.encode_to_vec().into()),
    }
}

pub fn log_id(index: u64) -> Bytes {
    format!("log-{index}").into()
}

pub fn command(operation: Operation) -> Command {
    Command {
        actor: "test".into(),
        request_id: "request-1".into(),
        cause: "a test asks".into(),
        operation: Some(operation),
        ..Command::default()
    }
}

/// A command under an idempotency key.
pub fn keyed(operation: Operation, key: &str, body_hash: u64) -> Command {
    let idempotency = Idempotency {
        scope: "PUT /v2/kv".into(),
        key: key.into(),
        body_hash,
    };
    Command {
        idempotency: Some(idempotency),
        ..command(operation)
    }
}

/// A command of a leader's duty.
pub fn of_session(session: u64, operation: Operation) -> Command {
    Command {
        session,
        ..command(operation)
    }
}

pub fn put(key: &str, value: &str) -> Operation {
    Operation::PutKey(PutKey {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        precondition: None,
    })
}

pub fn delete(key: &str) -> Operation {
    Operation::DeleteKey(DeleteKey {
        key: key.to_owned().into(),
        precondition: None,
    })
}

pub fn open_session() -> Operation {
    Operation::OpenSession(OpenSession {
        node: "one".into(),
        term: 3,
    })
}

pub fn expire(limit: u32) -> Operation {
    Operation::Expire(Expire { limit })
}

pub fn observe(observations: Vec<Observation>) -> Operation {
    Operation::Observe(Observe {
        observations,
        unknown_types: 0,
        source: "one".into(),
        ..Observe::default()
    })
}

pub fn quarantine(source: &str, bodies: &[&str]) -> Operation {
    let message = |body: &&str| QuarantinedMessage {
        message_id: "id".into(),
        reason: "no JSON".into(),
        body: (*body).to_owned().into(),
        ..QuarantinedMessage::default()
    };
    Operation::QuarantineMessages(QuarantineMessages {
        source: source.into(),
        messages: bodies.iter().map(message).collect(),
    })
}

pub fn report(source: &str, watermark_ms: i64, passes: Vec<ReconcilePass>, source_reconciled: bool) -> Operation {
    Operation::ReportSource(ReportSource {
        source: source.into(),
        watermark_ms,
        passes,
        source_reconciled,
    })
}

pub fn cluster_arn(region: &str, name: &str) -> String {
    format!("arn:aws:ecs:{region}:123456789012:cluster/{name}")
}

/// A task as a test wants it.
#[derive(Clone, Debug)]
pub struct Task {
    pub source: String,
    pub cluster_arn: String,
    pub arn: String,
    pub status: String,
    pub group: String,
    pub started_by: String,
    pub instance_arn: String,
}

impl Task {
    pub fn new(source: &str, cluster: &str, id: &str) -> Task {
        Task {
            source: source.into(),
            cluster_arn: cluster_arn("eu-west-1", cluster),
            arn: format!("arn:aws:ecs:eu-west-1:123456789012:task/{cluster}/{id}"),
            status: "RUNNING".into(),
            group: "family:web".into(),
            started_by: "someone".into(),
            instance_arn: format!("arn:aws:ecs:eu-west-1:123456789012:container-instance/{cluster}/i"),
        }
    }

    pub fn observation(&self, ecs_version: i64) -> Observation {
        let Task {
            source,
            cluster_arn,
            arn,
            status,
            group,
            started_by,
            instance_arn,
        } = self;
        let document = format!(
            r#"{{"taskArn":"{arn}","clusterArn":"{cluster_arn}","lastStatus":"{status}","desiredStatus":"RUNNING","group":"{group}","startedBy":"{started_by}","containerInstanceArn":"{instance_arn}","version":{ecs_version}}}"#
        );
        Observation {
            kind: ResourceKind::Task as i32,
            source: source.clone(),
            cluster_arn: cluster_arn.clone(),
            arn: arn.clone(),
            form: Form::Event as i32,
            ecs_version: Some(ecs_version),
            observed_at_ms: ecs_version * 1_000,
            document: document.into(),
        }
    }

    pub fn forget(&self, mod_revision: Revision) -> Operation {
        let resource = ForgetResource {
            kind: ResourceKind::Task as i32,
            source: self.source.clone(),
            cluster_arn: self.cluster_arn.clone(),
            arn: self.arn.clone(),
            mod_revision,
        };
        Operation::ForgetResources(ForgetResources {
            resources: vec![resource],
        })
    }
}

/// A random log that uses everything the store does by itself. Its compactions stay below the revision it must have reached.
pub struct RandomLog {
    random: ChaCha8Rng,
    index: u64,
    elapsed_ms: u64,
    writes: u64,
    session: u64,
    commands_max: usize,
}

impl RandomLog {
    /// With `commands_max` 1 every entry changes at most one key.
    pub fn new(seed: u64, commands_max: usize) -> RandomLog {
        RandomLog {
            random: ChaCha8Rng::seed_from_u64(seed),
            index: 0,
            elapsed_ms: 0,
            writes: 0,
            session: 0,
            commands_max,
        }
    }

    pub fn entries(&mut self, count: usize) -> Vec<LogEntry> {
        (0..count).map(|_| self.entry()).collect()
    }

    pub fn entry(&mut self) -> LogEntry {
        self.index += 1;
        self.elapsed_ms += self.random.random_range(0..4 * 60 * 60 * 1_000);
        match self.random.random_range(0..20) {
            0 => LogEntry {
                index: self.index,
                log_id: log_id(self.index),
                membership: None,
                payload: None,
            },
            1 => {
                let membership = format!("members-{}", self.index);
                LogEntry {
                    index: self.index,
                    log_id: log_id(self.index),
                    membership: Some(membership.into()),
                    payload: None,
                }
            }
            _ => {
                let commands = (0..self.random.random_range(1..=self.commands_max))
                    .map(|_| self.command())
                    .collect();
                log_entry(self.index, self.elapsed_ms, commands)
            }
        }
    }

    fn command(&mut self) -> Command {
        let key = format!("key-{}", self.random.random_range(0..12));
        match self.random.random_range(0..20) {
            0 => {
                self.session += 1;
                command(open_session())
            }
            1 => of_session(self.session.saturating_sub(1), put(&key, "perhaps refused")),
            2 => command(quarantine("one", &["body"])),
            3 => command(report("one", self.elapsed_ms as i64, vec![], true)),
            4 => command(expire(1)),
            5 => command(Operation::Compact(Compact {
                revision: self.writes / 2,
            })),
            6 => keyed(
                put(&key, "once"),
                &format!("idempotency-{}", self.random.random_range(0..20)),
                self.random.random_range(0..2),
            ),
            7..=9 => command(delete(&key)),
            10..=13 => self.observation(),
            _ => {
                self.writes += 1;
                let value = format!("value-{}", self.random.random::<u32>());
                command(put(&key, &value))
            }
        }
    }

    fn observation(&mut self) -> Command {
        let statuses = ["RUNNING", "STOPPED", "PENDING"];
        let mut task = Task::new(
            "one",
            ["a", "b"][self.random.random_range(0..2)],
            &self.random.random_range(0..6).to_string(),
        );
        task.status = statuses[self.random.random_range(0..3)].into();
        task.group = format!("group-{}", self.random.random_range(0..3));
        if self.random.random_range(0..4) == 0 {
            return command(task.forget(self.random.random_range(0..=self.writes)));
        }
        command(observe(vec![task.observation(self.random.random_range(1..50))]))
    }
}

/// Opens a store on disk.
pub fn open(directory: &Path) -> Store {
    Store::open(directory).unwrap_or_else(|error| panic!("opening {}: {error}", directory.display()))
}
