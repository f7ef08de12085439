//! One fault on its way: its choices, its moments, its record.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::cluster::Held;
use super::under_way::{Going, Look};
use super::{
    Cluster, Effect, Fault, Nemesis, NemesisError, Target, clock, damage, disk, lag, launch, logs, member, memory,
    network, power, process,
};
use crate::check::history::Phase;
use crate::suite::Recorder;

/// How often another leader is followed before its container is in our hands.
const FOLLOWS: usize = 5;

/// See the module.
pub(super) struct Act<'run> {
    pub(super) fault: &'run Fault,
    /// Its choices follow from its seed.
    pub(super) random: ChaCha8Rng,
    cluster: &'run Cluster,
    recorder: &'run Recorder,
    nodes: Vec<String>,
    positions: Vec<usize>,
    /// By lot, once: further choices must not depend on how often a leader was looked for.
    drawn: Option<Vec<usize>>,
    /// Of one that is to fall on the leader: it does.
    led: Option<bool>,
    /// Which way, where it has one.
    direction: Option<String>,
    /// Before it began.
    before: Look,
    going: Option<(Going<'run>, Look)>,
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
    /// Of one that was to fall on the leader: it did; `None`: it was not.
    pub led: Option<bool>,
    /// Which way, such as `node-1>node-3`; `None`: it has none.
    pub direction: Option<String>,
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
    /// It was not seen to have its effect, and another fault was under way meanwhile, which may have stood in its way.
    pub hindered: bool,
}

impl Committed {
    /// A line of `faults.jsonl`.
    pub fn to_json(&self) -> Value {
        json!({
            "number": self.fault.number, "lane": self.fault.lane, "nemesis": self.fault.nemesis.word(), "target": self.fault.target.word(),
            "nodes": self.nodes, "led": self.led, "direction": self.direction, "planned_ms": self.fault.at.as_millis() as u64, "lasts_ms": self.fault.lasts.as_millis() as u64,
            "began_ns": self.began_ns, "seen_ns": self.seen_ns, "mended_ns": self.mended_ns, "ended_ns": self.ended_ns,
            "effect": self.effect.seen, "hindered": self.hindered, "evidence": self.effect.evidence,
        })
    }
}

impl<'run> Act<'run> {
    /// The nodes on whom it falls: who leads is asked now. Where nobody is heard to lead, anybody is taken.
    pub(super) async fn choose(&mut self) -> Vec<usize> {
        let target = self.fault.target;
        let (cluster, random) = (self.cluster, &mut self.random);
        let drawn = self.drawn.get_or_insert_with(|| cluster.draw(target, random)).clone();
        if target != Target::Leader {
            return drawn;
        }
        let leader = cluster.leader().await;
        self.led = Some(leader.is_some());
        leader.map_or(drawn, |leader| vec![leader])
    }

    /// The same with their containers in hand. Who is to lead leads still then: another fault may have had them for a while.
    pub(super) async fn take(&mut self) -> Held {
        let mut chosen = self.choose().await;
        for _ in 0..FOLLOWS {
            let held = self.cluster.hold(chosen).await;
            if self.fault.target != Target::Leader {
                return held;
            }
            chosen = self.choose().await;
            if chosen == held.positions || self.led == Some(false) {
                return held;
            }
        }
        self.led = Some(false);
        self.cluster.hold(chosen).await
    }

    /// It goes this way.
    pub(super) fn goes(&mut self, direction: String) {
        self.direction = Some(direction);
    }

    /// It is ordered now, on these nodes.
    pub(super) fn begins(&mut self, positions: &[usize]) {
        let name = |position: &usize| self.cluster.name(*position).to_owned();
        self.nodes = positions.iter().map(name).collect();
        self.positions = positions.to_vec();
        if self.fault.nemesis.may_end_nodes() {
            self.cluster.found.excuse(positions);
        }
        let going = self.cluster.under_way.begins();
        self.going = Some((going, self.cluster.under_way.look()));
        self.began_ns = Some(self.tell(Phase::Invoke, Map::new()));
    }

    /// No other fault has been under way since it began.
    pub(super) fn is_alone(&self) -> bool {
        let look = self.going.as_ref().map(|(_, look)| *look);
        look.is_some_and(|look| look.was_alone(&self.cluster.under_way))
    }

    /// Some other fault has been under way since it was begun, or was to be begun.
    fn has_company(&self) -> bool {
        match &self.going {
            Some(_) => !self.is_alone(),
            None => self.before.saw_any(&self.cluster.under_way),
        }
    }

    /// It was seen to have its effect; stays for as long as it lasts.
    pub(super) async fn hold(&mut self) {
        self.sees();
        tokio::time::sleep(self.fault.lasts).await;
    }

    /// It was seen to have its effect now.
    pub(super) fn sees(&mut self) {
        self.seen_ns = Some(self.recorder.clock().now_ns());
    }

    /// Its mending is ordered now.
    pub(super) fn mends(&mut self) {
        self.mended_ns = Some(self.recorder.clock().now_ns());
    }

