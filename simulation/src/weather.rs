//! The network of a run: how long messages take, which are lost, which ways are cut.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use blox_raft::simulation::Weather;
use blox_runtime::random::between;
use parking_lot::Mutex;

use crate::trace::Trace;

/// What a message takes on a good day, microseconds, ...
const CALM_MICROSECONDS: RangeInclusive<u64> = 100..=2_000;
/// ... now and then, ...
const LATE_MICROSECONDS: RangeInclusive<u64> = 2_000..=40_000;
/// ... one in so many, ...
const LATE_EACH: u64 = 40;
/// ... and in a storm. Calls overtake each other by as much.
const STORM_MICROSECONDS: RangeInclusive<u64> = 500..=120_000;
const PER_MILLE: u64 = 1_000;

/// The weather of one run.
pub struct Skies {
    trace: Arc<Trace>,
    /// From whom to whom nothing gets through.
    cuts: Mutex<BTreeSet<(String, String)>>,
    loss_per_mille: AtomicU64,
    storm: AtomicBool,
}

impl Skies {
    /// Good weather.
    pub fn new(trace: Arc<Trace>) -> Skies {
        Skies {
            trace,
            cuts: Mutex::default(),
            loss_per_mille: AtomicU64::new(0),
            storm: AtomicBool::new(false),
        }
    }

    /// Cuts one direction.
    pub fn cut(&self, from: &str, to: &str) {
        self.cuts.lock().insert((from.to_owned(), to.to_owned()));
    }

    /// Makes one direction whole again.
    pub fn mend(&self, from: &str, to: &str) {
        self.cuts.lock().remove(&(from.to_owned(), to.to_owned()));
    }

    /// How many of a thousand messages are lost, and whether they take long.
    pub fn set(&self, loss_per_mille: u64, storm: bool) {
        self.loss_per_mille.store(loss_per_mille, Ordering::Relaxed);
        self.storm.store(storm, Ordering::Relaxed);
    }

    /// Good weather again, nothing cut.
    pub fn clear(&self) {
        self.cuts.lock().clear();
        self.set(0, false);
    }
}

impl Weather for Skies {
    fn delay(&self, _from: &str, _to: &str) -> Duration {
        let range = if self.storm.load(Ordering::Relaxed) {
            STORM_MICROSECONDS
        } else if between(1..=LATE_EACH) == 1 {
            LATE_MICROSECONDS
        } else {
            CALM_MICROSECONDS
        };
        Duration::from_micros(between(range))
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        let cuts = self.cuts.lock();
        !cuts.is_empty() && cuts.contains(&(from.to_owned(), to.to_owned()))
    }

    fn loses(&self, _from: &str, _to: &str) -> bool {
        let loss = self.loss_per_mille.load(Ordering::Relaxed);
        loss > 0 && between(1..=PER_MILLE) <= loss
    }

    fn arrived(&self, from: &str, to: &str, call: &str, bytes: usize) {
        self.trace.say(format_args!("{from} -> {to}: {call}, {bytes} bytes"));
    }
}
