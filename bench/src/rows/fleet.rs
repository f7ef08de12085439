//! ECS: events from the simulator's queue, lists and reads of tasks. Blox 0.3 cannot be run beside ours: its figures of another machine are brought to
//! this one by etcd's put with 64 clients, which was measured there and is measured in this run.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{RowError, Settings, add, say};
use crate::client::{HttpClient, get_once};
use crate::figure::{Figure, Goal};
use crate::load::{Times, Window, drive};
use crate::ports;
use crate::process::{Process, Program};
use crate::server::{BloxOptions, MEMBERS, Server, ServerError, Side};

/// etcd's put with 64 clients of 256 bytes where Blox 0.3 was measured, requests a second.
const ETCD_THERE: f64 = 5_277.0;
/// Blox 0.3.0 there, with 10,000 tasks: the middle of what was seen.
const EVENTS_THERE: f64 = 342.0;
const GET_16_THERE: f64 = 1_830.0;
const LIST_MS_THERE: f64 = 410.0;
const LIST_16_THERE: f64 = 6.0;
const STOPPED_MS_THERE: f64 = 366.0;
const CLUSTER_MS_THERE: f64 = 41.5;
const STREAM_MS_THERE: f64 = 4.5;
const NOTE: &str = "Blox 0.3's on another machine, brought to this one by etcd's put with 64 clients";
/// Tasks; a tenth of them in the cluster that is listed by itself and flooded, a tenth in the one whose tasks are stopped.
const TASKS: usize = 10_000;
const CLUSTERS: usize = 10;
const STOPPED: usize = CLUSTERS - 1;
/// Instances of a cluster, each with room for all its tasks.
const INSTANCES_A_CLUSTER: usize = 10;
/// CPU units and MiB of a task.
const TASK_SIZE: usize = 16;
/// Tasks that one call starts.
const TASKS_A_CALL: usize = 500;
/// Events of a flood.
const FLOOD: u64 = 100_000;
/// Events one by one, for the latency of a stream.
const SINGLE_EVENTS: usize = 50;
/// What must come comes within this.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks that list everything.
const SLOW_LOOK: Duration = Duration::from_secs(1);
/// Reconcile has told all that events do not say once it has been over each cluster so often.
const PASSES: u64 = 2;
/// How far a node is.
const APPLIED: &str = "blox_raft_applied_index";
/// No metric has this in its labels.
const NO_LABEL: &str = "\n";
/// Clients of the rows with many.
const CLIENTS: usize = 16;

/// A simulated ECS and three nodes that observe it.
struct Fleet {
    simulator: Process,
    /// `host:port`.
    simulator_address: String,
    server: Server,
    /// ARNs of clusters and tasks.
    tasks: Vec<(String, String)>,
    /// How much faster this machine is than that of Blox 0.3.
    factor: f64,
}

/// All rows; `etcd_here` is what etcd's put with 64 clients gave in this run.
pub async fn measure(settings: &Settings, etcd_here: f64) -> Result<Vec<Figure>, RowError> {
    let mut fleet = Fleet::start(settings, etcd_here / ETCD_THERE).await?;
    say(&format!(
        "  this machine is taken for {:.2} times as fast as that of Blox 0.3",
        fleet.factor
    ));
    let idle = fleet.server.memory()?;
    fleet.fill().await?;
    let mut figures = fleet.floods(settings.rounds).await?;
    figures.extend(fleet.stream().await?);
    figures.extend(fleet.reads(settings, &idle).await?);
    fleet.simulator.kill().await?;
    Ok(figures)
}

