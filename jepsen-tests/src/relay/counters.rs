//! What a relay has done, so that a fault can prove its effect.

use serde_json::{Map, Value};

/// Delays are counted in steps of so many microseconds ...
const STEP_US: u64 = 100;
/// ... up to this many of them; what is longer counts as the last one.
const STEPS: usize = 20_000;

/// Numbers of packets unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came in.
    pub taken: u64,
    /// Bytes of them.
    pub taken_bytes: u64,
    /// Went out, second copies with them.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Left later than they came.
    pub held: u64,
    /// Half of those were held no longer, microseconds; a step too low rather than too high.
    pub held_p50_us: u64,
    /// 99 of 100 were held no longer, microseconds; likewise.
    pub held_p99_us: u64,
    /// The longest, microseconds.
    pub held_max_us: u64,
    /// Left after one that had come later, for the same peer.
    pub overtaken: u64,
    /// Were given a second copy.
    pub twice: u64,
    /// Were not sent, as was asked.
    pub lost: u64,
    /// Found no room.
    pub dropped: u64,
    /// Were refused by the network when they were to leave.
    pub unsent: u64,
    /// Found no room before the relay had read them.
    pub unread: u64,
}

impl Counters {
    fn fields(&mut self) -> [(&'static str, &mut u64); 14] {
        [
            ("taken", &mut self.taken),
            ("taken_bytes", &mut self.taken_bytes),
            ("sent", &mut self.sent),
            ("sent_bytes", &mut self.sent_bytes),
            ("held", &mut self.held),
            ("held_p50_us", &mut self.held_p50_us),
            ("held_p99_us", &mut self.held_p99_us),
            ("held_max_us", &mut self.held_max_us),
            ("overtaken", &mut self.overtaken),
            ("twice", &mut self.twice),
            ("lost", &mut self.lost),
            ("dropped", &mut self.dropped),
            ("unsent", &mut self.unsent),
            ("unread", &mut self.unread),
        ]
    }

    /// As a relay says it: an object of numbers.
    pub fn to_json(mut self) -> Value {
        let members = self
            .fields()
            .map(|(name, value)| (name.to_owned(), Value::from(*value)));
        Value::Object(Map::from_iter(members))
    }

    /// What a relay has said; `None` where a number is missing.
    pub fn parse(said: &Value) -> Option<Counters> {
        let mut counters = Counters::default();
        for (name, value) in counters.fields() {
            *value = said[name].as_u64()?;
        }
        Some(counters)
    }
}

/// How long packets were held: counts by steps, of one size however many there are.
#[derive(Clone, Debug)]
pub struct Delays {
    steps: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Default for Delays {
    fn default() -> Delays {
        Delays {
            steps: vec![0; STEPS],
            count: 0,
            max_us: 0,
        }
    }
}

impl Delays {
    /// One more.
    pub fn add(&mut self, delay_us: u64) {
        let step = usize::try_from(delay_us / STEP_US).unwrap_or(STEPS).min(STEPS - 1);
        self.steps[step] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(delay_us);
    }

    /// Nearest rank, microseconds, as the beginning of its step; 0 of nothing.
    pub fn percentile_us(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut before = 0;
        let step = self.steps.iter().position(|count| {
            before += count;
            before >= rank
        });
        step.map_or(0, |step| step as u64 * STEP_US)
    }

    /// Fills in what a relay says of them.
    pub fn tell(&self, counters: &mut Counters) {
        counters.held = self.count;
        counters.held_p50_us = self.percentile_us(50);
        counters.held_p99_us = self.percentile_us(99);
        counters.held_max_us = self.max_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said is read again, and half of it is nothing.
    #[test]
    fn counters_are_read_as_they_are_said() {
        let mut counters = Counters::default();
        for (number, (_, value)) in (1..).zip(counters.fields()) {
            *value = number;
        }
        let mut said = counters.to_json();
        assert_eq!(Counters::parse(&said), Some(counters));
        said.as_object_mut().expect("an object").remove("overtaken");
        assert_eq!(Counters::parse(&said), None);
    }

    /// Percentiles are never above the delays, and the longest is exact; what is beyond all steps is counted still.
    #[test]
    fn delays_are_not_overstated() {
        let mut delays = Delays::default();
        assert_eq!(delays.percentile_us(50), 0);
        for delay_ms in 1..=100 {
            delays.add(delay_ms * 1_000 + 50);
        }
        assert_eq!((delays.percentile_us(50), delays.percentile_us(99)), (50_000, 99_000));
        delays.add(3_600_000_000);
        assert_eq!(delays.percentile_us(100), (STEPS as u64 - 1) * STEP_US);
        let mut counters = Counters::default();
        delays.tell(&mut counters);
        assert_eq!((counters.held, counters.held_max_us), (101, 3_600_000_000));
    }
}
