//! Answers that are held back or lost although the call took effect, and calls that take effect late.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use crate::settings::happens;

/// The most rules that stand at once.
pub(crate) const RULES_MAX: usize = 100;
/// A held answer is let go after this long at the latest.
pub(crate) const HOLD_MS_MAX: u64 = 600_000;

/// What becomes of an answer that was held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Release {
    /// It is sent.
    #[default]
    Answer,
    /// The connection is closed without it.
    Drop,
}

/// What a rule does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Treatment {
    /// The answer is withheld until released, or for `hold_ms`.
    Hold,
    /// The connection is closed at once.
    Lose,
    /// The call is under way until released, or for `hold_ms`: only then does it take effect, whether or not its caller still waits.
    Delay,
}

/// One rule on the calls of one operation: on all where it delays them, else on the successful ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerRule {
    /// Assigned when it is set.
    #[serde(default)]
    pub(crate) id: u64,
    /// Operation as on the wire, such as `StartTask` or `DeleteMessageBatch`.
    pub(crate) operation: String,
    pub(crate) action: Treatment,
    /// How many calls it still takes; no bound when absent.
    #[serde(default)]
    pub(crate) calls: Option<u64>,
    /// Probability for each call; 1 when absent.
    #[serde(default)]
    pub(crate) probability: Option<f64>,
    /// How long a call or its answer is held; until released when absent.
    #[serde(default)]
    pub(crate) hold_ms: Option<u64>,
    /// What becomes of the answer when that time is over.
    #[serde(default)]
    pub(crate) then: Release,
    /// It stands before those that stand already, and a call that it fits is not delayed by another one.
    #[serde(default)]
    pub(crate) first: bool,
}

/// The rules that stand, the first that fits a call decides.
#[derive(Debug, Default)]
pub(crate) struct AnswerRules {
    rules: Vec<AnswerRule>,
    last_id: u64,
}

impl AnswerRules {
    pub(crate) fn add(&mut self, mut rule: AnswerRule) -> Result<u64, String> {
        if self.rules.len() >= RULES_MAX {
            return Err(format!("{RULES_MAX} rules stand already; delete some first"));
        }
        if rule
            .probability
            .is_some_and(|probability| !(0.0..=1.0).contains(&probability))
        {
            return Err("probability is between 0 and 1".into());
        }
        self.last_id += 1;
        rule.id = self.last_id;
        let position = if rule.first { 0 } else { self.rules.len() };
        self.rules.insert(position, rule);
        Ok(self.last_id)
    }

    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let before = self.rules.len();
        self.rules.retain(|rule| rule.id != id);
        self.rules.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn list(&self) -> &[AnswerRule] {
        &self.rules
    }

    /// The rule that delays this call, which is counted against it.
    pub(crate) fn take_delay(&mut self, operation: &str, random: &mut ChaCha8Rng) -> Option<AnswerRule> {
        self.take_where(operation, random, |action| action == Treatment::Delay)
    }

    /// The rule on the answer of one successful call, which is counted against it.
    pub(crate) fn take(&mut self, operation: &str, random: &mut ChaCha8Rng) -> Option<AnswerRule> {
        self.take_where(operation, random, |action| action != Treatment::Delay)
    }

    fn take_where(
        &mut self,
        operation: &str,
        random: &mut ChaCha8Rng,
        wanted: impl Fn(Treatment) -> bool,
    ) -> Option<AnswerRule> {
        let mut chosen = None;
        for (position, rule) in self.rules.iter().enumerate() {
            let fits = rule.operation == operation;
            if fits && rule.first && !wanted(rule.action) {
                // It has its turn when the call has had its effect, or had it before.
                return None;
            }
            if fits && wanted(rule.action) && rule.probability.is_none_or(|probability| happens(random, probability)) {
                chosen = Some(position);
                break;
            }
        }
        let chosen = chosen?;
        let rule = self.rules[chosen].clone();
        if let Some(calls) = &mut self.rules[chosen].calls {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                self.rules.remove(chosen);
            }
        }
        Some(rule)
    }
}

/// A call that is held at this moment, before its effect or before its answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HeldCall {
    pub(crate) id: u64,
    pub(crate) operation: String,
    pub(crate) region: String,
    /// The address it came from.
    pub(crate) caller: IpAddr,
    /// It was held before its effect, and goes on although its caller may have gone; `false`: it goes with its caller.
    pub(crate) late: bool,
    pub(crate) since_ms: u64,
}