impl Fleet {
    async fn start(settings: &Settings, factor: f64) -> Result<Fleet, RowError> {
        let directory = settings.directory.join("fleet");
        std::fs::create_dir_all(&directory).map_err(|source| RowError::Disk {
            what: "the fleet's directory cannot be made",
            source,
        })?;
        let port = ports::free(1).map_err(ServerError::from)?[0];
        let address = format!("127.0.0.1:{port}");
        let seed = settings.seed.to_string();
        let words = ["simulator", "--preset", "empty", "--seed", &seed, "--listen", &address];
        let simulator = Process::start(Program {
            name: "simulator".to_owned(),
            path: settings.blox.clone(),
            arguments: words.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            directory: directory.clone(),
        })?;
        until("the simulator", LOOK, || async {
            let health = get_once(&address, "/control/health").await;
            health.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        let options = BloxOptions {
            ecs: Some(format!("http://{address}")),
        };
        let server = Server::blox(&settings.blox, &directory, &options).await?;
        Ok(Fleet {
            simulator,
            simulator_address: address,
            server,
            tasks: Vec::new(),
            factor,
        })
    }

    /// So many running tasks, all of them known to the nodes.
    async fn fill(&mut self) -> Result<(), RowError> {
        say(&format!("  {TASKS} tasks in {CLUSTERS} clusters ..."));
        self.control(
            "task-definitions",
            json!({"family": "web", "cpu": TASK_SIZE, "memory_mib": TASK_SIZE}),
        )
        .await?;
        for number in 0..CLUSTERS {
            let cluster = cluster(number);
            self.control("clusters", json!({"cluster": cluster})).await?;
            let room = TASK_SIZE * TASKS / CLUSTERS;
            let instances = json!({"cluster": cluster, "count": INSTANCES_A_CLUSTER, "cpu": room, "memory_mib": room});
            self.control("instances", instances).await?;
            for _ in 0..TASKS / CLUSTERS / TASKS_A_CALL {
                let start = json!({"cluster": cluster, "task_definition": "web", "count": TASKS_A_CALL});
                self.control("tasks/start", start).await?;
            }
        }
        let address = self.server.addresses()[0].clone();
        let count = async |path: &str| -> Result<usize, String> {
            let body = get_once(&address, path).await.map_err(|error| error.to_string())?;
            let tasks: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
            Ok(tasks["items"].as_array().map_or(0, Vec::len))
        };
        until("every task, running, at a node", SLOW_LOOK, || async {
            match count("/v1/tasks?status=running").await? {
                TASKS => Ok(()),
                others => Err(format!("{others} tasks")),
            }
        })
        .await?;
        self.control("tasks/stop", json!({"cluster": cluster(STOPPED)})).await?;
        until("every task that was stopped", SLOW_LOOK, || async {
            match count("/v1/tasks?status=stopped").await? {
                stopped if stopped == TASKS / CLUSTERS => Ok(()),
                others => Err(format!("{others} tasks")),
            }
        })
        .await?;
        let server = &self.server;
        until("reconcile", SLOW_LOOK, || async {
            let mut passes = 0;
            for member in 0..MEMBERS {
                let of_member = server.metric_sum(member, "blox_reconcile_passes_total", NO_LABEL).await;
                passes += of_member.map_err(|error| error.to_string())?;
            }
            match passes {
                enough if enough >= PASSES * CLUSTERS as u64 => Ok(()),
                others => Err(format!("{others} passes")),
            }
        })
        .await?;
        let body = get_once(&address, "/v1/tasks").await?;
        let tasks: Value = serde_json::from_slice(&body).unwrap_or_default();
        let items = tasks["items"].as_array().into_iter().flatten();
        self.tasks = items.filter_map(name_of).collect();
        Ok(())
    }

    /// From the first event sent to the last one applied, on three nodes.
    async fn floods(&mut self, rounds: usize) -> Result<Vec<Figure>, RowError> {
        let mut rate = self.compared(
            "events from queue to the state of three nodes",
            "1/s",
            EVENTS_THERE,
            Speed::Rate,
        );
        rate.goals = vec![Goal::TimesPeerAtLeast(20.0)];
        for _ in 0..rounds {
            self.server.until_quiet().await?;
            let leader = self.server.leader().await?;
            // A message that came twice is one event.
            let handled = async || self.server.metric_sum(leader, "blox_events_total", "duplicate").await;
            let (before, began) = (handled().await?, Instant::now());
            let flood = json!({"cluster": cluster(0), "events": FLOOD, "kind": "tasks"});
            let (server, handled) = (&self.server, &handled);
            let arrived = until("every event of a flood", LOOK, || async move {
                match handled().await.map_err(|error| error.to_string())? - before {
                    all if all >= FLOOD => Ok(()),
                    some => Err(format!("{some} of {FLOOD}")),
                }
            });
            tokio::try_join!(self.control("flood", flood), arrived)?;
            let applied = server.metric(leader, APPLIED).await?;
            until("the last event on each node", LOOK, || async move {
                for member in 0..MEMBERS {
                    let there = server
                        .metric(member, APPLIED)
                        .await
                        .map_err(|error| error.to_string())?;
                    if there < applied {
                        return Err(format!("{there} of {applied} applied"));
                    }
                }
                Ok(())
            })
            .await?;
            let per_second = FLOOD as f64 / began.elapsed().as_secs_f64();
            say(&format!(
                "  {:<44} blox {per_second:>9.0}/s",
                "events from queue to three states"
            ));
            add(&mut rate, Side::Ours, per_second);
        }
        Ok(vec![rate])
    }

    /// From an event's sending to its line on a stream of a node that does not lead.
    async fn stream(&mut self) -> Result<Vec<Figure>, RowError> {
        let leader = self.server.leader().await?;
        let addresses = self.server.addresses();
        let client = HttpClient::connect(&addresses[(leader + 1) % addresses.len()]).await?;
        let mut stream = client.stream("/v2/watch?kinds=task").await?;
        stream.lines().await?;
        let mut figure = self.compared("event to line on a stream, median", "ms", STREAM_MS_THERE, Speed::Time);
        let mut control = HttpClient::connect(&self.simulator_address).await?;
        let flood = json!({"cluster": cluster(0), "events": 1, "kind": "tasks"});
        for _ in 0..SINGLE_EVENTS {
            let began = Instant::now();
            let sent = async { Ok(control.post("/control/flood", &flood).await?) };
            let came = async {
                // What reconcile adds and bookmarks are no events.
                while !contains(&stream.lines().await?, r#""actor":"feed""#) {}
                Ok::<_, RowError>(began.elapsed())
            };
            let late = || RowError::Late {
                what: "an event on a stream",
                within: PATIENCE,
                seen: "nothing".to_owned(),
            };
            let both = timeout(PATIENCE, async { tokio::try_join!(sent, came) }).await;
            let (_, took) = both.map_err(|_| late())??;
            add(&mut figure, Side::Ours, took.as_secs_f64() * 1e3);
        }
        say(&format!(
            "  {:<44} blox {:>9.2} ms",
            "event to line on a stream",
            figure.our_median().unwrap_or_default()
        ));
        Ok(vec![figure])
    }

    /// Lists and reads, by one client and by many; `idle` is what each node held when it had nothing, bytes.
    async fn reads(&mut self, settings: &Settings, idle: &[u64]) -> Result<Vec<Figure>, RowError> {
        let mut figures = Vec::new();
        let one = |figures: &mut Vec<Figure>, mut figure: Figure, window: &Window, value: f64, goals: &[Goal]| {
            figure.goals = goals.to_vec();
            add(&mut figure, Side::Ours, value);
            say(&format!(
                "  {:<44} blox {value:>9.2} {}, {} answers",
                figure.name, figure.unit, window.operations
            ));
            figures.push(figure);
        };
        let tasks = self.tasks.clone();
        let any = move |random: &mut SmallRng| {
            let (cluster, arn) = &tasks[random.random_range(0..tasks.len())];
            format!("/v1/tasks/{cluster}/{arn}")
        };
        let window = self.drive(settings, CLIENTS, any).await?;
        let figure = self.compared("GET one task, 16 clients", "1/s", GET_16_THERE, Speed::Rate);
        one(
            &mut figures,
            figure,
            &window,
            window.per_second(),
            &[Goal::TimesPeerAtLeast(10.0)],
        );
        let twenty = [Goal::TimesPeerAtMost(0.05)];
        let tenth = format!("/v1/tasks?cluster={}", cluster(0));
        for (name, path, there, goals) in [
            (
                "GET /v1/tasks, 10,000 tasks, 1 client: p50",
                "/v1/tasks",
                LIST_MS_THERE,
                &twenty[..],
            ),
            (
                "GET /v1/tasks?status=stopped, 1 client: p50",
                "/v1/tasks?status=stopped",
                STOPPED_MS_THERE,
                &[],
            ),
            (
                "GET /v1/tasks?cluster=, a tenth, 1 client: p50",
                &tenth,
                CLUSTER_MS_THERE,
                &[],
            ),
        ] {
            let path = path.to_owned();
            let window = self.drive(settings, 1, move |_| path.clone()).await?;
            let figure = self.compared(name, "ms", there, Speed::Time);
            one(&mut figures, figure, &window, window.milliseconds(50.0), goals);
        }
        let before = self.server.memory()?;
        self.server.forget_memory_peak()?;
        let window = self.drive(settings, CLIENTS, |_| "/v1/tasks".to_owned()).await?;
        let peak = self.server.memory_peak()?;
        let figure = self.compared(
            "GET /v1/tasks, 10,000 tasks, 16 clients",
            "1/s",
            LIST_16_THERE,
            Speed::Rate,
        );
        one(&mut figures, figure, &window, window.per_second(), &[]);
        for (name, since, goals) in [
            (
                "memory while 16 clients list, above before",
                &before[..],
                &[Goal::AtMost(100.0)][..],
            ),
            ("memory while 16 clients list, above a node with nothing", idle, &[]),
        ] {
            let grown = peak.iter().zip(since).map(|(peak, since)| peak.saturating_sub(*since));
            let most_mb = grown.max().unwrap_or(0) as f64 / 1e6;
            one(&mut figures, Figure::new(name, "MB"), &window, most_mb, goals);
        }
        Ok(figures)
    }

    /// So many clients over all nodes, each at a path of its choice, again and again.
    async fn drive(
        &self,
        settings: &Settings,
        clients: usize,
        path: impl Fn(&mut SmallRng) -> String + Clone + 'static,
    ) -> Result<Window, RowError> {
        let addresses = self.server.addresses();
        let mut all = Vec::with_capacity(clients);
        for number in 0..clients {
            all.push(HttpClient::connect(&addresses[number % addresses.len()]).await?);
        }
        let times = Times {
            counts: settings.times.counts * u32::try_from(settings.rounds).unwrap_or(1),
            ..settings.times
        };
        let ask =
            async move |client: &mut HttpClient, random: &mut SmallRng| client.count(&path(random)).await.map(drop);
        Ok(drive(&self.server, all, times, settings.seed, ask).await?)
    }

    /// A figure whose peer is Blox 0.3 as it would be here.
    fn compared(&self, name: &str, unit: &'static str, there: f64, speed: Speed) -> Figure {
        let here = match speed {
            Speed::Rate => there * self.factor,
            Speed::Time => there / self.factor,
        };
        Figure {
            peer: vec![here],
            note: Some(NOTE),
            ..Figure::new(name, unit)
        }
    }

    async fn control(&self, path: &str, body: Value) -> Result<(), RowError> {
        let mut client = HttpClient::connect(&self.simulator_address).await?;
        let path = format!("/control/{path}");
        let answer = timeout(PATIENCE, client.post(&path, &body)).await;
        answer.map_err(|_| RowError::Late {
            what: "an answer of the simulator",
            within: PATIENCE,
            seen: path.clone(),
        })??;
        Ok(())
    }
}

/// What a faster machine does to a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speed {
    /// More of it.
    Rate,
    /// Less.
    Time,
}

fn cluster(number: usize) -> String {
    format!("bench-{number}")
}

/// The names of a task's cluster and of itself, as they stand in its path.
fn name_of(task: &Value) -> Option<(String, String)> {
    let entity = &task["entity"];
    let cluster = entity["clusterARN"].as_str()?.rsplit('/').next()?;
    Some((cluster.to_owned(), entity["taskARN"].as_str()?.to_owned()))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn until<Look: Future<Output = Result<(), String>>>(
    what: &'static str,
    pause: Duration,
    mut look: impl FnMut() -> Look,
) -> Result<(), RowError> {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(()) => return Ok(()),
            Err(seen) if began.elapsed() > PATIENCE => {
                return Err(RowError::Late {
                    what,
                    within: PATIENCE,
                    seen,
                });
            }
            Err(_) => sleep(pause).await,
        }
    }
}
