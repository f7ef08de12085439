//! One fault on its way: its choices, its moments, its record.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::{
    Cluster, Effect, Fault, Nemesis, NemesisError, clock, damage, disk, lag, launch, logs, member, memory, network,
    process,
};
use crate::check::history::Phase;
use crate::suite::Recorder;

/// See the module.
pub(super) struct Act<'run> {
    pub(super) fault: &'run Fault,
    /// Its choices follow from its seed.
    pub(super) random: ChaCha8Rng,
    cluster: &'run Cluster,
    recorder: &'run Recorder,
    nodes: Vec<String>,
    began_ns: Option<u64>,
    seen_ns: Option<u64>,
    mended_ns: Option<u64>,
}

/// A fault as it went: a line of `faults.jsonl`.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// As it was planned.
    pub fault: Fault,
    /// On whom it fell.
    pub nodes: Vec<String>,
    /// When it was ordered, seen to have its effect, and ordered to be mended.
    pub began_ns: u64,
    /// `None`: it was not.
    pub seen_ns: Option<u64>,
    /// When its mending was ordered.
    pub mended_ns: u64,
    /// When that was over.
    pub ended_ns: u64,
    /// What was seen.
    pub effect: Effect,
}

impl Committed {
    /// A line of `faults.jsonl`.
    pub fn to_json(&self) -> Value {
        json!({
            "number": self.fault.number, "lane": self.fault.lane, "nemesis": self.fault.nemesis.word(), "target": self.fault.target.word(),
            "nodes": self.nodes, "planned_ms": self.fault.at.as_millis() as u64, "lasts_ms": self.fault.lasts.as_millis() as u64,
            "began_ns": self.began_ns, "seen_ns": self.seen_ns, "mended_ns": self.mended_ns, "ended_ns": self.ended_ns,
            "effect": self.effect.seen, "evidence": self.effect.evidence,
        })
    }
}

impl Act<'_> {
    /// The nodes on whom it falls.
    pub(super) async fn choose(&mut self) -> Vec<usize> {
        self.cluster.choose(self.fault.target, &mut self.random).await
    }

    /// It is ordered now, on these nodes.
    pub(super) fn begins(&mut self, positions: &[usize]) {
        let name = |position: &usize| self.cluster.name(*position).to_owned();
        self.nodes = positions.iter().map(name).collect();
        self.began_ns = Some(self.tell(Phase::Invoke, Map::new()));
    }

    /// It was seen to have its effect; stays for as long as it lasts.
    pub(super) async fn hold(&mut self) {
        self.seen_ns = Some(self.recorder.clock().now_ns());
        tokio::time::sleep(self.fault.lasts).await;
    }

    /// Its mending is ordered now.
    pub(super) fn mends(&mut self) {
        self.mended_ns = Some(self.recorder.clock().now_ns());
    }

    /// It is over: what was seen of it, and that it is mended.
    fn ends(&self, effect: &Effect) -> u64 {
        let mut more = Map::new();
        if effect.seen {
            more.insert("effect".to_owned(), json!(effect.evidence.join("; ")));
        }
        self.tell(Phase::Ok, more)
    }

    /// It cannot be committed, or not be mended: it has no end, and nothing is concluded from it.
    fn breaks_off(&self, error: &NemesisError) {
        let more = Map::from_iter([("error".to_owned(), json!(error.to_string()))]);
        self.tell(Phase::Info, more);
    }

    /// A line of the history. Faults of one name are told apart by their values.
    fn tell(&self, phase: Phase, more: Map<String, Value>) -> u64 {
        let Fault {
            nemesis,
            target,
            number,
            ..
        } = self.fault;
        let value = format!("{} {} #{number}", target.word(), self.nodes.join(" "));
        self.recorder
            .event_of("nemesis", phase, nemesis.word(), json!(value), more)
    }
}

/// Commits a fault, holds it, mends it.
pub async fn commit(cluster: &Cluster, recorder: &Recorder, fault: &Fault) -> Result<Committed, NemesisError> {
    let mut act = Act {
        fault,
        random: ChaCha8Rng::seed_from_u64(fault.seed),
        cluster,
        recorder,
        nodes: Vec::new(),
        began_ns: None,
        seen_ns: None,
        mended_ns: None,
    };
    let _present = cluster.company.join();
    let effect = match done(cluster, &mut act).await {
        Err(NemesisError::NoEffect(instead)) => Effect::none(instead),
        Err(error) => {
            act.breaks_off(&error);
            return Err(error);
        }
        Ok(effect) => effect,
    };
    // What ended before it had begun had no effect, and that must be read from the history too.
    let began_ns = act.began_ns.unwrap_or_else(|| act.tell(Phase::Invoke, Map::new()));
    let ended_ns = act.ends(&effect);
    Ok(Committed {
        fault: fault.clone(),
        nodes: act.nodes,
        began_ns,
        seen_ns: act.seen_ns.filter(|_| effect.seen),
        mended_ns: act.mended_ns.unwrap_or(ended_ns),
        ended_ns,
        effect,
    })
}

async fn done(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let disks = || {
        let missing = || NemesisError::NoEffect("the nodes have no disks of their own".to_owned());
        cluster.disks.as_ref().ok_or_else(missing)
    };
    let clocks = || {
        let missing = || NemesisError::NoEffect("the nodes have no clocks that can be set".to_owned());
        cluster.clocks.as_ref().ok_or_else(missing)
    };
    match act.fault.nemesis {
        Nemesis::Clock => clock::jump(cluster, clocks()?, act).await,
        Nemesis::Strobe => clock::strobe(cluster, clocks()?, act).await,
        Nemesis::Kill => process::kill(cluster, act).await,
        Nemesis::Pause => process::pause(cluster, act).await,
        Nemesis::Term => process::term(cluster, act).await,
        Nemesis::Flap => network::flap(cluster, act).await,
        Nemesis::Delay | Nemesis::Reorder => lag::lag(cluster, act).await,
        Nemesis::Launch => launch::struck(cluster, act).await,
        Nemesis::Partition | Nemesis::Isolate | Nemesis::Halves | Nemesis::Ring | Nemesis::Cut | Nemesis::Loss => {
            network::partition(cluster, act).await
        }
        Nemesis::Memory => memory::limit(cluster, act).await,
        Nemesis::Replace => member::lost(cluster, act).await,
        Nemesis::DiskFull => disk::full(cluster, disks()?, act).await,
        Nemesis::ReadOnly | Nemesis::PowerCut => disk::abort(cluster, disks()?, act).await,
        Nemesis::DiskHang => disk::hang(cluster, disks()?, act).await,
        Nemesis::DiskSlow => disk::slow(cluster, disks()?, act).await,
        Nemesis::LogBlock => logs::blocked(cluster, act).await,
        Nemesis::BitFlip | Nemesis::Truncate | Nemesis::Zero => damage::damage(cluster, act).await,
    }
}
