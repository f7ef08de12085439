//! Callers: they write and read through whichever node they find, as the API does, and note what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blox_raft::{Consistency, ProposeError};
use blox_runtime::random::between;
use blox_runtime::time::{Instant, sleep, timeout};
use blox_store::proto::outcome::Result as Did;
use blox_store::proto::{Command, PutKey, command::Operation as Ask};
use parking_lot::Mutex;

use crate::cluster::{Cluster, Running};
use crate::oracles::acknowledged::Written;
use crate::oracles::linearizable::{Call, Operation, is_linearizable};

/// Callers at once.
const CALLERS: u64 = 4;
/// Between two operations of a caller, milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 2..=90;
/// What a caller gives a node, ...
const DEADLINE: Duration = Duration::from_millis(800);
/// ... and how long it waits itself: a node may be held, or dead.
const PATIENCE: Duration = Duration::from_millis(1_200);
/// A register is given up for a new one after so many operations: longer histories take too long to judge.
const OPERATIONS_EACH: usize = 24;

/// What callers were told.
#[derive(Default)]
pub struct Histories {
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    now: u64,
    registers: BTreeMap<String, Vec<Call>>,
    written: Written,
    register: u64,
    next: u64,
}

impl Noted {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// A number nobody else has.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Histories {
    /// Operations whose outcome is known, over all callers.
    pub fn operations(&self) -> usize {
        let noted = self.noted.lock();
        let answered = noted
            .registers
            .values()
            .flatten()
            .filter(|call| call.answered.is_some());
        answered.count() + noted.written.acknowledged.len()
    }

    /// What cannot be explained, once the cluster is whole again.
    pub fn judge(&self, cluster: &Cluster, names: &[&str]) -> Vec<String> {
        let noted = self.noted.lock();
        let mut wrong = Vec::new();
        for (register, history) in &noted.registers {
            if !is_linearizable(history) {
                wrong.push(format!(
                    "linearizable: register {register} cannot be explained: {history:?}"
                ));
            }
        }
        for name in names {
            let found = keys(cluster, name);
            wrong.extend(noted.written.judge(name, &found));
        }
        wrong
    }
}

fn keys(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    let view = cluster.store(name).view().expect("memory does not fail");
    let found = view.user_keys(b"set/", None, usize::MAX).expect("memory does not fail");
    found
        .into_iter()
        .map(|found| String::from_utf8_lossy(&found.key).into_owned())
        .collect()
}

/// Starts the callers; each ends at `until`.
pub fn begin(cluster: &Arc<Cluster>, histories: &Arc<Histories>, until: Instant) {
    for _ in 0..CALLERS {
        let (cluster, histories) = (cluster.clone(), histories.clone());
        drop(blox_runtime::spawn(async move {
            while Instant::now() < until {
                sleep(Duration::from_millis(between(PAUSE_MS))).await;
                let running = cluster.running();
                let Some(last) = running.len().checked_sub(1) else {
                    continue;
                };
                let node = running[usize::try_from(between(0..=last as u64)).expect("small")].clone();
                match between(0..=2) {
                    0 => add(&cluster, &histories, node).await,
                    1 => write(&cluster, &histories, node).await,
                    _ => read(&cluster, &histories, node).await,
                }
            }
        }));
    }
}

/// What a caller was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    NothingWritten,
    Unknown,
}

async fn put(node: &Running, key: &str, value: &str) -> Told {
    let put = PutKey {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        precondition: None,
    };
    let command = Command {
        actor: "caller".to_owned(),
        operation: Some(Ask::PutKey(put)),
        ..Command::default()
    };
    let consensus = node.consensus.clone();
    let asked = node
        .process
        .enter(|| blox_runtime::spawn(async move { consensus.propose(command, DEADLINE).await }));
    match timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(outcome))) => match outcome.result {
            Some(Did::KeyWritten(_)) => Told::Done,
            _ => Told::NothingWritten,
        },
        Ok(Ok(Err(ProposeError::Unknown { .. } | ProposeError::Stopped(_)))) => Told::Unknown,
        Ok(Ok(Err(_))) => Told::NothingWritten,
        // The node died, or is held.
        Ok(Err(_)) | Err(_) => Told::Unknown,
    }
}

