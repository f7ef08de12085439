//! The cluster of one run with everything around it, and what is played on it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::folder::{Folder, FolderError};
use super::plan::Plan;
use super::recorder::{Call, End, Recorder};
use super::rhythm::{self, Rhythm};
use super::run::RunError;
use super::schedule::Schedule;
use super::truth::{self, TruthError};
use crate::client::Node;
use crate::clock::{Clock, ns};
use crate::compose::{Compose, Options, SERVICES};
use crate::nemesis::{
    Clocks, Cluster, Committed, Disks, Fault, Found, Limits, Links, LossyDisks, NemesisError, Relays, UnderWay, commit,
};
use crate::observe::{NotInTime, Observer, eventually};
use crate::screen::Screen;
use crate::simulator::{Simulator, SimulatorError};
use crate::workload::http::{Ask, Http};
use crate::workload::ingest::versions;
use crate::workload::{Ecs, Pace, Site, Work, Worker, Workload, WorkloadError, shares};

/// How long the cluster may take to be whole, after whatever was done to it.
const WHOLE: Duration = Duration::from_secs(60);
/// How often a person is told how far it is.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
/// What keys of those writes begin with that a whole cluster must take.
pub(super) const LIVE_KEYS: &str = "live";
/// A whole cluster acknowledges so many writes ...
const LIVE_WRITES: usize = 100;
/// ... within this time.
const LIVE: Duration = Duration::from_secs(10);
/// How long one of them may take.
const LIVE_WRITE: Duration = Duration::from_secs(2);
/// An instance has its daemon after so long, also where what became of its last launch must be found out.
const SERVED: Duration = Duration::from_secs(100);
/// What everybody holds in the end is kept so often where ECS sends an event meanwhile: an agent that comes back does so late.
const ENDS_MAX: usize = 3;

/// What was kept of the end: up to this revision.
enum Kept {
    Whole(u64),
    /// ECS sent an event meanwhile.
    Overtaken(u64),
}

/// Why the play ended before its end. What came before counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    NotInTime(#[from] NotInTime),
    #[error(transparent)]
    Nemesis(#[from] NemesisError),
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    #[error(transparent)]
    Truth(#[from] TruthError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl Broken {
    /// Whether it speaks against the cluster.
    fn is_verdict(&self) -> bool {
        let late = |error: &NemesisError| matches!(error, NemesisError::NotInTime(_));
        match self {
            Broken::NotInTime(_) | Broken::Workload(WorkloadError::NotInTime(_)) => true,
            Broken::Truth(TruthError::NotInTime(_)) => true,
            Broken::Nemesis(error) => late(error),
            _ => false,
        }
    }
}

/// See the module.
pub(super) struct Stage<'plan> {
    plan: &'plan Plan,
    folder: Folder,
    screen: Screen,
    pub(super) cluster: Cluster,
    site: Site,
    http_of_live: Http,
    recorder: Arc<Recorder>,
    committed: Mutex<Vec<Committed>>,
    seen: Mutex<Map<String, Value>>,
}

