//! Absence: ECS never says that something is gone, only that it does not know it. That is believed when it is said twice, a minute apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// The least time between the two passes that both found a resource missing: longer than listings lag behind (the ECS API reference on
/// eventual consistency).
pub(crate) const ABSENCE_MS_MIN: u64 = 60_000;

/// What earlier passes over one cluster (or over the clusters of a source) found missing, and when first.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    missing_since: BTreeMap<String, Instant>,
}

impl Absences {
    /// Takes in a pass that came to its end: `missing` is what was neither listed nor known to Describe, asked at `asked_at`. Gives what was
    /// missing in every pass since one at least a minute before; a resource that was seen in between starts over.
    pub(crate) fn judge(&mut self, missing: &BTreeSet<String>, asked_at: Instant) -> BTreeSet<String> {
        self.missing_since.retain(|arn, _| missing.contains(arn));
        let mut gone = BTreeSet::new();
        for arn in missing {
            let since = *self.missing_since.entry(arn.clone()).or_insert(asked_at);
            if asked_at.saturating_duration_since(since) >= Duration::from_millis(ABSENCE_MS_MIN) {
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
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(absences.judge(&arns(&["a", "b"]), at(0)), arns(&[]));
        assert_eq!(absences.judge(&arns(&["a", "b"]), at(59)), arns(&[]));
        assert_eq!(absences.judge(&arns(&["a"]), at(60)), arns(&["a"]));
        assert_eq!(absences.judge(&arns(&["a", "b"]), at(100)), arns(&["a"]));
        assert_eq!(absences.judge(&arns(&["b"]), at(159)), arns(&[]));
        assert_eq!(absences.judge(&arns(&["b"]), at(160)), arns(&["b"]));
    }
}