/// Writes a key that nobody else writes.
async fn add(cluster: &Cluster, histories: &Histories, node: Running) {
    let key = format!("set/{}", histories.noted.lock().number());
    cluster
        .trace
        .say(format_args!("a caller writes {key} through {}", node.name));
    let told = put(&node, &key, "x").await;
    cluster.trace.say(format_args!("{key}: {told:?}"));
    let mut noted = histories.noted.lock();
    match told {
        Told::Done => drop(noted.written.acknowledged.insert(key)),
        Told::NothingWritten => drop(noted.written.refused.insert(key)),
        Told::Unknown => {}
    }
}

/// The register of the moment, with one more operation in it.
fn call(histories: &Histories, operation: impl FnOnce(u64) -> Operation) -> (String, usize) {
    let mut noted = histories.noted.lock();
    let full = |calls: &Vec<Call>| calls.len() >= OPERATIONS_EACH;
    let mut name = format!("register/{}", noted.register);
    if noted.registers.get(&name).is_some_and(full) {
        noted.register += 1;
        name = format!("register/{}", noted.register);
    }
    let number = noted.number();
    let called = noted.tick();
    let calls = noted.registers.entry(name.clone()).or_default();
    calls.push(Call {
        operation: operation(number),
        called,
        answered: None,
    });
    (name, calls.len() - 1)
}

fn answered(histories: &Histories, name: &str, number: usize, change: impl FnOnce(&mut Call)) {
    let mut noted = histories.noted.lock();
    let now = noted.tick();
    if let Some(call) = noted.registers.get_mut(name).and_then(|calls| calls.get_mut(number)) {
        call.answered = Some(now);
        change(call);
    }
}

async fn write(cluster: &Cluster, histories: &Histories, node: Running) {
    let (name, number) = call(histories, Operation::Write);
    let value = match histories.noted.lock().registers[&name][number].operation {
        Operation::Write(value) => value,
        Operation::Read(_) => return,
    };
    cluster
        .trace
        .say(format_args!("a caller writes {value} to {name} through {}", node.name));
    let told = put(&node, &name, &value.to_string()).await;
    cluster.trace.say(format_args!("{name} = {value}: {told:?}"));
    match told {
        Told::Done => answered(histories, &name, number, |_| {}),
        // It took no effect: as if it had never been asked. What it read then is nothing.
        Told::NothingWritten => forget(histories, &name, number, value),
        Told::Unknown => {}
    }
}

/// A write that was refused must not show: it becomes one that is never answered, of a value that nobody may read.
fn forget(histories: &Histories, name: &str, number: usize, value: u64) {
    let mut noted = histories.noted.lock();
    noted.written.refused.insert(format!("{name}={value}"));
    if let Some(call) = noted.registers.get_mut(name).and_then(|calls| calls.get_mut(number)) {
        call.operation = Operation::Write(u64::MAX);
    }
}

async fn read(cluster: &Cluster, histories: &Histories, node: Running) {
    let (name, number) = call(histories, |_| Operation::Read(None));
    cluster
        .trace
        .say(format_args!("a caller reads {name} through {}", node.name));
    let key = name.clone();
    let asked = {
        let node = node.clone();
        node.process.clone().enter(|| {
            blox_runtime::spawn(async move {
                node.consensus
                    .read_barrier(Consistency::Linearizable, 0, DEADLINE)
                    .await
                    .ok()?;
                let view = node.store.view().ok()?;
                view.user_key(key.as_bytes()).ok()
            })
        })
    };
    let found = match timeout(PATIENCE, asked).await {
        Ok(Ok(Some(found))) => found,
        _ => {
            cluster.trace.say(format_args!("{name} could not be read"));
            return;
        }
    };
    let value = found.and_then(|found| String::from_utf8_lossy(&found.value).parse().ok());
    cluster.trace.say(format_args!("{name} is {value:?}"));
    answered(histories, &name, number, |call| call.operation = Operation::Read(value));
}
