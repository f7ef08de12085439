//! What can be switched while the simulator runs. Every default is a well-behaved service with a still fleet.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// The longest lag a listing may be given; older states of a resource are forgotten.
pub(crate) const LAG_MS_MAX: u64 = 300_000;
/// States of a resource are kept at least this long, so that a lag switched on later finds a past to show.
const HISTORY_MS_MIN: u64 = 10_000;
/// The longest an event may be delayed or held back.
pub(crate) const EVENT_DELAY_MS_MAX: u64 = 3_600_000;

/// All that `/control/faults`, `/control/delays` and `/control/liveliness` change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) faults: Faults,
    pub(crate) delays: Delays,
    pub(crate) liveliness: Liveliness,
}

impl Settings {
    /// For how long the past states of a resource must be kept.
    pub(crate) fn history_ms(&self) -> u64 {
        self.faults.lag.longest_ms().max(HISTORY_MS_MIN)
    }
}

/// Misbehaviour of the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Faults {
    pub(crate) events: EventFaults,
    pub(crate) lag: Lag,
    pub(crate) throttling: Throttling,
    /// Operation name (or `*`) -> probability of a server error before the call has any effect.
    pub(crate) errors: BTreeMap<String, f64>,
    /// New resources and clusters get the old ARN form without the cluster's name.
    pub(crate) short_arns: bool,
}

impl Faults {
    /// Says what is out of range.
    pub(crate) fn check(&self) -> Result<(), String> {
        let events = &self.events;
        let probabilities = [
            ("events.duplicate_probability", events.duplicate_probability),
            ("events.loss_probability", events.loss_probability),
            ("events.reorder_probability", events.reorder_probability),
            ("events.delay_probability", events.delay_probability),
        ];
        let of_errors = self
            .errors
            .iter()
            .map(|(name, probability)| (name.as_str(), *probability));
        for (name, probability) in probabilities.into_iter().chain(of_errors) {
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!("{name} is {probability}: give a probability between 0 and 1"));
            }
        }
        if self.lag.longest_ms() > LAG_MS_MAX {
            return Err(format!("lag of {} ms: at most {LAG_MS_MAX}", self.lag.longest_ms()));
        }
        if events.reorder_ms_max.max(events.delay_ms_max) > EVENT_DELAY_MS_MAX {
            return Err(format!("event delays are at most {EVENT_DELAY_MS_MAX} ms"));
        }
        for rate in self.throttling.rates.values() {
            if !rate.burst.is_finite() || !rate.per_second.is_finite() || rate.burst < 0.0 || rate.per_second < 0.0 {
                return Err("throttling.rates: burst and per_second are not negative".into());
            }
        }
        Ok(())
    }

    /// Whether this call of `operation` is to fail before it has any effect.
    pub(crate) fn fails(&self, operation: &str, random: &mut ChaCha8Rng) -> bool {
        let probability = self
            .errors
            .get(operation)
            .or_else(|| self.errors.get("*"))
            .copied()
            .unwrap_or(0.0);
        happens(random, probability)
    }
}

/// What happens to events on their way to the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventFaults {
    pub(crate) duplicate_probability: f64,
    pub(crate) loss_probability: f64,
    /// An event so chosen waits up to `reorder_ms_max`, so that later ones overtake it.
    pub(crate) reorder_probability: f64,
    pub(crate) reorder_ms_max: u64,
    pub(crate) delay_probability: f64,
    pub(crate) delay_ms_min: u64,
    pub(crate) delay_ms_max: u64,
}

impl Default for EventFaults {
    fn default() -> Self {
        Self {
            duplicate_probability: 0.0,
            loss_probability: 0.0,
            reorder_probability: 0.0,
            reorder_ms_max: 500,
            delay_probability: 0.0,
            delay_ms_min: 1_000,
            delay_ms_max: 5_000,
        }
    }
}

impl EventFaults {
    /// The delay of each copy of one event; none when it is lost.
    pub(crate) fn deliveries_ms(&self, random: &mut ChaCha8Rng) -> Vec<u64> {
        if happens(random, self.loss_probability) {
            return Vec::new();
        }
        let mut delays_ms = vec![self.delay_ms(random)];
        while delays_ms.len() < DUPLICATES_MAX && happens(random, self.duplicate_probability) {
            delays_ms.push(self.delay_ms(random));
        }
        delays_ms
    }

    fn delay_ms(&self, random: &mut ChaCha8Rng) -> u64 {
        let mut delay_ms = 0;
        if happens(random, self.reorder_probability) {
            delay_ms += random.random_range(0..=self.reorder_ms_max);
        }
        if happens(random, self.delay_probability) {
            delay_ms += Span {
                min_ms: self.delay_ms_min,
                max_ms: self.delay_ms_max,
            }
            .draw_ms(random);
        }
        delay_ms
    }
}

