//! The example scheduler (`examples/spread`) as a user runs it: two processes beside the cluster, of which one leads, in an ECS cluster of its own
//! where nothing stops its tasks but what is done to it here. Copies die, the leading process is killed, and ECS's own record says what was started.

mod ledger;
mod process;
mod python;
mod tally;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

pub use ledger::{Copies, Ledger};
pub use tally::Tally;

use crate::client::{Client, Node};
use crate::observe::{NotInTime, eventually};
use crate::simulator::{Simulator, SimulatorError};
use process::{Process, Program};

/// Its ECS cluster. The fleet lives there too, and that is no harm: it stops only tasks of its own, and no instance leaves a small cluster.
const CLUSTER: &str = "own";
const INSTANCES: usize = 6;
/// Of an instance: too little for a task of the fleet's own, MiB and CPU units.
const INSTANCE_MEMORY_MIB: u32 = 100;
const INSTANCE_CPU: u32 = 100;
/// What it runs, and how often.
const FAMILY: &str = "own-service";
const COPIES: usize = 4;
/// Of a copy: all of them fit on one instance, MiB and CPU units.
const COPY_MEMORY_MIB: u32 = 16;
const COPY_CPU: u32 = 16;
/// One leads, the other waits.
const PROCESSES: usize = 2;
/// Its record, in which stands who leads, and the group of its tasks.
const NAME: &str = "failover";
const REGION: &str = "us-east-1";
/// A lease of 8 s that must run out, a launch without an answer that is given up after 66 s, and what follows.
const CONVERGE: Duration = Duration::from_secs(150);
/// Between the death of a copy and that of the process that is to replace it, milliseconds: before, in and after its launch.
const AMID_LAUNCH_MS: std::ops::Range<u64> = 0..400;

/// When the process that leads is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Inside a launch, where it can be hit: one that is begun and never carried out is given up after a minute.
    AmidLaunch,
    /// While all copies run: for stories that have no such minute.
    AtRest,
}

