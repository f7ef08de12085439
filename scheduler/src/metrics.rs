//! Counters of the scheduler, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the scheduler of this process has done, over all its sessions.
#[derive(Debug, Default)]
pub struct Metrics {
    /// StartTask calls.
    pub start_calls: Counter,
    /// StopTask calls.
    pub stop_calls: Counter,
    /// Launches whose answer named their task.
    pub launches_bound: Counter,
    /// Launches that were definitely not made.
    pub launches_rejected: Counter,
    /// Launches whose call has no known outcome.
    pub launches_unknown: Counter,
    /// Launches of unknown outcome whose task a look-up found.
    pub launches_found: Counter,
    /// Look-ups (each one listing, for many launches).
    pub look_ups: Counter,
    /// Launches for which a look-up found nothing.
    pub look_ups_empty: Counter,
    /// Doubles that were found and stopped: a lost answer met a late listing.
    pub doubles_stopped: Counter,
    /// Stops that ECS did not take.
    pub stops_failed: Counter,
    /// StartTask calls that were not made: leadership was not confirmed, it was too late, or the call budget was spent.
    pub calls_not_made: Counter,
    /// Outcomes that came after their session had ended: refused, and left to look-ups.
    pub outcomes_refused: Counter,
    /// Plans made.
    pub plans: Counter,
    /// Pieces of work that came to nothing and are planned again.
    pub works_failed: Counter,
}

impl Metrics {
    /// Every counter that stands alone, under its name on the metrics page.
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let counters = [
            ("blox_scheduler_start_calls_total", &self.start_calls),
            ("blox_scheduler_stop_calls_total", &self.stop_calls),
            ("blox_scheduler_look_ups_total", &self.look_ups),
            ("blox_scheduler_look_ups_empty_total", &self.look_ups_empty),
            ("blox_scheduler_doubles_stopped_total", &self.doubles_stopped),
            ("blox_scheduler_stops_failed_total", &self.stops_failed),
            ("blox_scheduler_calls_not_made_total", &self.calls_not_made),
            ("blox_scheduler_outcomes_refused_total", &self.outcomes_refused),
            ("blox_scheduler_plans_total", &self.plans),
            ("blox_scheduler_works_failed_total", &self.works_failed),
        ];
        counters.map(|(name, counter)| (name, counter.get() as f64)).to_vec()
    }

    /// Launches by result: what `blox_daemon_launches_total` counts.
    pub fn launches(&self) -> [(&'static str, f64); 4] {
        let results = [
            ("bound", &self.launches_bound),
            ("rejected", &self.launches_rejected),
            ("unknown", &self.launches_unknown),
            ("found", &self.launches_found),
        ];
        results.map(|(result, counter)| (result, counter.get() as f64))
    }
}