/// The most copies of one event that are sent.
const DUPLICATES_MAX: usize = 8;

/// Answers show the state as it was so long ago.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Lag {
    pub(crate) list_ms: u64,
    pub(crate) describe_ms: u64,
    /// ListTasks alone; `list_ms` when absent.
    pub(crate) list_tasks_ms: Option<u64>,
}

impl Lag {
    pub(crate) fn list_tasks_ms(&self) -> u64 {
        self.list_tasks_ms.unwrap_or(self.list_ms)
    }

    fn longest_ms(&self) -> u64 {
        self.list_ms.max(self.describe_ms).max(self.list_tasks_ms())
    }
}

/// Token buckets of the ECS API, per region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Throttling {
    pub(crate) enabled: bool,
    /// Rates that differ from Amazon's, by category (see `throttle::Category`).
    pub(crate) rates: BTreeMap<String, Rate>,
}

/// One token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

/// A duration drawn evenly between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
}

impl Span {
    const fn new(min_ms: u64, max_ms: u64) -> Self {
        Self { min_ms, max_ms }
    }

    pub(crate) fn draw_ms(&self, random: &mut ChaCha8Rng) -> u64 {
        random.random_range(self.min_ms..=self.max_ms.max(self.min_ms))
    }
}

/// How long a resource stays in each state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Delays {
    pub(crate) provisioning: Span,
    pub(crate) pending: Span,
    pub(crate) activating: Span,
    /// From the wish to stop to DEACTIVATING.
    pub(crate) stop_wish: Span,
    pub(crate) deactivating: Span,
    pub(crate) stopping: Span,
    pub(crate) deprovisioning: Span,
    /// From the death of an instance to its agent's being seen as disconnected.
    pub(crate) agent_loss: Span,
    /// From the death of an instance to ECS's noticing it: INACTIVE, its tasks STOPPED.
    pub(crate) termination_notice: Span,
    /// How long an agent stays away when it flaps.
    pub(crate) flap: Span,
    /// How long a STOPPED task and an INACTIVE instance can still be described.
    pub(crate) forget: Span,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            provisioning: Span::new(50, 150),
            pending: Span::new(50, 200),
            activating: Span::new(20, 100),
            stop_wish: Span::new(10, 50),
            deactivating: Span::new(20, 80),
            stopping: Span::new(50, 200),
            deprovisioning: Span::new(20, 80),
            agent_loss: Span::new(500, 1_500),
            termination_notice: Span::new(3_000, 8_000),
            flap: Span::new(500, 3_000),
            forget: Span::new(3_600_000, 3_600_000),
        }
    }
}

/// What the fleet does by itself. Rates per minute are per cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Liveliness {
    pub(crate) joins_per_minute: f64,
    /// An instance drains, its standalone tasks are given a while, then it leaves.
    pub(crate) leaves_per_minute: f64,
    /// An instance dies without a word.
    pub(crate) terminations_per_minute: f64,
    /// An instance drains for a while and comes back.
    pub(crate) drains_per_minute: f64,
    /// Agent disconnections, per instance.
    pub(crate) flaps_per_instance_hour: f64,
    pub(crate) task_starts_per_minute: f64,
    pub(crate) task_stops_per_minute: f64,
    /// A running task's essential container exits.
    pub(crate) task_crashes_per_minute: f64,
    /// Instances below which nothing leaves or dies by itself, and above which (by half) nothing joins.
    pub(crate) instances_min: usize,
}

impl Liveliness {
    /// Joins and departures every minute or so, agents that flap four times an hour, a few tasks that come and go.
    pub(crate) fn gentle() -> Self {
        Self {
            joins_per_minute: 1.0,
            leaves_per_minute: 0.5,
            terminations_per_minute: 0.3,
            drains_per_minute: 0.5,
            flaps_per_instance_hour: 4.0,
            task_starts_per_minute: 8.0,
            task_stops_per_minute: 6.0,
            task_crashes_per_minute: 1.0,
            instances_min: 16,
        }
    }

    /// Whether anything moves by itself.
    pub(crate) fn is_still(&self) -> bool {
        *self
            == Self {
                instances_min: self.instances_min,
                ..Self::default()
            }
    }
}

/// Draws whether something of this probability happens; draws nothing when it cannot.
pub(crate) fn happens(random: &mut ChaCha8Rng, probability: f64) -> bool {
    probability > 0.0 && random.random_bool(probability.min(1.0))
}