impl<'plan> Stage<'plan> {
    pub(super) async fn set_up(
        plan: &'plan Plan,
        folder: Folder,
        (disks, lossy, clocks): (Option<Disks>, Option<LossyDisks>, Option<Clocks>),
        screen: Screen,
        clock: Clock,
    ) -> Result<Stage<'plan>, RunError> {
        screen.say("three nodes and the simulator start in containers");
        let compose = Compose::up(Options {
            project: plan.project.clone(),
            file: plan.compose_file.clone(),
            overrides: plan.overrides.iter().cloned().chain([folder.overrides()]).collect(),
            image: plan.image.clone(),
            folder: plan.folder.clone(),
        })
        .await?;
        let node = |(position, name): (usize, &&str)| Node {
            name: (*name).to_owned(),
            url: compose.node_url(position),
        };
        let nodes = Arc::new(SERVICES.iter().enumerate().map(node).collect::<Vec<_>>());
        let path = folder.history();
        let recorder = Recorder::create(&path, clock).map_err(|source| RunError::History { path, source })?;
        let recorder = Arc::new(recorder);
        let site = Site {
            nodes: Arc::clone(&nodes),
            http: Http::new()?,
            recorder: Arc::clone(&recorder),
            simulator: Simulator::new(compose.simulator_url())?,
            folder: plan.folder.clone(),
            seed: plan.seed,
            patience: plan.patience,
        };
        let observer = Observer::new(Arc::clone(&nodes))?;
        let mut seen = Map::new();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        seen.insert(
            "zero_ns".to_owned(),
            json!(ns(since_1970).saturating_sub(clock.now_ns())),
        );
        Ok(Stage {
            cluster: Cluster {
                compose,
                nodes,
                observer,
                http: site.http.clone(),
                ecs: Ecs::of(&site.simulator)?,
                links: Links::default(),
                relays: Relays::default(),
                limits: Limits::default(),
                under_way: UnderWay::default(),
                found: Found::default(),
                whole: WHOLE * plan.patience,
                folder: folder.clone(),
                image: plan.image.clone(),
                disks,
                lossy,
                clocks,
                wound: tokio::sync::Mutex::default(),
                hands: Default::default(),
            },
            plan,
            folder,
            screen,
            site,
            http_of_live: Http::new()?,
            recorder,
            committed: Mutex::default(),
            seen: Mutex::new(seen),
        })
    }

    /// Load and faults, then the end of both, then what a whole cluster must show.
    pub(super) async fn play(&self, schedule: &Schedule) -> Result<(), Broken> {
        let leader = self.cluster.observer.settled(self.cluster.whole).await?;
        let urls: Vec<&str> = self.site.nodes.iter().map(|node| node.url.as_str()).collect();
        self.screen.say(&format!(
            "project {}: {}",
            self.cluster.compose.project(),
            urls.join(", ")
        ));
        self.screen.say(&format!(
            "{} leads in term {}",
            self.cluster.name(leader.position),
            leader.term
        ));
        let mut works = self.begin_load().await?;
        self.phase("load");
        let began = Instant::now();
        let load = async {
            tokio::time::sleep_until((began + self.plan.time).into()).await;
            Ok(())
        };
        let lanes = (0..self.plan.lanes).map(|lane| self.commit_lane(schedule, lane, began));
        let lanes = async { futures::future::try_join_all(lanes).await.map(|_| ()) };
        // The first fault that cannot be committed ends all: what others have broken is mended below.
        let play = async { tokio::try_join!(lanes, load).map(|_| ()) };
        let faults = tokio::select! {
            faults = play => faults,
            never = self.tell_progress() => match never {},
        };
        self.phase("heal");
        let mended = self.cluster.mend().await;
        self.site.simulator.rest().await?;
        self.screen.say("load ends");
        futures::future::join_all(works.iter_mut().map(|work| work.stop())).await;
        // What stands in the way of a fault stands before whatever follows from a fault half done.
        faults?;
        mended?;
        self.phase("wait");
        let leader = self.cluster.observer.settled(self.cluster.whole).await?;
        self.note(
            "leader",
            json!({"name": self.cluster.name(leader.position), "term": leader.term}),
        );
        self.is_live().await?;
        let revision = self.cluster.observer.same_state(self.cluster.whole).await?;
        self.screen
            .say(&format!("whole: all nodes hold the same at revision {revision}"));
        self.phase("last-reads");
        let reads = works.iter_mut().map(|work| work.last_reads());
        futures::future::try_join_all(reads).await?;
        let of_ecs = self.plan.workloads.iter().any(|workload| workload.is_of_ecs());
        self.phase("end");
        let mut revision = self.keep_end(of_ecs).await?;
        for _ in 1..ENDS_MAX {
            match revision {
                Kept::Whole(_) => break,
                Kept::Overtaken(_) => revision = self.keep_end(of_ecs).await?,
            }
        }
        let (Kept::Whole(revision) | Kept::Overtaken(revision)) = revision;
        self.note("revision", json!(revision));
        for work in &mut works {
            work.end(revision).await?;
        }
        self.screen.say("last reads are done");
        Ok(())
    }

    /// What everybody holds in the end.
    async fn keep_end(&self, of_ecs: bool) -> Result<Kept, Broken> {
        if self.plan.workloads.contains(&Workload::Daemon) {
            // An agent may have come back since the last roll-out. Who is not served in time is judged.
            let _ = self.site.simulator.served(SERVED * self.site.patience).await;
        }
        let sent = match of_ecs {
            true => self.cluster.ecs.still(self.cluster.whole).await?,
            false => 0,
        };
        let revision = self.cluster.observer.same_state(self.cluster.whole).await?;
        truth::keep(&self.site.http, &self.site.nodes, &self.folder, revision).await?;
        if !of_ecs {
            return Ok(Kept::Whole(revision));
        }
        self.keep_ecs().await?;
        match self.cluster.ecs.sent().await? == sent {
            true => Ok(Kept::Whole(revision)),
            false => Ok(Kept::Overtaken(revision)),
        }
    }

    /// What ECS knows, and what the state shows of it.
    async fn keep_ecs(&self) -> Result<(), Broken> {
        let memory = self.cluster.ecs.memory().await?;
        let versions = eventually("lists of tasks and instances", self.site.last_read(), || {
            versions(&self.site)
        })
        .await?;
        let known = json!({"memory": memory, "versions": versions});
        Ok(self.folder.write(&self.folder.ecs(), known.to_string())?)
    }

    async fn begin_load(&self) -> Result<Vec<Box<dyn Work>>, WorkloadError> {
        let workloads = &self.plan.workloads;
        let mut works = Vec::new();
        for (workload, per_second) in workloads.iter().zip(shares(workloads, self.plan.per_second)) {
            works.push(workload.begin(&self.site, per_second).await?);
            self.screen.say(&format!(
                "{} begins: {per_second} a second, {}",
                workload.word(),
                workload.title()
            ));
        }
        Ok(works)
    }

    /// The faults of one lane, each at its time or as soon as the one before is over. What would begin after the load's end is left out.
    async fn commit_lane(&self, schedule: &Schedule, lane: usize, began: Instant) -> Result<(), Broken> {
        for fault in schedule.faults.iter().filter(|fault| fault.lane == lane) {
            let is_late = || began.elapsed() + fault.lasts > self.plan.time;
            if self.plan.rhythm == Rhythm::Dense && !is_late() {
                self.cluster.observer.settled(self.cluster.whole).await?;
                tokio::time::sleep(rhythm::rest(fault)).await;
            }
            tokio::time::sleep_until((began + fault.at).into()).await;
            if is_late() {
                // Of dense ones more are planned than there is time for.
                if self.plan.rhythm == Rhythm::Loose {
                    self.screen.say(&format!(
                        "left out, it is too late: {} {}",
                        fault.nemesis.word(),
                        fault.target.word()
                    ));
                }
                self.too_late(fault);
                continue;
            }
            match commit(&self.cluster, &self.recorder, fault).await {
                Ok(committed) => self.keep(committed)?,
                Err(error) => {
                    self.screen
                        .say(&format!("fault {} cannot be committed: {error}", fault.number));
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn too_late(&self, fault: &Fault) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let all = seen.entry("too_late").or_insert_with(|| json!([]));
        if let Value::Array(all) = all {
            all.push(json!({"number": fault.number, "nemesis": fault.nemesis.word()}));
        }
    }

    fn keep(&self, committed: Committed) -> Result<(), FolderError> {
        let Fault { nemesis, target, .. } = committed.fault;
        let word = match (committed.effect.seen, committed.hindered) {
            (true, _) => "",
            (false, true) => "hindered by another fault: ",
            (false, false) => "NO EFFECT: ",
        };
        self.screen.say(&format!(
            "{} {} ({}): {word}{}",
            nemesis.word(),
            target.word(),
            committed.nodes.join(", "),
            committed.effect.evidence.join("; ")
        ));
        let mut all = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(committed);
        all.sort_by_key(|one| one.began_ns);
        // Few: the whole file is written each time, so that it is there however the run ends.
        let lines: String = all.iter().map(|one| format!("{}\n", one.to_json())).collect();
        self.folder.write(&self.folder.faults(), lines)
    }

    async fn tell_progress(&self) -> Infallible {
        loop {
            tokio::time::sleep(TELL_INTERVAL).await;
            let tally = self.recorder.tally();
            self.screen.say(&format!(
                "{} operations: {} ok, {} failed, {} unknown",
                tally.total(),
                tally.ok,
                tally.failed,
                tally.unknown
            ));
        }
    }

    /// A whole cluster takes writes, on every node: each at once, and none is said again.
    async fn is_live(&self) -> Result<(), NotInTime> {
        let within = LIVE * self.plan.patience;
        // Connections of the load may have been broken by faults.
        let site = Site {
            http: self.http_of_live.clone(),
            ..self.site.clone()
        };
        let mut worker = Worker::new(&site, LIVE_KEYS, 0, Arc::new(Pace::new(1)));
        let (began, mut refused) = (Instant::now(), Vec::new());
        for number in 0..LIVE_WRITES {
            if began.elapsed() > within {
                return Err(NotInTime {
                    what: format!("{LIVE_WRITES} writes on a whole cluster"),
                    within,
                    last: format!("{number} were tried"),
                });
            }
            let node = number % site.nodes.len();
            let value = worker.fresh();
            let call = Call {
                function: "write",
                key: format!("{LIVE_KEYS}/{number}"),
                value: value.clone(),
                ..Call::default()
            };
            let text = value.as_str().unwrap_or_default().to_owned();
            let ask = Ask::put(format!("/v2/kv/{}", call.key), text, LIVE_WRITE * self.plan.patience);
            let written = worker.write(node, call, ask, |reply| End::ok(value, Some(reply.mod_revision)));
            if written.await.reply.is_none() {
                let name = self.cluster.name(node);
                refused.push(format!(
                    "the cluster is whole, and {name} did not take {LIVE_KEYS}/{number}"
                ));
            }
        }
        self.note("live_writes_ms", json!(began.elapsed().as_millis() as u64));
        self.note("live_refused", json!(refused));
        Ok(())
    }

    fn phase(&self, what: &str) {
        let at_ns = self.recorder.event("nemesis", what, Value::Null);
        self.note(&format!("{what}_ns"), json!(at_ns));
    }

    fn note(&self, what: &str, value: Value) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(what.to_owned(), value);
    }

    /// `end.json`.
    pub(super) fn end(&self, broken: Option<&Broken>) -> Value {
        let mut end = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tally = self.recorder.tally();
        end.insert(
            "operations".to_owned(),
            json!({"ok": tally.ok, "failed": tally.failed, "unknown": tally.unknown}),
        );
        if let Some(broken) = broken {
            self.screen.say(&format!("broken off: {broken}"));
            let key = if broken.is_verdict() { "violation" } else { "obstacle" };
            end.insert(key.to_owned(), json!(broken.to_string()));
        }
        let found = self.cluster.found.sentences();
        if !found.is_empty() && !end.contains_key("violation") {
            end.insert("violation".to_owned(), json!(found.join("; ")));
        }
        Value::Object(end)
    }

    pub(super) fn flush(&self) -> Result<(), RunError> {
        self.recorder.flush().map_err(|source| RunError::History {
            path: self.folder.history(),
            source,
        })
    }
}