/// All calls that are held.
#[derive(Debug, Default)]
pub(crate) struct HeldCalls {
    calls: Mutex<HeldTable>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct HeldTable {
    by_id: BTreeMap<u64, (HeldCall, Option<oneshot::Sender<Release>>)>,
    last_id: u64,
    ever: u64,
}

impl HeldCalls {
    /// Holds a call until it is released or `hold_ms` are over. A caller that goes away is forgotten at once.
    pub(crate) async fn hold(self: &Arc<Self>, rule: &AnswerRule, call: HeldCall) -> Release {
        let (sender, released) = oneshot::channel();
        let entry = self.enter(call, sender);
        let hold = Duration::from_millis(rule.hold_ms.unwrap_or(HOLD_MS_MAX).min(HOLD_MS_MAX));
        let release = match tokio::time::timeout(hold, released).await {
            Ok(Ok(release)) => release,
            Ok(Err(_)) | Err(_) => rule.then,
        };
        drop(entry);
        release
    }

    /// The call gets a number of its own.
    fn enter(self: &Arc<Self>, call: HeldCall, sender: oneshot::Sender<Release>) -> HeldEntry {
        let mut table = self.calls.lock();
        table.last_id += 1;
        table.ever += 1;
        let id = table.last_id;
        let call = HeldCall { id, ..call };
        table.by_id.insert(id, (call, Some(sender)));
        drop(table);
        self.changed.notify_waiters();
        HeldEntry {
            held: Arc::clone(self),
            id,
        }
    }

    /// Lets go of held calls of one operation, or of all; how many.
    pub(crate) fn release(&self, operation: Option<&str>, release: Release) -> usize {
        let mut table = self.calls.lock();
        let chosen = table
            .by_id
            .values_mut()
            .filter(|(call, _)| operation.is_none_or(|name| name == call.operation));
        chosen
            .filter_map(|(_, sender)| sender.take())
            .filter_map(|sender| sender.send(release).ok())
            .count()
    }

    /// The held calls of one operation, or all, and how many were ever held.
    pub(crate) fn list(&self, operation: Option<&str>) -> (Vec<HeldCall>, u64) {
        let table = self.calls.lock();
        let calls = table.by_id.values().map(|(call, _)| call.clone());
        (
            calls
                .filter(|call| operation.is_none_or(|name| name == call.operation))
                .collect(),
            table.ever,
        )
    }

    /// Waits until at least so many are held, or `wait` is over.
    pub(crate) async fn wait_for(&self, operation: Option<&str>, at_least: usize, wait: Duration) {
        let enough = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if self.list(operation).0.len() >= at_least {
                    return;
                }
                changed.await;
            }
        };
        // Too few within the time is an answer too: the caller reads the list.
        let _ = tokio::time::timeout(wait, enough).await;
    }
}

/// Removes the call from the table when its handler ends or its caller goes away.
struct HeldEntry {
    held: Arc<HeldCalls>,
    id: u64,
}

impl Drop for HeldEntry {
    fn drop(&mut self) {
        self.held.calls.lock().by_id.remove(&self.id);
        self.held.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn rule(action: Treatment, first: bool) -> AnswerRule {
        AnswerRule {
            id: 0,
            operation: "StartTask".into(),
            action,
            calls: Some(1),
            probability: None,
            hold_ms: None,
            then: Release::Answer,
            first,
        }
    }

    /// Rules have their turn in order; one that is to be first has the next call, whatever stood there before.
    #[test]
    fn a_first_rule_has_the_next_call() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut rules = AnswerRules::default();
        for action in [Treatment::Delay, Treatment::Lose] {
            rules.add(rule(action, false)).expect("there is room");
        }
        rules.add(rule(Treatment::Hold, true)).expect("there is room");
        let mut next = || {
            let delayed = rules.take_delay("StartTask", &mut random).map(|rule| rule.action);
            (delayed, rules.take("StartTask", &mut random).map(|rule| rule.action))
        };
        assert_eq!(next(), (None, Some(Treatment::Hold)));
        assert_eq!(next(), (Some(Treatment::Delay), Some(Treatment::Lose)));
        assert_eq!(next(), (None, None));
    }
}
