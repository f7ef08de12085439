//! Grouping: what waits together travels as one command, up to 1,000 observations or 1 MiB; a lone message waits for nobody.

use std::collections::VecDeque;

use blox_store::proto::Observation;

use super::receive::Unit;

/// The most observations in one command.
pub(crate) const COMMAND_OBSERVATIONS_MAX: usize = 1_000;
/// The most bytes in one command, unless a single message alone has more.
pub(crate) const COMMAND_BYTES_MAX: usize = 1 << 20;
/// What an observation takes beside its texts, bytes: field tags and numbers.
const OBSERVATION_OVERHEAD_BYTES: usize = 64;

/// What an observation takes in a command, bytes.
pub(crate) fn observation_bytes(observation: &Observation) -> usize {
    let texts = observation.source.len() + observation.cluster_arn.len() + observation.arn.len();
    texts + observation.document.len() + OBSERVATION_OVERHEAD_BYTES
}

/// What a command is made of.
pub(super) enum Batch {
    /// Observations of these messages.
    Observe(Vec<Unit>),
    /// These messages cannot be read; nothing of them is left to observe.
    Quarantine(Vec<Unit>),
}

impl Batch {
    pub(super) fn into_units(self) -> Vec<Unit> {
        match self {
            Batch::Observe(units) | Batch::Quarantine(units) => units,
        }
    }
}

/// Messages that wait for a command.
#[derive(Default)]
pub(super) struct Gather {
    observe: VecDeque<Unit>,
    quarantine: VecDeque<Unit>,
}

impl Gather {
    /// A message waits: for its observations first, for the quarantine once none is left.
    pub(super) fn push(&mut self, unit: Unit) {
        match unit.observations.is_empty() {
            true => self.quarantine.push_back(unit),
            false => self.observe.push_back(unit),
        }
    }

    /// The next command's messages, in the order of their arrival.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let size = |unit: &Unit| {
            (
                unit.observations.len(),
                unit.observations.iter().map(observation_bytes).sum(),
            )
        };
        if let Some(units) = fill(&mut self.observe, size) {
            return Some(Batch::Observe(units));
        }
        fill(&mut self.quarantine, |unit| (1, unit.body.len())).map(Batch::Quarantine)
    }
}

/// Takes from the front while it fits; a first one that does not fit goes alone.
fn fill(waiting: &mut VecDeque<Unit>, size: impl Fn(&Unit) -> (usize, usize)) -> Option<Vec<Unit>> {
    let mut taken = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    while let Some(unit) = waiting.front() {
        let (more_count, more_bytes) = size(unit);
        let fits = count + more_count <= COMMAND_OBSERVATIONS_MAX && bytes + more_bytes <= COMMAND_BYTES_MAX;
        if !fits && !taken.is_empty() {
            break;
        }
        (count, bytes) = (count + more_count, bytes + more_bytes);
        taken.extend(waiting.pop_front());
    }
    (!taken.is_empty()).then_some(taken)
}
