//! Absence: ECS never says that something is gone, only that it does not know it. That is believed when it is said twice, a minute apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blox_runtime::time::Instant;

/// The least time between the first answer that called a resource missing and the sending of the call whose answer confirms it: longer than
/// ECS lags behind itself (the ECS API reference on eventual consistency).
pub(crate) const ABSENCE_MS_MIN: u64 = 60_000;

/// A call that called something missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Not later than it was sent.
    pub(crate) sent: Instant,
    /// Not earlier than its answer came.
    pub(crate) answered: Instant,
}

/// What earlier passes over one cluster (or over the clusters of a source) found missing, and when first.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    missing_since: BTreeMap<String, Instant>,
}

impl Absences {
    /// Takes in a pass that came to its end: `missing` is what was neither listed nor known to Describe, each with the call that said so. Gives
    /// what was missing in every pass since one whose answer came at least a minute before this call was sent; a resource that was seen in
    /// between starts over.
    pub(crate) fn judge(&mut self, missing: &BTreeMap<String, Asked>) -> BTreeSet<String> {
        self.missing_since.retain(|arn, _| missing.contains_key(arn));
        let mut gone = BTreeSet::new();
        for (arn, asked) in missing {
            let since = *self.missing_since.entry(arn.clone()).or_insert(asked.answered);
            if asked.sent.saturating_duration_since(since) >= Duration::from_millis(ABSENCE_MS_MIN) {
                gone.insert(arn.clone());
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arns(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    /// Missing once is nothing; missing twice too soon is nothing; seen in between starts over; a minute of absence is believed.
    #[tokio::test(start_paused = true)]
    async fn absence_takes_two_passes_a_minute_apart() {
        let mut absences = Absences::default();
        let begun = Instant::now();
        let missing = |names: &[&str], second| -> BTreeMap<String, Asked> {
            let at = begun + Duration::from_secs(second);
            let asked = Asked { sent: at, answered: at };
            names.iter().map(|name| (name.to_string(), asked)).collect()
        };
        assert_eq!(absences.judge(&missing(&["a", "b"], 0)), arns(&[]));
        assert_eq!(absences.judge(&missing(&["a", "b"], 59)), arns(&[]));
        assert_eq!(absences.judge(&missing(&["a"], 60)), arns(&["a"]));
        assert_eq!(absences.judge(&missing(&["a", "b"], 100)), arns(&["a"]));
        assert_eq!(absences.judge(&missing(&["b"], 159)), arns(&[]));
        assert_eq!(absences.judge(&missing(&["b"], 160)), arns(&["b"]));
    }

    /// A minute lies between the first answer and the sending of the second call: a slow first call does not count.
    #[tokio::test(start_paused = true)]
    async fn a_slow_call_is_no_minute() {
        let mut absences = Absences::default();
        let begun = Instant::now();
        let missing = |sent, answered| {
            let at = |second| begun + Duration::from_secs(second);
            let asked = Asked {
                sent: at(sent),
                answered: at(answered),
            };
            BTreeMap::from([("a".to_string(), asked)])
        };
        assert_eq!(absences.judge(&missing(0, 50)), arns(&[]));
        assert_eq!(absences.judge(&missing(70, 115)), arns(&[]));
        assert_eq!(absences.judge(&missing(110, 111)), arns(&["a"]));
    }
}