/// It cannot be run, or disturbed.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// Its copies do not come to run: the only one of these that speaks against the cluster.
    #[error(transparent)]
    Late(#[from] NotInTime),
    /// The other end.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// A process.
    #[error("cannot {what} the example scheduler: {source}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// What is needed to run it.
pub struct Site {
    /// `spread.py`.
    pub script: PathBuf,
    /// The cluster's.
    pub nodes: Arc<Vec<Node>>,
    /// Asks them.
    pub client: Client,
    /// The simulated ECS.
    pub simulator: Simulator,
    /// Home of the processes; their words go to `logs` in it.
    pub folder: PathBuf,
    /// Of the choices of moments.
    pub seed: u64,
    /// Times are allowed so many times as long.
    pub patience: u32,
}

/// Both processes, which end with this.
pub struct OwnScheduler {
    site: Site,
    program: Program,
    processes: Vec<Process>,
    ledger: Ledger,
    random: ChaCha8Rng,
    /// Who is killed where nobody leads.
    turn: usize,
    /// Of this round.
    tally: Tally,
    /// Before this round.
    started_before: usize,
}

/// It, or why it is not there.
pub enum Own {
    /// Two processes run.
    Runs(Box<OwnScheduler>),
    /// The story is told without it.
    LeftOut(String),
}

impl Own {
    /// Starts it where there is a Python with boto3 and the script; returns when all copies run.
    pub async fn begin(site: Site) -> Result<Own, OwnError> {
        if !site.script.is_file() {
            return Ok(Own::LeftOut(format!("{} is not there", site.script.display())));
        }
        let python = match python::with_boto3().await {
            Ok(python) => python,
            Err(why) => return Ok(Own::LeftOut(why)),
        };
        let own = OwnScheduler::start(site, python).await?;
        own.settled().await?;
        Ok(Own::Runs(Box::new(own)))
    }
}

impl OwnScheduler {
    async fn start(site: Site, python: PathBuf) -> Result<OwnScheduler, OwnError> {
        site.simulator.post("/clusters", &json!({"cluster": CLUSTER})).await?;
        let instances =
            json!({"cluster": CLUSTER, "count": INSTANCES, "memory_mib": INSTANCE_MEMORY_MIB, "cpu": INSTANCE_CPU});
        site.simulator.post("/instances", &instances).await?;
        let definition = json!({"family": FAMILY, "cpu": COPY_CPU, "memory_mib": COPY_MEMORY_MIB});
        site.simulator.post("/task-definitions", &definition).await?;
        let program = program(&site, python);
        let mut own = OwnScheduler {
            ledger: Ledger::new(&group()),
            random: ChaCha8Rng::seed_from_u64(site.seed),
            site,
            program,
            processes: Vec::new(),
            turn: 0,
            tally: Tally::default(),
            started_before: 0,
        };
        for number in 0..PROCESSES {
            let process = own.process(number)?;
            own.processes.push(process);
        }
        Ok(own)
    }

    fn process(&self, number: usize) -> Result<Process, OwnError> {
        let log = self.site.folder.join(format!("logs/scheduler-{}.log", number + 1));
        Process::start(&self.program, &log).map_err(|source| OwnError::Process { what: "start", source })
    }

    /// Before a fault: a copy dies, unless `moment` and the fault together would leave a launch of it open for a minute, and the process that leads is
    /// killed and started again. What was done, in words.
    pub async fn disturb(&mut self, moment: Moment, all_nodes_die: bool) -> Result<String, OwnError> {
        self.look_after().await?;
        let leads = self.record().await.ok().and_then(|record| self.leading(&record));
        let mut done = Vec::new();
        match moment {
            Moment::AmidLaunch => {
                done.extend(self.end_a_copy().await?);
                let wait_ms = self.random.random_range(AMID_LAUNCH_MS);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                let victim = leads.unwrap_or(self.turn % PROCESSES);
                done.push(self.kill(victim, leads.is_some()).await?);
            }
            Moment::AtRest => {
                if let Some(leads) = leads
                    && self.at_rest().await.is_ok()
                {
                    done.push(self.kill(leads, true).await?);
                }
                if !all_nodes_die {
                    done.extend(self.end_a_copy().await?);
                }
            }
        }
        if done.is_empty() {
            done.push("left alone".to_owned());
        }
        Ok(format!("the example scheduler: {}", done.join(", ")))
    }

    /// Waits until all copies run, and counts. A round is over: the next one counts its own.
    pub async fn end_of_round(&mut self) -> Result<Tally, OwnError> {
        let settled = self.settled().await;
        self.look_after().await?;
        self.ledger
            .take_in(&self.state(true).await?)
            .map_err(SimulatorError::new)?;
        let mut tally = std::mem::take(&mut self.tally);
        tally.copies = self.ledger.count();
        tally.started = tally.copies.started - self.started_before;
        tally.late = settled.err().map(|late| late.to_string());
        self.started_before = tally.copies.started;
        Ok(tally)
    }

    async fn settled(&self) -> Result<(), NotInTime> {
        let within = CONVERGE * self.site.patience;
        eventually("all copies of the example scheduler", within, || self.at_rest()).await
    }

    /// One of ours leads, its record names as many copies as are to run, and by ECS's word those and no others do.
    async fn at_rest(&self) -> Result<(), String> {
        let record = self.record().await?;
        let mut noted: Vec<&str> = slots(&record);
        noted.sort_unstable();
        let running = self.running().await.map_err(|error| error.to_string())?;
        if self.leading(&record).is_some() && running.len() == COPIES && noted == running {
            return Ok(());
        }
        let words: Vec<String> = self.processes.iter().map(Process::last_words).collect();
        Err(format!(
            "{} of {COPIES} run: {record}; {}",
            running.len(),
            words.join("; ")
        ))
    }

    /// Those that ended by themselves are noted and started again.
    async fn look_after(&mut self) -> Result<(), OwnError> {
        for number in 0..self.processes.len() {
            if let Some(ended) = self.processes[number].ended() {
                self.tally.ended.push(ended);
                self.processes[number] = self.process(number)?;
            }
        }
        Ok(())
    }

    async fn kill(&mut self, number: usize, leads: bool) -> Result<String, OwnError> {
        let pid = self.processes[number].pid();
        let killed = self.processes[number].kill().await;
        killed.map_err(|source| OwnError::Process { what: "kill", source })?;
        self.processes[number] = self.process(number)?;
        self.turn += 1;
        self.tally.kills += usize::from(leads);
        let which = if leads { "its leader" } else { "one that does not lead" };
        Ok(format!("{which}, process {pid}, killed and another started"))
    }

    async fn end_a_copy(&mut self) -> Result<Option<String>, OwnError> {
        let running = self.running().await?;
        if running.is_empty() {
            return Ok(None);
        }
        let victim = &running[self.random.random_range(0..running.len())];
        let order = json!({"cluster": CLUSTER, "tasks": [victim]});
        let crashed = self.site.simulator.post("/tasks/crash", &order).await?;
        if crashed["tasks"].as_array().is_none_or(Vec::is_empty) {
            return Ok(None);
        }
        self.tally.deaths += 1;
        Ok(Some(format!("copy {} dies", short(victim))))
    }

    /// ARNs of the copies that run by ECS's word, in order.
    async fn running(&self) -> Result<Vec<String>, SimulatorError> {
        let state = self.state(false).await?;
        let clusters = state["regions"][REGION]["clusters"].as_array().into_iter().flatten();
        let tasks = clusters.flat_map(|cluster| cluster["tasks"].as_array().into_iter().flatten());
        let group = group();
        let running = tasks.filter(|task| task["group"] == *group && task["lastStatus"] == "RUNNING");
        let mut running: Vec<String> = running
            .filter_map(|task| task["taskArn"].as_str().map(str::to_owned))
            .collect();
        running.sort_unstable();
        Ok(running)
    }

    async fn state(&self, documents: bool) -> Result<Value, SimulatorError> {
        let path = format!("/state?cluster={CLUSTER}&documents={documents}");
        self.site.simulator.get(&path).await
    }

    /// What it has written, from the first node that answers.
    async fn record(&self) -> Result<Value, String> {
        let mut last = String::new();
        for node in self.site.nodes.iter() {
            match self
                .site
                .client
                .get_json(node, &format!("/v2/kv/schedulers/{NAME}"))
                .await
            {
                Ok(record) => return Ok(record),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Which of the processes leads, by its record.
    fn leading(&self, record: &Value) -> Option<usize> {
        let pid = holder_pid(record)?;
        self.processes.iter().position(|process| process.pid() == pid)
    }
}

fn program(site: &Site, python: PathBuf) -> Program {
    let urls: Vec<&str> = site.nodes.iter().map(|node| node.url.as_str()).collect();
    let words = [
        absolute(&site.script).display().to_string(),
        format!("--blox={}", urls.join(",")),
        format!("--cluster={CLUSTER}"),
        format!("--task-definition={FAMILY}"),
        format!("--count={COPIES}"),
        format!("--name={NAME}"),
    ];
    let environment = [
        ("HOME", absolute(&site.folder).display().to_string()),
        ("AWS_ENDPOINT_URL", site.simulator.url().to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "simulated".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "simulated".to_owned()),
    ];
    Program {
        python,
        words: words.into(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The tasks that it starts carry it.
fn group() -> String {
    format!("spread:{NAME}")
}

/// The pid in a holder's name, which is `HOST-PID-RANDOM`.
fn holder_pid(record: &Value) -> Option<u32> {
    record["holder"].as_str()?.rsplit('-').nth(1)?.parse().ok()
}

/// The tasks that a record names.
fn slots(record: &Value) -> Vec<&str> {
    let slots = record["slots"].as_object().into_iter().flatten();
    slots.filter_map(|(_, slot)| slot["task"].as_str()).collect()
}

fn short(arn: &str) -> &str {
    let id = arn.rsplit('/').next().unwrap_or(arn);
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pid is the last but one part, whatever the host's name.
    #[test]
    fn a_holder_names_its_process() {
        let pid = |holder: Value| holder_pid(&json!({"holder": holder}));
        assert_eq!(pid(json!("vm-7-325-3483d3")), Some(325));
        assert_eq!(pid(json!("host-325-3483d3")), Some(325));
        assert_eq!(pid(Value::Null), None);
        assert_eq!(pid(json!("somebody")), None);
    }

    /// Slots whose launch has no task yet name none.
    #[test]
    fn a_record_names_its_copies() {
        let record = json!({"slots": {"0": {"task": "arn/a"}, "1": {"task": null}}});
        assert_eq!(slots(&record), ["arn/a"]);
        assert_eq!(slots(&Value::Null), Vec::<&str>::new());
        assert_eq!(short("arn:x:task/own/0123456789"), "01234567");
    }
}