    /// It ended in the middle: whatever it has done by then goes.
    async fn undo(&mut self) -> Result<(), NemesisError> {
        if self.began_ns.is_none() {
            return Ok(());
        }
        self.mended_ns.get_or_insert(self.recorder.clock().now_ns());
        self.cluster
            .links
            .mend(&self.cluster.compose, self.fault.number)
            .await?;
        let held = self.cluster.hold(self.positions.clone()).await;
        for position in &held.positions {
            self.cluster.mend_node(*position).await?;
        }
        Ok(())
    }

    /// It is over: what was seen of it, or that another one may have hindered it, and that it is mended.
    fn ends(&self, effect: &Effect, hindered: bool) -> u64 {
        let mut more = Map::new();
        let told = json!(effect.evidence.join("; "));
        if effect.seen {
            more.insert("effect".to_owned(), told);
        } else if hindered {
            more.insert("hindered".to_owned(), told);
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
        let value = told_as(self.fault, self.led, &self.nodes, self.direction.as_deref());
        let nemesis = self.fault.nemesis;
        self.recorder
            .event_of("nemesis", phase, nemesis.word(), json!(value), more)
    }
}

/// `TARGET NODES DIRECTION #NUMBER`: one that was to fall on the leader, and did not, fell on one.
fn told_as(fault: &Fault, led: Option<bool>, nodes: &[String], direction: Option<&str>) -> String {
    let target = match led {
        Some(false) => Target::One,
        _ => fault.target,
    };
    let number = format!("#{}", fault.number);
    let nodes = nodes.iter().map(String::as_str);
    let words = [target.word()]
        .into_iter()
        .chain(nodes)
        .chain(direction)
        .chain([number.as_str()]);
    words.collect::<Vec<_>>().join(" ")
}

/// Commits a fault, holds it, mends it.
pub async fn commit(cluster: &Cluster, recorder: &Recorder, fault: &Fault) -> Result<Committed, NemesisError> {
    let mut act = Act {
        fault,
        random: ChaCha8Rng::seed_from_u64(fault.seed),
        cluster,
        recorder,
        nodes: Vec::new(),
        positions: Vec::new(),
        drawn: None,
        led: None,
        direction: None,
        before: cluster.under_way.look(),
        going: None,
        began_ns: None,
        seen_ns: None,
        mended_ns: None,
    };
    let done = match done(cluster, &mut act).await {
        Err(NemesisError::NoEffect(instead)) => act.undo().await.map(|()| Effect::none(instead)),
        done => done,
    };
    let effect = match done {
        Ok(effect) => effect,
        Err(error) => {
            act.breaks_off(&error);
            return Err(error);
        }
    };
    // What ended before it had begun had no effect, and that must be read from the history too.
    let began_ns = act.began_ns.unwrap_or_else(|| act.tell(Phase::Invoke, Map::new()));
    let hindered = !effect.seen && act.has_company();
    let ended_ns = act.ends(&effect, hindered);
    Ok(Committed {
        fault: fault.clone(),
        nodes: act.nodes,
        led: act.led,
        direction: act.direction,
        began_ns,
        seen_ns: act.seen_ns.filter(|_| effect.seen),
        mended_ns: act.mended_ns.unwrap_or(ended_ns),
        ended_ns,
        effect,
        hindered,
    })
}

async fn done(cluster: &Cluster, act: &mut Act<'_>) -> Result<Effect, NemesisError> {
    let disks = || {
        let missing = || NemesisError::NoEffect("the nodes have no disks of their own".to_owned());
        cluster.disks.as_ref().ok_or_else(missing)
    };
    let lossy = || {
        let missing = || NemesisError::NoEffect("the nodes have no disks that lose what was not synced".to_owned());
        cluster.lossy.as_ref().ok_or_else(missing)
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
        Nemesis::ReadOnly => disk::abort(cluster, disks()?, act).await,
        Nemesis::DiskHang => disk::hang(cluster, disks()?, act).await,
        Nemesis::DiskSlow => disk::slow(cluster, disks()?, act).await,
        Nemesis::PowerCut | Nemesis::TornWrite => power::cut(cluster, lossy()?, act).await,
        Nemesis::FsyncError => power::fail_sync(cluster, lossy()?, act).await,
        Nemesis::LogBlock => logs::blocked(cluster, act).await,
        Nemesis::BitFlip | Nemesis::Truncate | Nemesis::Zero => damage::damage(cluster, act).await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The first word is on whom it fell, whatever was planned; whatever else is between it and the number.
    #[test]
    fn what_is_told_is_what_happened() {
        let fault = |target| Fault {
            number: 7,
            lane: 0,
            nemesis: Nemesis::Cut,
            target,
            at: Duration::ZERO,
            lasts: Duration::ZERO,
            seed: 0,
        };
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        assert_eq!(
            told_as(&fault(Target::Majority), None, &nodes, None),
            "majority n1 n2 #7"
        );
        assert_eq!(
            told_as(&fault(Target::Leader), Some(true), &nodes[..1], Some("n1>n2")),
            "leader n1 n1>n2 #7"
        );
        assert_eq!(
            told_as(&fault(Target::Leader), Some(false), &nodes[..1], None),
            "one n1 #7"
        );
        assert_eq!(told_as(&fault(Target::Leader), None, &[], None), "leader #7");
    }
}
